"""The headers with which every answer of every dialect says how complete it is."""

from __future__ import annotations

from datetime import UTC, datetime

from ..query.model import Completeness

__all__ = ["audit_headers"]

_MS_MAX = 253_402_300_799_999  # the calendar of RFC 3339 ends in 9999


def audit_headers(completeness: Completeness) -> dict[str, str]:
    """Everything that began from `Audit-Complete-From` on (inclusive) and before `Audit-Complete-Until` (exclusive;
    both RFC 3339, ms, UTC) is indexed, but for what the two others count: incidents that overlap the window, and
    exchanges begun in it that are open for long. Of what began before the first nothing is claimed. Each of the two is
    absent while nothing can be said: before the first process has stated anything, and before the source was first
    read."""
    headers = {"audit-incidents": str(completeness.incidents), "audit-open": str(completeness.open)}
    if completeness.begins is not None:
        headers["audit-complete-from"] = _time(completeness.begins)
    if completeness.until is not None:
        headers["audit-complete-until"] = _time(completeness.until)
    return headers


def _time(ms: int) -> str:
    at = datetime.fromtimestamp(min(ms, _MS_MAX) // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
