"""How many rows of a day match: from its rollup where the filters allow, else by looking at each, for a bounded time.

The rollup counts every record of the file, published or not, per kind and minute. What a snapshot must not see is
subtracted: the records above it in these minutes, found by their `iseq`. The minutes at the two ends of a window that
it takes a part of are looked at row by row. All of it in one read transaction, so the sum is exact.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import apsw

from ...errors import QueryError
from ..base import COUNT_SECONDS, HISTOGRAM_BUCKETS_MAX
from ..query import Query
from .selection import ROLLED_UP, checks_of, ids_of, kinds_of, select, unrolled
from .transactions import read_transaction

__all__ = ["COUNT_SECONDS", "Work", "add_buckets", "check_histogram", "count"]

_MINUTE_MS = 60_000
_HOUR = 60  # minutes
By = Literal["level", "status"]
_LABELS: dict[By | None, str] = {None: "''", "level": "{}.level", "status": "({}.status / 100) || 'xx'"}
_STEPS = 10_000  # of SQLite's machine between two looks at the clock: below a millisecond


class Work:
    """The time that one question may take over all of its days. Raises QueryError ('too_costly') when it is over."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    @contextmanager
    def on(self, connection: apsw.Connection) -> Iterator[None]:
        """One read transaction that ends with the time."""
        if self._is_over():
            raise self._error()
        # Beside the reader's own handler, which stops what nobody waits for.
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
            f"too many records to count within {self._seconds:g} s; narrow the window",
            kind="too_costly",
            hint=f"Ask for less time, or filter by {', '.join(ROLLED_UP)} alone.",
        )


def count(connection: apsw.Connection, query: Query, published: int, work: Work) -> int:
    """Of one day. Raises QueryError."""
    with work.on(connection):
        version = int(connection.pragma("user_version") or 0)
        first, last = -(-query.start // _MINUTE_MS), query.end // _MINUTE_MS
        if version == 1 or unrolled(query) is not None or first >= last:
            return _looked_at(connection, query, version, published, query.start, query.end)
        whole = _rolled_up(connection, query, published, first, last, last - first, None)
        return (
            sum(whole.values())
            + _looked_at(connection, query, version, published, query.start, first * _MINUTE_MS)
            + _looked_at(connection, query, version, published, last * _MINUTE_MS, query.end)
        )


def check_histogram(query: Query, minutes: int) -> None:
    """Raises QueryError ('invalid')."""
    name = unrolled(query)
    if name is not None:
        raise QueryError(
            f"{name}: a histogram cannot be filtered by it; accepted are {', '.join(ROLLED_UP)}", field=name
        )
    if query.start % _MINUTE_MS or query.end % _MINUTE_MS:
        raise QueryError("start, end: the window of a histogram begins and ends with a whole minute", field="start")
    if minutes < 1:
        raise QueryError("minutes: a bucket of a histogram has at least 1", field="minutes")
    if query.end - query.start > HISTOGRAM_BUCKETS_MAX * minutes * _MINUTE_MS:
        raise QueryError(
            f"minutes: {minutes} make more than {HISTOGRAM_BUCKETS_MAX:,} buckets of the window",
            field="minutes",
            hint="Ask for longer buckets or for less time.",
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
    """Of one day of version 2, into `found`: {begin of a bucket in ms: {level or class of status: records}}."""
    first, last = query.start // _MINUTE_MS, query.end // _MINUTE_MS
    with work.on(connection):
        for (bucket, label), records in _rolled_up(connection, query, published, first, last, minutes, by).items():
            if records:
                of = found.setdefault(query.start + bucket * minutes * _MINUTE_MS, {})
                of[label] = of.get(label, 0) + records


def _rolled_up(
    connection: apsw.Connection, query: Query, published: int, first: int, last: int, minutes: int, by: By | None
) -> Counter[tuple[int, str]]:
    """{(bucket, label): records} of the minutes from `first` on, before `last`, `minutes` a bucket: what the rollup
    has, less what stands above the snapshot."""
    found: Counter[tuple[int, str]] = Counter()
    conditions, values = kinds_of(query)
    is_by_hours = minutes >= last - first or (first % _HOUR == 0 and minutes % _HOUR == 0)
    for table, column, length, low, high in _parts(first, last, is_by_hours):
        rows: Any = connection.execute(
            f"SELECT (u.{column} * {length} - ?) / ?, {_LABELS[by].format('k')}, sum(u.records) "
            f"FROM kind k CROSS JOIN {table} u ON u.kid = k.kid AND u.{column} >= ? AND u.{column} < ? "
            f"WHERE 1{conditions} GROUP BY 1, 2",
            (first, minutes, low, high, *values),
        )
        for bucket, label, records in rows:
            found[bucket, label] += records
    checks, checked = checks_of(query, 2)
    rows = connection.execute(
        f"SELECT (r.timestamp / {_MINUTE_MS} - ?) / ?, {_LABELS[by].format('h')}, count(*) FROM record r "
        "INDEXED BY record_iseq CROSS JOIN stream s ON s.sid = r.sid CROSS JOIN shape h ON h.shape = r.shape "
        f"WHERE r.iseq > ? AND r.timestamp >= ? AND r.timestamp < ?{checks} GROUP BY 1, 2",
        (first, minutes, published, first * _MINUTE_MS, last * _MINUTE_MS, *checked),
    )
    for bucket, label, records in rows:
        found[bucket, label] -= records
    return found


def _parts(first: int, last: int, is_by_hours: bool) -> Iterator[tuple[str, str, int, int, int]]:
    """(table, column, minutes a row, from, to) that together are the minutes from `first` on, before `last`."""
    low, high = -(-first // _HOUR), last // _HOUR
    if not is_by_hours or low >= high:
        yield "minutes", "minute", 1, first, last
        return
    yield "hours", "hour", _HOUR, low, high
    yield "minutes", "minute", 1, first, low * _HOUR
    yield "minutes", "minute", 1, high * _HOUR, last


def _looked_at(connection: apsw.Connection, query: Query, version: int, published: int, start: int, end: int) -> int:
    """Row by row, those from `start` on, before `end`, ms."""
    if start >= end:
        return 0
    part = replace(query, start=start, end=end)
    low, high = ids_of(part, int(connection.execute("SELECT spill FROM state").get))
    found = select(connection, part, version, published, low, high)
    if found is None:
        return 0
    return int(connection.execute(f"SELECT count(*) FROM {found.source} WHERE {found.where}", found.values).get)
