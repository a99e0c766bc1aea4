"""Redaction by example: what is masked, and what must be left unchanged."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.support.exchanges import caches_of, make_builder, make_exchange
from tests.support.machine import processor_time, within
from tests.support.schema import checked

from asgi_audit.redaction import Redactor
from asgi_audit.redaction.forms import cards
from asgi_audit.redaction.names import CODE, COUNT, MANY, NO, STEMS, TEXT, YES, Names
from asgi_audit.redaction.tables import words

NAMES = Names()
REDACTOR = Redactor()
CARD = "4111 1111 1111 1111"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


def masked(document: str) -> tuple[str, list[str]]:
    record = REDACTOR.record()
    kept = record.body(document.encode(), b"application/json", "b", valid=True)
    assert kept is not None
    return kept.decode(), list(record.redacted)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "new_password",
        "X-Api-Key",
        "apikey",
        "access_token",
        "csrfToken",
        "Set-Cookie",
        "client_secret",
        "PIN",
        "card_pin",
        "userPin",
        "user[password]",
        "pass%77ord",
        "pass-word",
        "connect.sid",
        "userpin",
        "AWS_SECRET_ACCESS_KEY",
        "otp",
        "cvv2",
        "X-Amz-Signature",
        "db_pass",
        "nextToken",
        "ssn",
    ],
)
def test_name_is_sensitive(name: str) -> None:
    assert NAMES.kind(name.encode()) == YES


@pytest.mark.parametrize(
    "name",
    [
        "user",
        "username",
        "author",
        "secretary",
        "tokenizer",
        "token_type",
        "shipping",
        "spinning",
        "compass",
        "passenger",
        "public_key",
        "publicKey",
        "monkey",
        "keyboard",
        "description",
        "passed",
        "code_name",
        "design",
        "inside",
        "hotpink",
        "cardinal",
        "idempotency_key",
    ],
)
def test_name_is_left_alone(name: str) -> None:
    assert NAMES.kind(name.encode()) == NO


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("max_tokens", COUNT),
        ("total_tokens", COUNT),
        ("tokens_used", COUNT),
        ("completion_tokens_details", NO),
        ("auth", TEXT),
        ("session", TEXT),
        ("tokens", MANY),
        ("code", CODE),
    ],
)
def test_name_is_of_its_kind(name: str, kind: int) -> None:
    assert NAMES.kind(name.encode()) == kind


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize("form", ['{{"{}": 1}}', "a=1&{}=x", "{}: x", "<{}>x", '["loc", "{}"]'])
def test_scan_never_misses_a_sensitive_name(monkeypatch: pytest.MonkeyPatch, pure: bool, form: str) -> None:
    """The scan's search words are made from the tables; a missing word would leak in every place at once."""
    if pure:
        monkeypatch.setitem(__import__("sys").modules, "ahocorasick_rs", None)
    redactor = Redactor(["Zip Code", "IBAN"])
    stems = [stem.replace("_", mark) for stem in STEMS for mark in ("", "_", "-", " ", ".")]
    for word in [*stems, *words("short"), *words("ambiguous"), "user_pin", "zipcode", "iban", "ZIP-code"]:
        for spelling in (
            word,
            word.upper(),
            f"x_{word}",
            f"\\u{ord(word[0]):04x}{word[1:]}",
            f"%{ord(word[0]):02X}{word[1:]}" if word.isascii() else word,
        ):
            if redactor.names.kind(spelling.encode()) in (YES, TEXT):
                assert redactor.alarms(form.format(spelling).encode()), spelling
    assert not redactor.alarms(b'{"name": "Alice", "items": [1, 2.5], "note": "all is well in the garden"}')


def test_operators_names_are_masked_whole_or_as_a_part() -> None:
    record = Redactor(["tax-number", "city"]).record()
    data = b'{"Tax Number": 5, "address": {"city": "Oslo", "capacity": 3}, "billing.city": "x"}'
    assert orjson.loads(record.body(data, b"application/json", "b", valid=True) or b"") == {
        "Tax Number": "[REDACTED]",
        "address": {"city": "[REDACTED]", "capacity": 3},
        "billing.city": "[REDACTED]",
    }
    assert list(record.redacted) == ["b.Tax Number", "b.address.city", "b.billing.city"]


