"""Maps exceptions to a status, a message and an advice for the client; a dialect formats them.

An unexpected exception becomes a 500 with a reference that also appears in the log. Neither response nor log contains
the exception's text or a traceback with values.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from ..errors import QueryError, QueryErrorKind, StoreError, types_and_places

__all__ = ["REFUSED_KEY", "STATUSES", "Failure", "failure_of", "phrase_of"]

# Every kind, which mypy and a test compare with QueryErrorKind.
STATUSES: dict[QueryErrorKind, int] = {
    "invalid": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "missing": 404,
    "unacceptable": 406,
    "gone": 410,
    "too_large": 413,
    "busy": 429,
    "too_costly": 503,
}
REFUSED_KEY = "asgi_audit.refused"
"""In the scope of a request that the server refuses before it is one: its `Failure`."""

_RETRY_SECONDS = "1"  # an integer above 0: existing clients accept nothing else
# RFC 9110's name, which Python has since 3.13.
_PHRASES = {413: "Content Too Large"}
_log = logging.getLogger("asgi_audit.api")


class Failure(NamedTuple):
    """`status`: 400 to 599. `action`: what the client can do, or ''."""

    status: int
    message: str
    action: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


def failure_of(error: Exception, field_names: Mapping[str, str]) -> Failure:
    """`field_names`: our name of a field to its name in the dialect. Logs failures that clients cannot correct."""
    if isinstance(error, QueryError):
        headers = {}
        if error.kind == "unauthorized":
            headers["www-authenticate"] = 'Bearer realm="asgi-audit"'
        elif error.kind == "busy":
            headers["retry-after"] = str(error.retry_seconds)
        return Failure(STATUSES[error.kind], error.message_with(field_names), error.hint, headers)
    reference = _logged(error)
    if isinstance(error, StoreError) and error.retriable:
        return Failure(
            503,
            f"the index cannot be queried now (reference {reference})",
            "Try again in a moment.",
            {"retry-after": _RETRY_SECONDS},
        )
    return Failure(
        500,
        f"an unexpected error happened (reference {reference})",
        "Try again. If the error persists, look for the reference in the log of the server.",
    )


def phrase_of(status: int) -> str:
    """The reason phrase of a status; an unknown status gets that of its class (RFC 9110, 15)."""
    if status in _PHRASES:
        return _PHRASES[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return HTTPStatus(400 if 400 <= status < 500 else 500).phrase


def _logged(e: Exception) -> str:
    """Logs the exception's types and code locations, without its text, which may contain values. Returns the
    reference."""
    reference = secrets.token_hex(6)
    _log.error("reference %s: %s", reference, types_and_places(e))
    return reference
