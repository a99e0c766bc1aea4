"""A secret under a sensitive name never reaches a record, whatever its spelling, escaping, depth and place.

The oracle does not use the implementation: it plants a word that occurs nowhere else, in a place that a person would
call sensitive, and searches the record's bytes for it in all its encodings.
"""

from __future__ import annotations

import base64
import html
import json
import random
from typing import Any
from urllib.parse import quote, quote_plus

import orjson
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.support.exchanges import assert_absent, make_body, make_builder, make_exchange
from tests.support.schema import checked

NAMES = [
    "password", "Password", "new_password", "pass-word", "passwd", "PWD", "db_pwd", "client_secret", "clientSecret",
    "access_token", "refreshToken", "id_token", "csrf_token", "csrfmiddlewaretoken", "X-CSRF-Token", "xsrf", "token",
    "tokens", "api_key", "apiKey", "x-api-key", "API KEY", "private_key", "privateKey", "secret_access_key",
    "AWS_SECRET_ACCESS_KEY", "authorization", "Authorization", "cookie", "cookies", "credentials", "session_id",
    "sessionId", "PHPSESSID", "JSESSIONID", "pin", "card_pin", "userPin", "PIN", "cvv", "cvc", "cvv2", "card_number",
    "cardNumber", "creditCardNumber", "otp", "otp_code", "passphrase", "passcode", "jwt", "bearer", "signature",
    "X-Amz-Signature", "connection_string", "SAMLResponse", "code_verifier", "ssn", "sid", "connect.sid",
    "signing-key", "encryption.key", "user[password]", "user.password", "deploy_pass",
]  # fmt: skip
BUILDER = make_builder()
SETTINGS = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

secrets = st.one_of(
    st.integers(10**9, 10**12).map(lambda n: f"hunter{n}"),
    st.integers(10**9, 10**12).map(lambda n: f'h"u\\n/t{n}é&=:{{'),
    st.integers(10**9, 10**12).map(lambda n: f"zürich {n} ☃"),
)
plain_text = st.text(st.sampled_from('abcdefgh ijk/,.:;="\\{}[]é☃\n-0123456789'), max_size=20)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.floats(allow_nan=False, allow_infinity=False),
    plain_text,
)
keys = st.one_of(
    st.sampled_from(["id", "name", "user", "items", "value", "loc", "data", "key", "path", "note"]), plain_text
)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


class Raw(str):
    """JSON text that is inserted unchanged."""


def spelled(draw: Any, name: str) -> str:
    """Returns the name in other letter case, or with JSON escapes, as the text between the quotes."""
    name = draw(st.sampled_from([name, name.upper(), name.lower(), name.title()]))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(name) - 1))
        return json.dumps(name[:at])[1:-1] + f"\\u{ord(name[at]):04x}" + json.dumps(name[at + 1 :])[1:-1]
    return json.dumps(name)[1:-1]


def dumped(draw: Any, value: Any, planted: str, where: list[int]) -> str:
    """Returns JSON text of `value`, with `planted` (a member of an object) inserted at the place that the path of
    choices leads to."""
    space = draw(st.sampled_from(["", "", " ", "\n  ", "\r\n"]))
    if isinstance(value, dict):
        members = [f"{json.dumps(k)}{space}:{space}{json.dumps(v)}" for k, v in value.items()]
        members.insert(draw(st.integers(0, len(members))), planted)
        return "{" + space + ("," + space).join(members) + space + "}"
    if isinstance(value, list):
        items = [json.dumps(v) for v in value]
        items.insert(draw(st.integers(0, len(items))), "{" + planted + "}")
        return "[" + ("," + space).join(items) + "]"
    return "{" + planted + "}"


@st.composite
def documents(draw: Any) -> tuple[str, str]:
    """Draws (JSON text, the secret in it under a sensitive name)."""
    secret = draw(secrets)
    name = spelled(draw, draw(st.sampled_from(NAMES)))
    ascii_only = draw(st.booleans())
    text = json.dumps(secret, ensure_ascii=ascii_only)
    if draw(st.integers(0, 5)) == 0:
        text = '"' + "".join(f"\\u{ord(c):04x}" for c in secret if ord(c) < 0x10000) + '"'
    kind = draw(st.integers(0, 5))
    if kind == 1:
        text = f"[1, {text}, null]"
    elif kind == 2:
        text = f'{{"a": {{"b": [{text}]}}, "c": 1.50}}'
    elif kind == 3:
        text = f'["x", {{"deep": {text}}}]'
    loose = name.lower() in ("auth", "session")
    planted = f'"{name}"{draw(st.sampled_from(["", " ", chr(9)]))}: {text}'
    document = dumped(draw, draw(trees), planted, [])
    for _ in range(draw(st.integers(0, 4))):
        key = draw(keys)
        around = draw(trees)
        if isinstance(around, dict):
            around = {k: v for k, v in around.items() if k != key}
            members = [f"{json.dumps(k)}:{json.dumps(v)}" for k, v in around.items()] + [
                f"{json.dumps(key)}: {document}"
            ]
            document = "{" + ",".join(members) + "}"
        else:
            document = f"[{json.dumps(around)},{document}]"
    assert not loose
    return document, secret


