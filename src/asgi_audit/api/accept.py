"""Content negotiation: chooses one of an operation's formats (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from ..errors import QueryError

__all__ = ["CSV", "JSON", "NDJSON", "accepted_format"]

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
_ALSO = {"application/ndjson": NDJSON, "application/jsonl": NDJSON, "application/x-jsonlines": NDJSON}


def accepted_format(request: Request, formats: Sequence[str]) -> str:
    """The one of `formats` with the highest quality value; among equal ones the most specific, then the first. Raises
    QueryError 'unacceptable'."""
    ranges = _ranges(request.headers.getlist("accept"))
    if not ranges:
        return formats[0]
    best, most = "", (0.0, 0)
    for name in formats:
        # A more specific range takes precedence.
        exactness, wanted = max(((n, q) for kind, q in ranges if (n := _fits(kind, name))), default=(0, 0.0))
        if wanted > 0 and (wanted, exactness) > most:
            best, most = name, (wanted, exactness)
    if not best:
        raise QueryError(
            f"Accept: none of these types is sent here; accepted: {', '.join(formats)}", kind="unacceptable"
        )
    return best


def _fits(kind: str, name: str) -> int:
    """3: this type; 2: all of its main type; 1: all types; 0: another."""
    if _ALSO.get(kind, kind) == name:
        return 3
    if kind == name.partition("/")[0] + "/*":
        return 2
    return int(kind == "*/*")


def _ranges(values: Sequence[str]) -> list[tuple[str, float]]:
    """(type, quality value) of each range; unreadable ranges are omitted."""
    found = []
    for part in ",".join(values).split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if not kind:
            continue
        wanted = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    wanted = min(max(float(value), 0.0), 1.0)
                except ValueError:
                    wanted = 0.0
        found.append((kind, wanted if wanted == wanted else 0.0))
    return found
