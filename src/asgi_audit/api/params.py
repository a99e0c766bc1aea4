"""Reads the client's input before validation by a model: the bytes of a body, the parameters of a URL.

Functions return plain values or raise QueryError, whose message begins with the name of the offending field. Bounds: a
body of at most `BODY_BYTES_MAX`, a query string of at most `QUERY_BYTES_MAX`; at most 60 characters of a wrong value
are quoted. The work is linear in the length of the input, because it runs in the event loop of all clients.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from ..errors import QueryError

__all__ = ["BODY_BYTES_MAX", "QUERY_BYTES_MAX", "json_object", "parameters_of", "shown", "shown_name"]

BODY_BYTES_MAX = 65_536
# A token has at most 4,096 characters; 200 KB of `a&` took 62 ms of the event loop to split.
QUERY_BYTES_MAX = 8_192
_LENGTH_DIGITS_MAX = 20


async def json_object(
    request: Request, accepted: str = "a JSON object", *, may_be_absent: bool = False
) -> dict[str, Any]:
    """The body as a JSON object, whatever its content type. `accepted`: the description of the body in a refusal.
    `may_be_absent`: no body counts as an object without fields."""
    _check_encoding(request)
    body = await _bounded_body(request)
    if not body and may_be_absent:
        return {}
    try:
        # Decode first: json.loads would also accept UTF-16 and UTF-32 bytes.
        value = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise QueryError(f"body: it is not JSON in UTF-8; accepted: {accepted}") from None
    if not isinstance(value, dict):
        raise QueryError(f"body: it is not a JSON object; accepted: {accepted}")
    return value


def parameters_of(request: Request) -> dict[str, str]:
    """The parameters of the URL by name. Raises QueryError for one that is given more than once."""
    if len(request.scope["query_string"]) > QUERY_BYTES_MAX:
        raise QueryError(f"query string: it is longer than {QUERY_BYTES_MAX} bytes")
    return _once(request.query_params.multi_items())


def shown(value: Any) -> str:
    """The value as truncated JSON: enough to recognise the mistake, in a small response."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = json.dumps(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:80] + "…"


def shown_name(name: str) -> str:
    """A name from the client, like `shown` but without quotes."""
    return shown(name)[1:-1]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises QueryError for a duplicate name, because it is ambiguous."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise QueryError(f"{shown_name(name)}: it is given more than once")
        seen.add(name)
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _check_encoding(request: Request) -> None:
    for name in ",".join(request.headers.getlist("content-encoding")).split(","):
        if name.strip().lower() not in ("", "identity"):
            raise QueryError(
                f"Content-Encoding: it is {shown(name.strip())}; accepted: identity", hint="Send the body as it is."
            )


async def _bounded_body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > _LENGTH_DIGITS_MAX or int(declared) > BODY_BYTES_MAX):
        raise _too_long()  # before the client sends it
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise _too_long()
        chunks.append(chunk)
    return b"".join(chunks)


def _too_long() -> QueryError:
    return QueryError(f"body: it is longer than {BODY_BYTES_MAX} bytes", kind="too_large")