def test_json_is_spliced_and_everything_else_survives() -> None:
    text, redacted = masked(
        '{"big": 12345678901234567890123, "f": 1.50, "a": 1, "a": 2, "password" : "x\\"y", '
        '"user": {"tokens": [1, {"b": "2"}], "n": null},'
        ' "secret": null, "pwd": true, "list": [{"cvv": 123}, {"cvv": 456}], "max_tokens": 5, "total_tokens": "abc"}'
    )
    assert text == (
        '{"big": 12345678901234567890123, "f": 1.50, "a": 1, "a": 2, "password" : "[REDACTED]", '
        '"user": {"tokens": "[REDACTED]", "n": null},'
        ' "secret": null, "pwd": true, "list": [{"cvv": "[REDACTED]"}, {"cvv": "[REDACTED]"}], "max_tokens": 5,'
        ' "total_tokens": "[REDACTED]"}'
    )
    assert redacted == ["b.password", "b.user.tokens", "b.list[].cvv", "b.total_tokens"]


def test_the_walk_and_the_short_way_agree() -> None:
    """More than eight matches use the document walk; a document with few matches uses the short way. Both must give the
    same result."""
    members = [f'"k{i}": {{"password": {i}, "x": [{i}, "s"], "token" :["a", {{"b": {i}}}]}}' for i in range(12)]
    whole, paths = masked("{" + ", ".join(members) + "}")
    single = [masked("{" + m + "}") for m in members]
    assert whole == "{" + ", ".join(s[0][1:-1] for s in single) + "}"
    assert paths == [p for s in single for p in s[1]]


@pytest.mark.parametrize(
    "document",
    [
        '{"detail":[{"type":"string_too_short","loc":["body","password"],"msg":"short","input":"hunter2","ctx":{"min":8}}]}',
        '{"detail":[{"input":"hunter2","loc":["body",0,"pass-word"],"msg":"got hunter2"}]}',
        '{"detail":[{"loc":["body"],"msg":"not a dict","input":"{\\"password\\": \\"hunter2\\"}"}]}',
        '{"detail":[{"loc":["body"],"msg":"not a dict","input":"password=hunter2&a=1"}]}',
        '{"detail":[{"loc":["body","email"],"msg":"Field required","input":{"user":{"password":"hunter2"}}}]}',
        '{"query":"mutation{login(password:\\"hunter2\\"){ok}}"}',
        '{"query":"mutation($p:String!){login(password:$p){ok}}","variables":{"password":"hunter2"}}',
        '[{"name":"password","value":"hunter2"}]',
        '[{"value":{"a":["hunter2"]},"key":"api_key"}]',
        '[["Authorization","hunter2"],["Accept","x"]]',
        '{"headers":[{"name":"Cookie","value":"hunter2"}]}',
        '{"grant_type":"authorization_code","code":"hunter2"}',
        '{"grant_type":"urn:x","code":"hunter2"}',
        '{"a":"{\\"b\\":\\"{\\\\\\"password\\\\\\":\\\\\\"hunter2\\\\\\"}\\"}"}',
        '{"url":"https://x.example/?access_token=hunter2"}',
        '{"url":"https%3A%2F%2Fx.example%2F%3Faccess_token%3Dhunter2"}',
        '{"dsn":"Server=x;Password=hunter2;"}',
        '{"pass\\u0077ord":"hunter2"}',
        '{"password=hunter2":""}',
        '{"password":"a","password":"hunter2"}',
        '"password=hunter2"',
        '{"line":"-----BEGIN RSA PRIVATE KEY-----\\nhunter2\\n-----END RSA PRIVATE KEY-----"}',
    ],
)
def test_json_secret_is_masked(document: str) -> None:
    orjson.loads(document)
    record = make_builder().build(
        make_exchange(
            "POST",
            body=document.encode(),
            content_type=b"application/json",
            answer=document.encode(),
            answer_type=b"application/problem+json",
        )
    )
    value = checked(record)
    assert b"hunter2" not in record
    assert len(value["context"]["redacted"]) >= 2