@SETTINGS
@given(documents(), st.booleans())
def test_json_body_hides_the_secret_at_any_depth(case: tuple[str, str], labelled: bool) -> None:
    document, secret = case
    json.loads(document, strict=False)
    kind = b"application/json" if labelled else b"text/plain"
    x = make_exchange("POST", body=document.encode(), content_type=kind, answer=document.encode(), answer_type=kind)
    record = BUILDER.build(x)
    value = checked(record)
    assert_absent(secret, record)
    assert value["context"]["redacted"]


@SETTINGS
@given(documents())
def test_json_in_a_json_string_hides_the_secret(case: tuple[str, str]) -> None:
    document, secret = case
    twice = json.dumps({"payload": document, "n": 1})
    thrice = json.dumps([{"event": twice}])
    x = make_exchange("POST", body=twice.encode(), content_type=b"application/json", answer=thrice.encode())
    record = BUILDER.build(x)
    checked(record)
    assert_absent(secret, record)


@SETTINGS
@given(documents(), st.data())
def test_cut_and_broken_json_hides_the_secret(case: tuple[str, str], data: Any) -> None:
    document, secret = case
    raw = document.encode()
    kept = data.draw(st.integers(0, len(raw)))
    kind = data.draw(
        st.sampled_from(
            [b"application/json", b"text/plain", b"application/x-ndjson", None, b"application/x-www-form-urlencoded"]
        )
    )
    x = make_exchange("POST", body=raw, content_type=kind, answer=raw[:kept], answer_type=kind)
    x.request_body = make_body(raw + b" ", kept=kept)
    record = BUILDER.build(x)
    checked(record)
    assert_absent(secret, record)


@SETTINGS
@given(trees, st.sampled_from(["", "\n", "\r\n  "]))
def test_clean_json_is_embedded_byte_for_byte(tree: Any, space: str) -> None:
    tree = [tree] if not isinstance(tree, (dict, list)) else tree
    raw = json.dumps(
        tree, ensure_ascii=random.Random(len(str(tree))).random() < 0.5, indent=1 if space else None
    ).encode()
    x = make_exchange("POST", body=raw, content_type=b"application/json")
    record = BUILDER.build(x)
    value = checked(record)
    if "redacted" not in value["context"]:
        assert b'"body":' + raw.replace(b"\n", b" ").replace(b"\r", b" ") + b'},"response"' in record
        assert value["request"]["body"] == orjson.loads(raw)
        assert value["context"]["requestBody"]["captured"] == "full"
    else:
        # These trees have an alphabet without any sensitive word.
        raise AssertionError(value["context"]["redacted"])


def percent(draw: Any, name: str) -> str:
    """Returns the name as it may be spelled in a query: some of its characters percent-encoded, also twice."""
    out = ""
    for c in name:
        how = draw(st.integers(0, 9))
        if how == 0 or c in "[] &=%+":
            out += "".join(f"%{b:02{draw(st.sampled_from('xX'))}}" for b in c.encode())
        elif how == 1:
            out += f"%25{ord(c):02x}"
        else:
            out += c
    return out


@SETTINGS
@given(st.data(), secrets)
def test_query_form_and_urls_hide_the_secret(data: Any, secret: str) -> None:
    name = percent(data.draw, data.draw(st.sampled_from(NAMES)))
    value = quote_plus(secret) if data.draw(st.booleans()) else quote(secret, safe="")
    if data.draw(st.booleans()):
        value = quote(json.dumps({"a": [{"b": secret}]}), safe="")
    pairs = [f"{name}={value}", "page=2", "q=caf%C3%A9", "q=x+y", "empty=", "flag"]
    data.draw(st.randoms(use_true_random=False)).shuffle(pairs)
    query = data.draw(st.sampled_from(["&", "&", ";"])).join(pairs)
    nested = "next=" + quote(f"https://x.example/cb?{query}", safe="") + "&a=1"
    for text in (query, nested):
        x = make_exchange(
            "POST", query=text.encode(), body=text.encode(), content_type=b"application/x-www-form-urlencoded",
            headers=[(b"referer", f"https://u.example/p?{text}".encode())],
            answer_headers=[
                (b"location", f"/cb?x=1#{text}".encode()),
                (b"link", f'<https://x.example/?{text}>; rel="next"'.encode()),
            ],
        )  # fmt: skip
        record = BUILDER.build(x)
        checked(record)
        assert_absent(secret, record)


