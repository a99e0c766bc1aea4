"""A record as an item of `usage.api.list`: request and response are JSON, as text.

The text of a request or response is the record's own object: method, path, headers, body and the rest, masked as
stored. One `Cut` for a whole response decides how much of it is shown, so that the response fits into its bounds:

| cut | bodies | beside them |
|---|---|---|
| `WHOLE` | as stored | as stored |
| `LONG`, `SHORT` | a longer one is cut to 4 KiB, to 1 KiB | as stored |
| `NONE` | left out | as stored |
| `BARE` | left out | method, path and status alone; texts of at most 1,024 characters |

A body that was cut, here or when it was captured, is a string; one that is left out is absent. In both cases
`bodyTruncated` is true. The text always parses.
"""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any

import msgspec

from ...instants import text_of_ms

__all__ = ["Cut", "item_of"]


class Cut(IntEnum):
    WHOLE = 0
    LONG = 1
    SHORT = 2
    NONE = 3
    BARE = 4


_BODY_BYTES = {Cut.LONG: 4_096, Cut.SHORT: 1_024, Cut.NONE: 0, Cut.BARE: 0}
_TEXT_MAX = 1_024
_BARE_FIELDS = ("method", "path", "originalUrl", "statusCode")


class _Context(msgspec.Struct, gc=False):
    durationNs: int | None = None
    host: str | None = None
    principal: str | None = None
    # A foreign producer's may be anything.
    org: Any = None
    requestBody: Any = None
    responseBody: Any = None


class _Record(msgspec.Struct, gc=False):
    account_id: str
    request: msgspec.Raw
    response: msgspec.Raw
    timestamp: int
    context: _Context = msgspec.field(default_factory=_Context)


class _Item(msgspec.Struct, gc=False):
    """In the order of the documents. `ts`: UTC, with three decimals and an offset. `execTime`: nanoseconds, 0 when
    unknown, as '' is of the texts."""

    ts: str
    execTime: int
    processedBy: str
    orgId: str
    orgKey: str
    whoami: str
    request: str
    response: str


_record = msgspec.json.Decoder(_Record).decode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


def item_of(record: bytes, cut: Cut) -> bytes:
    """The item as JSON. `record`: the bytes of a record that was indexed."""
    known = _record(record)
    context, account = known.context, known.account_id
    org = context.org if isinstance(context.org, dict) else {}
    most = _TEXT_MAX if cut is Cut.BARE else None
    return _encode(
        _Item(
            text_of_ms(known.timestamp, "+00:00"),
            context.durationNs or 0,
            (context.host or "")[:most],
            _text(org.get("id"), account)[:most],
            _text(org.get("key"), account)[:most],
            (context.principal or "")[:most],
            _part(known.request, cut, _was_cut(context.requestBody)),
            _part(known.response, cut, _was_cut(context.responseBody)),
        )
    )


def _text(value: object, otherwise: str) -> str:
    return value if isinstance(value, str) and value else otherwise


def _part(raw: msgspec.Raw, cut: Cut, was_cut: bool) -> str:
    """The request or response of a record, as JSON text."""
    if cut is Cut.WHOLE and not was_cut:
        return bytes(raw).decode()
    fields = _fields(raw)
    body = bytes(fields.pop("body", b"null"))
    if cut is Cut.BARE:
        shown = [_encode(name) + b":" + _bare(fields[name]) for name in _BARE_FIELDS if name in fields]
    else:
        shown = [_encode(name) + b":" + bytes(value) for name, value in fields.items()]
    shown += _body(body, cut, was_cut)
    return (b"{" + b",".join(shown) + b"}").decode()


def _body(body: bytes, cut: Cut, was_cut: bool) -> list[bytes]:
    """The fields `body` and `bodyTruncated`, if present. The body is the last field, so a reader sees all others before
    it."""
    if body == b"null":
        return [b'"body":null']
    if cut >= Cut.NONE:
        return [b'"bodyTruncated":true']
    is_text = body.startswith(b'"')
    most = _BODY_BYTES.get(cut)
    if most is not None and len(body) > most:  # as JSON it is never shorter than as text
        # A lone half of a surrogate pair, which JSON can spell, has no bytes.
        content = json.loads(body).encode("utf-8", "replace") if is_text else body
        if len(content) > most:
            # The end of a character that was cut through is left out.
            return [b'"body":' + _encode(content[:most].decode("utf-8", "ignore")), b'"bodyTruncated":true']
    return [b'"body":' + body, *([b'"bodyTruncated":true'] if was_cut and is_text else [])]


def _bare(raw: msgspec.Raw) -> bytes:
    if len(memoryview(raw)) <= _TEXT_MAX:
        return bytes(raw)
    value = json.loads(bytes(raw))
    return json.dumps(value[:_TEXT_MAX] if isinstance(value, str) else None).encode()


def _was_cut(facts: Any) -> bool:
    return isinstance(facts, dict) and facts.get("captured") == "truncated"
