"""Reads an index: pages, newest or oldest first, in transactions of one page and one day file each.

Invariants: a reader never writes, creates or checkpoints a file. At most `_OPEN_MAX` day files are open, each with 1
MiB of page cache and three descriptors (a process has several readers, 256 MiB and perhaps 256 descriptors). An
abandoned query stops within `followed.STEPS` SQLite instructions or one row. New, removed and replaced files are
noticed at the next call (a stat each); every call closes the files of purged days. A missing directory counts as an
empty index only while no index is remembered (see `store.identity`). A day listed in main.db whose file is missing is
an error, never an empty day. A filtered page walks the full text in id order (row ids are time-ordered, so no sort is
needed) and checks the real columns of each row: a token is a truncated hash, and two values may share it.
"""

from __future__ import annotations

import json
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import apsw

from ...errors import QueryError, StoreError
from ..base import Fed, IndexVersion, Place, Query, Row, Snapshot
from ..identity import Expected, IndexMemory
from ..state import Completeness, Hold, Incident, Process, ReadUntil, Window
from . import arrivals, completeness, extent, feeding, retention, rows
from .blocks import Blocks
from .counting import COUNT_SECONDS, Work, add_buckets, check_histogram, count, count_added
from .counts import Counted, Counts, DayFile, name_of_filters
from .days import day_is_gone, file_of, gone_days
from .errors import reading
from .fence import read_fence
from .followed import FollowedFile, stat_of
from .main import open_main
from .paging import PageReader
from .schema import DAY_MS, MAIN_NAME, MAIN_VERSION, SLOTS, day_name, generation, index_id
from .selection import unknown_to_version_1
from .transactions import read_transaction

__all__ = ["SqliteReader"]

_OPEN_MAX = 8
_END = 1 << 62  # ms: all days
_MS_MAX = 253_402_300_799_999  # the calendar of `datetime` ends in 9999
_PROCESS = (
    "process, service, host, started, last, indexed, lost, excluded, stated_open, watermark, closed, proven, missing, "
    "standing, low, state"
)
T = TypeVar("T")
Day = tuple[str, int]
"""`2026-11-22`, and the number of its file."""