@SETTINGS
@given(st.data(), st.integers(10**9, 10**12).map(lambda n: f"hunter{n}"))
def test_text_hides_the_secret(data: Any, secret: str) -> None:
    name = data.draw(st.sampled_from([n for n in NAMES if n not in ("sid", "pin")]))
    form = data.draw(
        st.sampled_from(
            [
                "{n}={s}", "{n}: {s}", '"{n}": "{s}"', "'{n}' : '{s}'", "<{n}>{s}</{n}>", "{n} = {s} # x",
                "{n}:\n  {s}", '{{"a":[1,{{"{n}":["{s}"]}}]}}',
                "{n}: |\n  {s}\n  more", '{n}="{s}"', "a=1&{n}={s}&b=2", 'data: {{"{n}":"{s}","a":1}}',
                '<input name="{n}" value="{s}">', '"{n}": [\n "{s}",\n "b"]',
            ]
        )
    )  # fmt: skip
    hidden = form.format(n=name, s=secret)
    before = data.draw(st.sampled_from(["", "first line\n", "x: y\r\n", '{"a": 1}\n', "id: 1\nevent: x\n"]))
    text = before + hidden + data.draw(st.sampled_from(["", "\nlast line", "\n\n"]))
    kind = data.draw(
        st.sampled_from(
            [
                b"text/plain",
                b"text/html; charset=utf-8",
                b"text/event-stream",
                b"application/x-ndjson",
                b"application/xml",
                b"text/csv",
                None,
            ]
        )
    )
    x = make_exchange(
        "POST", body=text.encode(), content_type=kind, answer=(text + "\n" + text).encode(), answer_type=kind
    )
    x.response_body.complete = data.draw(st.booleans())
    record = BUILDER.build(x)
    checked(record)
    assert_absent(secret, record)


@SETTINGS
@given(st.data(), st.integers(10**9, 10**12).map(lambda n: f"hunter{n}"))
def test_headers_and_cookies_hide_the_secret(data: Any, secret: str) -> None:
    name = data.draw(st.sampled_from([n for n in NAMES if " " not in n and "[" not in n]))
    raw = secret.encode()
    x = make_exchange(
        headers=[
            (name.lower().encode(), raw), (b"cookie", b"theme=dark; session=" + raw + b"; " + raw),
            (b"authorization", b"Bearer " + raw),
            (b"proxy-authorization", b"Basic " + raw), (b"x-original-uri", b"/a?" + name.encode() + b"=" + raw),
            (b"sec-websocket-protocol", b"access_token, " + raw),
        ],
        answer_headers=[
            (b"Set-Cookie", b"sid=" + raw + b"; Path=/; HttpOnly"), (b"set-cookie", raw), (name.encode(), raw),
            (b"location", b"https://bob:" + raw + b"@x.example/y"),
        ],
    )  # fmt: skip
    record = BUILDER.build(x)
    value = checked(record)
    assert_absent(secret, record)
    assert value["response"]["headers"]["set-cookie"] == ["sid=[REDACTED]; Path=/; HttpOnly", "[REDACTED]"]


@SETTINGS
@given(st.data(), st.integers(10**9, 10**12))
def test_numbers_and_booleans_are_hidden_too(data: Any, secret: int) -> None:
    name = data.draw(st.sampled_from(NAMES))
    document = json.dumps({"a": 1, "x": {name: secret, "b": [1.50, secret + 1]}, "last": {"y": {name: [secret]}}})
    record = BUILDER.build(make_exchange("POST", body=document.encode()))
    checked(record)
    assert_absent(str(secret), record)
    assert str(secret + 1).encode() in record
    assert b"1.5" in record


@SETTINGS
@given(st.data(), secrets)
def test_annotations_hide_the_secret(data: Any, secret: str) -> None:
    name = data.draw(st.sampled_from(NAMES))
    x = make_exchange(
        annotations={"user": {"id": 7, name: secret}, "list": [{name: [secret]}]}, message=f"set {name}={secret}"
    )
    record = BUILDER.build(x)
    value = checked(record)
    assert_absent(secret, record)
    assert value["context"]["annotations"]["user"]["id"] == 7


# The same secret under a sensitive name in one place, and under a harmless one in another.


def in_json(secret: str) -> tuple[bytes, bytes]:
    return json.dumps({"user": "mira", "password": secret}).encode(), b"application/json"


def in_form(secret: str) -> tuple[bytes, bytes]:
    return f"user=mira&password={quote_plus(secret)}".encode(), b"application/x-www-form-urlencoded"


