"""Finds what an interrupted writer left: batches in day files that are not in main.db, and days without a file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from . import arrivals, completeness, retention
from .arrivals import Arrived
from .day import Brought
from .days import day_is_gone, files_there, gone_days
from .errors import translated
from .open_days import OpenDays
from .reindexing import chosen
from .schema import day_name, raise_generation

__all__ = ["Left", "days_listed", "give_up_gone_days", "left_behind"]

_log = logging.getLogger("asgi_audit.store")


class Left(NamedTuple):
    """What main.db must still store. `days`: day -> file number, of days that it does not list. `highest`: the highest
    batch number of any day file, or what is published."""

    days: dict[str, int]
    brought: list[Brought]
    arrived: list[Arrived]
    highest: int


def days_listed(main: apsw.Connection, directory: Path) -> dict[str, int]:
    """The days that main.db lists -> file number, after an exchange of files that a crash interrupted. Raises apsw's
    errors and OSError."""
    main.executemany("UPDATE day SET file = ?2 WHERE day = ?1", list(chosen(main, directory).items()))
    known: Any = main.execute("SELECT day, file FROM day").fetchall()
    return dict(known)


def give_up_gone_days(main: apsw.Connection, directory: Path, *, may: bool, now: int) -> Sequence[str]:
    """The listed days whose file is gone, after main.db has forgotten them: a file is created before its day is listed,
    and a purge removes the day from the list first. Raises StoreError for the first of them unless `may`. `now`: ms."""
    gone = gone_days(main, directory)
    if not gone:
        return ()
    if not may:
        raise day_is_gone(directory, gone[0], retriable=False)
    _log.error("accepted by --new-index: the day files of %s are permanently lost: %s", directory, ", ".join(gone))
    main.execute("BEGIN IMMEDIATE")
    main.executemany("DELETE FROM day WHERE day = ?", [(day,) for day in gone])
    main.executemany("DELETE FROM arrival WHERE day = ?", [(day,) for day in gone])
    raise_generation(main)  # a feed that continued would skip their records
    # T still covers the day, so an incident reports the missing records.
    completeness.note_lost_days(main, map(retention.ms_of, gone), now)
    main.execute("COMMIT")
    return gone


def left_behind(main: apsw.Connection, directory: Path, days: OpenDays, published: int) -> Left:
    """Looks into every day file. Raises StoreError."""
    left = Left({}, [], [], published)
    noted = arrivals.days_noted(main)
    for day, numbers in files_there(directory).items():
        number = days.files.get(day, numbers[-1])
        is_known = day in days.files
        with translated("recover", directory / day_name(day, number)):
            file = days.writer(day, number)
            of_day = file.unlearned(published, is_known=is_known)
        left.brought.extend(of_day)
        if day not in noted:
            left.arrived.append(Arrived(day, frozenset(b.account for b in of_day), 0, file.highest))
        elif file.highest > published:
            accounts = frozenset(b.account for b in of_day if b.records)
            left.arrived.append(Arrived(day, accounts, published + 1, file.highest))
        if not is_known:
            left.days[day] = number
        left = left._replace(highest=max(left.highest, file.highest))
    return left
