"""Writes one day file: finds the new records and stores their ids, rows and full text in one transaction.

After any error the caller must drop the object: its cached names may have been rolled back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from ...disk import PRIVATE, Access
from ...record.codec import Decoded
from .codec import Compressor
from .layouts import Layout, LayoutOne, LayoutTwo
from .schema import DAY, DAY_MS, DAY_VERSION, SLOTS, open_writing
from .standing import Standing, with_logs
from .tokens import Tokens

__all__ = ["Brought", "DayWriter"]

_CACHED_MAX = 50_000  # entries of each cache; a full cache is cleared
_timestamp = attrgetter("timestamp")


class Brought(NamedTuple):
    """What main.db must record about one batch in one day: records per (process, account, service, instance)."""

    process: bytes | None
    account: str
    service: str
    instance: str
    records: int


class DayWriter:
    """One open day file. Errors are apsw's."""

    def __init__(
        self, path: Path, compressor: Compressor, tokens: Mapping[int, Tokens], access: Access = PRIVATE
    ) -> None:
        self.path = path
        self._connection = connection = open_writing(path, DAY, DAY_VERSION, access)
        self._standing = Standing(with_logs(path))
        self.version = int(connection.pragma("user_version") or 0)
        layout = LayoutOne if self.version == 1 else LayoutTwo
        self._layout: Layout = layout(connection, compressor, tokens[self.version])
        state: Any = connection.execute("SELECT highest, spill FROM state").get
        self.highest: int = state[0]
        self._spill: int = state[1]
        self._top: int = connection.execute("SELECT max(id) FROM record").get or 0
        self._pids: dict[bytes, int] = {}
        self._sids: dict[tuple[str, str, str], int] = {}

    def moved(self) -> Path | None:
        """The first of our files that is gone or was replaced; None when all are in place."""
        return self._standing.moved()

    def close(self) -> None:
        self._connection.close(True)

    def abandon(self) -> None:
        """Close after an error, in whatever state the connection is."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error:
            pass
        finally:
            self._connection.close(True)

    def checkpoint(self) -> None:
        """Empty the WAL of a day that is no longer written."""
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def unlearned(self, published: int, *, is_known: bool) -> list[Brought]:
        """What main.db does not record yet about this file: batches above `published`, or all when main.db does not
        list the day (an interrupted first batch, or a file that an operator restored). Always includes all streams,
        because main.db may be older."""
        if is_known and self.highest <= published:
            return []
        read = self._connection.execute
        sql = (
            "SELECT p.process, s.account, s.service, s.instance, {count} FROM {table} u "
            "JOIN stream s ON s.sid = u.sid LEFT JOIN process p ON p.pid = u.pid WHERE u.iseq > ? GROUP BY u.pid, u.sid"
        )
        if is_known:
            rows: list[Any] = read(sql.format(count="sum(u.records)", table="unpublished"), (published,)).fetchall()
        else:
            rows = read(sql.format(count="count(*)", table="record"), (-1,)).fetchall()
        rows += read("SELECT NULL, account, service, instance, 0 FROM stream").fetchall()
        return [Brought(*row) for row in rows]

    def write(self, records: Sequence[Decoded], iseq: int, published: int) -> list[Brought]:
        """Insert the new records under `iseq`. Returns what main.db must record. On return they are synced to disk and
        not yet visible."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        new = self._new(records)
        if not new:
            connection.execute("ROLLBACK")
            # Processes interned in this transaction were rolled back.
            self._pids.clear()
            return []
        new.sort(key=_timestamp)
        ids = self._ids(new)
        pid_of, sid_of = self._pids.get, self._sids.get
        pids = [None if d.process is None else pid_of(d.process) for d in new]
        sids = [sid_of((d.account, d.service, d.instance)) or self._sid(d) for d in new]
        brought = Counter(zip(pids, sids, strict=True))
        one_of = dict(zip(zip(pids, sids, strict=True), new, strict=True))
        self._layout.insert(new, ids, pids, sids, [iseq] * len(new), is_copy=False)
        connection.execute("DELETE FROM unpublished WHERE iseq <= ?", (published,))
        connection.executemany(
            "INSERT INTO unpublished VALUES (?, ?, ?, ?)", [(iseq, *key, count) for key, count in brought.items()]
        )
        connection.execute(
            "UPDATE state SET highest = ?, spill = ?, records = records + ?", (iseq, self._spill, len(new))
        )
        connection.execute("COMMIT")
        self.highest = iseq
        self._top = max(self._top, *ids)
        return [Brought(d.process, d.account, d.service, d.instance, brought[key]) for key, d in one_of.items()]

    def take(
        self,
        records: Sequence[Decoded],
        ids: Sequence[int],
        iseqs: Sequence[int],
        note: Callable[[apsw.Connection], object],
    ) -> None:
        """Insert records of another file of the same day, with the ids and batch numbers that they have there. None of
        them may exist here. `note` is called to write into the same transaction. On return they are synced to disk."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        pid_of, sid_of = self._pids.get, self._sids.get
        pids = [None if d.process is None else pid_of(d.process) or self._pid(d.process) for d in records]
        sids = [sid_of((d.account, d.service, d.instance)) or self._sid(d) for d in records]
        if records:
            self._layout.insert(records, ids, pids, sids, iseqs, is_copy=True)
        connection.execute("UPDATE state SET records = records + ?", (len(records),))
        note(connection)
        connection.execute("COMMIT")

    @property
    def unwritten(self) -> int:
        """The number of records that the rollup does not count yet."""
        return 0 if self._layout.rollup is None else self._layout.rollup.waiting

    def roll_up(self) -> None:
        """Write these counts. Until then readers look at the rows."""
        if self._layout.rollup is not None:
            self._connection.execute("BEGIN IMMEDIATE")
            self._layout.rollup.check()
            self._layout.rollup.write()
            self._connection.execute("COMMIT")

    def records(self) -> int:
        return int(self._connection.execute("SELECT records FROM state").get)

    def progress(self) -> tuple[int, int, int]:
        """The progress of a copy: see `copying`."""
        found: tuple[int, int, int] = self._connection.execute("SELECT done, target, last FROM copying").get
        return found

    def finish(self, highest: int, spill: int) -> int:
        """Turn a copy into a normal day file. Returns the number of its records, counted."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE state SET highest = ?, spill = ?", (highest, spill))
        if self._layout.rollup is not None:
            self._layout.rollup.finish(highest)
        connection.execute("DROP TABLE copying")
        connection.execute("COMMIT")
        return int(connection.execute("SELECT count(*) FROM record").get)

    def _new(self, records: Iterable[Decoded]) -> list[Decoded]:
        """The records that are neither in the file nor earlier in the batch. Afterwards `_pids` holds the processes of
        all records."""
        if len(self._pids) >= _CACHED_MAX:
            self._pids.clear()
        if len(self._sids) >= _CACHED_MAX:
            self._sids.clear()
        by_process: dict[bytes, dict[int, Decoded]] = {}
        foreign: dict[str, Decoded] = {}
        for d in records:
            process = d.process
            if process is None:
                foreign.setdefault(d.id, d)
            elif process in by_process:
                by_process[process].setdefault(d.sequence, d)
            else:
                by_process[process] = {d.sequence: d}
        execute = self._connection.execute
        found: list[Decoded] = []
        for process, first in by_process.items():
            pid = self._pids.get(process) or self._pid(process)
            low, high = min(first), max(first)
            if high - low <= 8 * len(first):
                there = execute(
                    "SELECT sequence FROM record WHERE pid = ? AND sequence BETWEEN ? AND ?", (pid, low, high)
                )
                for (sequence,) in there:
                    first.pop(sequence, None)
            else:
                for sequence in list(first):
                    if execute("SELECT 1 FROM record WHERE pid = ? AND sequence = ?", (pid, sequence)).get:
                        del first[sequence]
            found += first.values()
        for name, d in foreign.items():
            if not execute("SELECT 1 FROM record WHERE foreign_id = ?", (name,)).get:
                found.append(d)
        return found

    def _pid(self, process: bytes) -> int:
        execute = self._connection.execute
        found = execute("SELECT pid FROM process WHERE process = ?", (process,)).get
        if found is None:
            execute("INSERT INTO process (process) VALUES (?)", (process,))
            found = self._connection.last_insert_rowid()
        self._pids[process] = found
        return int(found)

    def _sid(self, d: Decoded) -> int:
        execute = self._connection.execute
        names = (d.account, d.service, d.instance)
        found = execute("SELECT sid FROM stream WHERE account = ? AND service = ? AND instance = ?", names).get
        if found is None:
            execute("INSERT INTO stream (account, service, instance) VALUES (?, ?, ?)", names)
            found = self._connection.last_insert_rowid()
        self._sids[names] = found
        return int(found)

    def _ids(self, records: Sequence[Decoded]) -> list[int]:
        """An id for each record; `records` are sorted by timestamp."""
        ids = []
        last: dict[int, int] = {}  # the highest id assigned or stored, by millisecond
        for d in records:
            ms = d.timestamp
            number = last.get(ms)
            if number is None:
                number = self._stored(ms)
            number += 1
            if number >= (ms + 1) * SLOTS:
                number, ms = self._neighbour(d.timestamp, last)
            last[ms] = number
            ids.append(number)
        return ids

    def _stored(self, ms: int) -> int:
        """The highest stored id of this millisecond, or the id just below its first one."""
        base = ms * SLOTS
        if base > self._top:
            return base - 1
        found = self._connection.execute(
            "SELECT max(id) FROM record WHERE id BETWEEN ? AND ?", (base, base + SLOTS - 1)
        ).get
        return base - 1 if found is None else int(found)

    def _neighbour(self, timestamp: int, last: dict[int, int]) -> tuple[int, int]:
        """The nearest free id (and its millisecond), later ones first, within the day: id ranges of days must not
        overlap."""
        day = timestamp - timestamp % DAY_MS
        for ms in chain(range(timestamp + 1, day + DAY_MS), range(timestamp - 1, day - 1, -1)):
            number = last.get(ms)
            if number is None:
                number = self._stored(ms)
            if number + 1 < (ms + 1) * SLOTS:
                self._spill = max(self._spill, abs(ms - timestamp))
                return number + 1, ms
        raise AssertionError(f"all {DAY_MS * SLOTS} ids of the day of {timestamp} ms are used")
