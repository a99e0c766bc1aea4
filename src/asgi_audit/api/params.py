"""What a client sends, checked: instants, windows, methods, limits, names in the path, the JSON body of a query.

Everything here returns a value or raises QueryError whose message begins with the name of the offending field and
says what is accepted. Fields of a body and parameters have the client's names, names in the path ours. Bounds: a body
of at most `BODY_BYTES_MAX`, a query string of at most `QUERY_BYTES_MAX`; what is quoted of a wrong value is at most 60
characters. The work grows with the length of the input, never faster: all of it runs in the event loop that answers
everybody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from starlette.requests import Request

from ..errors import QueryError
from ..record.line import TIME_END

__all__ = [
    "BODY_BYTES_MAX",
    "LIMIT_DEFAULT",
    "LIMIT_MAX",
    "METHODS",
    "QUERY_BYTES_MAX",
    "instance_in_path",
    "instant_ns",
    "json_object",
    "limit_of",
    "method_of",
    "ms_of",
    "named_parameters",
    "optional_string",
    "query_parameter",
    "service_in_path",
    "shown",
    "window_of",
]

BODY_BYTES_MAX = 65_536
# A token has at most 4,096 characters; 200 KB of `a&` took 62 ms of the event loop to split.
QUERY_BYTES_MAX = 8_192
LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")

_INSTANT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:([Zz])|([+-])(\d\d):?(\d\d))", re.ASCII
)
_INSTANT_ACCEPTED = "an ISO 8601 date-time with offset, such as 2024-01-01T00:00:00Z or 2024-01-01T02:00:00.5+02:00"
_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INSTANCE = re.compile(r"[^/\x00-\x1f\x7f\ud800-\udfff]{1,200}")
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_NS = 1_000_000_000


async def json_object(request: Request) -> dict[str, Any]:
    """The body as an object, whatever its content type says. Fields that we do not know are left to the caller to
    ignore."""
    body = await _bounded_body(request)
    try:
        # Decoded first: json.loads of bytes would take UTF-16 and UTF-32 too.
        value = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_Pairs, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise QueryError(
            "body: it is no JSON in UTF-8; accepted: a JSON object with from and to", field="body"
        ) from None
    if not isinstance(value, _Pairs):
        raise QueryError("body: it is no JSON object; accepted: a JSON object with from and to", field="body")
    fields: dict[str, Any] = {}
    for name, given in value:
        if name in fields:
            raise QueryError(f"{shown(name)[1:-1]}: it is given more than once", field=name)
        fields[name] = given
    return fields


def window_of(fields: dict[str, Any]) -> tuple[int, int]:
    """(`from`, `to`) in ms since the epoch, inclusive and exclusive.

    Both are rounded up: a record's whole millisecond is >= an instant exactly when it is >= the next whole one, and
    likewise for <; so a finer instant keeps its meaning."""
    start, end = _instant(fields, "from"), _instant(fields, "to")
    if start > end:
        raise QueryError(
            "from: it is later than to; accepted: from before to, or equal for an empty answer", field="from"
        )
    return ms_of(start), ms_of(end)


def method_of(fields: dict[str, Any]) -> str | None:
    method = fields.get("method")
    if method is not None and method not in METHODS:
        raise QueryError(f"method: it is {shown(method)}; accepted: {', '.join(METHODS)}", field="method")
    return method


def optional_string(fields: dict[str, Any], name: str) -> str | None:
    """The field; None when it is absent or null."""
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise QueryError(f"{name}: it is {shown(value)}; accepted: a string", field=name)
    return value


def query_parameter(request: Request, name: str) -> str | None:
    """The parameter of the URL; None when it is absent."""
    _bounded_query_string(request)
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise QueryError(f"{name}: it is given more than once", field=name)
    return values[0] if values else None


def named_parameters(request: Request, accepted: Sequence[str]) -> dict[str, str]:
    """The parameters of the URL by name; those that are empty count as absent. Raises QueryError for one that is not
    accepted, and for one that is given more than once."""
    _bounded_query_string(request)
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in accepted:
            raise QueryError(f"{shown(name)[1:-1]}: there is no such parameter; accepted: {', '.join(accepted)}")
        if name in found:
            raise QueryError(f"{name}: it is given more than once")
        found[name] = value
    return {name: value for name, value in found.items() if value}


def limit_of(request: Request, default: int = LIMIT_DEFAULT, most: int = LIMIT_MAX) -> int:
    text = query_parameter(request, "limit")
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise QueryError(f"limit: it is {shown(text)}; accepted: a whole number from 1 to {most}", field="limit")
    return int(text)


def service_in_path(request: Request) -> str:
    service: str = request.path_params["service"]
    if not _SERVICE.fullmatch(service):
        raise QueryError(
            f"service: it is {shown(service)}; accepted: 1 to 64 letters, digits, dots, underscores and hyphens",
            field="service",
        )
    return service


def instance_in_path(request: Request) -> str:
    instance: str = request.path_params["instance"]
    if not _INSTANCE.fullmatch(instance) or instance in (".", ".."):
        raise QueryError(
            f"instance: it is {shown(instance)}; accepted: 1 to 200 characters without '/' and control "
            "characters, not '.' or '..'",
            field="instance",
        )
    return instance


def _bounded_query_string(request: Request) -> None:
    if len(request.scope["query_string"]) > QUERY_BYTES_MAX:
        raise QueryError(f"query string: it is longer than {QUERY_BYTES_MAX} bytes", field="query string")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object before equal names fall together."""


