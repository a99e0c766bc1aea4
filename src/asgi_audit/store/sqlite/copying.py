"""Copies the records of one day file into another, with the same ids and batch numbers. The stored bytes stay
unchanged; everything derived from them (columns, full text, counts) is derived again.

Late records may arrive while a day is copied. So the copy makes passes by batch number (iseq): each pass takes, in id
order, what was written before it began, until nothing is left. Each transaction stores some records together with the
progress of the pass, so an interrupted copy resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from ...disk import PRIVATE, Access
from ...errors import RecordError, StoreError
from ...record.codec import Decoded, decode
from ...record.slices import Cuts, unpack_cuts
from .blocks import Blocks
from .codec import Compressor
from .day import DayWriter
from .packing import Packed, unpack_hex, unpack_uuid
from .schema import DAY_VERSION, open_reading
from .tokens import Tokens
from .transactions import read_transaction

__all__ = ["Copy"]

_EACH = 2_000  # records a transaction
_PROGRESS = """
CREATE TABLE IF NOT EXISTS copying (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  done INTEGER NOT NULL,    -- all batches up to this one are here
  target INTEGER NOT NULL,  -- the pass takes those up to this one
  last INTEGER NOT NULL     -- and its records up to this id are here
);
INSERT OR IGNORE INTO copying SELECT 1, ifnull(nullif(highest, 0), -1), ifnull(nullif(highest, 0), -1), -1 FROM state;
"""  # `highest` is set in a copy that was finished and not put in place
_COLUMNS = (
    "r.id, r.iseq, r.timestamp, p.process, r.sequence, r.foreign_id, s.account, s.service, s.instance, {of}.status, "
    "{of}.method, {of}.level, {of}.region, r.principal, {of}.operation, r.request_id, r.cuts"
)
_OF_VERSION = {
    1: f"{_COLUMNS.format(of='r')}, 'completed', '', '', '', r.data, 0 FROM record r",
    2: f"{_COLUMNS.format(of='h')}, h.outcome, h.route, r.client, r.trace_id, r.block, r.place FROM record r",
}


class _Stored(NamedTuple):
    id: int
    iseq: int
    timestamp: int
    process: bytes | None
    sequence: int
    foreign_id: str | None
    account: str
    service: str
    instance: str
    status: int
    method: str
    level: str
    region: str
    principal: str
    operation: str
    request_id: Packed
    cuts: Cuts
    outcome: str
    route: str
    client: str
    trace_id: Packed
    data: bytes


class Copy:
    """Copies the day file `source` to `path`, which is created or resumed. Used by one process at a time. Raises
    StoreError, apsw's errors and OSError."""

    def __init__(self, source: Path, path: Path, access: Access = PRIVATE) -> None:
        self._source_path = source
        self._source = open_reading(source)
        try:
            self._writer = DayWriter(path, Compressor(), {DAY_VERSION: Tokens(DAY_VERSION)}, access)
        except BaseException:
            self._source.close(True)
            raise
        self._blocks = Blocks()
        self._version = int(self._source.pragma("user_version") or 0)
        self._note(_PROGRESS)

    def records(self) -> tuple[int, int]:
        """(records copied, records in the source)."""
        return self._writer.records(), int(self._source.execute("SELECT records FROM state").get)

    def run(self, enough: int = 0) -> Iterator[int]:
        """Copies until a pass finds at most `enough` records. Yields the number of records of each transaction."""
        while True:
            taken = 0
            done, target, last = self._writer.progress()
            if done == target:
                target = int(self._source.execute("SELECT highest FROM state").get)
                if target == done:
                    return
                last = -1
            while rows := self._rows(done, target, last):
                last = rows[-1].id
                records = [_record_of(row) for row in rows]
                note = _progress(done, target, last)
                self._writer.take(records, [row.id for row in rows], [row.iseq for row in rows], note)
                taken += len(rows)
                yield len(rows)
            self._writer.take([], [], [], _progress(target, target, -1))
            if taken <= enough:
                return

    def finish(self) -> None:
        """Copies the rest and turns the copy into a normal day file. The source must not be written meanwhile. Raises
        StoreError when the copy does not match the source."""
        for _ in self.run():
            pass
        highest, spill, records = self._source.execute("SELECT highest, spill, records FROM state").get
        copied = self._writer.finish(highest, spill)
        if copied != records:
            raise StoreError(
                f"{self._source_path} should hold {records:,} records, but its copy has {copied:,}",
                retriable=False,
                hint="The day is unchanged. Restore its file from a backup, or report this.",
            )
        self._writer.checkpoint()

    def close(self) -> None:
        self._source.close(True)
        self._writer.abandon()

    def _note(self, sql: str) -> None:
        self._writer.take([], [], [], lambda connection: connection.execute(sql))

    def _rows(self, done: int, target: int, last: int) -> list[_Stored]:
        """The next rows of the pass, in a short read transaction: a long one would block checkpoints of the writer."""
        source = self._source
        # The first pass copies nearly all rows; later ones find few, in version 1 with a full scan.
        by = "INDEXED BY record_iseq" if done >= 0 and self._version > 1 else "NOT INDEXED"
        with read_transaction(source):
            of_day = self._blocks.of(source)
            found: Any = source.execute(
                f"SELECT {_OF_VERSION[self._version]} {by} "
                f"{'' if self._version == 1 else 'CROSS JOIN shape h ON h.shape = r.shape '}CROSS JOIN stream s ON "
                "s.sid = r.sid LEFT JOIN process p ON p.pid = r.pid WHERE r.id > ? AND r.iseq > ? AND r.iseq <= ? "
                "ORDER BY r.id LIMIT ?",
                (last, done, target, _EACH),
            ).fetchall()
            return [
                _Stored._make(
                    (
                        *row[:16],
                        unpack_cuts(row[16]),
                        *row[17:21],
                        self._blocks.decompress(row[21]) if self._version == 1 else of_day.record(row[21], row[22]),
                    )
                )
                for row in found
            ]


def _progress(done: int, target: int, last: int) -> Callable[[apsw.Connection], object]:
    sql = "UPDATE copying SET done = ?, target = ?, last = ?"
    return lambda connection: connection.execute(sql, (done, target, last))


def _record_of(row: _Stored) -> Decoded:
    """The record as this version derives it. When this version rejects it, or derives another record from it, the
    values stored earlier are kept, but the message's words are lost."""
    try:
        d = decode(row.data)
    except RecordError:
        return _as_stored(row)
    identity = (row.process, row.sequence) if row.process is not None else row.foreign_id
    is_same = (
        d.data == row.data
        and identity == ((d.process, d.sequence) if d.process is not None else d.id)
        and (d.timestamp, d.account, d.service, d.instance) == (row.timestamp, row.account, row.service, row.instance)
    )
    return d if is_same else _as_stored(row)


def _as_stored(row: _Stored) -> Decoded:
    return Decoded(
        data=row.data, cuts=row.cuts, account=row.account, service=row.service, instance=row.instance,
        id=row.foreign_id or "", request_id=unpack_uuid(row.request_id), region=row.region, scope="",
        method=row.method, path="", status=row.status, timestamp=row.timestamp, process=row.process,
        sequence=row.sequence,
        principal=row.principal, operation=row.operation, outcome=row.outcome, level=row.level, message="", host="",
        duration_ns=0, client=row.client, route=row.route, trace_id=unpack_hex(row.trace_id),
    )  # fmt: skip
