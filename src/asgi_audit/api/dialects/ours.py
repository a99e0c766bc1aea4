"""Shared by the operations without a given document: records, histogram, feed. Their errors are problem details."""

from __future__ import annotations

from ..problem import problem_dialect

__all__ = ["AUDITORS", "RECORDS"]

RECORDS = problem_dialect(
    "records",
    "Whole records, by every filter, as JSON, NDJSON or CSV; how many there are over time.",
    {"levels": "level", "statuses": "status", "page_token": "cursor"},
)
AUDITORS = frozenset({"auditor"})
