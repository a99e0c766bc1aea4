"""Reads rows in indexing order: batch by batch, across all days that a batch brought records of.

A feed looks at some batches at a time, in the days that main.db lists for them (`arrivals`), through the index on
`iseq`: a page costs the same at any position. Rows of other accounts are skipped; when that takes long, the rows found
so far are returned with the place reached. Days of version 1 have no such index, so each page sorts the whole day.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, Protocol, TypeVar

import apsw

from ..base import Fed, Place, Row, gone
from . import arrivals
from .blocks import Blocks
from .retention import day_of, horizon_of
from .rows import rows_of, streams_of
from .schema import SLOTS
from .transactions import read_transaction

__all__ = ["END", "Days", "Stands", "page", "stands"]

_BATCHES = 8  # at first; twice as many each time that they do not fill the page
_BATCHES_MAX = 256
END = (1 << 63) - 1  # as the id of a place: after the whole batch
_STEPS_OF_CLOCK = 10_000  # SQLite VM instructions, below a millisecond
T = TypeVar("T")


class Days(Protocol):
    """Runs a function on one day's file; returns None when the day is purged. Raises StoreError."""

    def __call__(self, day: str, read: Callable[[apsw.Connection], T], /) -> T | None: ...


class _Found(NamedTuple):
    """The place of a row, without its bytes. Sorts in feed order."""

    iseq: int
    id: int
    day: str


class Stands(NamedTuple):
    """The batches that a feed has still to read: see `arrivals.between`."""

    days: list[tuple[str, int, int]]
    published: int
    horizon: int


def stands(main: apsw.Connection, accounts: frozenset[str] | None, after: Place | None) -> Stands:
    """Raises QueryError 'gone'."""
    with read_transaction(main):
        published = int(main.execute("SELECT published FROM state").get)
        if after is not None and after.iseq > published:
            raise gone("it is beyond the newest record of this index")
        # In the middle of a batch the rest of that batch is unread.
        read = 0 if after is None else after.iseq - (after.id < END)
        if after is not None and arrivals.unread(main, accounts, read, after.horizon):
            raise gone("records after it were purged before they were read")
        return Stands(arrivals.between(main, accounts, read, published), published, horizon_of(main) or 0)


def page(
    on_day: Days,
    stands: Stands,
    accounts: frozenset[str] | None,
    after: Place | None,
    since: int | None,
    *,
    limit: int,
    bytes_max: int,
    work_seconds: float,
    blocks: Blocks,
) -> Fed | None:
    """See `RowReader.feed`. None when a day was purged meanwhile: the caller must list the days again."""
    if after is not None:
        begin: Place | None = after._replace(horizon=stands.horizon)
    elif since is None:
        begin = Place(0, END, stands.horizon)
    else:
        begin = _begin(on_day, stands, accounts, since, work_seconds)
    if begin is None:
        return None
    return walk(
        on_day,
        stands.days,
        accounts,
        begin,
        stands.published,
        limit=limit,
        bytes_max=bytes_max,
        work_seconds=work_seconds,
        blocks=blocks,
    )


def _begin(
    on_day: Days, stands: Stands, accounts: frozenset[str] | None, since: int, work_seconds: float
) -> Place | None:
    """The place before the first batch with a record of `since` (ms) or later. None: see `page`."""
    first = stands.published + 1
    for day, lowest, _ in stands.days:
        if day == day_of(since):
            look = partial(_first, accounts=accounts, since=since, lowest=lowest, work_seconds=work_seconds)
            found = on_day(day, look)
            if found is None:
                return None
            first = min(first, found[0] or first)
        elif day > day_of(since):
            first = min(first, lowest)
    return Place(max(0, first - 1), END, stands.horizon)


def walk(
    on_day: Days,
    days: list[tuple[str, int, int]],
    accounts: frozenset[str] | None,
    after: Place,
    published: int,
    *,
    limit: int,
    bytes_max: int,
    work_seconds: float,
    blocks: Blocks,
    monotonic: Callable[[], float] = time.monotonic,
) -> Fed | None:
    """See `RowReader.feed`. `days`: (day, lowest, highest) of batches, in the order of `lowest`. None when one of them
    was purged meanwhile: the caller must list the days again."""
    rows: list[Row] = []
    at = (after.iseq, after.id)
    ends = monotonic() + work_seconds
    batches = _BATCHES
    while True:
        days = [d for d in days if d[2] > at[0] or (d[2] == at[0] and at[1] < END)]
        if not days:
            return Fed(rows, after._replace(iseq=published, id=END), False)
        up_to = end = min(published, max(at[0], days[0][1]) + batches)
        batches = min(2 * batches, _BATCHES_MAX)
        room = limit - len(rows)
        found: list[_Found] = []
        for day, lowest, _ in days:
            if lowest <= end:
                look = partial(_found_in, day=day, accounts=accounts, after=at, up_to=end, limit=room + 1)
                some = on_day(day, look)
                if some is None:
                    return None
                found = sorted(found + some)[: room + 1]
                if len(found) > room:
                    end = found[room].iseq  # what comes later is not of this page
        taken = _read(on_day, found[:room], blocks, bytes_max - sum(len(r.record) for r in rows), is_first=not rows)
        if taken is None:
            return None
        rows += taken
        if len(taken) < len(found):
            if taken:
                last = found[len(taken) - 1]
                at = (last.iseq, last.id if found[len(taken)].iseq == last.iseq else END)
            return Fed(rows, after._replace(iseq=at[0], id=at[1]), True)
        at = (up_to, END)
        if monotonic() >= ends and up_to < published:
            return Fed(rows, after._replace(iseq=up_to, id=END), True)


