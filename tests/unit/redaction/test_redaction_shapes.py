"""Secrets that only their form identifies: each is under a harmless name, in every place of a request."""

from __future__ import annotations

import base64
import random
import string

import orjson
import pytest
from tests.support.exchanges import make_builder, make_exchange
from tests.support.schema import checked

from asgi_audit.redaction import Redactor
from asgi_audit.redaction.forms import made as looks_made

BUILDER = make_builder()
REDACTOR = Redactor()
LETTERS = string.ascii_letters + string.digits


def made(size: int, alphabet: str = LETTERS, seed: int = 7) -> str:
    return "".join(random.Random(seed + size).choices(alphabet, k=size))


# Assembled at run time, so that scanners of repositories do not report this file as a leak.
SHAPES = {
    "aws id": "AKIA" + made(16, string.ascii_uppercase + "234567"),
    "aws session id": "ASIA" + made(16, string.ascii_uppercase + "234567"),
    "github": "gh" + "p_" + made(36),
    "github oauth": "gh" + "o_" + made(36),
    "github server": "gh" + "s_" + made(36),
    "github user": "gh" + "u_" + made(36),
    "github refresh": "gh" + "r_" + made(36),
    "github fine": "github" + "_pat_" + made(22) + "_" + made(59),
    "gitlab": "glp" + "at-" + made(20),
    "slack bot": "xo" + "xb-123456789012-1234567890123-" + made(24),
    "slack user": "xo" + "xp-123456789012-" + made(32),
    "stripe": "sk" + "_live_" + made(24),
    "stripe restricted": "rk" + "_live_" + made(24),
    "stripe webhook": "whs" + "ec_" + made(32),
    "google": "AI" + "zaSy" + made(33),
    "google any": "AI" + "za" + made(35),
    "openai": "sk-" + made(20) + "T3Blbk" + "FJ" + made(20),
    "anthropic": "sk-" + "ant-api03-" + made(40),
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + made(43),
    "bearer": "Bearer " + made(30),
    "basic": "Basic " + base64.b64encode(b"mira:correct horse").decode(),
    "private key": "-----BEGIN EC PRIVATE KEY----- " + made(64) + " -----END EC PRIVATE KEY-----",
    "card": "4111 1111 1111 1111",
    "user": "https://mira:" + made(12) + "@db.example/x",
    "user with a slash": "https://mira:" + made(6) + "/" + made(7) + "@db.example/x",
    "user with slashes": "redis://:a/b/" + made(7) + "@db.example/0",
}


@pytest.mark.parametrize("value", SHAPES.values(), ids=SHAPES)
def test_value_is_masked_by_its_form_in_every_place(value: str) -> None:
    secret = max(value.replace("@db.example", "").replace(":", " ").replace("/", " ").split(), key=len)
    if "1111" in value:
        secret = value
    document = orjson.dumps({"note": value, "list": [1, f"see {value} there"], "n": {"deep": [[value]]}})
    quoted = value.replace("%", "%25").replace("+", "%2B").replace(" ", "+").encode()
    for body, kind in (
        (document, b"application/json"),
        (orjson.dumps({"text": document.decode()}), b"application/json"),
        (document[:-4], b"application/json"),
        (b"first\nnote = " + value.encode() + b"\nlast", b"text/plain"),
        (b"<html><p>x</p><i>" + value.encode() + b"</i></html>", b"text/html"),
        (b"a=1&note=" + quoted, b"application/x-www-form-urlencoded"),
        (value.encode(), b"text/plain"),
    ):
        x = make_exchange("POST", body=body, content_type=kind, answer=body, answer_type=kind)
        record = BUILDER.build(x)
        checked(record)
        assert secret.encode() not in record, body
    x = make_exchange(
        "GET",
        query=b"q=" + quoted,
        headers=[(b"x-note", value.encode()), (b"referer", b"https://h/a?q=" + quoted), (b"x-n", b"a, " + quoted)],
        answer_headers=[(b"location", b"/a?q=" + quoted), (b"x-note", value.encode())],
    )
    x.annotations = {"note": value}
    x.message = f"saw {value}"
    record = BUILDER.build(x)
    assert checked(record)["context"]["redacted"]
    assert secret.encode() not in record
    assert secret.replace(" ", "+").encode() not in record
    x = make_exchange("GET", f"/notes/{value}/more")
    record = BUILDER.build(x)
    assert checked(record)["request"]["path"].startswith("/notes/")
    assert secret.encode() not in record


def test_aws_secret_is_masked_beside_its_id() -> None:
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY" + made(10)
    other = "a3f5" * 10  # a digest
    identity = SHAPES["aws id"]
    document = {"id": identity, "second": secret, "commit": other, "deep": [{"x": secret}]}
    text = f"id {identity}\nsecond {secret}\ncommit {other}"
    form = f"id={identity}&second={secret.replace('+', '%2B')}&commit={other}"
    for body, kind in (
        (orjson.dumps(document), b"application/json"),
        (text.encode(), b"text/plain"),
        (form.encode(), b"application/x-www-form-urlencoded"),
    ):
        record = BUILDER.build(make_exchange("POST", body=body, content_type=kind, query=form.encode()))
        checked(record)
        assert secret.encode() not in record
        assert other.encode() in record
    alone = BUILDER.build(make_exchange("POST", body=orjson.dumps({"digest": secret})))
    assert secret.encode() in alone


