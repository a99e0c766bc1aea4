"""Bodies in the record: their form, and the word in `captured`."""

from __future__ import annotations

import gzip
from random import Random
from typing import Any

import orjson
import pytest
from tests.support.exchanges import make_body, make_builder, make_exchange
from tests.support.schema import checked

from asgi_audit.encoding.bodies import _is_json, fragment, is_opaque
from asgi_audit.redaction import Redactor

REDACTOR = Redactor()
FORM = b"application/x-www-form-urlencoded"


def seen(
    data: bytes, content_type: bytes = b"", encoding: bytes = b"", *, request: bool = True, **body: Any
) -> tuple[bytes, str]:
    content_type = content_type.lower()
    opaque = is_opaque(content_type, encoding)
    return fragment(make_body(data, **body), content_type, opaque, REDACTOR.record(), request=request)


@pytest.mark.parametrize(
    ("data", "content_type", "stands"),
    [
        (
            b'{"a":1.50,"a":2,"b":1e3,"n":12345678901234567890123}',
            b"application/json",
            b'{"a":1.50,"a":2,"b":1e3,"n":12345678901234567890123}',
        ),
        (b'\r\n{\n  "a": 1\r\n}\n', b"application/json", b'  {   "a": 1  } '),
        (b'{"a":1}', b"text/plain", b'{"a":1}'),
        (b'{"a":1}', FORM, b'{"a":1}'),
        (b"[1]", b"image/png", b"[1]"),
        (b"[1]", b"", b"[1]"),
        (b"5", b"application/json", b"5"),
        (b'"x"', b"application/problem+json; charset=utf-8", b'"x"'),
        (b"null", b"application/json", b"null"),
        (b"5", b"text/plain", b'"5"'),
        (b'\xef\xbb\xbf{"a":1}', b"application/json", b'{"a":1}'),
        (b'{"a":1e999}', b"application/json", b'"{\\"a\\":1e999}"'),
        (b'{"a":"\\ud800"}', b"application/json", b'"{\\"a\\":\\"\\\\ud800\\"}"'),
        (b'{"a":', b"application/json", b'"{\\"a\\":"'),
        (b"a=1&b=%C3%A9&a=2&c", FORM, '{"a":["1","2"],"b":"é","c":""}'.encode()),
        (b"h\xe9llo", b"text/plain; charset=ISO-8859-1", '"héllo"'.encode()),
        ("héllo\nx".encode(), b"", '"héllo\\nx"'.encode()),
        (b"<b>x</b>", b"text/html", b'"<b>x</b>"'),
        (b'{"a":1}\n{"a":2}\n', b"application/x-ndjson", b'"{\\"a\\":1}\\n{\\"a\\":2}\\n"'),
        (b"data: x\n\n", b"text/event-stream", b'"data: x\\n\\n"'),
    ],
)
def test_body_stands_in_the_record(data: bytes, content_type: bytes, stands: bytes) -> None:
    assert seen(data, content_type) == (stands, "full")


@pytest.mark.parametrize(
    ("data", "content_type", "encoding", "captured"),
    [
        (gzip.compress(b"{}", mtime=0), b"application/json", b"gzip", "omitted"),
        (b"--x\r\n", b"multipart/form-data; boundary=x", b"", "omitted"),
        (b"\x89PNG\r\n", b"image/png", b"", "omitted"),
        (b"text", b"application/octet-stream", b"", "omitted"),
        (b"\x00\x01", b"", b"", "omitted"),
        (b"\xff\xfe", b"", b"", "omitted"),
        (b"\xff\xfe", b"text/plain", b"", "undecodable"),
        (b"a\x01password=x", b"text/plain", b"", "undecodable"),
        (b"a=\x08&password=x", FORM, b"", "undecodable"),
        (b"a\x7f\x0b", b"", b"", "omitted"),
        ('{"a":1}'.encode("utf-16"), b"application/json", b"", "undecodable"),
        ("password=x".encode("utf-16-le"), b"text/plain; charset=utf-16", b"", "undecodable"),
    ],
)
def test_body_is_left_out(data: bytes, content_type: bytes, encoding: bytes, captured: str) -> None:
    assert seen(data, content_type, encoding) == (b"null", captured)


def test_identity_encoding_is_none() -> None:
    assert seen(b"[1]", b"application/json", b"identity") == (b"[1]", "full")


def test_cut_body_is_a_string_of_whole_characters() -> None:
    data = '{"a": "é☃"}'.encode()
    for kept in range(1, len(data)):
        stands, captured = seen(data, b"application/json", kept=kept)
        assert captured == "truncated"
        assert orjson.loads(stands) == data[:kept].decode("utf-8", "ignore")


def test_cut_json_is_kept_without_its_secret() -> None:
    """Cut JSON is parsed, too: omitting it would lose evidence."""
    told = seen(b'{"password": "hunter2", "b": 1}', b"application/json", kept=20)
    assert told == (b'"{\\"password\\": \\"[REDACTED]"', "truncated")
    assert seen(b"password=hunter2&b=1", FORM, kept=18) == (b'"password=[REDACTED]&b"', "truncated")
    assert seen(b'{"password":"x"', b"application/json")[1] == "full"
    assert seen(b"user,password\nbob,x", b"text/csv") == (b'"user,password\\nbob,[REDACTED]"', "full")


def test_unread_and_broken_off_bodies_are_said() -> None:
    assert seen(b"[1,", b"application/json", complete=False) == (b'"[1,"', "unread")
    assert seen(b"[1,", complete=False, request=False) == (b'"[1,"', "truncated")


