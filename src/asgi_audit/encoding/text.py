"""JSON strings of text that may be too long, or contain lone surrogates."""

from __future__ import annotations

import orjson

__all__ = ["TEXT_MAX", "json_text", "readable"]

TEXT_MAX = 1_000
_dumps = orjson.dumps


def json_text(value: object, limit: int = TEXT_MAX) -> bytes:
    """JSON string of an object that should be text: at most `limit` characters, lone surrogates as U+FFFD."""
    if type(value) is str and len(value) <= limit:
        text = value
    else:
        text = str(value)[:limit]
    try:
        return _dumps(text)
    except (TypeError, ValueError):
        return _dumps(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def readable(value: object) -> str:
    """Text of any object, with `?` for lone surrogates."""
    return str(value).encode("utf-8", "replace").decode()
