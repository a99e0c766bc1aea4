"""What goes in and out of the query service: our own words, whatever a dialect calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..store.base import Query, Row
from ..store.state import Completeness

__all__ = ["Completeness", "Execution", "Grant", "Look", "Page", "Query"]


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a key allows. `accounts` None means all (`*`)."""

    key_id: str
    role: str  # reader, auditor
    accounts: frozenset[str] | None


class Page(NamedTuple):
    """Rows, newest first, and the token of the page after it (None at the end). `completeness` is that of the query's
    window as of now: what was indexed since the execution began is counted there, and is not in the rows."""

    rows: list[Row]
    next_token: str | None
    completeness: Completeness = Completeness(None, 0, 0)


class Execution(NamedTuple):
    """`completeness` of the query's window was read before the snapshot was taken: what it promises is in the answer.
    Only when an earlier query goes on, with the snapshot of then, is it that of now."""

    id: str
    completeness: Completeness


class Look(NamedTuple):
    """One snapshot for several lists. `completeness`: of the window that encloses all of theirs, and of all their
    accounts, read before the snapshot was taken."""

    published: int
    completeness: Completeness
