"""Types that go in and out of the query service, independent of the names used by the dialects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..store.base import Query, Row
from ..store.state import Completeness

__all__ = ["Completeness", "Execution", "Grant", "Look", "Page", "Query"]


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The rights of a key, or of a token of an issuer. `accounts` None means all (`*`). `key_id`: of the key, or
    derived from the token's issuer and subject. `subject`: the token's `sub`; '' for a key. `expires`: when the token
    ends, seconds since the epoch; None for a key."""

    key_id: str
    role: str  # reader, auditor; '' for a token that gives none
    accounts: frozenset[str] | None
    subject: str = ""
    expires: float | None = None

    @property
    def principal(self) -> str:
        return self.subject or f"key:{self.key_id}"


class Page(NamedTuple):
    """Rows, newest first, and the token of the next page (None at the end). `completeness`: of the query's window as of
    now. It counts records indexed since the execution began, which are not in the rows."""

    rows: list[Row]
    next_token: str | None
    completeness: Completeness = Completeness(None, 0, 0)


class Execution(NamedTuple):
    """`completeness` of the query's window was read before the snapshot was taken, so the result contains everything
    that it claims. Exception: a continued query keeps its earlier snapshot and gets the completeness of now."""

    id: str
    completeness: Completeness


class Look(NamedTuple):
    """One snapshot for several lists. `completeness`: of the window that encloses all of theirs and of all their
    accounts, read before the snapshot was taken."""

    published: int
    completeness: Completeness
