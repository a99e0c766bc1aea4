"""From the bytes of a message to what the index needs of it: one `Decoded`, or a RecordError that says why not.

Invariants: a `Decoded.data` is one line of valid UTF-8 JSON in the wire order of DESIGN, compact at its top level and inside
`metadata`; a record that arrives in another order or spacing (a foreign producer) is put into it, its bodies byte for byte.
Records of ours pass through untouched: `data` is the very object that came in.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from ..errors import RecordError
from .summary import level_of, message_of, operation_of
from .views import Cuts

__all__ = ["RECORD_VERSION", "Decoded", "decode"]

RECORD_VERSION = "1.0"

_EMPTY = msgspec.Raw(b"")


class _Top(msgspec.Struct):
    account_id: msgspec.Raw
    service: msgspec.Raw
    instance_id: msgspec.Raw
    metadata: msgspec.Raw
    request: msgspec.Raw
    response: msgspec.Raw
    timestamp: msgspec.Raw
    context: msgspec.Raw = _EMPTY


class _Metadata(msgspec.Struct):
    id: str
    requestId: str
    version: str
    region: str
    scope: str


class _Request(msgspec.Struct):
    method: str
    path: str


class _Response(msgspec.Struct):
    statusCode: int


class _Error(msgspec.Struct):
    type: str = ""
    fatal: bool = False


class _Capture(msgspec.Struct):
    process: str
    sequence: int


class _Context(msgspec.Struct):
    durationNs: int | None = None
    host: str | None = None
    principal: str | None = None
    route: str | None = None
    operation: str | None = None
    outcome: str | None = None
    error: _Error | None = None
    level: str | None = None
    message: str | None = None
    capture: _Capture | None = None


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
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

    @property
    def failure(self) -> bool:
        return self.level in ("ERROR", "FATAL")


_top = msgspec.json.Decoder(_Top)
_metadata = msgspec.json.Decoder(_Metadata)
_request = msgspec.json.Decoder(_Request)
_response = msgspec.json.Decoder(_Response)
_context = msgspec.json.Decoder(_Context)
_string = msgspec.json.Decoder(str)
_integer = msgspec.json.Decoder(int)
_NONE = _Context()


def decode(data: bytes) -> Decoded:
    """One record of schema 1.x. Raises RecordError naming the field; never another exception."""
    try:
        if not data.isascii():
            data.decode()
        top = _top.decode(data)
        account = _string.decode(top.account_id)
        service = _string.decode(top.service)
        instance = _string.decode(top.instance_id)
        metadata = _metadata.decode(top.metadata)
        request = _request.decode(top.request)
        response = _response.decode(top.response)
        timestamp = _integer.decode(top.timestamp)
        context = _context.decode(top.context) if len(bytes(top.context)) else _NONE
    except msgspec.ValidationError as e:
        raise RecordError(f"not a record of schema {RECORD_VERSION}: {e}") from e
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise RecordError(f"not a JSON record in UTF-8: {e}") from e
    if not metadata.version.startswith("1."):
        raise RecordError(f"metadata.version is {metadata.version[:16]!r}; this version reads 1.x")
    if not 0 <= timestamp < 1 << 43:
        raise RecordError(f"timestamp is {timestamp}; accepted are milliseconds since the epoch up to the year 2248")
    if not 100 <= response.statusCode <= 999:
        raise RecordError(f"response.statusCode is {response.statusCode}; accepted are 100 to 999")
    process: bytes | None = None
    sequence = 0
    if context.capture is not None:
        try:
            process = uuid.UUID(context.capture.process).bytes
        except ValueError as e:
            raise RecordError("context.capture.process is no UUID") from e
        sequence = context.capture.sequence
        if not 0 < sequence < 1 << 63:
            raise RecordError(f"context.capture.sequence is {sequence}; it counts from 1")
    data, cuts = _in_wire_order(data, top)
    error = context.error.type if context.error is not None else ""
    fatal = context.error is not None and context.error.fatal
    outcome = context.outcome or "completed"
    level = context.level or level_of(request.method, response.statusCode, outcome, error, fatal)
    return Decoded(
        data=data,
        cuts=cuts,
        account=account,
        service=service,
        instance=instance,
        id=metadata.id,
        request_id=metadata.requestId,
        region=metadata.region,
        scope=metadata.scope,
        method=request.method,
        path=request.path,
        status=response.statusCode,
        timestamp=timestamp,
        process=process,
        sequence=sequence,
        principal=context.principal or "",
        operation=operation_of(request.method, context.operation, context.route),
        outcome=outcome,
        level=level,
        message=context.message
        or message_of(
            request.method, request.path, response.statusCode, context.principal, context.durationNs, error or None
        ),
        host=context.host or "",
        duration_ns=context.durationNs or 0,
    )


def _in_wire_order(data: bytes, top: _Top) -> tuple[bytes, Cuts]:
    """The record and its cuts: found from the lengths of the parts, checked against the literal keys between them."""
    parts: tuple[Any, ...] = (top.account_id, top.service, top.instance_id, top.metadata, top.request, top.response)
    a, s, i, m, rq, rs = (len(memoryview(p)) for p in parts)
    account_end = 14 + a
    service_end = account_end + 11 + s
    instance_end = service_end + 15 + i
    metadata_end = instance_end + 12 + m
    request_end = metadata_end + 11 + rq
    response_end = request_end + 12 + rs
    timestamp_end = response_end + 13 + len(memoryview(top.timestamp))
    if (
        data.startswith(b'{"account_id":')
        and data.startswith(b',"service":', account_end)
        and data.startswith(b',"instance_id":', service_end)
        and data.startswith(b',"metadata":', instance_end)
        and data.startswith(b',"request":', metadata_end)
        and data.startswith(b',"response":', request_end)
        and data.startswith(b',"timestamp":', response_end)
        and (data.startswith(b',"context":', timestamp_end) or (data[timestamp_end:] == b"}"))
        and data[metadata_end - 1 : metadata_end] == b"}"
        and b"\n" not in data
        and b"\r" not in data
    ):
        return data, Cuts(account_end, service_end, instance_end, metadata_end - 1, timestamp_end)
    if b"\n" in data or b"\r" in data:  # never inside a JSON string, so white space between tokens
        flat = data.replace(b"\n", b" ").replace(b"\r", b" ").strip()
        return _in_wire_order(flat, _top.decode(flat))
    ordered = [
        b'{"account_id":', bytes(top.account_id), b',"service":', bytes(top.service), b',"instance_id":',
        bytes(top.instance_id), b',"metadata":', bytes(top.metadata), b',"request":', bytes(top.request),
        b',"response":', bytes(top.response), b',"timestamp":', bytes(top.timestamp),
    ]  # fmt: skip
    if len(bytes(top.context)):
        ordered += [b',"context":', bytes(top.context)]
    joined = b"".join([*ordered, b"}"])
    # What stood beside the known fields at the top level is no part of schema 1.0 and is not kept.
    return _in_wire_order(joined, _top.decode(joined))
