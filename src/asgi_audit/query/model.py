"""What goes in and out of the query service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..store.base import Query, Row

__all__ = ["Page", "Query", "Scope"]


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a key may see. `accounts` None means all (`*`)."""

    key_id: str
    role: str  # reader, auditor
    accounts: frozenset[str] | None


class Page(NamedTuple):
    """Rows, newest first, and the token of the page after it (None at the end)."""

    rows: list[Row]
    next_token: str | None
