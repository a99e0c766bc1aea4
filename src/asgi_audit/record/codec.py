"""Decodes a message into what the index needs: one `Decoded`, or a RecordError with the reason.

Invariants: a `Decoded.data` is one line of valid UTF-8 JSON in the wire order, compact at its top level, with nothing
beside the fields of the schema there; a record that arrives in another order or spacing (a foreign producer) is put
into it, its bodies byte for byte. Records of our middleware pass unchanged: `data` is the same object.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from ..errors import RecordError
from .derived import LEVELS, level_of, message_of, operation_of
from .line import TIME_END
from .slices import Cuts

__all__ = ["RECORD_VERSION", "Decoded", "decode"]

RECORD_VERSION = "1.0"

_EMPTY = msgspec.Raw(b"")
_HEADS_MAX = 1_024
_HEAD_BYTES_MAX = 1_024


class _Parts(msgspec.Struct, gc=False):
    """The record's long parts as their own bytes."""

    metadata: msgspec.Raw
    request: msgspec.Raw
    response: msgspec.Raw
    context: msgspec.Raw = _EMPTY


class _Top(_Parts, kw_only=True, gc=False):
    account_id: msgspec.Raw
    service: msgspec.Raw
    instance_id: msgspec.Raw
    timestamp: msgspec.Raw


class _Metadata(msgspec.Struct, gc=False):
    id: str
    requestId: str
    version: str
    region: str
    scope: str


class _Request(msgspec.Struct, gc=False):
    method: str
    path: str


class _Response(msgspec.Struct, gc=False):
    statusCode: int


class _Error(msgspec.Struct, gc=False):
    type: str = ""
    fatal: bool = False


class _Capture(msgspec.Struct, gc=False):
    process: str
    sequence: int


class _Context(msgspec.Struct, frozen=True, gc=False):
    durationNs: int | None = None
    host: str | None = None
    principal: str | None = None
    client: str | None = None
    route: str | None = None
    traceId: str | None = None
    operation: str | None = None
    outcome: str | None = None
    error: _Error | None = None
    level: str | None = None
    message: str | None = None
    capture: _Capture | None = None


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """What the index keeps of a record beside its bytes. `process` is 16 bytes, or None for a foreign record."""

    data: bytes
    cuts: Cuts
    account: str
    service: str
    instance: str
    id: str
    request_id: str
    region: str
    scope: str
    method: str
    path: str
    status: int
    timestamp: int
    process: bytes | None
    sequence: int
    principal: str
    operation: str
    outcome: str
    level: str
    message: str
    host: str
    duration_ns: int
    client: str = ""
    route: str = ""
    trace_id: str = ""

    @property
    def failure(self) -> bool:
        return self.level in ("ERROR", "FATAL")


class _Record(msgspec.Struct, gc=False):
    account_id: str
    service: str
    instance_id: str
    metadata: _Metadata
    request: _Request
    response: _Response
    timestamp: int
    context: _Context = _Context()


_record = msgspec.json.Decoder(_Record).decode
_parts = msgspec.json.Decoder(_Parts).decode
_top = msgspec.json.Decoder(_Top).decode
# The bytes before ",\"metadata\":" of records that were seen, and where account and service end in them: a producer
# writes the same ones again and again. The processes likewise, as bytes.
_heads: dict[bytes, tuple[int, int]] = {}
_processes: dict[str, bytes] = {}


def decode(data: bytes) -> Decoded:
    """One record of schema 1.x. Raises RecordError naming the field; never another exception."""
    try:
        if not data.isascii():
            data.decode()
        record = _record(data)
        parts = _parts(data)
    except msgspec.ValidationError as e:
        raise RecordError(f"not a record of schema {RECORD_VERSION}: {e}") from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise RecordError(f"not a JSON record in UTF-8: {e}") from e
    metadata, request, context = record.metadata, record.request, record.context
    timestamp, status, method, path = record.timestamp, record.response.statusCode, request.method, request.path
    if metadata.version != RECORD_VERSION and not metadata.version.startswith("1."):
        raise RecordError(f"metadata.version is {metadata.version[:16]!r}; this version reads 1.x")
    if not 0 <= timestamp < TIME_END:
        raise RecordError(f"timestamp is {timestamp}; accepted: milliseconds since the epoch, up to the year 2248")
    if not 100 <= status <= 999:
        raise RecordError(f"response.statusCode is {status}; accepted: 100 to 999")
    process: bytes | None = None
    sequence = 0
    capture = context.capture
    if capture is not None:
        process = _processes.get(capture.process) or _process(capture.process)
        sequence = capture.sequence
        if not 0 < sequence < 1 << 63:
            raise RecordError(f"context.capture.sequence is {sequence}; it counts from 1")
    duration = context.durationNs
    if duration is not None and not 0 <= duration < 1 << 63:
        raise RecordError(f"context.durationNs is {duration}; accepted: 0 to 2**63 - 1")
    cuts = _cuts(data, parts, timestamp)
    if cuts is None:
        data, cuts = _in_wire_order(data)
    error, fatal = ("", False) if context.error is None else (context.error.type, context.error.fatal)
    outcome = context.outcome or "completed"
    principal = context.principal
    # No query would find an unknown level (of a foreign producer).
    level = context.level
    if level not in LEVELS:
        level = level_of(method, status, outcome, error, fatal)
    # In the order of the fields: by name it costs twice as much.
    return Decoded(
        data,
        cuts,
        record.account_id,
        record.service,
        record.instance_id,
        metadata.id,
        metadata.requestId,
        metadata.region,
        metadata.scope,
        method,
        path,
        status,
        timestamp,
        process,
        sequence,
        principal or "",
        operation_of(method, context.operation, context.route),
        outcome,
        level,
        context.message or message_of(method, path, status, principal, duration, error),
        context.host or "",
        duration or 0,
        context.client or "",
        context.route or "",
        context.traceId or "",
    )


