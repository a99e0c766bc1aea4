"""The fragments of a record by name, and a search through all of them for values that were masked in one of them.

A secret that a client sends often comes back: in the response, in a header, in an error. When a value was masked
anywhere in an exchange, `mask_again` masks it in every fragment, except the identity and the request id.
"""

from __future__ import annotations

import orjson

from ..redaction import RecordRedactor, Search
from .text import readable

__all__ = ["PARTS", "mask_again", "redacted_paths"]

PARTS = (
    "identity", "metadata.id", "", "metadata.requestId", "metadata", "request.auth",
    "", "request.method", "", "request.path", "", "request.originalUrl",
    "", "request.hostname", "", "request.headers", "", "request.query",
    "", "request.body", "response.statusCode", "response.headers",
    "", "response.body",
    "timestamp",
    "context.host",
)  # fmt: skip
"""The first fragments, in the order in which the builder makes them; '' is punctuation and names of fields. The rest of
the context follows."""

# The identity is never altered; auth and status cannot contain a secret.
_SEARCHED = tuple(
    (at, name)
    for at, name in enumerate(PARTS)
    if name.startswith(("request.", "response.")) and name not in ("request.auth", "response.statusCode")
)
_CONTEXT_AT = len(PARTS)


def mask_again(parts: list[bytes], search: Search, record: RecordRedactor, at_redacted: int) -> None:
    """Mask in all parts what was masked in one of them; in bodies also numbers. at_redacted: the index of `redacted`,
    which is written last."""
    for at, name in _SEARCHED:
        kept = search.masked(parts[at], numbers=name.endswith(".body"))
        if kept is not parts[at]:
            parts[at] = kept
            record.note("reflected." + name)
    for at in range(_CONTEXT_AT, len(parts) - 2):
        if at == at_redacted:
            continue
        is_value = parts[at - 1].endswith(b'":')  # annotations, the message
        kept = search.masked(parts[at], keys=is_value, numbers=is_value)
        if kept is not parts[at]:
            parts[at] = kept
            record.note("reflected.context")
    parts[at_redacted] = search.masked(redacted_paths(record.redacted), keys=False, numbers=False)


def redacted_paths(redacted: list[str]) -> bytes:
    """`,"redacted":[…]`."""
    try:
        return b',"redacted":' + orjson.dumps(redacted)
    except TypeError:  # lone surrogates
        return b',"redacted":' + orjson.dumps([readable(path) for path in redacted])