@pytest.mark.parametrize(
    "document",
    [
        '{"detail":[{"type":"missing","loc":["body","name"],"msg":"Field required","input":{"a":1}}]}',
        '{"code":"A17","state":"open","name":"Reset your password","value":5}',
        '{"required":["password","email"],"title":"Secrets of the sea"}',
        '{"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,"completion_tokens_details":{"reasoning_tokens":0}}}',
        '{"ts":1795348800123456789,"f":9.990000000000002,"id":"1795348800123456"}',
        '{"token_type":"bearer","secretary":"Jane","auth":{"kind":"basic"},"password":null}',
    ],
)
def test_json_that_names_no_secret_is_left_alone(document: str) -> None:
    value = checked(
        make_builder().build(make_exchange("POST", body=document.encode(), content_type=b"application/json"))
    )
    assert value["request"]["body"] == orjson.loads(document)
    assert "redacted" not in value["context"]


@pytest.mark.parametrize(
    "value", [JWT, f"Bearer {'x' * 20}", f"card {CARD} please", CARD.replace(" ", "-"), "378282246310005"]
)
def test_value_is_masked_by_its_form(value: str) -> None:
    document = orjson.dumps({"note": value, "n": 1})
    x = make_exchange(
        "POST", body=document, query=b"q=" + value.replace(" ", "+").encode(), headers=[(b"x-note", value.encode())]
    )
    record = make_builder().build(x)
    checked(record)
    assert value.encode() not in record
    assert value.replace(" ", "+").encode() not in record
    text = make_exchange("POST", body=b"line\nsee " + value.encode() + b"\nlast", content_type=b"text/plain")
    record = make_builder().build(text)
    assert checked(record)["request"]["body"].startswith("line\n")
    assert value.encode() not in record


def test_card_spans_wants_issuer_length_and_luhn_digit() -> None:
    assert list(cards(b"4111111111111111 and 4111111111111112")) == [(0, 16)]
    assert list(cards(b"1111111111111117 0.4111111111111111 x4111111111111111 41111111111111111")) == []


def test_query_keeps_what_was_received_around_the_mask() -> None:
    record = REDACTOR.record()
    raw = b"a=%20b&pass%77ord=x&user[token]=y&code=17&;csrf=z&flag&q=1;pin=2"
    assert record.query(raw, "q") == (
        b"a=%20b&pass%77ord=[REDACTED]&user[token]=[REDACTED]&code=17&;csrf=[REDACTED]&flag&q=1;pin=[REDACTED]"
    )
    assert list(record.redacted) == ["q.password", "q.user[token]", "q.;csrf", "q.q"]


def test_oauth_code_is_masked_beside_state_only() -> None:
    build = make_builder().build
    assert checked(build(make_exchange(query=b"code=abc&page=1")))["request"]["query"] == {"code": "abc", "page": "1"}
    value = checked(build(make_exchange(query=b"code=abc&state=xyz")))
    assert value["request"]["query"] == {"code": "[REDACTED]", "state": "xyz"}
    assert value["request"]["originalUrl"] == "/orders?code=[REDACTED]&state=xyz"


def test_text_is_masked_to_the_end_of_the_line() -> None:
    record = REDACTOR.record()
    text = b'user: bob\npassword = a b c\nnote: fine\n{"token": 1, "n": 2}\nend'
    assert record.body(text, b"text/plain", "b") == (
        b'user: bob\npassword = [REDACTED]\nnote: fine\n{"token": "[REDACTED]", "n": 2}\nend'
    )
    assert list(record.redacted) == ["b.token", "b"]