def _no_constant(name: str) -> None:
    raise ValueError(name)


async def _bounded_body(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise QueryError(f"body: it is longer than {BODY_BYTES_MAX} bytes", field="body", kind="too_large")
        chunks.append(chunk)
    return b"".join(chunks)


def _instant(fields: dict[str, Any], name: str) -> int:
    """Nanoseconds since the epoch."""
    text = fields.get(name)
    if text is None:
        raise QueryError(f"{name}: it is missing; accepted: {_INSTANT_ACCEPTED}", field=name)
    try:
        ns = instant_ns(text) if isinstance(text, str) else None
    except ValueError:
        raise QueryError(
            f"{name}: {shown(text)} is no such day or time; accepted: {_INSTANT_ACCEPTED}", field=name
        ) from None
    if ns is None:
        raise QueryError(f"{name}: it is {shown(text)}; accepted: {_INSTANT_ACCEPTED}", field=name)
    return ns


def instant_ns(text: str) -> int | None:
    """Nanoseconds since the epoch of an ISO 8601 date-time with offset; None for what is none. Raises ValueError for a
    day, a time or an offset that does not exist."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, off_hours, off_minutes = match.groups()
    offset = 60 * int(off_hours or 0) + int(off_minutes or 0)
    days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    # A leap second, 59:60, is the first of the next minute: the epoch does not count it.
    if (
        int(hour) > 23
        or int(minute) > 59
        or int(second or 0) > (60 if minute == "59" else 59)
        or offset > 23 * 60 + 59
        or int(off_minutes or 0) > 59
    ):
        raise ValueError(text)
    minutes = days * 1440 + int(hour) * 60 + int(minute) - (-offset if sign == "-" else offset)
    return (minutes * 60 + int(second or 0)) * _NS + int((fraction or "0").ljust(9, "0"))


def ms_of(ns: int) -> int:
    """The first whole ms that is not before it. Records lie in [0, TIME_END); instants outside mean "from the begin"
    and "for ever": the same answer, and no number that is too large for the store's row ids."""
    return min(max(-(-ns // 1_000_000), 0), TIME_END)


def shown(value: Any) -> str:
    """The value as JSON, cut: a client finds its mistake, and an answer stays small."""
    if isinstance(value, _Pairs):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = json.dumps(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:80] + "…"