def _process(text: str) -> bytes:
    try:
        process = uuid.UUID(text).bytes
    except ValueError as e:
        raise RecordError("context.capture.process is not a UUID") from e
    if len(_processes) >= _HEADS_MAX:
        _processes.clear()
    _processes[text] = process
    return process


def _cuts(data: bytes, parts: _Parts, timestamp: int) -> Cuts | None:
    """The cuts of a record in wire order whose head was seen before; None when this function cannot decide it.

    The parts and the literals between them make up the whole record. That proves that it contains nothing else, in
    particular no second `account_id` at the end: a parser would take the last one, a slice the first."""
    instance_end = data.find(b',"metadata":')
    head = data[:instance_end]
    ends = _heads.get(head)
    if ends is None or 10 in data or 13 in data:
        return None
    context = parts.context
    length = len(memoryview(context))
    tail = (b',"context":', context, b"}") if length else (b"}",)
    whole = (
        head, b',"metadata":', parts.metadata, b',"request":', parts.request, b',"response":', parts.response,
        b',"timestamp":%d' % timestamp, *tail,
    )  # fmt: skip
    if b"".join(whole) != data:
        return None
    account_end, service_end = ends
    metadata_end = instance_end + 11 + len(memoryview(parts.metadata))
    timestamp_end = len(data) - 12 - length if length else len(data) - 1
    return Cuts(account_end, service_end, instance_end, metadata_end, timestamp_end)


def _in_wire_order(data: bytes) -> tuple[bytes, Cuts]:
    """The record in wire order and its cuts, found from the lengths of the parts."""
    try:
        top = _top(data)
    except (msgspec.DecodeError, RecursionError) as e:
        raise RecordError(f"not a JSON record in UTF-8: {e}") from e
    parts: tuple[Any, ...] = (top.account_id, top.service, top.instance_id, top.metadata, top.request, top.response)
    a, s, i, m, rq, rs = (len(memoryview(p)) for p in parts)
    account_end = 14 + a
    service_end = account_end + 11 + s
    instance_end = service_end + 15 + i
    metadata_end = instance_end + 12 + m
    request_end = metadata_end + 11 + rq
    response_end = request_end + 12 + rs
    timestamp_end = response_end + 13 + len(memoryview(top.timestamp))
    context = len(memoryview(top.context))
    if (
        (timestamp_end + 11 + context if context else timestamp_end) + 1 == len(data)
        and data.startswith(b'{"account_id":')
        and data.startswith(b',"service":', account_end)
        and data.startswith(b',"instance_id":', service_end)
        and data.startswith(b',"metadata":', instance_end)
        and data.startswith(b'},"request":', metadata_end - 1)
        and data.startswith(b',"response":', request_end)
        and data.startswith(b',"timestamp":', response_end)
        and (not context or data.startswith(b',"context":', timestamp_end))
        and 10 not in data
        and 13 not in data
    ):
        if instance_end <= _HEAD_BYTES_MAX and data.find(b',"metadata":') == instance_end:
            if len(_heads) >= _HEADS_MAX:
                _heads.clear()
            _heads[data[:instance_end]] = (account_end, service_end)
        return data, Cuts(account_end, service_end, instance_end, metadata_end - 1, timestamp_end)
    if 10 in data or 13 in data:  # never inside a JSON string, so white space between tokens
        return _in_wire_order(data.replace(b"\n", b" ").replace(b"\r", b" ").strip())
    ordered = [
        b'{"account_id":', bytes(top.account_id), b',"service":', bytes(top.service), b',"instance_id":',
        bytes(top.instance_id), b',"metadata":', bytes(top.metadata), b',"request":', bytes(top.request),
        b',"response":', bytes(top.response), b',"timestamp":', bytes(top.timestamp),
    ]  # fmt: skip
    if context:
        ordered += [b',"context":', bytes(top.context)]
    # Unknown fields at the top level are not part of schema 1.0 and are not kept; of a repeated field the last one is
    # kept, which is the decoded one.
    return _in_wire_order(b"".join([*ordered, b"}"]))
