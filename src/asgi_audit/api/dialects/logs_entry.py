"""A record as an entry of `GET /logs`: the documented fields, and further ones in `details`. No bodies."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import Field

from ...record.derived import LEVELS, level_of, message_of
from ..fields import Level
from ..instants import text_of_ms
from ..models import Model

__all__ = ["Details", "Entry", "entry_of"]


class Details(Model):
    """The request and its response. Unknown fields are absent."""

    record_id: str = Field(description="Id of the record, for `GET /records/{id}`.")
    request_id: str = Field(description="`X-Request-ID` of the request, or a new id.")
    account_id: str = Field(description="Account of the record.")
    instance_id: str = Field(description="Instance of the service.")
    method: str = Field(description="HTTP method.")
    path: str = Field(description="Path without the query.")
    status_code: int = Field(description="HTTP status of the response.")
    route: str | None = Field(None, description="Route template, such as `/orders/{id}`.")
    duration_ms: float | None = Field(None, description="Duration in milliseconds, with at most three decimals.")
    user_id: str | None = Field(None, description="The caller (principal).")
    ip_address: str | None = Field(None, description="Address of the client.")
    user_agent: str | None = Field(None, description="`User-Agent` of the request.")
    outcome: str = Field(
        description="How the exchange ended: `completed`, `failed`, `disconnected`, `cancelled` or `interrupted`."
    )
    error: str | None = Field(None, description="Class name of the exception that the application raised.")
    annotations: dict[str, Any] | None = Field(None, description="Values that the application added to the record.")


class Entry(Model):
    timestamp: str = Field(
        description="When the request began: UTC, with milliseconds.", json_schema_extra={"format": "date-time"}
    )
    level: Level = Field(description="Level of the record.")
    service: str = Field(description="Service of the record.")
    message: str = Field(description="One line, such as `POST /login → 401 Unauthorized, alice, 12 ms`.")
    details: Details = Field(description="The request and its response.")


_ABSENT = msgspec.Raw(b"")


class _Metadata(msgspec.Struct, gc=False):
    id: str
    requestId: str


class _Request(msgspec.Struct, gc=False):
    method: str
    path: str
    headers: msgspec.Raw = msgspec.Raw(b"{}")


class _Response(msgspec.Struct, gc=False):
    statusCode: int


class _Error(msgspec.Struct, gc=False):
    type: str = ""
    fatal: bool = False


class _Context(msgspec.Struct, gc=False):
    durationNs: int | None = None
    principal: str | None = None
    client: str | None = None
    route: str | None = None
    outcome: str | None = None
    error: _Error | None = None
    level: str | None = None
    message: str | None = None
    annotations: msgspec.Raw = _ABSENT


class _Record(msgspec.Struct, gc=False):
    """The fields of a record that an entry shows: reading only these takes half as long as `record.codec.decode`."""

    account_id: str
    service: str
    instance_id: str
    metadata: _Metadata
    request: _Request
    response: _Response
    timestamp: int
    context: _Context = msgspec.field(default_factory=_Context)


class _Headers(msgspec.Struct, gc=False):
    user_agent: Any = msgspec.field(default=None, name="user-agent")


class _Details(msgspec.Struct, omit_defaults=True, gc=False):
    """`Details`, as it is sent."""

    record_id: str
    request_id: str
    account_id: str
    instance_id: str
    method: str
    path: str
    status_code: int
    route: str | None = None
    duration_ms: float | None = None
    user_id: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    outcome: str = ""
    error: str | None = None
    annotations: msgspec.Raw | None = None


class _Entry(msgspec.Struct, gc=False):
    """`Entry`, as it is sent."""

    timestamp: str
    level: str
    service: str
    message: str
    details: _Details


_record = msgspec.json.Decoder(_Record).decode
_headers = msgspec.json.Decoder(_Headers).decode
_encode = msgspec.json.Encoder().encode


def entry_of(record: bytes) -> bytes:
    """An `Entry` as JSON. `record`: the bytes of a record that was indexed."""
    known = _record(record)
    metadata, request, context = known.metadata, known.request, known.context
    status, duration, annotations = known.response.statusCode, context.durationNs, context.annotations
    error, fatal = ("", False) if context.error is None else (context.error.type, context.error.fatal)
    outcome = context.outcome or "completed"
    level = context.level
    if level not in LEVELS:
        level = level_of(request.method, status, outcome, error, fatal)
    # Another producer may send any value.
    is_object = annotations is not _ABSENT and memoryview(annotations)[:1].tobytes() == b"{"
    return _encode(
        _Entry(
            text_of_ms(known.timestamp),
            level,
            known.service,
            context.message or message_of(request.method, request.path, status, context.principal, duration, error),
            # In the order of the fields: by name it costs twice as much.
            _Details(
                metadata.id,
                metadata.requestId,
                known.account_id,
                known.instance_id,
                request.method,
                request.path,
                status,
                context.route or None,
                None if duration is None else round(duration / 1e6, 3),
                context.principal or None,
                context.client or None,
                _user_agent(request.headers),
                outcome,
                error or None,
                annotations if is_object else None,
            ),
        )
    )


def _user_agent(headers: msgspec.Raw) -> str | None:
    """The header `user-agent`; the headers of a foreign producer may be any JSON value."""
    try:
        value = _headers(headers).user_agent
    except msgspec.MsgspecError:
        return None
    if isinstance(value, list):
        value = ", ".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) and value else None