@pytest.mark.parametrize(
    "text",
    [
        "a high price through people, high output, high usage, high speed, high rate, ghost", "xoxo from here",
        "Basic information about basic JavaScript and the basic plan", "we ask live, work live",
        "AKIA is a name; ASIA too",
        "sizes y", "whose country", "single patient", "https://shop.example:8000/cart/a@b",
        "https://unpkg.com/react@17.0.2/x",
        "file:///C:/x@2x.png", "http://[::1]:8080/@vite/client", "http://{host}:{port}/@me", "mailto:bob@example.com",
        "Bearer of good news", "sk-SK locale", "A private key is a key", "4111111111111112", "0.4111111111111111",
        "gh_p", "ghp_short", "git@github.com:org/repo.git",
    ],
)  # fmt: skip
def test_ordinary_text_has_no_such_value(text: str) -> None:
    assert REDACTOR.clean(text.encode())
    document = orjson.dumps({"text": text, "n": 1.5})
    value = checked(
        BUILDER.build(
            make_exchange(
                "POST",
                body=document,
                answer=text.encode(),
                answer_type=b"text/plain",
                headers=[(b"x-note", text.encode())],
            )
        )
    )
    assert value["request"]["body"] == {"text": text, "n": 1.5}
    assert value["response"]["body"] == text
    assert value["request"]["headers"]["x-note"] == text


def test_scan_of_clean_text_with_weak_needles_finds_nothing() -> None:
    """Otherwise every document that contains `high price` would be searched string by string."""
    assert not REDACTOR.alarms(b'{"a":"a high price of the basic plan in ASIA"}')
    assert REDACTOR.alarms(b'{"a":"a high price","password":"x"}')
    assert REDACTOR.alarms(b'{"a":"highsecret high price"}')


TOKEN = "Hx7s9unfl0werZq3"


@pytest.mark.parametrize(
    "path",
    [
        "/reset-password/{}", "/reset_password/{}", "/resetPassword/{}", "/passwordReset/{}", "/reset/MQ/{}",
        "/verify/{}",
        "/verify/email/{}", "/verify-email/{}", "/verifyEmail/{}", "/invite/{}", "/invites/{}/accept", "/invitation/{}",
        "/magic/{}", "/magic-link/{}", "/auth/magicLink/{}", "/confirm/{}", "/email-confirmation/{}", "/activate/{}",
        "/account/recover/{}", "/unsubscribe/{}", "/api/v1/password/reset/{}", "/unlock/{}", "/token/{}", "/otp/{}",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "token",
    [
        TOKEN,
        "8f14e45fceea167a5a36dedd4bea2543",
        "550e8400-e29b-41d4-a716-446655440000",
        "c6k8ow-3a1b2c4d5e6f7a8b9c0d1e2f",
    ],
)
def test_token_in_a_path_is_masked_after_its_word(path: str, token: str) -> None:
    whole = path.format(token)
    x = make_exchange(
        "GET", whole, headers=[(b"referer", f"https://h.example{whole}?a=1".encode())],
        answer_headers=[(b"location", whole.encode()), (b"link", f"<https://h.example{whole}>; rel=next".encode())],
        answer=orjson.dumps({"seen": token}),
    )  # fmt: skip
    for query in (b"", b"a=1"):
        x.query_string = query
        record = BUILDER.build(x)
        value = checked(record)
        assert token.encode() not in record
        assert value["request"]["path"] == path.format("[REDACTED]")
        assert value["response"]["headers"]["location"] == path.format("[REDACTED]")
        assert "request.path" in value["context"]["redacted"]


@pytest.mark.parametrize(
    "path",
    [
        "/orders/550e8400-e29b-41d4-a716-446655440000", "/presets/8f14e45fceea167a5a36dedd4bea2543", "/verify/17",
        "/invite/how-to-invite-friends-2024", "/reset-password/confirmation-page", "/verify/email-address-change",
        "/unlocked/8f14e45fceea167a5a36dedd4bea2543", "/magical/8f14e45fceea167a5a36dedd4bea2543", "/me/organizations",
        "/password/requirements-and-hints", "/tokenizer/8f14e45fceea167a5a36dedd4bea2543", "/notifications/preferences",
        "/static/js/chunk-vendors.8f14e45f.js", "/confirm/orderConfirmationPage",
    ],
)  # fmt: skip
def test_path_is_left_alone_when_it_holds_no_token(path: str) -> None:
    x = make_exchange("GET", path, headers=[(b"referer", b"https://verify.example.com" + path.encode())])
    value = checked(BUILDER.build(x))
    assert value["request"]["path"] == path
    assert value["request"]["originalUrl"] == path
    assert value["request"]["headers"]["referer"] == "https://verify.example.com" + path
    assert "redacted" not in value["context"]


def test_random_words_look_made_and_words_of_people_do_not() -> None:
    rng = random.Random(20)
    kinds = {"base62": LETTERS, "hex": "0123456789abcdef", "base32": string.ascii_uppercase + "234567"}
    for kind, alphabet in kinds.items():
        told = sum(looks_made("".join(rng.choices(alphabet, k=32)).encode()) for _ in range(1_000))
        assert told > 950, kind
    for word in (
        "getting-started-with-python",
        "internationalization",
        "TermsAndConditionsPage",
        "release-notes-2024-06-01",
    ):
        assert not looks_made(word.encode()), word


def test_tokens_in_a_path_are_looked_for_in_its_first_segments() -> None:
    for path in (b"/reset" * 2_700, b"/" * 16_000, b"/a" * 8_000, b"/reset-" + b"a" * 16_000, b"/verify/" * 2_700):
        assert REDACTOR.record().path(path) == path
