"""Goal: responses of usage and trail are, byte for byte, the documented fields in the documented order.

Method: one record whose bodies imitate every key that a cut could be mistaken for, stored in SQLite and queried
over HTTP; the expected bytes are written out in this file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.exports import exports_of

from asgi_audit.api.app import create_app
from asgi_audit.control import Control
from asgi_audit.query.service import QueryService
from asgi_audit.record.codec import decode
from asgi_audit.settings import Settings
from asgi_audit.store.base import Batch
from asgi_audit.store.sqlite.reader import SqliteReader
from asgi_audit.store.sqlite.writer import SqliteWriter
from asgi_audit.transport.base import Position

REQUEST = (
    b'{"auth":{"method":"bearer","publicKey":"k,\\"timestamp\\":1"},"method":"POST","path":"/p","originalUrl":"/p?a=1&a=2",'
    b'"hostname":"example.org","headers":{"accept":["a","b"]},"query":{"a":["1","2"]},'
    b'"body":{"n":12345678901234567890123,"n":1.50,"context":{},"service":"x","text":"},\\"context\\":{\\"a\\":1}\xc3\xa9\\u00e9"}}'
)
RESPONSE = b'{"statusCode":201,"headers":{"x":",\\"context\\":"},"body":[null,1e2,"\\ud83d\\ude00"]}'
METADATA = (
    b'"id":"0193e1a0-0000-7000-8000-000000000001","requestId":"r","version":"1.0","region":"eu","scope":"service"'
)
CONTEXT = b'{"durationNs":1,"outcome":"completed","principal":"never shown","unknown":[1]}'

RECORD = (
    b'{"account_id":"ac\\"me,\\"service\\":\\"z","service":"gateway","instance_id":"i,1","metadata":{'
    + METADATA + b'},"request":' + REQUEST + b',"response":' + RESPONSE + b',"timestamp":1704067200123,"context":' +
    CONTEXT + b"}"
)  # fmt: skip
USAGE = (
    b'{"account_id":"ac\\"me,\\"service\\":\\"z","service":"gateway","instance_id":"i,1","metadata":{'
    + METADATA + b'},"request":' + REQUEST + b',"response":' + RESPONSE + b',"timestamp":1704067200123}'
)  # fmt: skip
TRAIL = (
    b'{"account_id":"ac\\"me,\\"service\\":\\"z","metadata":{' + METADATA + b',"service":"gateway"},"request":'
    + REQUEST + b',"response":' + RESPONSE + b',"timestamp":1704067200123}'
)  # fmt: skip
ACCOUNT = 'ac"me,"service":"z'
DAY = {"from": "2024-01-01T00:00:00Z", "to": "2024-01-02T00:00:00Z"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/usage/gateway/i%2C1", USAGE), ("/gateway/i,1", USAGE), ("/trail", TRAIL), ("", TRAIL)],
)
def test_answer_holds_exactly_the_documented_bytes(tmp_path: Path, path: str, expected: bytes) -> None:
    writer = SqliteWriter(tmp_path / "index", clock=lambda: 1_704_067_300.0)
    second = RECORD.replace(b"000000000001", b"000000000002").replace(b"1704067200123", b"1704067200124")
    records = [decode(RECORD), decode(second)]
    writer.write(Batch(source="t", records=records, positions={"p": Position(2, b"")}))
    control = Control(tmp_path / "control.db")
    _, key = control.create_key("reader", [ACCOUNT])
    service = QueryService(lambda: SqliteReader(tmp_path / "index"), control.secret(), wait_seconds=0)
    app = create_app(service, control, Settings(), exports_of(control))

    async def ask() -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers={"x-api-key": key}) as client:
            started = await client.post(path or "/", json=DAY)
            result = f"{path}/query-result/{started.json()['queryExecutionId']}"
            first = await client.get(result, params={"limit": 1})
            token = first.json()["nextToken"]
            return started, first, await client.get(result, params={"nextToken": token})

    try:
        started, first, last = asyncio.run(ask())
    finally:
        service.close()
        control.close()
        writer.close()
    token = first.json()["nextToken"].encode()
    newer = expected.replace(b"000000000001", b"000000000002").replace(b"1704067200123", b"1704067200124")
    execution = started.json()["queryExecutionId"].encode()
    assert started.content == b'{"queryExecutionId":"' + execution + b'"}'
    assert first.content == b'{"data":[' + newer + b'],"nextToken":"' + token + b'"}'
    assert last.content == b'{"data":[' + expected + b"]}"
    for answer in (started, first, last):
        assert answer.headers["content-type"] == "application/json"


# The structure in the documents: nested names in order; "any" ends the descent.
_REQUEST: dict[str, Any] = {
    "auth": {"method": str, "publicKey": str},
    "method": str,
    "path": str,
    "originalUrl": str,
    "hostname": str,
    "headers": "any",
    "query": "any",
    "body": "any",
}
_RESPONSE: dict[str, Any] = {"statusCode": int, "headers": "any", "body": "any"}
_METADATA: dict[str, Any] = {"id": str, "requestId": str, "version": str, "region": str, "scope": str}
DOCUMENTED: dict[str, dict[str, Any]] = {
    "usage": {
        "account_id": str,
        "service": str,
        "instance_id": str,
        "metadata": _METADATA,
        "request": _REQUEST,
        "response": _RESPONSE,
        "timestamp": int,
    },
    "trail": {
        "account_id": str,
        "metadata": _METADATA | {"service": str},
        "request": _REQUEST,
        "response": _RESPONSE,
        "timestamp": int,
    },
}


@pytest.mark.parametrize(("dialect", "answer"), [("usage", USAGE), ("trail", TRAIL)])
def test_expected_bytes_have_the_documented_fields_in_order(dialect: str, answer: bytes) -> None:
    """The expected bytes above are compared with the documents, so that both cannot drift together."""

    def check(shape: dict[str, Any], value: dict[str, Any]) -> None:
        assert list(value) == list(shape)
        for name, inner in shape.items():
            if isinstance(inner, dict):
                check(inner, value[name])
            elif inner != "any":
                assert type(value[name]) is inner

    check(DOCUMENTED[dialect], json.loads(answer))
