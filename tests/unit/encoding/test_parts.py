"""The fragments of a record by name: each name in `PARTS` is at the place where the builder puts that fragment."""

from __future__ import annotations

import orjson
import pytest
from tests.support.exchanges import make_builder, make_exchange

from asgi_audit.encoding.parts import PARTS

SECRET = "Zq7hunterXX"
_AT = SECRET.encode()


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("request.method", {"method": SECRET}),
        ("request.path", {"path": f"/notes/{SECRET}"}),
        ("request.originalUrl", {"path": f"/notes/{SECRET}"}),
        ("request.hostname", {"headers": [(b"host", _AT + b".example")]}),
        ("request.headers", {"headers": [(b"x-note", _AT)]}),
        ("request.query", {"query": b"note=" + _AT}),
        ("response.headers", {"answer_headers": [(b"x-note", _AT)]}),
        ("response.body", {"answer": b'{"echo":"' + _AT + b'"}'}),
    ],
)
def test_part_is_masked_under_its_own_name_when_it_repeats_a_secret(part: str, fields: dict[str, object]) -> None:
    assert part in PARTS
    given = {"method": "POST", "path": "/notes", **fields}
    x = make_exchange(**given, body=b'{"password":"' + _AT + b'"}', content_type=b"application/json")  # type: ignore[arg-type]
    if part == "request.hostname":
        x.request_headers.pop(0)
    record = make_builder().build(x)
    assert _AT not in record
    assert "reflected." + part in orjson.loads(record)["context"]["redacted"]


def test_request_body_is_masked_under_its_own_name_when_it_repeats_a_secret() -> None:
    x = make_exchange("POST", "/notes", body=b'{"note":"' + _AT + b'","password":"' + _AT + b'"}')
    assert "reflected.request.body" in orjson.loads(make_builder().build(x))["context"]["redacted"]


def test_identity_and_request_id_stay_when_they_repeat_a_secret() -> None:
    x = make_exchange("POST", "/notes", body=b'{"password":"' + _AT + b'"}')
    x.account_id = x.request_id = SECRET
    record = orjson.loads(make_builder().build(x))
    assert (record["account_id"], record["metadata"]["requestId"]) == (SECRET, SECRET)
