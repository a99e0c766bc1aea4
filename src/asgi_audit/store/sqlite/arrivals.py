"""Stores in main.db which batches brought records of which day.

A feed reads batch by batch. With this table it opens only the days that hold its next records, and it notices when a
purge removed records that it had not read yet.

`whose` is '*' for all accounts, and '=' followed by the name of one account: the feed of an account depends on its own
records alone. An index of an earlier version fills the table when it is first opened for writing; until then, and for
the days it had then, a range may be wider than the day's batches, never narrower.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import apsw

from .schema import DAY_MS

__all__ = ["TABLES", "Arrived", "between", "days_noted", "depart", "note", "unread"]

TABLES = """
CREATE TABLE arrival (  -- the first and the last batch (`iseq`) that brought records of a day
  whose TEXT NOT NULL, day TEXT NOT NULL, lowest INTEGER NOT NULL, highest INTEGER NOT NULL, PRIMARY KEY (whose, day)
) WITHOUT ROWID;
CREATE TABLE departure (  -- of days that were purged since
  whose TEXT NOT NULL, day TEXT NOT NULL, highest INTEGER NOT NULL,
  horizon INTEGER NOT NULL,  -- that the purge moved to, ms
  PRIMARY KEY (whose, day)
) WITHOUT ROWID;
"""
_KEPT_MS = 100 * DAY_MS
"""How far the horizon moves on before rows about purged batches are deleted; a feed that paused for longer must begin
again."""
_FORGOTTEN = "departures_forgotten"  # in `meta`: the horizon up to which rows of `departures` were deleted
_ALL = "*"


class Arrived(NamedTuple):
    """Batches `lowest` to `highest`, both inclusive, brought records of `accounts` of the day `2026-11-22`."""

    day: str
    accounts: frozenset[str]
    lowest: int
    highest: int


def note(main: apsw.Connection, arrived: Iterable[Arrived]) -> None:
    """Inside the caller's transaction."""
    main.executemany(
        "INSERT INTO arrival VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET lowest = min(lowest, excluded.lowest), highest = max(highest, excluded.highest)",
        [
            (whose, a.day, a.lowest, a.highest)
            for a in arrived
            for whose in (_ALL, *(f"={account}" for account in a.accounts))
        ],
    )


def days_noted(main: apsw.Connection) -> set[str]:
    rows: Any = main.execute("SELECT day FROM arrival WHERE whose = ?", (_ALL,))
    return {day for (day,) in rows}


def last_batches(main: apsw.Connection, first: str, last: str) -> list[tuple[str, int, int | None, int]]:
    """(day, number of its file, last batch that brought records of it, or a later one, last batch that is published) of
    the days from `first` to `last`; None when no batch is noted."""
    rows: list[Any] = main.execute(
        "SELECT d.day, d.file, a.highest, (SELECT published FROM state) FROM day d "
        "LEFT JOIN arrival a ON a.whose = ? AND a.day = d.day WHERE d.day BETWEEN ? AND ? ORDER BY d.day",
        (_ALL, first, last),
    ).fetchall()
    return rows


def depart(main: apsw.Connection, before: str, horizon: int) -> None:
    """Note that the days before `before` are purged and the horizon moves to `horizon` (ms). Inside the caller's
    transaction."""
    main.execute(
        "INSERT OR REPLACE INTO departure SELECT whose, day, highest, ? FROM arrival WHERE day < ?", (horizon, before)
    )
    main.execute("DELETE FROM arrival WHERE day < ?", (before,))
    main.execute("DELETE FROM departure WHERE horizon < ?", (horizon - _KEPT_MS,))
    if main.changes():
        main.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_FORGOTTEN, horizon - _KEPT_MS))


def between(
    main: apsw.Connection, accounts: frozenset[str] | None, after: int, published: int
) -> list[tuple[str, int, int]]:
    """(day, lowest, highest) of each day that got records from batches above `after` and up to `published`, ordered by
    first batch."""
    whose, values = _whose(accounts)
    rows: Any = main.execute(
        f"SELECT day, min(lowest), max(highest) FROM arrival WHERE {whose} "
        "AND highest > ? AND lowest <= ? GROUP BY day ORDER BY 2, 1",
        (*values, after, published),
    )
    return [(day, lowest, highest) for day, lowest, highest in rows]


def unread(main: apsw.Connection, accounts: frozenset[str] | None, after: int, horizon: int) -> bool:
    """Whether records of batches above `after` were, or may have been, purged since the horizon was `horizon` (ms)."""
    forgotten: Any = main.execute("SELECT value FROM meta WHERE key = ?", (_FORGOTTEN,)).get
    if forgotten is not None and horizon < forgotten:
        return True
    whose, values = _whose(accounts)
    found: Any = main.execute(
        f"SELECT 1 FROM departure WHERE {whose} AND horizon > ? AND highest > ? LIMIT 1", (*values, horizon, after)
    ).get
    return found is not None


def _whose(accounts: frozenset[str] | None) -> tuple[str, list[str]]:
    names = [_ALL] if accounts is None else [f"={account}" for account in sorted(accounts)]
    return "whose IN (SELECT value FROM json_each(?))", [json.dumps(names)]