def test_redacted_names_at_most_64_paths_of_200_characters() -> None:
    document: Any = {"password": 1}
    for i in range(60):
        document = {"x" * 50 + str(i): document}
    many = {f"k{i}": {"token": i} for i in range(200)}
    value = checked(make_builder().build(make_exchange("POST", body=orjson.dumps({"d": document, **many}))))
    paths = value["context"]["redacted"]
    assert len(paths) == 64
    assert max(map(len, paths)) == 200
    assert all(v == {"token": "[REDACTED]"} for k, v in value["request"]["body"].items() if k != "d")


K64 = 65_536


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("json", b'{"password":1,"a":' + b"[" * 800 + b"]" * 800 + b',"b":[' + b"[]," * 20_000 + b"1]}"),
        ("json", b"[" + b'{"password":1},' * 4_000 + b"1]"),
        ("json", b'{"password":[' + b"1," * 30_000 + b"1]}"),
        ("json", b"[" + b'"",' * 21_000 + b'{"pwd":""}]'),
        ("json", b'{"a":"' + b'\\"' * 30_000 + b'","pwd":1}'),
        ("json", b'{"a":"' + b"pwd" * 20_000 + b'"}'),
        ("json", b'{"a":"' + b"pwd=" * 15_000 + b'"}'),
        ("json", b'{"a":"' + b"%25" * 20_000 + b'%70wd=1"}'),
        ("json", b'{"a":"' + b"\\\\" * 30_000 + b'u0070wd=1"}'),
        ("json", b'{"a":"' + b"\\\\" * 30_000 + b'"}'),
        ("json", b'{"pwd":"x", "a":"' + b"\\\\" * 30_000 + b'"}'),
        ("text", b"\\" * K64),
        ("json", b'{"pwd":"abcd12345","a":[' + b'"abcd12345",' * 5_000 + b"1]}"),
        ("json", b'{"pwd":"abcd12345","a":[' + b'"%61bcd12345",' * 1_900 + b"1]}"),
        ("json", b"[" + b'"%61%61%61",' * 5_400 + b"1]"),
        ("json", b"[" + b'"%70assword=1",' * 4_300 + b"1]"),
        ("json", b"[" + b'"my token is 1a2",' * 3_600 + b"1]"),
        ("json", b"{" + b",".join(b'"k%d":"password x%d"' % (i, i) for i in range(2_500)) + b"}"),
        ("json", b"[" + b'{"%25":"%25"},' * 4_600 + b"1]"),
        ("json", b"[" + b'{"\\\\u0070":{"\\"":"\\\\u0070"}},' * 2_200 + b"1]"),
        ("json", b"[" + b'{"eyJ":{"1a2":"eyJ"}},' * 2_900 + b"1]"),
        ("json", b"{" + b",".join(b'"%%70a%d":"%%70"' % i for i in range(3_500)) + b',"pwd":1}'),
        ("json", b"{" + b",".join(b'"\\u0070a%05d":1' % i for i in range(3_500)) + b',"pwd":1}'),
        ("json", b"{" + b",".join(b'"k%d":{"n":"\\n"}' % i for i in range(3_000)) + b',"pwd":1}'),
        ("json", b'{"pwd":"a&cd12345","a":"' + b"a&amp;cd12345 %41" * 3_800 + b'"}'),
        (
            "json",
            b"[" + b",".join(b'{"pwd":"abcd%05d"}' % i for i in range(300)) + b',"abcd00007"' * 4_000 + b"]",
        ),
        ("json", b'{"a":"' + b"-----BEGIN PRIVATE KEY-----" * 2_000 + b'"}'),
        ("json", b'{"a":"' + b"eyJ" * 20_000 + b'"}'),
        ("json", b'{"a":"' + b"4 " * 30_000 + b'"}'),
        ("json", b"[" + b'{"name":"password","value":' * 400 + b"1" + b"}" * 400 + b"]"),
        ("text", b"pwd" * 20_000),
        ("text", b"pwd:" * 15_000),
        ("text", b"a" * K64 + b"pwd=1"),
        ("text", b"pwd: 1\n" * 9_000),
        ("text", b"pwd:\n" * 12_000),
        ("text", b'data: {"pwd":1}\n' * 4_000),
        ("text", b"a:" * 30_000 + b"pwd=1"),
        ("text", b'"' * K64 + b"pin"),
        ("text", b"pin" + b" " * K64),
        ("text", b'"' + b" \\n" * 20_000 + b"pwd:"),
        ("text", b"{" + b"\n{" * 30_000 + b"pwd:1"),
        ("text", b"-----BEGIN PRIVATE KEY-----" * 2_400),
        ("text", b'password:\n"\n' * 250 + b'"\n' * 30_000),
        ("text", b"4111111111111111 " * 3_800),
        ("text", b"4111111111111112 " * 3_800),
        ("text", b"4111111111111111\n" * 3_800),
        ("json", b'{"a":"' + b"4111111111111112 " * 3_800 + b'"}'),
        ("json", b"[" + b",".join([b'"{\\"password\\":\\"abcdefgh\\",\\"n\\":1}"'] * 1_200) + b"]"),
        ("json", b'{"a":"' + b"://u:p@" * 9_000 + b'"}'),
        ("json", b'{"a":"' + b"://" * 21_000 + b'@"}'),
        ("json", b'{"a":"://' + b"@" * 60_000 + b'"}'),
        ("json", b'{"a":"' + b"input_value=" * 5_000 + b'"}'),
        ("text", b"<pwd>" + b"<" * 60_000),
        ("text", b"<pwd>" * 13_000),
        ("text", b"<pwd>" + b"<a b='pwd: 1'>x" * 1_400),
        ("text", b"<pwd>" + b"password=1 " * 1_400 + b"<a>" * 1_400),
        ("text", b"<a>" + b"<b>password: x\n" * 1_400),
        ("text", b"pwd:\n  - x\n" * 290 + b" x\n" * 18_000),
        ("text", b"<a>" + b"<b n='pwd' c='token=1'>pin: x</b>" * 700),
        ("json", b'{"a":"' + b"AKIAIOSFODNN7EXAMPLE " * 3_000 + b'"}'),
        ("json", b'{"a":"' + b"Basic abcdefgh " * 4_300 + b'"}'),
        ("json", b'{"a":"' + b"sk-" * 20_000 + b'T3BlbkFJ"}'),
        ("json", b'{"a":"' + b"://u:a/" * 9_000 + b'@"}'),
        ("json", b'{"a":"' + b"password is 1a2b3c " * 3_400 + b'"}'),
        ("json", b'{"columns":["pin"],"rows":[[' + b"1," * 32_000 + b"1]]}"),
        ("json", b'{"columns":["pin"],"rows":[[' * 250 + b"1" + b"]]}" * 250),
        ("json", b'{"columns":[' + b'"pin",' * 10_000 + b'"pin"],"rows":[[1]]}'),
        ("json", b'{"a":[' + b'{"password":{"type":"string"}},' * 1_900 + b"1]}"),
        ("json", b'{"password":{"properties":' * 300 + b"1" + b"}}" * 300),
        ("text", b"id,password\n" + b"1,2\n" * 16_000),
        ("text", b"- password\n- S3cr3t\n" * 3_200),
        ("text", b'"password", ' * 5_400),
        ("form", b"a=AKIAIOSFODNN7EXAMPLE&" * 2_800),
        ("form", b"pwd=%20&" * 8_000),
        ("form", b"query=pwd:1&variables=1&" * 1_900),
        ("form", b"pwd&" * 16_000),
        ("form", b"&" * K64 + b"pwd=1"),
        ("form", b"pwd=1;" * 10_000),
        ("form", b"a" * K64 + b"pwd"),
    ],
)
def test_adversarial_body_of_64_kib_takes_less_than_20_ms(kind: str, data: bytes) -> None:
    """The thread shares the interpreter's lock with the application, so no input may hold it for long.

    The best of several runs in CPU time counts, because other programs use this machine. The bound is twice 20 ms,
    and is scaled to the speed of the machine on which the test runs."""
    types = {"json": b"application/json", "text": b"text/plain", "form": b"application/x-www-form-urlencoded"}
    x = make_exchange("POST", body=data[: K64 + 100], content_type=types[kind])
    if kind == "json":
        orjson.loads(data)
        x = make_exchange("POST", body=data, content_type=types[kind])
    build = make_builder().build
    bound = 0.02 * 2  # other programs use the machine, too
    best = within(lambda: processor_time(lambda: build(x)), bound)
    checked(build(x))
    assert best <= bound, f"{best * 1e3:.1f} of {bound * 1e3:.1f} ms"


