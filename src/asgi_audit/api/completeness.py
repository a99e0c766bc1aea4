"""The headers with which every answer of every dialect says how complete it is."""

from __future__ import annotations

from datetime import UTC, datetime

from ..query.model import Completeness

__all__ = ["audit_headers"]

_MS_MAX = 253_402_300_799_999  # the calendar of RFC 3339 ends in 9999


def audit_headers(completeness: Completeness) -> dict[str, str]:
    """`Audit-Complete-Until`: everything that began before it is indexed (RFC 3339, ms, UTC; exclusive), but for what
    the two others count: incidents that overlap the window, and exchanges begun in it that are open for long. Absent
    before the first process has said anything."""
    headers = {"audit-incidents": str(completeness.incidents), "audit-open": str(completeness.open)}
    if completeness.until is not None:
        at = datetime.fromtimestamp(min(completeness.until, _MS_MAX) // 1000, UTC)
        headers["audit-complete-until"] = f"{at:%Y-%m-%dT%H:%M:%S}.{completeness.until % 1000:03d}Z"
    return headers
