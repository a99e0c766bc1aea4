"""One engine that masks secrets before a byte leaves the process. README.md explains the idea on one page."""

from __future__ import annotations

from .redactor import RecordRedactor, Redactor
from .reflection import Search
from .tables import REDACTED

__all__ = ["REDACTED", "RecordRedactor", "Redactor", "Search"]
