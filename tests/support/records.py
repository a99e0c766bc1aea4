"""Records and batches for the tests of the store and the indexer."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import orjson

from asgi_audit.record.codec import Decoded, decode
from asgi_audit.record.line import TIME_END
from asgi_audit.record.statement import Lost, Statement
from asgi_audit.store.base import Batch, Query, Reader, Row
from asgi_audit.store.state import Extent, ReadUntil
from asgi_audit.transport.base import Position

DAY_MS = 86_400_000
NOON = 1_795_348_800_000 - 1_795_348_800_000 % DAY_MS + DAY_MS // 2  # 2026-11-22T12:00:00Z in ms
PROCESS = uuid.UUID("019aaaaa-0000-7000-8000-000000000001")
OTHER = uuid.UUID("019aaaaa-0000-7000-8000-000000000002")


def read_until(seconds: float) -> ReadUntil:
    """A fence that passed, taken at this time (since the epoch)."""
    return ReadUntil(int(seconds * 1000), int(seconds * 1000), int(seconds * 1000), "", 0)


def extent(until: int | None, ceiling: int | None = 0, *, begins: int = 0) -> Extent:
    """T is at `until` (ms), unless another `ceiling` lets it advance."""
    return Extent(until, until if ceiling == 0 else ceiling, begins, True)


def payload(
    sequence: int,
    timestamp: int = NOON,
    *,
    process: uuid.UUID | None = PROCESS,
    account: str = "acme",
    service: str = "gateway",
    instance: str = "i1",
    method: str = "GET",
    path: str = "/orders",
    status: int = 200,
    region: str = "global",
    principal: str | None = None,
    operation: str | None = None,
    request_id: str | None = None,
    identity: str | None = None,
    body: Any = None,
    **context_fields: Any,
) -> bytes:
    """The bytes of one record; `process` None: a foreign one, identified by `identity`. `context_fields`: further
    fields of its context, by the names of the schema."""
    context: dict[str, Any] = {"durationNs": 12_000_000, "outcome": "completed", **context_fields}
    if principal is not None:
        context["principal"] = principal
    if operation is not None:
        context["operation"] = operation
    if process is not None:
        context["capture"] = {"process": str(process), "sequence": sequence, "salt": "0" * 32}
    return orjson.dumps(
        {
            "account_id": account,
            "service": service,
            "instance_id": instance,
            "metadata": {
                "id": identity or f"id-{process.hex[-4:] if process else 'foreign'}-{sequence}",
                "requestId": request_id or f"req-{sequence}",
                "version": "1.0",
                "region": region,
                "scope": "service",
            },
            "request": {
                "auth": {"method": "none", "publicKey": ""},
                "method": method,
                "path": path,
                "originalUrl": path,
                "hostname": "api.example.com",
                "headers": {"accept": "*/*"},
                "query": {},
                "body": body,
            },
            "response": {"statusCode": status, "headers": {}, "body": {"ok": status < 400}},
            "timestamp": timestamp,
            "context": context,
        }
    )


def record(sequence: int, timestamp: int = NOON, **given: Any) -> Decoded:
    return decode(payload(sequence, timestamp, **given))


def foreign(timestamp: int, *, name: str = "x", **given: Any) -> Decoded:
    """A record of another producer, without process and sequence; `name` is its metadata.id, which identifies it."""
    return record(0, timestamp, process=None, identity=name, request_id=f"r-{name}", **given)


def statement(number: int, first: int, last: int, **given: Any) -> Statement:
    lost = [Lost(*range_) for range_ in given.pop("lost", ())]
    return Statement(
        process=str(given.pop("process", PROCESS)),
        number=number,
        at=given.pop("at", NOON + number),
        first=first,
        last=last,
        count=last - first + 1,
        lost=lost,
        watermark=given.pop("watermark", NOON + number),
        **given,
    )


def batch(records: Iterable[Decoded] = (), *, following: int = 1, **given: Any) -> Batch:
    """A batch of one partition, whose position after it is `following`."""
    given.setdefault("positions", {str(PROCESS): Position(following, b"d" * 16)})
    return Batch(source="test", records=list(records), **given)


def over_days(first: int, count: int) -> list[Decoded]:
    """Records of three days, in turn."""
    return [record(s, NOON - (s % 3) * DAY_MS + s) for s in range(first, first + count)]


def everything(**given: Any) -> Query:
    """All accounts, all times, unless `given` restricts them."""
    return Query(**{"accounts": None, "start": 0, "end": TIME_END, **given})


def walk(reader: Reader, query: Query | None = None, *, published: int | None = None, limit: int = 7) -> list[Row]:
    """All rows, page by page."""
    rows: list[Row] = []
    seen = reader.snapshot().published if published is None else published
    before: int | None = None
    while True:
        page, more = reader.page(query or everything(), published=seen, before=before, limit=limit, bytes_max=1 << 20)
        rows += page
        if not more:
            return rows
        assert page, "a page that more follows holds at least one row"
        before = page[-1].id


def sequences(rows: Iterable[Row]) -> list[int]:
    return [decode(row.record).sequence for row in rows]
