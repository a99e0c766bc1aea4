"""Writing one day file: which records are new, their ids, their rows and their full text, in one transaction.

Whatever fails, the caller drops the object: the names it has interned may have been rolled back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from ...record.codec import Decoded
from ...record.views import pack_cuts
from .codec import Compressor
from .schema import DAY, DAY_MS, SLOTS, open_writing, stream_token, token

__all__ = ["Brought", "DayWriter", "Tokens"]

_INSERT = f"INSERT INTO record VALUES ({','.join('?' * 16)})"
_CACHED_MAX = 50_000  # entries of each cache; a full one starts anew

Key = tuple[int | None, int | str]
"""(pid, sequence), or (None, metadata.id) of a foreign record."""


class Brought(NamedTuple):
    """What main.db must learn of one batch in one day: records per (process, account, service, instance)."""

    process: bytes | None
    account: str
    service: str
    instance: str
    records: int


class Tokens:
    """The words of the second full-text column, remembered by value: hashing eleven of them costs more than inserting
    them."""

    def __init__(self) -> None:
        self._stream: dict[tuple[str, str, str], str] = {}
        self._kind: dict[tuple[str, int, str, str], str] = {}
        self._name: dict[tuple[str, str], str] = {}

    def of(self, d: Decoded) -> str:
        stream = (d.account, d.service, d.instance)
        first = self._stream.get(stream)
        if first is None:
            if len(self._stream) >= _CACHED_MAX:
                self._stream.clear()
            first = self._stream[stream] = " ".join(
                (token("a", d.account), token("s", d.service), token("i", d.instance), stream_token(*stream))
            )
        kind = (d.method, d.status, d.level, d.region)
        second = self._kind.get(kind)
        if second is None:
            if len(self._kind) >= _CACHED_MAX:
                self._kind.clear()
            words = [token("m", d.method), token("c", str(d.status)), token("l", d.level), token("r", d.region)]
            if d.failure:
                words.append(token("f", "1"))
            second = self._kind[kind] = " ".join(words)
        # A request id is new with every record: remembering it would only fill the cache.
        text = f"{first} {second} {self._of('o', d.operation)} {token('q', d.request_id)}"
        return f"{text} {self._of('p', d.principal)}" if d.principal else text

    def _of(self, kind: str, value: str) -> str:
        found = self._name.get((kind, value))
        if found is None:
            if len(self._name) >= _CACHED_MAX:
                self._name.clear()
            found = self._name[kind, value] = token(kind, value)
        return found


class DayWriter:
    """One open day file. Errors are apsw's."""

    def __init__(self, path: Path, compressor: Compressor, tokens: Tokens) -> None:
        self.path = path
        self._compress = compressor.compress
        self._tokens = tokens
        self._connection = connection = open_writing(path, DAY)
        state: Any = connection.execute("SELECT highest, spill FROM state").get
        self.highest: int = state[0]
        self._spill: int = state[1]
        self._top: int = connection.execute("SELECT max(id) FROM record").get or 0
        self._pids: dict[bytes, int] = {}
        self._sids: dict[tuple[str, str, str], int] = {}

    def close(self) -> None:
        self._connection.close(True)

    def abandon(self) -> None:
        """Close after an error, whatever state the connection is in."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error:
            pass
        finally:
            self._connection.close(True)

    def checkpoint(self) -> None:
        """Leave nothing in the WAL, for a day that is no longer written."""
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def unlearned(self, published: int, *, is_known: bool) -> list[Brought]:
        """What main.db must still learn of this file: what stands above `published`, or all when it does not know the
        day (an interrupted first batch, or a file that an operator brought back). Streams always all: main.db may be
        older."""
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
        """Insert those that are new under `iseq`; answers what was brought. On return it is on the disk, and not
        visible."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        keyed = self._new(records)
        if not keyed:
            connection.execute("ROLLBACK")
            # What was interned for nothing was rolled back.
            self._pids.clear()
            self._sids.clear()
            return []
        keyed.sort(key=_timestamp)
        ids = self._ids([d for _, d in keyed])
        compress = self._compress
        tokens = self._tokens.of
        sid_of = self._sids.get
        rows = []
        texts = []
        counted: dict[tuple[int | None, int], int] = {}
        examples: dict[tuple[int | None, int], Decoded] = {}
        for (key, d), number in zip(keyed, ids, strict=True):
            pid = key[0]
            sid = sid_of((d.account, d.service, d.instance)) or self._sid(d)
            pair = (pid, sid)
            if pair in counted:
                counted[pair] += 1
            else:
                counted[pair] = 1
                examples[pair] = d
            rows.append(
                (
                    number, iseq, pid, d.sequence, sid, d.timestamp, d.status, d.method, d.level, d.region, d.principal,
                    d.operation, d.request_id, None if pid is not None else d.id, pack_cuts(d.cuts), compress(d.data),
                )
            )  # fmt: skip
            texts.append((number, d.message, tokens(d)))
        if any(a > b for a, b in pairwise(ids)):
            texts.sort()  # FTS5 starts a new segment at each rowid that is lower than the one before
        connection.executemany(_INSERT, rows)
        connection.executemany("INSERT INTO fulltext (rowid, message, tokens) VALUES (?, ?, ?)", texts)
        connection.execute("DELETE FROM unpublished WHERE iseq <= ?", (published,))
        connection.executemany(
            "INSERT INTO unpublished VALUES (?, ?, ?, ?)", [(iseq, p, s, n) for (p, s), n in counted.items()]
        )
        connection.execute(
            "UPDATE state SET highest = ?, spill = ?, records = records + ?", (iseq, self._spill, len(rows))
        )
        connection.execute("COMMIT")
        self.highest = iseq
        self._top = max(self._top, *ids)
        return [Brought(d.process, d.account, d.service, d.instance, counted[pair]) for pair, d in examples.items()]

    def _new(self, records: Iterable[Decoded]) -> list[tuple[Key, Decoded]]:
        """Those that stand neither in the file nor earlier in the batch."""
        if len(self._pids) >= _CACHED_MAX:
            self._pids.clear()
        if len(self._sids) >= _CACHED_MAX:
            self._sids.clear()
        first: dict[Key, Decoded] = {}
        by_process: dict[int, list[int]] = {}
        foreign: list[str] = []
        pids = self._pids
        for d in records:
            if d.process is None:
                key: Key = (None, d.id)
                if key not in first:
                    foreign.append(d.id)
                    first[key] = d
                continue
            pid = pids.get(d.process) or self._pid(d.process)
            key = (pid, d.sequence)
            if key not in first:
                first[key] = d
                by_process.setdefault(pid, []).append(d.sequence)
        execute = self._connection.execute
        for pid, sequences in by_process.items():
            low, high = min(sequences), max(sequences)
            if high - low <= 8 * len(sequences):
                there = execute(
                    "SELECT sequence FROM record WHERE pid = ? AND sequence BETWEEN ? AND ?", (pid, low, high)
                )
                for (sequence,) in there:
                    first.pop((pid, sequence), None)
            else:
                for sequence in sequences:
                    if execute("SELECT 1 FROM record WHERE pid = ? AND sequence = ?", (pid, sequence)).get:
                        del first[pid, sequence]
        for name in foreign:
            if execute("SELECT 1 FROM record WHERE foreign_id = ?", (name,)).get:
                del first[None, name]
        return list(first.items())

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
        """An id for each; `records` are sorted by timestamp."""
        ids = []
        last: dict[int, int] = {}  # the highest id given or stored, by millisecond
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
        """The highest id of this millisecond in the file, or the one before its first."""
        base = ms * SLOTS
        if base > self._top:
            return base - 1
        found = self._connection.execute(
            "SELECT max(id) FROM record WHERE id BETWEEN ? AND ?", (base, base + SLOTS - 1)
        ).get
        return base - 1 if found is None else int(found)

    def _neighbour(self, timestamp: int, last: dict[int, int]) -> tuple[int, int]:
        """A free id (and its millisecond) as near as can be, later first, within the day: ids of two days must not
        meet."""
        day = timestamp - timestamp % DAY_MS
        for ms in chain(range(timestamp + 1, day + DAY_MS), range(timestamp - 1, day - 1, -1)):
            number = last.get(ms)
            if number is None:
                number = self._stored(ms)
            if number + 1 < (ms + 1) * SLOTS:
                self._spill = max(self._spill, abs(ms - timestamp))
                return number + 1, ms
        raise AssertionError(f"all {DAY_MS * SLOTS} ids of the day of {timestamp} ms are used")


def _timestamp(keyed: tuple[Key, Decoded]) -> int:
    return keyed[1].timestamp