def _read(on_day: Days, found: list[_Found], blocks: Blocks, bytes_max: int, *, is_first: bool) -> list[Row] | None:
    """As many of the rows as fit into `bytes_max`. None when a day was purged meanwhile."""
    rows: list[Row] = []
    for day, group in groupby(found, key=lambda f: f.day):
        ids = [f.id for f in group]
        read = partial(_rows_of, ids=ids, blocks=blocks, bytes_max=bytes_max, is_first=is_first and not rows)
        some = on_day(day, read)
        if some is None:
            return None
        rows += some
        bytes_max -= sum(len(row.record) for row in some)
        if len(some) < len(ids):
            break
    return rows


def _found_in(
    connection: apsw.Connection,
    day: str,
    accounts: frozenset[str] | None,
    after: tuple[int, int],
    up_to: int,
    limit: int,
) -> list[_Found]:
    """At most `limit` rows of one day after `after` (iseq, id), of batches up to `up_to`, in order."""
    with read_transaction(connection):
        sids = streams_of(connection, accounts)
        if sids == "[]":
            return []
        by_index = "" if int(connection.pragma("user_version") or 0) == 1 else "INDEXED BY record_iseq "
        of = "" if sids is None else " AND sid IN (SELECT value FROM json_each(?))"
        values = () if sids is None else (sids,)
        rows: list[Any] = []
        # Two queries: for `(iseq, id) > (?, ?)` SQLite would use the index for `iseq` only.
        for where, bounds in (("iseq = ? AND id > ?", after), ("iseq > ? AND iseq <= ?", (after[0], up_to))):
            if len(rows) < limit:
                rows += connection.execute(
                    f"SELECT iseq, id FROM record {by_index}WHERE {where}{of} ORDER BY iseq, id LIMIT ?",
                    (*bounds, *values, limit - len(rows)),
                )
    return [_Found(iseq, number, day) for iseq, number in rows]


def _rows_of(
    connection: apsw.Connection, ids: list[int], blocks: Blocks, bytes_max: int, *, is_first: bool
) -> list[Row]:
    """As many of these rows of one day as fit into `bytes_max`, in this order; at least one when `is_first`."""
    rows: list[Row] = []
    with read_transaction(connection):
        for row in rows_of(connection, blocks, ids):
            bytes_max -= len(row.record)
            if bytes_max < 0 and (rows or not is_first):
                break
            rows.append(row)
    return rows


def first_since(
    connection: apsw.Connection,
    accounts: frozenset[str] | None,
    since: int,
    lowest: int,
    *,
    work_seconds: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> int | None:
    """The first batch with a row of the day at this timestamp (ms) or later; None when there is none. When the search
    takes too long, returns `lowest`, the first batch of the day: the feed then starts too early, never too late."""
    ends = monotonic() + work_seconds
    connection.set_progress_handler(lambda: monotonic() >= ends, _STEPS_OF_CLOCK, id=first_since)
    try:
        with read_transaction(connection):
            sids = streams_of(connection, accounts)
            spill = int(connection.execute("SELECT spill FROM state").get)
            of = "" if sids is None else " AND sid IN (SELECT value FROM json_each(?))"
            found: Any = connection.execute(
                f"SELECT min(iseq) FROM record WHERE id >= ? AND timestamp >= ?{of}",
                (max(0, since - spill) * SLOTS, since, *(() if sids is None else (sids,))),
            ).get
    except apsw.InterruptError:
        if monotonic() >= ends:
            return lowest
        raise
    finally:
        connection.set_progress_handler(None, id=first_since)
    return None if found is None else int(found)


def _first(connection: apsw.Connection, **asked: Any) -> tuple[int | None]:
    """Returns a tuple, because `on_day` returns None for a purged day."""
    return (first_since(connection, **asked),)
