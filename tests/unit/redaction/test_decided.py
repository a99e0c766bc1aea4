"""Difficult cells, and the decision for each."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.exchanges import make_body, make_builder, make_exchange
from tests.support.schema import checked

from asgi_audit.redaction import Redactor

BUILDER = make_builder()
S = "Zk93hfQ2mvL8"
M = "[REDACTED]"
UUID = "550e8400-e29b-41d4-a716-446655440000"


def kept(text: str, kind: str = "text/plain", cut: int | None = None) -> Any:
    x = make_exchange("POST", content_type=kind.encode())
    x.request_body = make_body(text.encode() + (b"" if cut is None else b" " * 9), kept=cut)
    return checked(BUILDER.build(x))["request"]["body"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"/verify/{UUID}", f"/verify/{M}"),  # this is the credential
        ("/otp/123456", f"/otp/{M}"),
        ("/users/1234/password/Tulip4711", f"/users/1234/password/{M}"),
        ("/password/policy", "/password/policy"),
        (f"/orders/{UUID}", f"/orders/{UUID}"),
    ],
)
def test_path(path: str, shown: str) -> None:
    assert checked(BUILDER.build(make_exchange(path=path)))["request"]["path"] == shown


@pytest.mark.parametrize(
    "text",
    [
        f'{{"value":"{S}","name":"pass',
        f'{{"value":"{S}"',
        f'{{"rows":[["{S}",1]],"colu',
        f'{{"variables":{{"p":"{S}"}},"query":"mutation',
        f'{{"a":[{{"input":"{S}","loc":["body"',
    ],
)
def test_value_whose_name_was_cut_off_is_masked(text: str) -> None:
    body = kept(text, "application/json", cut=len(text))
    assert S not in body
    assert M in body


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("- password\n- email\n", "- password\n- email\n"),
        (f"- password\n- {S}\n", f"- password\n- {M}\n"),
        (f"kind: Secret\nstringData:\n  a: {S}\n", f"kind: Secret\nstringData:\n  a: {M}\n"),
        ("volumes:\n- secret:\n    secretName: web\n", "volumes:\n- secret:\n    secretName: web\n"),
        (f"password='a' {S}'", f"password='{M}'"),
        (f"password=a {S}\nb", f"password={M}\nb"),
        (f"password={S} user=bob", f"password={M} user=bob"),
        ("def f(token: str) -> int:\n    return 1\n", "def f(token: str) -> int:\n    return 1\n"),
        ("token: ${{ secrets.X }}\n", "token: ${{ secrets.X }}\n"),
        ("id-token: write\n", "id-token: write\n"),
        ("password: <Hunter2 xy>\n", f"password: {M}\n"),
        ("password: <your password>\n", "password: <your password>\n"),
        (f"[password] {S}\n", f"[password] {M}\n"),
        (f"パスワードは{S}\n", f"パスワードは{M}\n"),
        ("ean 4006381333931, card 4111111111111111", f"ean 4006381333931, card {M}"),
        (f"see http://u:{S}@h", f"see http://u:{M}@h"),
        (
            f'data: {{"name":"password"}}\n\ndata: {{"value":"{S}"}}\n\n',
            f'data: {{"name":"password"}}\n\ndata: {{"value":"{M}"}}\n\n',
        ),
    ],
)  # fmt: skip
def test_text(text: str, shown: str) -> None:
    assert kept(text) == shown


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        (f'[["password","email"],["{S}","x"]]', [["password", "email"], [M, "x"]]),
        ('{"password":{"type":"string","title":"Password"}}', {"password": {"type": "string", "title": "Password"}}),
        (
            f'{{"password":{{"type":"string","example":"{S}","default":"{S}"}}}}',
            {"password": {"type": "string", "example": M, "default": M}},
        ),
        ('{"prompt_tokens":"12","token":123456}', {"prompt_tokens": "12", "token": M}),
        (f'{{"kind":"Secret","data":{{"x":"{S}"}}}}', {"kind": "Secret", "data": M}),
        ('{"secretName":"web-tls"}', {"secretName": "web-tls"}),
        (
            '{"dsn":"a1","pincode":"560001","invite_code":"x"}',
            {"dsn": M, "pincode": M, "invite_code": M},
        ),
        (
            '{"password":true,"token_status":"ok","token_id":7,"card_type":"visa","credit_card_last4":"4242"}',
            {"password": True, "token_status": "ok", "token_id": 7, "card_type": "visa", "credit_card_last4": "4242"},
        ),
        (
            f'{{"show_password":"{S}","has_token":"{S}","is_password":"yes","forgot_password":true}}',
            {"show_password": M, "has_token": M, "is_password": "yes", "forgot_password": True},
        ),
        ('{"pin":1234,"cvv":123,"tokenStore":5}', {"pin": M, "cvv": M, "tokenStore": 5}),
        ('{"n":4006381333931,"card":4111111111111111}', {"n": 4006381333931, "card": M}),
    ],
)
def test_json(document: str, shown: Any) -> None:
    assert kept(document, "application/json") == shown


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        (
            f"<tr><td><b>password</b></td><td><span>{S}</span></td></tr>",
            f"<tr><td><b>password</b></td><td><span>{M}</span></td></tr>",
        ),
        (
            f"<label for=x>Password</label><input id=x value={S}>",
            f"<label for=x>Password</label><input id=x value={M}>",
        ),
        (
            '<label for="p">Password</label><input type="password" id="p" name="password" required>',
            '<label for="p">Password</label><input type="password" id="p" name="password" required>',
        ),
    ],
)
def test_page(page: str, shown: str) -> None:
    assert kept(page, "text/html") == shown


def test_challenge_is_kept() -> None:
    x = make_exchange(answer_headers=[(b"www-authenticate", b'Bearer error="invalid_token"')])
    assert checked(BUILDER.build(x))["response"]["headers"]["www-authenticate"] == 'Bearer error="invalid_token"'


def test_password_with_a_space_is_masked_in_a_field_that_is_one_url() -> None:
    x = make_exchange(headers=[(b"referer", b"http://u:S3 cret@h/")])
    assert checked(BUILDER.build(x))["request"]["headers"]["referer"] == f"http://u:{M}@h/"


def test_form_is_masked_where_a_name_seems_to_stand_in_it() -> None:
    """A secret may end in letters that look like a name: `…Pw`."""
    assert kept("id|note\n1|https://mira:Y5HiZnNz4wPw@h/x\n") == f"id|note\n1|https://mira:{M}@h/x\n"
    assert kept('x("private-key", "Zq517728922$x!GPw")') == f'x("private-key", "{M}")'


def test_path_of_a_key_that_is_a_secret_shows_nothing_of_it() -> None:
    key = "sk-" + "proj-LwStTPr18ADaYyt8dbzhyec6EOiJWt2HJUniQ46x"
    record = BUILDER.build(make_exchange("POST", body=f'{{"a":{{"{key}":{{"uses":3}}}}}}'.encode()))
    assert key[:20].encode() not in record


def test_text_that_ends_in_the_sign_of_base64_is_no_name() -> None:
    page = "<b>Basic bWlyYTpWdzBEd3dnaUJKUGpkWg==</b>"
    assert kept(page, "text/xml") == f"<b>Basic {M}</b>"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("id,db_pass,name\n1,Zq25uWTzHJNA", "text/csv"),
        ('{"note":"AK' + "IAPEFDGR", "application/json"),
        ('{"a":"see Basic bWlyYTpRUWR1dlhHb', "application/json"),
    ],
)
def test_secret_that_is_cut_itself_is_masked(text: str, kind: str) -> None:
    assert text[-8:] not in kept(text, kind, cut=len(text))


@pytest.mark.parametrize(
    "stream",
    [
        b"data: ghp_16C7e42F292c\n\ndata: 6912E7710c838347Ae178B4a\n\n",
        b"data:  ghp_16C7e42F292c\n\ndata:6912E7710c838347Ae178B4a\n\n",  # a piece may begin with a space
        b'data: {"a":1}\r\n\r\ndata: ghp_16C7e42F292c\r\n\r\ndata: 6912E7710c838347Ae178B4a\r\n\r\n',
    ],
)
def test_a_token_in_two_plain_events_is_masked(stream: bytes) -> None:
    kept = Redactor().record().body(stream, b"text/event-stream", "response.body")
    assert kept is not None
    assert kept.count(b"[REDACTED]") == 1
    assert b"16C7e42F292c" not in kept
    assert b"6912E7710c838347" not in kept


@pytest.mark.parametrize(
    "text",
    [
        '{"password":"Enter the dragon"}',  # speaks of no field
        '{"password":"My Secret Passphrase"}',
        '{"password":"Correct Horse Battery Staple"}',
        '{"password":["tulip must grow"]}',
        '{"password":"secret"}',  # no capital
        '{"passwords":[{"name":"x","value":"Tulip"}]}',
        '{"cvv":{"value":123}}',
    ],
)
def test_what_is_no_label_of_a_form_is_masked(text: str) -> None:
    assert M in str(kept(text, "application/json"))


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password: supersecret", "supersecret"),
        ("docker run -e POSTGRES_PASSWORD=mysecretpassword -d postgres", "mysecretpassword"),
        ("API_KEY=my_api_key", "my_api_key"),
        ("login with token 'my-secret-token-42'", "my-secret-token-42"),
        ("password=\\\nTulip99x", "Tulip99x"),
        ('Authorization: Digest username="m", response="a1b2c3d4e5"', "a1b2c3d4e5"),
        ("db:5432:shop:mira:Tulip99x", "Tulip99x"),
    ],
)
def test_value_that_reads_as_a_name_or_stands_apart_is_masked(text: str, secret: str) -> None:
    assert secret not in str(kept(text))


@pytest.mark.parametrize(
    "text",
    [
        "f(password=password, token=user_token)",
        "token = config.api_token",
        "  password: passwordHash,",
        "x = API_TOKEN",
    ],
)
def test_variables_of_source_code_are_kept(text: str) -> None:
    assert kept(text) == text


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/password/hunter2-1234", f"/password/{M}"),
        ("/join/" + "zQ3" * 8, f"/join/{M}"),
        (f"/webhooks/{UUID}", f"/webhooks/{UUID}"),  # mostly the id of a subscription
        ("/token/refresh", "/token/refresh"),
    ],
)
def test_words_in_a_path_before_a_token(path: str, shown: str) -> None:
    assert checked(BUILDER.build(make_exchange(path=path)))["request"]["path"] == shown
