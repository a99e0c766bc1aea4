"""Counts the matching rows of a day: from its rollup where the filters allow, else by examining each row, within a time
limit.

The rollup counts records per kind and minute, up to one batch (see `rollup`). Records of batches between that one and
the snapshot are found by their `iseq`, and added, or subtracted when the snapshot is the earlier of the two. Partial
minutes at the two ends of a window are counted row by row. All reads are in one transaction, so the sum is exact.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import apsw

from ...errors import QueryError
from ..base import COUNT_SECONDS, HISTOGRAM_BUCKETS_MAX
from ..query import Query
from .rollup import rolled_up
from .selection import ROLLED_UP, Selection, checks_of, ids_of, is_of_all, kinds_of, select, unrolled
from .transactions import read_transaction

__all__ = ["COUNT_SECONDS", "Work", "add_buckets", "check_histogram", "count", "count_added", "pass_over"]

_MINUTE_MS = 60_000
_HOUR = 60  # minutes
By = Literal["level", "status"]
_Part = tuple[str, str, int, int, int]
_LABELS: dict[By | None, str] = {None: "''", "level": "{}.level", "status": "({}.status / 100) || 'xx'"}
_ADDED_MAX = 2_000  # rows: 2 ms
_STEPS = 10_000  # SQLite VM instructions between two checks of the clock: below a millisecond


class Work:
    """The time budget of one query over all of its days. Raises QueryError ('too_costly') when it is used up."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    @contextmanager
    def on(self, connection: apsw.Connection) -> Iterator[None]:
        """One read transaction, interrupted when the time is used up."""
        if self._is_over():
            raise self._error()
        # Added to the reader's own handler, which stops abandoned queries.
        connection.set_progress_handler(self._is_over, _STEPS, id=self)
        try:
            with read_transaction(connection):
                yield
        except apsw.InterruptError:
            if self._is_over():
                raise self._error() from None
            raise
        finally:
            connection.set_progress_handler(None, id=self)

    def _is_over(self) -> bool:
        return self._clock() >= self._end

    def _error(self) -> QueryError:
        return QueryError(
            f"too many records to count within {self._seconds:g} s; use a shorter time range",
            kind="too_costly",
            hint=f"Use a shorter time range, or filter only by {', '.join(ROLLED_UP)}.",
        )


