"""Which batches brought records of which day, in main.db: so that a feed, which goes by batches, opens only the days
that hold what comes next, and notices when a purge took what it had not read yet.

`whose` is '*' for all accounts, and '=' with the name of one: what an account's feed is told depends on its own records
alone. An index of an earlier version learns what its days hold when it is first opened for writing; until then, and for
these days, a range may be wider than what the day holds, never narrower.
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
"""So far the horizon moves on before it is forgotten what a purge took; a feed that was away for longer begins
again."""
_FORGOTTEN = "departures_forgotten"  # in `meta`: those of purges that moved the horizon to less
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


def depart(main: apsw.Connection, before: str, horizon: int) -> None:
    """The days before `before` are purged: the horizon moves to `horizon` (ms). Inside the caller's transaction."""
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
    """(day, lowest, highest) of the days that batches after `after`, up to `published`, brought records of, in the
    order of their first batch."""
    whose, values = _whose(accounts)
    rows: Any = main.execute(
        f"SELECT day, min(lowest), max(highest) FROM arrival WHERE {whose} "
        "AND highest > ? AND lowest <= ? GROUP BY day ORDER BY 2, 1",
        (*values, after, published),
    )
    return [(day, lowest, highest) for day, lowest, highest in rows]


def unread(main: apsw.Connection, accounts: frozenset[str] | None, after: int, horizon: int) -> bool:
    """Whether records that batches after `after` brought were purged since the horizon stood at `horizon` (ms), or
    may have been."""
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