def test_bodies_without_a_byte_are_empty() -> None:
    x = make_exchange(answer_headers=[(b"content-length", b"5")], answer_type=b"application/json")
    x.response_body.complete = False
    value = checked(make_builder().build(x))
    assert value["request"]["body"] is value["response"]["body"] is None
    assert value["context"]["requestBody"]["captured"] == value["context"]["responseBody"]["captured"] == "empty"


_DOCUMENTS = (
    b'{"a":1,"b":[true,false,null],"c":{"d":1.5e10,"e":-0,"f":"x"}}',
    b"[1e5,2E+05,1e-400,1E40,-1e+30,123e+306,1.7976931348623157e308]",
    b'["a","\xc3\xa9","\xe2\x98\x83","\xf0\x9f\x98\x80","1e999"]',
    b'\t{ "a" :\r1 , "\\u00e9" : [ ] }\n',
    b"[" + b"9" * 150 + b"." + b"1" * 150 + b"e99]",
    b"[0." + b"0" * 100 + b"1e20,18446744073709551616]",
)
_PIECES = [
    *b"1e999 1e-999 1E+400 e E + - . 0 00 01 1. .5 1e \" , : [ ] { } // ' true nul null NaN Infinity".split(b" "),
    *b"-Infinity \\ud800 \\u0041 \\x \xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80 \xff \xc3 \x00 \x1f \x7f".split(b" "),
    *(b" ", b"\n", b"9" * 310, b"9" * 110 + b"e99", b"[" * 950 + b"]" * 950, b"[" * 1100 + b"]" * 1100),
]


def test_json_is_what_orjson_reads_whatever_is_put_into_it() -> None:
    """What msgspec skips without parsing must be accepted by orjson: otherwise the record could not be decoded."""
    seed = 20_261_122
    print("seed", seed)
    random = Random(seed)
    accepted = 0
    for _ in range(20_000):
        data = bytearray(random.choice(_DOCUMENTS))
        for _ in range(random.choice((1, 1, 2, 4))):
            at = random.randrange(len(data) + 1)
            data[at : at + random.choice((0, 0, 1, 3))] = random.choice(_PIECES)
        flat = data.count(b"[") + data.count(b"{") <= 900
        try:
            orjson.loads(data if flat else b"[" * 24 + data + b"]" * 24)
        except orjson.JSONDecodeError:
            assert not _is_json(bytes(data)), data
        else:
            assert _is_json(bytes(data)), data
            accepted += 1
    assert accepted > 1_000


@pytest.mark.parametrize(
    ("method", "headers", "version", "captured"),
    [
        ("GET", [], "1.1", "empty"),
        ("POST", [], "1.1", "empty"),
        ("POST", [(b"content-length", b"5")], "1.1", "unread"),
        ("POST", [(b"content-length", b"0")], "1.1", "empty"),
        ("POST", [(b"transfer-encoding", b"chunked")], "1.1", "unread"),
        ("POST", [], "2", "unread"),
        ("GET", [], "2", "empty"),
    ],
)
def test_a_body_that_was_never_announced_is_empty(
    method: str, headers: list[tuple[bytes, bytes]], version: str, captured: str
) -> None:
    x = make_exchange(method, headers=headers, http_version=version)
    x.request_body.complete = False
    assert checked(make_builder().build(x))["context"]["requestBody"]["captured"] == captured


def test_pressure_leaves_the_body_out() -> None:
    assert seen(b"[1,2]", kept=3, pressure=True) == (b"null", "pressure")
    assert seen(b"[1,2]", pressure=True) == (b"[1,2]", "full")


def test_limit_of_nothing_omits() -> None:
    assert seen(b"[1,2]", kept=0) == (b"null", "omitted")


@pytest.mark.parametrize("depth", [900, 1000, 1010, 1023, 1024, 1025, 30_000])
def test_deep_json_never_makes_a_record_that_cannot_be_read(depth: int) -> None:
    data = b"[" * depth + b"]" * depth
    value = orjson.loads(
        make_builder().build(
            make_exchange(
                "POST", body=data, content_type=b"application/json", answer=b'{"a":' * depth + b"1" + b"}" * depth
            )
        )
    )
    assert isinstance(value["request"]["body"], list if depth <= 1000 else str)


def test_form_with_too_many_fields_is_kept_as_text_or_omitted() -> None:
    many = b"&".join(b"k%d=1" % i for i in range(3000))
    assert seen(many, FORM) == (b'"' + many + b'"', "full")
    assert seen(many + b"&password=x", FORM) == (b"null", "omitted")


@pytest.mark.parametrize("kind", [b"text/plain", b"text/html", b"application/x-ndjson", b"text/csv", FORM, b""])
@pytest.mark.parametrize("between", ["\nlast line\n", "\nlast line ", "\n\n"])
@pytest.mark.parametrize("form", ["otp={}", "<otp>{}</otp>", "<user otp='{}'/>", "otp: |\n  {}\n  more"])
def test_cut_text_hides_a_short_name_after_another_line(kind: bytes, between: str, form: str) -> None:
    """Found by the property test: the second `otp=` of a cut text, after a line without a name, was kept."""
    hidden = form.format("hunter1234567890")
    text = (hidden + between + hidden + between).encode()
    for complete in (True, False):
        stands, _ = seen(text, kind, complete=complete)
        assert b"hunter" not in stands