def echoed(secret: str) -> list[tuple[bytes, bytes]]:
    """Draws (body, its type): ways in which an application may repeat what it received."""
    page = html.escape(secret)
    return [
        (json.dumps({"args": [secret], "n": 1.50}).encode(), b"application/json"),
        (json.dumps({secret: {"x": f"got {secret}!"}}, ensure_ascii=False).encode(), b"application/json"),
        (json.dumps({"detail": json.dumps({"input": secret})}).encode(), b"application/problem+json"),
        (json.dumps(json.dumps(json.dumps([secret]))).encode(), b"application/json"),
        (json.dumps({"next": f"/p?a={quote(secret, safe='')}&b={quote(secret)}"}).encode(), b"application/json"),
        (json.dumps({"raw": base64.b64encode(f"xy{secret}z".encode()).decode()}).encode(), b"application/json"),
        (json.dumps({"raw": base64.b64encode(secret.encode()).decode()}).encode(), b"application/json"),
        (json.dumps({"raw": base64.urlsafe_b64encode(f"a:{secret}".encode()).decode()}).encode(), b"application/json"),
        (("[" + '"' + "".join(f"\\u{ord(c):04x}" for c in secret) + '"]').encode(), b"application/json"),
        (f"<form><input name=q value='{page}'></form>".encode(), b"text/html"),
        (f"<p>{page.replace('&quot;', '&#34;').replace('&#x27;', '&#39;')}</p>".encode(), b"text/html"),
        (f"no such user: {secret}".encode(), b"text/plain"),
        (f'{{"a": "{json.dumps(secret)[1:-1]}", "cut'.encode(), b"application/json"),
        (("".join(f"%{b:02x}" for b in secret.encode())).encode(), b"text/plain"),
        (f"q={quote_plus(secret)}&p=1".encode(), b"application/x-www-form-urlencoded"),
    ]


@SETTINGS
@given(st.data(), secrets)
def test_reflected_secret_is_hidden(data: Any, secret: str) -> None:
    """Goal: a secret that is masked by name in one place occurs in no other place. Method: plant it in one place, and
    repeat it in all others in one of the encodings that frameworks use."""
    place = data.draw(
        st.sampled_from(["json", "form", "query", "header", "cookie", "set-cookie", "answer", "location"])
    )
    body, kind = data.draw(st.sampled_from(echoed(secret)))
    x = make_exchange(
        "POST", "/find/" + (secret if data.draw(st.booleans()) else "x"), body=body, content_type=kind, answer=body,
        answer_type=kind, principal=data.draw(st.sampled_from([None, secret, f"user {secret}"])),
        message=data.draw(st.sampled_from([None, f"{secret} was wrong"])),
        annotations=data.draw(st.sampled_from([None, {"seen": [secret], "n": 1}])),
    )  # fmt: skip
    if data.draw(st.booleans()):
        x.query_string = f"q={quote_plus(secret)}&page=1".encode()
    if data.draw(st.booleans()):
        x.response_headers.append((b"x-echo", quote(secret).encode()))
    raw = quote(secret, safe="").encode()
    if place == "json":
        x.request_body = make_body(in_json(secret)[0])
        x.request_headers[-1] = (b"content-type", b"application/json")
    elif place == "form":
        x.request_body = make_body(in_form(secret)[0])
        x.request_headers[-1] = (b"content-type", in_form(secret)[1])
    elif place == "query":
        x.query_string = b"page=1&token=" + raw
    elif place == "header":
        x.request_headers.append((b"x-api-key", secret.encode()))
    elif place == "cookie":
        x.request_headers.append((b"cookie", b"theme=dark; sid=" + raw + b"; a=b"))
    elif place == "set-cookie":
        x.response_headers.append((b"set-cookie", b"sid=" + raw + b"; Path=/"))
    elif place == "answer":
        x.response_body = make_body(in_json(secret)[0])
        x.response_headers[0] = (b"content-type", b"application/json")
    else:
        x.response_headers.append((b"location", b"/in?a=1&access_token=" + raw))
    record = BUILDER.build(x)
    value = checked(record)
    assert_absent(secret, record)
    assert value["context"]["redacted"]
    assert value["metadata"]["requestId"] == "r-1"


@SETTINGS
@given(st.integers(100_000, 10**12), st.sampled_from(["{}", "[{},1]", '{{"a":{{"b":{}}}}}', '["x{}y"]', '{{"{}":1}}']))
def test_reflected_number_is_hidden(secret: int, form: str) -> None:
    assume(len(set(str(secret))) > 1)  # 111111 is what is shown in place of a number
    x = make_exchange("POST", body=json.dumps({"pin": secret}).encode(), answer=form.format(secret).encode())
    x.response_headers.append((b"content-type", b"application/json"))
    x.started_ns = x.duration_ns = 0
    record = BUILDER.build(x)
    checked(record)
    assert json.dumps(secret) not in json.dumps([orjson.loads(record)[half] for half in ("request", "response")])
