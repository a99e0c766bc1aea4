"""What a client sends, before a model looks at it: the bytes of a body, the parameters of a URL.

Everything here returns plain values or raises QueryError whose message begins with the name of the offending field.
Bounds: a body of at most `BODY_BYTES_MAX`, a query string of at most `QUERY_BYTES_MAX`; what is quoted of a wrong
value is at most 60 characters. The work grows with the length of the input, never faster: all of it runs in the event
loop that answers everybody.
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


async def json_object(request: Request, accepted: str = "a JSON object") -> dict[str, Any]:
    """The body as an object, whatever its content type says. `accepted`: how a refusal describes the body."""
    body = await _bounded_body(request)
    try:
        # Decoded first: json.loads of bytes would take UTF-16 and UTF-32 too.
        value = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise QueryError(f"body: it is no JSON in UTF-8; accepted: {accepted}") from None
    if not isinstance(value, dict):
        raise QueryError(f"body: it is no JSON object; accepted: {accepted}")
    return value


def parameters_of(request: Request) -> dict[str, str]:
    """The parameters of the URL by name. Raises QueryError for one that is given more than once."""
    if len(request.scope["query_string"]) > QUERY_BYTES_MAX:
        raise QueryError(f"query string: it is longer than {QUERY_BYTES_MAX} bytes")
    return _once(request.query_params.multi_items())


def shown(value: Any) -> str:
    """The value as JSON, cut: a client finds its mistake, and an answer stays small."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = json.dumps(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:80] + "…"


def shown_name(name: str) -> str:
    """A name that a client made up, as `shown` without the quotes."""
    return shown(name)[1:-1]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises QueryError for a name that comes twice: which of the two is meant, nobody can know."""
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


async def _bounded_body(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise QueryError(f"body: it is longer than {BODY_BYTES_MAX} bytes", kind="too_large")
        chunks.append(chunk)
    return b"".join(chunks)
