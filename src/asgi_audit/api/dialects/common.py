"""Shared by the operations without a given document: records, histogram, feed. Their errors are problem details."""

from __future__ import annotations

from typing import Any

from ..problem import problem_dialect
from .executions import RECORD

__all__ = ["AUDITORS", "EXAMPLE", "RECORDS"]

RECORDS = problem_dialect(
    "records",
    "Whole records by any filter, as JSON, NDJSON or CSV; counts over time; and a feed of all records.",
    {"levels": "level", "statuses": "status", "page_token": "cursor"},
)
AUDITORS = frozenset({"auditor"})
EXAMPLE: dict[str, Any] = {
    **RECORD,
    "context": {"durationNs": 12_345_678, "outcome": "completed", "principal": "alice"},
}
"""A whole record."""
