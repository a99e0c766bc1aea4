"""The response headers of every dialect that report completeness."""

from __future__ import annotations

from datetime import UTC, datetime

from ..query.model import Completeness

__all__ = ["audit_headers"]

_MS_MAX = 253_402_300_799_999  # the calendar of RFC 3339 ends in 9999


def audit_headers(completeness: Completeness) -> dict[str, str]:
    """Every exchange begun between `Audit-Complete-From` (inclusive) and `Audit-Complete-Until` (exclusive; both RFC
    3339, ms, UTC) is indexed, except for those counted by the other two headers: incidents that overlap the window, and
    long-open exchanges begun in it. Nothing is claimed about exchanges begun before `Audit-Complete-From`. Either
    header is absent while its value is unknown: before the first statement, or before the source was first read."""
    headers = {"audit-incidents": str(completeness.incidents), "audit-open": str(completeness.open)}
    if completeness.begins is not None:
        headers["audit-complete-from"] = _time(completeness.begins)
    if completeness.until is not None:
        headers["audit-complete-until"] = _time(completeness.until)
    return headers


def _time(ms: int) -> str:
    at = datetime.fromtimestamp(min(ms, _MS_MAX) // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