def test_query_and_header_of_16_kib_take_little_time() -> None:
    x = make_exchange(
        query=b"a" * 16_000 + b"pwd", headers=[(b"referer", b"//" * 8_000 + b"pwd"), (b"link", b"pwd" * 5_000)]
    )
    build = make_builder().build
    checked(build(x))
    assert within(lambda: processor_time(lambda: build(x)), 0.04) <= 0.04


def test_a_document_too_dense_to_walk_is_omitted() -> None:
    data = b'{"pwd":[1],"a":[' + b"[]," * 20_000 + b"1]}"
    assert REDACTOR.record().body(data, b"application/json", "b", valid=True) is None
    value = checked(make_builder().build(make_exchange("POST", body=data)))
    assert value["request"]["body"] is None
    assert value["context"]["requestBody"]["captured"] == "omitted"
    assert value["context"]["redacted"] == ["request.body"]


def test_document_keyed_by_ids_is_recorded_and_masked_when_they_are_many() -> None:
    entries = ",".join(f'"user-{i}":{{"note":"first\\nsecond"}}' for i in range(2_000))
    data = f'{{{entries},"2000":{{"password":"hunter2x"}},"pin":4711}}'.encode()
    value = checked(make_builder().build(make_exchange("POST", body=data)))
    assert value["context"]["requestBody"]["captured"] == "full"
    assert value["context"]["redacted"] == ["request.body.2000.password", "request.body.pin"]
    assert value["request"]["body"]["2000"] == {"password": "[REDACTED]"}
    assert len(value["request"]["body"]) == 2_002


