"""A record as an entry of `GET /logs`: what the documents name, and ours in `details`. No bodies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from ...record.codec import decode

__all__ = ["Details", "Entry", "entry_of"]


class Details(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is unknown is left out. `duration_ms`: with at most three decimals. `ip_address`: of the peer. `error`: the
    name of the exception's class. `annotations`: what the application said more."""

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
    outcome: str
    error: str | None = None
    annotations: msgspec.Raw | None = None


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """`timestamp`: UTC, with three decimals and `Z`."""

    timestamp: str
    level: str
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
    """The entry as JSON. `record`: the bytes of a record that was indexed."""
    known, more = decode(record), _more(record)
    context = more.context
    annotations = context.annotations
    return msgspec.json.encode(
        Entry(
            _time(known.timestamp),
            known.level,
            known.service,
            known.message,
            Details(
                record_id=known.id,
                request_id=known.request_id,
                account_id=known.account,
                instance_id=known.instance,
                method=known.method,
                path=known.path,
                status_code=known.status,
                route=known.route or None,
                duration_ms=None if context.durationNs is None else round(context.durationNs / 1e6, 3),
                user_id=known.principal or None,
                ip_address=known.client or None,
                user_agent=_user_agent(more.request.headers),
                outcome=known.outcome,
                error=(context.error.type or None) if context.error else None,
                # A foreign producer's may be anything.
                annotations=annotations if memoryview(annotations)[:1].tobytes() == b"{" else None,
            ),
        )
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
