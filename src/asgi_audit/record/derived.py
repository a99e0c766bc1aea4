"""Values derived from a record when it is indexed: level, message, operation. Pure functions, so that they can be
derived again."""

from __future__ import annotations

from http import HTTPStatus

__all__ = ["LEVELS", "level_of", "message_of", "operation_of"]

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
# Python 3.13 renamed these four (RFC 9110). A message must not depend on the version that derived it.
_PHRASES = {int(s): s.phrase for s in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
_STATUSES = {status: f"{status} {phrase}" for status, phrase in _PHRASES.items()}


def level_of(method: str, status: int, outcome: str, error: str, fatal: bool) -> str:
    """FATAL: raised, and no `Exception` (`fatal`). ERROR: raised, 5xx, 401, 403. WARN: other 4xx, disconnected or
    cancelled. DEBUG: HEAD, OPTIONS. Else INFO."""
    if fatal and outcome != "cancelled":
        return "FATAL"
    if (error and outcome not in ("cancelled", "disconnected")) or outcome in ("failed", "interrupted"):
        return "ERROR"
    if outcome in ("disconnected", "cancelled"):
        return "WARN"
    if status >= 500 or status in (401, 403):
        return "ERROR"
    if status >= 400:
        return "WARN"
    return "DEBUG" if method in ("HEAD", "OPTIONS") else "INFO"


def message_of(
    method: str, path: str, status: int, principal: str | None, duration_ns: int | None, error: str | None
) -> str:
    """`POST /login → 401 Unauthorized, alice, 12 ms, ValueError`; what is unknown is left out."""
    text = f"{method} {path} → {_STATUSES.get(status) or status}"
    if principal:
        text = f"{text}, {principal}"
    if duration_ns is not None:
        text = f"{text}, {duration_ns / 1e6:.0f} ms"
    return f"{text}, {error}" if error else text


def operation_of(method: str, operation: str | None, route: str | None) -> str:
    """The annotation, else the name of route or endpoint, else `METHOD template`, else the method; never a raw path."""
    return operation or (f"{method} {route}" if route else method)
