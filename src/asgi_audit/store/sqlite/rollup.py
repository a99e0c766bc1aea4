"""Writes the rollup of one day file: how many records of each kind there are in each minute and hour.

In a small batch nearly every record has another kind, so that its counts lie on many pages: in batches of 50 these were
a third to a half of the pages that a commit wrote. So the counts wait in memory and are written in a transaction of
their own, after the batch that makes them `ROLLUP_RECORDS` or more.

`state.rolled_up` is the last batch that the tables count; it changes in the transaction that changes them. Readers look
at the rows of later batches one by one (0.5 µs each), so a count is exact at any time. After a crash the next writer
reads the same rows and goes on from there. A file of an earlier version of this program has no such column until
records are added to it: its tables count all of its records.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import apsw
import orjson

from .schema import ROLLED_UP

__all__ = ["ALL_BATCHES", "ROLLUP_RECORDS", "End", "Rollup", "rolled_up"]

ROLLUP_RECORDS = 2_000
ALL_BATCHES = (1 << 63) - 1
_CACHED_MAX = 50_000  # kinds; a full cache is cleared
_MINUTE_MS = 60_000
_MINUTES, _HOURS = 1_440, 24  # of a day

End = tuple[str, str, int]  # level, method, status of a record


def rolled_up(connection: apsw.Connection) -> int:
    """The last batch that the rollup of a day file of version 2 counts. In the caller's transaction."""
    return int(connection.execute("SELECT rolled_up FROM state").get) if _has_column(connection) else ALL_BATCHES


class Rollup:
    """Errors are apsw's. After any error the caller must drop the object."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.waiting = 0  # records that are counted and not written
        self._connection = connection
        self._kids: dict[tuple[int, End], tuple[int, int]] = {}  # (sid, end) -> its kid, and the kid of its class
        self._classes: dict[tuple[str, int], int] = {}  # (level, class of status) -> kid of all records of both
        self._counts: Counter[tuple[int, End, int]] = Counter()  # (sid, end, minute) -> records
        self._last = self._written = 0  # the last batch in _counts, and in the tables
        self._has_column = _has_column(connection)
        if self._has_column:
            self._resume()

    def add(self, minutes: Sequence[int], sids: Sequence[int], ends: Sequence[End], last: int) -> None:
        """Counts records of batches up to `last` that the caller's transaction inserts. `minutes`: since the epoch,
        all of the file's day."""
        if not self._has_column:
            self._connection.execute(f"{ROLLED_UP}; UPDATE state SET rolled_up = highest")
            self._written = self._connection.execute("SELECT highest FROM state").get
            self._has_column = True
        self._counts.update(zip(sids, ends, minutes, strict=True))
        self.waiting += len(minutes)
        self._last = last

    def check(self) -> None:
        """Counts anew when another writer changed the file, as one may do that took over: no record may be counted
        twice. In the caller's transaction."""
        if self._connection.execute("SELECT highest, rolled_up FROM state").get != (self._last, self._written):
            self._counts.clear()
            self.waiting = 0
            self._resume()

    def write(self) -> None:
        """Writes the counts that wait, in the caller's transaction."""
        if not self.waiting:
            return
        self._intern({(sid, end) for sid, end, _ in self._counts})
        kids = self._kids
        minutes: defaultdict[int, int] = defaultdict(int)  # kid * _MINUTES + minute of the day -> records
        for (sid, end, minute), records in self._counts.items():
            kid, of_class = kids[sid, end]
            minutes[kid * _MINUTES + minute % _MINUTES] += records
            minutes[of_class * _MINUTES + minute % _MINUTES] += records
        hours: defaultdict[int, int] = defaultdict(int)
        for key, records in minutes.items():
            hours[key // 60] += records
        day = next(iter(self._counts))[2] // _MINUTES
        self._add_to("minutes", minutes, _MINUTES, day)
        self._add_to("hours", hours, _HOURS, day)
        self._connection.execute("UPDATE state SET rolled_up = ?", (self._last,))
        self._written = self._last
        self._counts.clear()
        self.waiting = 0

    def finish(self, highest: int) -> None:
        """Of a copy, whose tables count all records: `highest` is its last batch. In the caller's transaction."""
        if self._has_column:
            self._connection.execute("UPDATE state SET rolled_up = ?", (highest,))

    def _add_to(self, table: str, counts: Mapping[int, int], of_day: int, day: int) -> None:
        # One statement for all rows: half of the CPU of one for each.
        self._connection.execute(
            f"INSERT INTO {table} SELECT CAST(key AS INTEGER) / ?2, CAST(key AS INTEGER) % ?2 + ?3, value FROM "
            "json_each(?1) WHERE 1 ON CONFLICT DO UPDATE SET records = records + excluded.records",
            (orjson.dumps(counts, option=orjson.OPT_NON_STR_KEYS).decode(), of_day, day * of_day),
        )

    def _intern(self, wanted: set[tuple[int, End]]) -> None:
        """Afterwards `_kids` has all of `wanted`."""
        if len(self._kids) >= _CACHED_MAX:
            self._kids.clear()
        missing = list(wanted - self._kids.keys())
        found: Any = self._connection.executemany(
            "INSERT INTO kind (account, service, level, method, status) SELECT account, service, ?2, ?3, ?4 FROM "
            "stream WHERE sid = ?1 ON CONFLICT DO UPDATE SET status = excluded.status RETURNING kid",
            [(sid, *end) for sid, end in missing],
        ).fetchall()
        for (sid, end), (kid,) in zip(missing, found, strict=True):
            level, _, status = end
            self._kids[sid, end] = kid, self._class(level, status // 100 * 100)

    def _class(self, level: str, status: int) -> int:
        found = self._classes.get((level, status))
        if found is None:
            execute = self._connection.execute
            found = execute(
                "SELECT kid FROM kind WHERE account IS NULL AND (level, status) = (?, ?)", (level, status)
            ).get
            if found is None:
                execute("INSERT INTO kind (level, status) VALUES (?, ?)", (level, status))
                found = self._connection.last_insert_rowid()
            self._classes[level, status] = int(found)
        return int(found)

    def _resume(self) -> None:
        """Counts the rows of the batches that the tables do not count."""
        self._last, self._written = self._connection.execute("SELECT highest, rolled_up FROM state").get
        rows: Any = self._connection.execute(
            f"SELECT r.sid, h.level, h.method, h.status, r.timestamp / {_MINUTE_MS}, count(*) FROM record r INDEXED BY "
            "record_iseq CROSS JOIN shape h ON h.shape = r.shape WHERE r.iseq > ? GROUP BY 1, 2, 3, 4, 5",
            (self._written,),
        )
        for sid, level, method, status, minute, records in rows:
            self._counts[sid, (level, method, status), minute] += records
            self.waiting += records


def _has_column(connection: apsw.Connection) -> bool:
    return bool(connection.execute("SELECT 1 FROM pragma_table_info('state') WHERE name = 'rolled_up'").get)
