"""A record as an entry of `GET /logs`: the documented fields, and further ones in `details`. No bodies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import Field

from ...record.codec import decode
from ..fields import Level
from ..models import Model

__all__ = ["Details", "Entry", "entry_of"]


class Details(Model):
    """What is unknown is left out."""

    record_id: str
    request_id: str
    account_id: str
    instance_id: str
    method: str
    path: str
    status_code: int
    route: str | None = Field(None, description="The template that the application matched.")
    duration_ms: float | None = Field(None, description="With at most three decimals.")
    user_id: str | None = Field(None, description="The principal.")
    ip_address: str | None = Field(None, description="Of the peer.")
    user_agent: str | None = None
    outcome: str
    error: str | None = Field(None, description="Name of the exception's class.")
    annotations: dict[str, Any] | None = Field(None, description="What the application said more.")


class Entry(Model):
    timestamp: str = Field(description="UTC, with three decimals and `Z`.", json_schema_extra={"format": "date-time"})
    level: Level
    service: str
    message: str
    details: Details


class _Error(msgspec.Struct, gc=False):
    type: str = ""


class _Request(msgspec.Struct, gc=False):
    headers: msgspec.Raw = msgspec.Raw(b"{}")


class _Context(msgspec.Struct, gc=False):
    durationNs: int | None = None
    error: _Error | None = None
    annotations: msgspec.Raw = msgspec.Raw(b"")


class _More(msgspec.Struct, gc=False):
    """What the index does not keep of a record."""

    request: _Request
    context: _Context = msgspec.field(default_factory=_Context)


class _Headers(msgspec.Struct, gc=False):
    user_agent: Any = msgspec.field(default=None, name="user-agent")


_more = msgspec.json.Decoder(_More).decode
_headers = msgspec.json.Decoder(_Headers).decode


def entry_of(record: bytes) -> bytes:
    """An `Entry` as JSON. `record`: the bytes of a record that was indexed."""
    known, more = decode(record), _more(record)
    context = more.context
    annotations = context.annotations
    details = {
        "record_id": known.id,
        "request_id": known.request_id,
        "account_id": known.account,
        "instance_id": known.instance,
        "method": known.method,
        "path": known.path,
        "status_code": known.status,
        "route": known.route or None,
        "duration_ms": None if context.durationNs is None else round(context.durationNs / 1e6, 3),
        "user_id": known.principal or None,
        "ip_address": known.client or None,
        "user_agent": _user_agent(more.request.headers),
        "outcome": known.outcome,
        "error": (context.error.type or None) if context.error else None,
        # Another producer may send any value.
        "annotations": annotations if memoryview(annotations)[:1].tobytes() == b"{" else None,
    }
    return msgspec.json.encode(
        {
            "timestamp": _time(known.timestamp),
            "level": known.level,
            "service": known.service,
            "message": known.message,
            "details": {name: value for name, value in details.items() if value is not None},
        }
    )


def _user_agent(headers: msgspec.Raw) -> str | None:
    """What the headers say; a foreign producer's may be no object at all."""
    try:
        value = _headers(headers).user_agent
    except msgspec.MsgspecError:
        return None
    if isinstance(value, list):
        value = ", ".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) and value else None


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
