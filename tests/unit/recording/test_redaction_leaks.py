"""Places in which a secret was found in a record once: each is held here."""

from __future__ import annotations

import orjson
import pytest
from tests.support_exchanges import make_builder, make_exchange
from tests.support_schema import checked

from asgi_audit.recording.names import SENSITIVE, Names

NAMES = Names()
BUILDER = make_builder()
SECRET = b"Hx7secretly9Zq"
S = SECRET.decode()


@pytest.mark.parametrize(
    "query",
    [
        "password=ab;{}", "password=ab<{}", "password=ab#{}", "password=ab {}", "password=>{}", "a=1&password=ab?{}",
        'q=1;password={}', '{{"pin":"x={}"}}', "code={}&scope=openid", "u=https://bob:{}@h/", "q=postgres://u:{}@db/x",
        'query={{login(password:$p){{ok}}}}&variables={{"p":"{}"}}', "contrase%C3%B1a={}", "contraseña={}",
    ],
)  # fmt: skip
def test_query_hides_the_whole_value(query: str) -> None:
    x = make_exchange("GET", query=query.format(S).encode())
    record = BUILDER.build(x)
    assert checked(record)["request"]["query"]
    assert SECRET not in record


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"referer", b"https://u:p@%b@h/"),
        (b"referer", b"https://h/?password=ab;%b"),
        (b"referer", b"https://h/?password=ab %b"),
        (b"referer", b"https://h/a;jsessionid=%b?x=1"),
        (b"x-note", b"https://u:p@%b@h/"),
        (b"x-dsn-note", b"postgres://u:%b@h/db"),
        (b"host", b"u:%b@h"),
        (b"x-forwarded-host", b"u:%b@h"),
        (b"x-amz-server-side-encryption-customer-key", b"%b"),
    ],
)
def test_header_hides_what_stands_in_its_url(name: bytes, value: bytes) -> None:
    builder = make_builder()
    for _ in range(2):  # what is remembered of the first must hide it too
        record = builder.build(make_exchange("GET", headers=[(name, value % SECRET)]))
        checked(record)
        assert SECRET not in record


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/a;jsessionid={}", None),
        ("/t;token={}/more", None),
        ("/x/token={}", None),
        ("/x?token={}", "/x%3Ftoken={}"),
        ("/x/token={}", "/x/token%3D{}"),
        ("/x/token%3D{}", "/x/token%253D{}"),
    ],
)
def test_path_hides_a_pair(path: str, raw: str | None) -> None:
    x = make_exchange("GET", query=b"a=1")
    x.path = path.format(S)
    x.raw_path = (raw or path).format(S).encode()
    for query in (b"", b"a=1"):
        x.query_string = query
        record = BUILDER.build(x)
        value = checked(record)
        assert SECRET not in record
        assert value["request"]["path"].startswith(path[:2])
        assert "request.path" in value["context"]["redacted"]


@pytest.mark.parametrize("path", ["/orders/17", "/tokens:refresh", "/a=1/b", "/q;v=2", "/caf%C3%A9"])
def test_path_without_a_secret_is_left_alone(path: str) -> None:
    x = make_exchange("GET")
    x.path = path
    x.raw_path = path.encode()
    value = checked(BUILDER.build(x))
    assert value["request"]["path"] == path
    assert value["request"]["originalUrl"] == path


@pytest.mark.parametrize(
    "document",
    [
        '{"url":"https://u:%s@h"}',
        '{"url":"https:\\/\\/u:%s@h"}',
        '{"a":["postgres://u:x@%s@h/db"]}',
        '{"u":"https://%s0123456789@github.com/x"}',
        '{"type":"password","value":"%s","temporary":false}',
        '{"id":"password","value":"%s"}',
        '{"block_id":"password","value":"%s"}',
        '{"question":"password","answer":"%s"}',
        '{"title":"Password","answer":"%s"}',
        '{"detail":"1 validation error for Login\\npassword\\n  Short [type=x, input_value=\'%s\', input_type=str]"}',
        '{"contraseña":"%s"}',
        '{"contrase\\u00f1a":"%s"}',
        '{"code":"%s","redirect_uri":"https://x"}',
        '{"code":"%s","state":"xyz"}',
        '{"query":"mutation($p:String!){login(password:$p){ok}}","variables":{"p":"%s"}}',
        '{"variables":{"p":"%s"},"query":"mutation($p:String!){login(password:$p){ok}}"}',
        '{"k":"-----BEGIN PGP PRIVATE KEY BLOCK-----\\n%s\\n-----END PGP PRIVATE KEY BLOCK-----"}',
        '{"pass\\tword":"%s"}',
        '{"pass\\u0009word":"%s"}',
        '{"pass\\nword" : "%s"}',
        '{"pass\\u200bword":"%s"}',
    ],
)
def test_json_hides_it(document: str) -> None:
    data = (document % S).encode()
    orjson.loads(data)
    record = BUILDER.build(make_exchange("POST", body=data, answer=data, answer_type=b"application/json"))
    checked(record)
    assert SECRET not in record


def test_annotations_hide_user_information() -> None:
    x = make_exchange("GET")
    x.annotations = {"db": f"postgres://u:{S}@h/db"}
    record = BUILDER.build(x)
    checked(record)
    assert SECRET not in record


@pytest.mark.parametrize(
    "name",
    [
        "pass1", "pswd", "psw", "mfa_code", "2fa_code", "twoFactorCode", "invite_code", "rsa_key", "dsn", "sentry_dsn",
        "database_url", "mnemonic", "seed_phrase", "recovery_phrase", "contraseña", "CONTRASEÑA",
    ],
)  # fmt: skip
def test_name_is_sensitive_too(name: str) -> None:
    assert NAMES.classify(name) == SENSITIVE
    assert NAMES.hit(f'{{"{name}":1}}'.encode())