class SqliteReader:
    """Reads the index in `directory`, which may not exist yet. Used by one thread at a time. Raises StoreError."""

    def __init__(self, directory: Path, memory: IndexMemory | None = None) -> None:
        """`memory`: the expected index; None: accept any."""
        self.directory = directory
        self._expected = Expected(directory, memory)
        self._identified: apsw.Connection | None = None
        self._stopped: Callable[[], bool] = lambda: False
        self._main = FollowedFile(directory / MAIN_NAME, self._is_stopped, MAIN_VERSION, open_main)
        self._days: OrderedDict[str, FollowedFile] = OrderedDict()
        self._blocks = Blocks()
        self._counts = Counts()

    def check(self) -> None:
        main = self._opened()
        if main is None:
            return
        with reading("read", self.directory):
            if gone := gone_days(main, self.directory):
                raise self._expected.said(day_is_gone(self.directory, gone[0], file_of(main, gone[0]) or 0))

    def index(self) -> IndexVersion:
        main = self._opened()
        if main is None:
            return IndexVersion()
        with reading("read", self._main.path):
            return IndexVersion(index_id(main) or "", generation(main))

    def snapshot(self) -> Snapshot:
        # Read the fence before `published`: in the other order a batch committed in between would be claimed but not
        # visible.
        fence = self._read_fence()
        main = self._opened()
        if main is None:
            return Snapshot(0, 0.0)
        with reading("read", self._main.path):
            published = int(main.execute("SELECT published FROM state").get)
            is_known = fence is not None and fence[0] <= extent.batches(main)
        return Snapshot(published, fence[1].taken_at / 1000 if fence is not None and is_known else 0.0)

    def page(
        self, query: Query, *, published: int, before: int | None, limit: int, bytes_max: int, skip: int = 0
    ) -> tuple[list[Row], bool]:
        rows: list[Row] = []
        main = self._opened()
        if main is None or query.start >= query.end or query.wanted_accounts == frozenset():
            return rows, False
        first, last = max(query.start, 0), query.end - 1
        if before is not None and query.order == "newest":
            last = min(last, _day_end(before // SLOTS))
        elif before is not None:
            first = max(first, _day_end(before // SLOTS) - DAY_MS + 1)
        self._check_days(query)
        page = PageReader(query, published, before, limit, bytes_max, skip)
        for day in self._days_between(first, last, newest_first=query.order == "newest"):
            self._with_day(day, lambda connection: page.read(connection, self._blocks, self._stopped))
            if page.more:
                break
        return page.rows, page.more

    def count(self, query: Query, *, published: int, work_seconds: float = COUNT_SECONDS) -> int:
        if query.start >= query.end:
            return 0
        self._check_days(query)
        work = Work(work_seconds)
        index, filters = self.index(), name_of_filters(query)
        found = 0
        for day, number, highest, newest in self._days_and_batches(max(query.start, 0), query.end - 1):
            begin = _begin_of(day)
            start, end = max(query.start, begin), min(query.end, begin + DAY_MS)
            file = self._day_file(index, day, number)
            known = None if file is None else self._counts.get(file, filters, start, end)
            if known is not None and highest is not None and highest <= min(known.up_to, published):
                found += known.rows
                continue
            of_day = replace(query, start=start, end=end)
            rows = self._with_day((day, number), partial(_count_on, of_day, known, published, work)) or 0
            found += rows
            # A snapshot of another index may be above `published`: then batches up to it will still bring rows.
            if published <= newest and file is not None and file == self._day_file(index, day, number):
                self._counts.put(file, filters, start, end, Counted(published, rows))
        return found

    def _day_file(self, index: IndexVersion, day: str, number: int) -> DayFile | None:
        """The file of a day as it is now; None when it is not there."""
        path = _path(self.directory, day, number)
        with reading("look at", path):
            there = stat_of(path)
        return None if there is None else DayFile.of(index, day, number, there)

    def histogram(
        self, query: Query, *, published: int, by: Literal["level", "status"], minutes: int
    ) -> list[tuple[int, dict[str, int]]]:
        check_histogram(query, minutes)
        self._check_days(query, rolled_up=True)
        work = Work(COUNT_SECONDS)
        found: dict[int, dict[str, int]] = {}
        for day in self._days_between(max(query.start, 0), query.end - 1):
            self._with_day(day, lambda connection: add_buckets(found, connection, query, published, by, minutes, work))
        return sorted(found.items())

    def find(self, accounts: frozenset[str] | None, record_id: str, *, published: int) -> Row | None:
        at = rows.time_of_id(record_id)
        own = None if at is None else _day_text(at)
        days = self._days_between(0, _END)
        for day in sorted(days, key=lambda d: d[0] != own):  # the most likely day first
            look = partial(
                rows.with_id,
                accounts=accounts,
                record_id=record_id,
                at=at if day[0] == own else None,
                published=published,
                blocks=self._blocks,
            )
            row = self._with_day(day, look)
            if row is not None:
                return row
        return None

    def feed(
        self,
        accounts: frozenset[str] | None,
        *,
        after: Place | None,
        since: int | None = None,
        limit: int,
        bytes_max: int,
        work_seconds: float = COUNT_SECONDS,
    ) -> Fed:
        found = None
        while found is None:
            main = self._opened()
            if main is None:
                return Fed([], after or Place(0, feeding.END), False)
            with reading("read", self._main.path):
                stands = feeding.stands(main, accounts, after)
            found = feeding.page(
                self._on_day,
                stands,
                accounts,
                after,
                since,
                limit=limit,
                bytes_max=bytes_max,
                work_seconds=work_seconds,
                blocks=self._blocks,
            )
        return found

    def seen(self, accounts: frozenset[str] | None, service: str, instance: str) -> bool:
        main = self._opened()
        if main is None:
            return False
        with reading("read", self._main.path):
            sql, values = "", [service, instance]
            if accounts is not None:
                sql = " AND account IN (SELECT value FROM json_each(?))"
                values.append(json.dumps(sorted(accounts)))
            found = main.execute(f"SELECT 1 FROM stream WHERE service = ? AND instance = ?{sql} LIMIT 1", values).get
        return found is not None

    def processes(self) -> list[Process]:
        main = self._opened()
        if main is None:
            return []
        with reading("read", self._main.path):
            rows: list[tuple[Any, ...]] = main.execute(
                f"SELECT {_PROCESS} FROM process WHERE number > 0 OR indexed > 0 ORDER BY started, process"
            ).fetchall()
        return [
            Process._make((uuid.UUID(bytes=r[0]), *r[1:11], bool(r[11]), *r[12:15], *completeness.counted(r[15])))
            for r in rows
        ]

    def window(self, start: int, end: int) -> list[Window]:
        main = self._opened()
        if main is None:
            return []
        with reading("read", self._main.path), read_transaction(main):
            published = int(main.execute("SELECT published FROM state").get)
            lost = completeness.lost_in(main, start, end)
        indexed: dict[bytes, int] = {}
        for day in self._days_between(start, max(end - 1, start)):
            counts = self._with_day(day, lambda connection: _counts(connection, start, end, published))
            for process, records in counts or ():
                indexed[process] = indexed.get(process, 0) + records
        return [Window(uuid.UUID(bytes=p), indexed.get(p, 0), lost.get(p, 0)) for p in {**indexed, **lost}]

    def completeness(self, start: int, end: int, accounts: frozenset[str] | None = None) -> Completeness:
        fence = self._read_fence()
        main = self._opened()
        if main is None:
            return Completeness(None, 0, 0)
        with reading("read", self._main.path), read_transaction(main):
            reckoned = extent.reckon(main, fence, retention.horizon_of(main))
            return completeness.read(main, start, end, reckoned, accounts)

    def incidents(self, start: int, end: int, *, limit: int = 1000) -> list[Incident]:
        main = self._opened()
        if main is None:
            return []
        with reading("read", self._main.path):
            return completeness.incidents(main, start, end, limit)

    def holds(self) -> list[Hold]:
        main = self._opened()
        if main is None:
            return []
        with reading("read", self._main.path):
            return extent.read_holds(main)

    def dead_letters(self) -> int:
        main = self._opened()
        if main is None:
            return 0
        with reading("read", self._main.path):
            return int(main.execute("SELECT dead FROM state").get)

    def records(self) -> int:
        """The number of records in all days, published or not."""
        main = self._opened()
        if main is None:
            return 0
        sql = "SELECT records FROM state"
        return sum(self._with_day(day, lambda c: int(c.execute(sql).get)) or 0 for day in self._days_between(0, _END))

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped

    def _is_stopped(self) -> bool:
        return self._stopped()

    def close(self) -> None:
        self._main.close()
        for file in self._days.values():
            file.close()
        self._days.clear()

    # -- what is there

    def _opened(self) -> apsw.Connection | None:
        """main.db of the expected index; None when there is none yet. Raises StoreError when one is expected, or
        another one is found."""
        main = self._expected.settled(self._look)
        if main is not None:
            self._let_go(main)
        return main

    def _look(self) -> apsw.Connection | None:
        main = self._main.get()
        if main is None:
            self._expected.absent("an empty file" if self._main.is_there() else "nothing")
        elif main is not self._identified:
            with reading("read", self._main.path):
                found = index_id(main)
            self._expected.found(found)
            self._identified = main
        return main

    def _let_go(self, main: apsw.Connection) -> None:
        """Closes the files of purged and rebuilt days, so that the file system frees their space."""
        if not self._days:
            return
        marks = ", ".join("?" * len(self._days))
        with reading("read", self._main.path):
            rows: list[Any] = main.execute(
                f"SELECT day, file FROM day WHERE day IN ({marks})", list(self._days)
            ).fetchall()
        known = dict(rows)
        for day in [d for d, file in self._days.items() if file.path != _path(self.directory, d, known.get(d, -1))]:
            self._days.pop(day).close()

    # -- days

    def _days_between(self, first: int, last: int, *, newest_first: bool = True) -> list[Day]:
        """The days from that of `first` to that of `last` (ms, both inclusive)."""
        main = self._opened()
        if main is None or last < first:
            return []
        with reading("read", self._main.path):
            days: list[Any] = main.execute(
                f"SELECT day, file FROM day WHERE day BETWEEN ? AND ? ORDER BY day {'DESC' if newest_first else ''}",
                (_day_text(first), _day_text(last)),
            ).fetchall()
        return days

    def _days_and_batches(self, first: int, last: int) -> list[tuple[str, int, int | None, int]]:
        """Like `_days_between`, oldest first, and of each day the last batch that brought records of it, or a later
        one (None when main.db does not say), and the last batch of all that is visible."""
        main = self._opened()
        if main is None or last < first:
            return []
        with reading("read", self._main.path):
            return arrivals.last_batches(main, _day_text(first), _day_text(last))

    def _with_day(self, day: Day, read: Callable[[apsw.Connection], T]) -> T | None:
        """Calls `read` on the day's file. None when the day is purged. Raises StoreError when its file is missing."""
        name, number = day
        while True:
            file = self._day(name, number)
            try:
                with reading("read", file.path):
                    connection = file.get()
                    if connection is not None:
                        return read(connection)
            except StoreError:
                if file.is_there():
                    raise  # else it was removed while being opened: without its -wal a file can look damaged
            main = self._opened()
            if main is None:
                return None
            with reading("read", self._main.path):
                now = file_of(main, name)
            if now is None:
                return None
            if now == number:  # a purge and a rebuild commit to main.db first
                raise self._expected.said(day_is_gone(self.directory, name, number))
            number = now

    def _on_day(self, day: str, read: Callable[[apsw.Connection], T]) -> T | None:
        """Like `_with_day`, with the current file of the day."""
        main = self._opened()
        if main is None:
            return None
        with reading("read", self._main.path):
            number = file_of(main, day)
        return None if number is None else self._with_day((day, number), read)

    def _check_days(self, query: Query, *, rolled_up: bool = False) -> None:
        """Raises QueryError for a filter that some day of the window has no index for."""
        unknown = "histogram" if rolled_up else unknown_to_version_1(query)
        if unknown is None:
            return
        for day in self._days_between(max(query.start, 0), query.end - 1):
            if self._with_day(day, lambda connection: connection.pragma("user_version")) == 1:
                raise _not_indexed(unknown, day[0])

    def _day(self, day: str, number: int = 0) -> FollowedFile:
        path = _path(self.directory, day, number)
        found = self._days.get(day)
        if found is not None:
            if found.path == path:
                self._days.move_to_end(day)
                return found
            found.close()
        while len(self._days) >= _OPEN_MAX:
            self._days.popitem(last=False)[1].close()
        self._days[day] = found = FollowedFile(path, self._is_stopped, closing=self._blocks.drop)
        return found

    def _read_fence(self) -> tuple[int, ReadUntil] | None:
        try:
            return read_fence(self.directory)
        except OSError as e:
            raise StoreError(f"could not read the fence in {self.directory}: {e.strerror}", retriable=True) from e


def _count_on(query: Query, known: Counted | None, published: int, work: Work, connection: apsw.Connection) -> int:
    """Counts the rows of one day. `known`: a count of the same query."""
    if known is not None and known.up_to <= published:
        added = count_added(connection, query, known.up_to, published, work)
        if added is not None:
            return known.rows + added
    return count(connection, query, published, work)


def _counts(connection: apsw.Connection, start: int, end: int, published: int) -> list[Any]:
    """The number of records per process in a day's file within the window, in one read transaction."""
    with read_transaction(connection):
        return _counted(connection, start, end, published)


def _counted(connection: apsw.Connection, start: int, end: int, published: int) -> list[Any]:
    spill, highest, day = connection.execute(
        "SELECT spill, highest, (SELECT min(id) FROM record) FROM state"
    ).fetchone() or (0, 0, None)
    if day is None:
        return []
    first = day // SLOTS // DAY_MS * DAY_MS
    if start <= first and end >= first + DAY_MS and highest <= published:  # the index alone suffices
        return connection.execute(
            "SELECT process, n FROM (SELECT pid, count(*) n FROM record WHERE pid IS NOT NULL GROUP BY pid) "
            "JOIN process USING (pid)"
        ).fetchall()
    return connection.execute(
        "SELECT process, count(*) FROM record JOIN process USING (pid) "
        "WHERE id >= ? AND id < ? AND timestamp >= ? AND timestamp < ? AND iseq <= ? GROUP BY pid",
        (max(0, start - spill) * SLOTS, (end + spill) * SLOTS, start, end, published),
    ).fetchall()


def _not_indexed(name: str, day: str) -> QueryError:
    works = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
    return QueryError(
        f"{name}: the records up to {day} were indexed by an earlier version, which did not store it; it works from "
        f"{works} (UTC) on",
        field=name,
        hint=f"Start at {works}T00:00:00Z or later, or omit {name}. The operator of the index can rebuild these days "
        "with `asgi-audit reindex`.",
    )


@lru_cache(maxsize=1_024)  # of every call, for each open or counted day: making a path takes ten times as long
def _path(directory: Path, day: str, number: int) -> Path:
    """Of a day's file."""
    return directory / day_name(day, number)


@lru_cache(maxsize=1_024)
def _begin_of(day: str) -> int:
    """Of `2026-11-22`, in ms."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1000


def _day_end(ms: int) -> int:
    return ms - ms % DAY_MS + DAY_MS - 1


def _day_text(ms: int) -> str:
    # The calendar of `datetime` ends in 9999; a window may not.
    return datetime.fromtimestamp(min(ms, _MS_MAX) // 1000, UTC).strftime("%Y-%m-%d")