def test_caches_hold_no_value_of_a_request() -> None:
    builder = make_builder()
    for i in range(3000):
        x = make_exchange(
            "POST",
            query=f"hunter2q{i}=hunter2v".encode(),
            body=orjson.dumps({f"hunter2k{i}": "hunter2", "password": "hunter2"}),
            headers=[
                (b"authorization", b"hunter2"),
                (b"x-any", b"hunter2"),
                (b"user-agent", f"ua {i}".encode()),
                (b"cookie", b"a=hunter2"),
            ],
        )
        builder.build(x)
    held = repr((caches_of(builder._headers), builder._redactor.names._cache))
    assert "hunter2" not in held.replace("hunter2q", "").replace("hunter2k", "")
    assert all(len(c) <= 2048 for c in (*caches_of(builder._headers), builder._redactor.names._cache))


def test_what_is_no_secret_is_masked_nowhere_else() -> None:
    """The path, which queries filter by, and common words stay unchanged, even beside a sensitive name."""
    page = b'<label>Password</label><form action="/-/login" method="post"><input name="csrf" value="aB3dE6gH9j"></form>'
    x = make_exchange(
        "POST",
        "/-/login",
        headers=[(b"cookie", b"theme=darkest; last=/-/login; lang=en-GB; back=/-/login?a=12345")],
        body=b'{"password":"secret","token":"Bearer","auth":"required","session":"active","cookie":"application/json"}',
        content_type=b"application/json",
        answer=page + b" secret active required aB3dE6gH9j darkest",
        answer_type=b"text/html",
        principal="active",
    )
    value = checked(make_builder().build(x))
    assert value["request"]["path"] == value["request"]["originalUrl"] == "/-/login"
    assert value["context"]["principal"] == "active"
    assert value["request"]["headers"]["content-type"] == "application/json"
    assert "aB3dE6gH9j" not in value["response"]["body"]