def count(connection: apsw.Connection, query: Query, published: int, work: Work) -> int:
    """The number of matching rows of one day. Raises QueryError."""
    with work.on(connection):
        version = int(connection.pragma("user_version") or 0)
        first, last = -(-query.start // _MINUTE_MS), query.end // _MINUTE_MS
        if version == 1 or unrolled(query) is not None or first >= last:
            return _looked_at(connection, query, version, published, query.start, query.end)
        whole = _rolled_up(connection, query, published, first, last, last, None, by_hours=True)
        return (
            sum(whole.values())
            + _looked_at(connection, query, version, published, query.start, first * _MINUTE_MS)
            + _looked_at(connection, query, version, published, last * _MINUTE_MS, query.end)
        )


def count_added(connection: apsw.Connection, query: Query, after: int, published: int, work: Work) -> int | None:
    """The number of matching rows of one day of batches above `after` and up to `published`; None when `count` may cost
    less: there are many, or they are far apart and a search has to visit the rows between them. Raises
    QueryError."""
    with work.on(connection):
        version = int(connection.pragma("user_version") or 0)
        if version == 1:
            return None
        number, low, high = connection.execute(
            "SELECT count(*), min(id), max(id) FROM (SELECT id FROM record INDEXED BY record_iseq WHERE iseq > ? AND "
            "iseq <= ? LIMIT ?)",
            (after, published, _ADDED_MAX + 1),
        ).get
        if not number:
            return 0
        if number > _ADDED_MAX:
            return None
        if query.text is None:
            checks, checked = checks_of(query, version)
            found = Selection(
                "record r INDEXED BY record_iseq CROSS JOIN stream s ON s.sid = r.sid CROSS JOIN shape h ON h.shape = "
                "r.shape",
                f"r.iseq > ? AND r.iseq <= ? AND r.timestamp >= ? AND r.timestamp < ?{checks}",
                [after, published, query.start, query.end, *checked],
                "r.id",
            )
        else:  # only the full text knows the words
            between: int = connection.execute(
                "SELECT count(*) FROM (SELECT 1 FROM record WHERE id BETWEEN ? AND ? LIMIT ?)",
                (low, high, _ADDED_MAX + 1),
            ).get
            if between > _ADDED_MAX:
                return None
            selected = select(connection, query, version, published, low, high + 1)
            if selected is None:
                return 0
            found = selected._replace(where=f"{selected.where} AND r.iseq > ?", values=[*selected.values, after])
        return int(connection.execute(f"SELECT count(*) FROM {found.source} WHERE {found.where}", found.values).get)


def check_histogram(query: Query, minutes: int) -> None:
    """Raises QueryError ('invalid')."""
    name = unrolled(query)
    if name is not None:
        raise QueryError(f"{name}: a histogram cannot be filtered by it; accepted: {', '.join(ROLLED_UP)}", field=name)
    if minutes < 1:
        raise QueryError("minutes: accepted: 1 or more", field="minutes")
    width = minutes * _MINUTE_MS
    if -(-query.end // width) - query.start // width > HISTOGRAM_BUCKETS_MAX:
        raise QueryError(
            f"minutes: {minutes} would give more than {HISTOGRAM_BUCKETS_MAX:,} buckets",
            field="minutes",
            hint="Use longer buckets or a shorter time range.",
        )


def add_buckets(
    found: dict[int, dict[str, int]],
    connection: apsw.Connection,
    query: Query,
    published: int,
    by: By,
    minutes: int,
    work: Work,
) -> None:
    """Adds the buckets of one day file of version 2 to `found`: {begin of a bucket in ms: {level or class of status:
    records}}."""
    with work.on(connection):
        for (bucket, label), records in _summed(connection, query, published, minutes, by).items():
            if records:
                of = found.setdefault(bucket * minutes * _MINUTE_MS, {})
                of[label] = of.get(label, 0) + records


def _summed(
    connection: apsw.Connection, query: Query, published: int, minutes: int, by: By
) -> Counter[tuple[int, str]]:
    """{(bucket since the epoch, label): records}: whole minutes from the rollup, partial minutes at the ends row by
    row."""
    first, last = -(-query.start // _MINUTE_MS), query.end // _MINUTE_MS
    if first >= last:
        return _labelled(connection, query, published, query.start, query.end, minutes, by)
    found = _rolled_up(connection, query, published, first, last, minutes, by, by_hours=minutes % _HOUR == 0)
    found.update(_labelled(connection, query, published, query.start, first * _MINUTE_MS, minutes, by))
    found.update(_labelled(connection, query, published, last * _MINUTE_MS, query.end, minutes, by))
    return found


def pass_over(connection: apsw.Connection, query: Query, published: int, skip: int) -> tuple[int, int | None]:
    """Skips rows of one day, in the query's order. Returns (rows of `skip` that remain, time at which to continue).

    The time (ms) is None when the day holds no more than `skip` rows. Newest first, continue before this time; oldest
    first, from this time on. Uses the rollup, so the precision is a minute. Where the rollup does not have a filter, or
    where an id may be in another minute than its record, nothing is skipped."""
    is_newest = query.order == "newest"
    version = int(connection.pragma("user_version") or 0)
    first, last = -(-query.start // _MINUTE_MS), query.end // _MINUTE_MS
    spill = connection.execute("SELECT spill FROM state").get
    if version == 1 or unrolled(query) is not None or spill or first >= last:
        return skip, query.end if is_newest else query.start
    near, far = (query.start, first * _MINUTE_MS), (last * _MINUTE_MS, query.end)
    if is_newest:
        near, far = far, near
    there = _looked_at(connection, query, version, published, *near)
    if there > skip:
        return skip, query.end if is_newest else query.start
    skip -= there
    for minutes in (_HOUR, 1):
        found = _rolled_up(connection, query, published, first, last, minutes, None, by_hours=minutes == _HOUR)
        for (bucket, _), records in sorted(found.items(), reverse=is_newest):
            if records > skip:
                first, last = max(first, bucket * minutes), min(last, (bucket + 1) * minutes)
                break
            skip -= records
        else:
            there = _looked_at(connection, query, version, published, *far)
            return (skip, far[1] if is_newest else far[0]) if there > skip else (skip - there, None)
    return skip, (last if is_newest else first) * _MINUTE_MS


def _rolled_up(
    connection: apsw.Connection,
    query: Query,
    published: int,
    first: int,
    last: int,
    minutes: int,
    by: By | None,
    *,
    by_hours: bool,
) -> Counter[tuple[int, str]]:
    """{(bucket since the epoch, label): records} of the minutes from `first` on, before `last`, `minutes` a bucket: the
    rollup's counts, and the records between them and the snapshot. `by_hours`: no bucket ends within an hour."""
    parts = list(_parts(first, last, by_hours))
    others = replace(query, except_service=None)
    if query.except_service is not None and query.service is None and is_of_all(others):
        # The total, which takes few rows, minus the few rows of the excluded service.
        found = _sums(connection, others, parts, minutes, by)
        found.subtract(_sums(connection, replace(others, service=query.except_service), parts, minutes, by))
    else:
        found = _sums(connection, query, parts, minutes, by)
    checks, checked = checks_of(query, 2)
    counted = rolled_up(connection)
    rows: Any = connection.execute(
        f"SELECT r.timestamp / {_MINUTE_MS} / ?, {_LABELS[by].format('h')}, count(*) FROM record r INDEXED BY "
        "record_iseq CROSS JOIN stream s ON s.sid = r.sid CROSS JOIN shape h ON h.shape = r.shape WHERE r.iseq > ? "
        f"AND r.iseq <= ? AND r.timestamp >= ? AND r.timestamp < ?{checks} GROUP BY 1, 2",
        (minutes, *sorted((published, counted)), first * _MINUTE_MS, last * _MINUTE_MS, *checked),
    )
    sign = 1 if counted < published else -1
    for bucket, label, records in rows:
        found[bucket, label] += sign * records
    return found


def _sums(
    connection: apsw.Connection, query: Query, parts: Iterable[_Part], minutes: int, by: By | None
) -> Counter[tuple[int, str]]:
    """Like `_rolled_up`, but the rollup's counts alone."""
    found: Counter[tuple[int, str]] = Counter()
    conditions, values = kinds_of(query, of_all=is_of_all(query))
    for table, column, length, low, high in parts:
        is_one = by is None and low * length // minutes == (high * length - 1) // minutes  # nothing to sort
        rows: Any = connection.execute(
            f"SELECT u.{column} * {length} / ?, {_LABELS[by].format('k')}, ifnull(sum(u.records), 0) FROM kind k CROSS "
            f"JOIN {table} u ON u.kid = k.kid AND u.{column} >= ? AND u.{column} < ? WHERE 1{conditions} "
            f"{'' if is_one else 'GROUP BY 1, 2'}",
            (minutes, low, high, *values),
        )
        for bucket, label, records in rows:
            if records:
                found[bucket, label] += records
    return found


def _parts(first: int, last: int, by_hours: bool) -> Iterator[_Part]:
    """(table, column, minutes per row, from, to): the parts that together cover the minutes from `first` to before
    `last`."""
    low, high = -(-first // _HOUR), last // _HOUR
    if not by_hours or low >= high:
        yield "minutes", "minute", 1, first, last
        return
    yield "hours", "hour", _HOUR, low, high
    yield "minutes", "minute", 1, first, low * _HOUR
    yield "minutes", "minute", 1, high * _HOUR, last


def _looked_at(connection: apsw.Connection, query: Query, version: int, published: int, start: int, end: int) -> int:
    """Counts row by row from `start` (ms, inclusive) to `end` (exclusive)."""
    found = _part(connection, query, version, published, start, end)
    if found is None:
        return 0
    return int(connection.execute(f"SELECT count(*) FROM {found.source} WHERE {found.where}", found.values).get)


def _labelled(
    connection: apsw.Connection, query: Query, published: int, start: int, end: int, minutes: int, by: By
) -> Counter[tuple[int, str]]:
    """Like `_looked_at`, grouped by bucket and label."""
    found = _part(connection, query, 2, published, start, end)
    if found is None:
        return Counter()
    source = found.source
    if "shape h" not in source:
        source += " CROSS JOIN shape h ON h.shape = r.shape"
    rows: Any = connection.execute(
        f"SELECT r.timestamp / {_MINUTE_MS} / ?, {_LABELS[by].format('h')}, count(*) FROM {source} WHERE {found.where} "
        "GROUP BY 1, 2",
        (minutes, *found.values),
    )
    return Counter({(bucket, label): records for bucket, label, records in rows})


def _part(
    connection: apsw.Connection, query: Query, version: int, published: int, start: int, end: int
) -> Selection | None:
    """Selects the rows from `start` (ms, inclusive) to `end` (exclusive)."""
    if start >= end:
        return None
    part = replace(query, start=start, end=end)
    low, high = ids_of(part, int(connection.execute("SELECT spill FROM state").get))
    return select(connection, part, version, published, low, high)
