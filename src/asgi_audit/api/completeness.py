"""The response headers of every dialect that report completeness."""

from __future__ import annotations

from ..query.model import Completeness
from .instants import text_of_ms

__all__ = ["audit_headers"]


def audit_headers(completeness: Completeness) -> dict[str, str]:
    """Every exchange begun between `Audit-Complete-From` (inclusive) and `Audit-Complete-Until` (exclusive; both RFC
    3339, ms, UTC) is indexed, except for those counted by the other two headers: incidents that overlap the window, and
    long-open exchanges begun in it. Nothing is claimed about exchanges begun before `Audit-Complete-From`. Either
    header is absent while its value is unknown: before the first statement, or before the source was first read."""
    headers = {"audit-incidents": str(completeness.incidents), "audit-open": str(completeness.open)}
    if completeness.begins is not None:
        headers["audit-complete-from"] = text_of_ms(completeness.begins)
    if completeness.until is not None:
        headers["audit-complete-until"] = text_of_ms(completeness.until)
    return headers
