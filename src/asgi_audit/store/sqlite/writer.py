"""The one writer of an index: day files first, then main.db, then `fence`.

    write(batch) = for each day: rows, full text, `unpublished`           │ one transaction each, synced
                   main.db: days, streams, processes, statements,
                            dead letters, positions, `published`         │ one transaction, synced

Invariants: rows of a day file become visible when main.db commits `published >= iseq`, never before; each batch takes
an iseq above every one that any day file holds. A crash loses nothing that main.db or a day file has committed. The
next writer (or this one after a failed write) first *recovers*: in one transaction it publishes the batches that day
files hold above `published`, with their streams and counts. The source delivers those records again, because its
positions did not move; the unique index makes them duplicates. So each record is visible once, and a snapshot that a
reader took never changes.

After an error all connections are closed; the next call opens them again.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from ...disk import PRIVATE, Access
from ...errors import RecordError, StoreError
from ...record.codec import Decoded
from ...transport.base import Position
from ..base import Batch, Written
from ..identity import Expected, IndexMemory, Seen
from ..maintenance import Purged
from ..state import DeadLetter, Known, ReadUntil, Resumed
from . import arrivals, believed, completeness, dead_letters, extent, recovery, retention
from .arrivals import Arrived
from .day import Brought
from .days import remove
from .dead_letters import bury
from .errors import translated
from .fence import FENCE_NAME, FenceFile, read_fence_of
from .files import files_of, mend
from .lease import Lease
from .low_disk import give_back, make_room
from .main import MAIN, bring_up
from .open_days import OpenDays
from .processes import count_indexed, take_statement
from .reindexing import finish_copy, remove_leftovers
from .schema import (
    MAIN_NAME,
    MAIN_VERSION,
    day_name,
    day_of_name,
    index_id,
    made_at_ms,
    open_writing,
)
from .sorting import sort
from .standing import Standing, with_logs

__all__ = ["SqliteWriter"]

_log = logging.getLogger("asgi_audit.store")

_LOOK_SECONDS = 1.0  # while idle, how often to check that the index is still in place
_KNOWN_MAX = 100_000  # streams cached as present in main.db


class SqliteWriter:
    """Takes the lease (waiting at most `wait_seconds`, or until `stop` is set), creates the directory, recovers. Used
    by one thread.

    Every method raises StoreError; after a retriable one, call again with the same batch. `clock`: seconds since the
    epoch."""

    def __init__(
        self,
        directory: Path,
        *,
        wait_seconds: float = 0.0,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.time,
        access: Access = PRIVATE,
        memory: IndexMemory | None = None,
        new_index: bool = False,
    ) -> None:
        self.directory = directory
        self.id = ""
        self.made_at_ms: int | None = None
        self._access = access
        self._expected = Expected(directory, memory or Seen(), retriable=False)
        self._new_index = new_index
        self._clock = clock
        self._days = OpenDays(directory, access)
        self._known_streams: set[tuple[str, str, str]] = set()
        self._main: apsw.Connection | None = None
        self._standing = Standing(())
        self._looked_at = float("-inf")
        self._fence: FenceFile | None = None
        self._published = self._batches = 0
        self._believed: int | None = None
        with translated("open the index", directory):
            if not (directory / MAIN_NAME).exists():
                self._may_make("nothing")  # before creating anything: on the wrong disk not even a directory may appear
            if not access.makedirs(directory):
                mend(directory, access)
            self._lease = Lease(directory, wait_seconds=wait_seconds, stop=stop, access=access)
        try:  # any failure from here on frees the lease
            with translated("open the index", directory):
                retention.keep_reserve(directory, access=access)
            self._opened()
            self._new_index = False  # this index is expected from now on
        except BaseException:
            self.close()
            raise

    # -- the contract

    def positions(self, source: str) -> dict[str, Position]:
        main = self._opened()
        with translated("read", self.directory / MAIN_NAME):
            rows = main.execute("SELECT partition, next, digest FROM position WHERE source = ?", (source,))
            return {partition: Position(following, digest) for partition, following, digest in rows}

    def write(self, batch: Batch) -> Written:
        with self._changing(with_days=True) as main:
            make_room(self.directory, main, self._days.writers(), batch, self._access)
            written = self._write(main, batch)
            self._days.roll_up()
            return written

    def read_until(self, mark: ReadUntil) -> None:
        self._opened()
        with translated("write", self.directory):
            assert self._fence is not None
            if not self._looked_at <= (now := time.monotonic()) < self._looked_at + _LOOK_SECONDS:
                self._looked_at = now
                self._still_ours()
            self._fence.write(self._batches, mark)

    def resumed(self) -> Resumed:
        main = self._opened()
        with translated("read", self.directory / MAIN_NAME):
            return completeness.resumed(main, read_fence_of(self.directory, self._batches))

    def known(self, process: bytes) -> Known | None:
        main = self._opened()
        with translated("read", self.directory / MAIN_NAME):
            return completeness.known(main, process)

    def close(self) -> None:
        try:
            self._days.roll_up(1)
        except (OSError, apsw.Error) as e:  # the rows are stored, and readers look at them
            _log.warning("could not write the rollup of %s: %s", self.directory, e)
        for day in self._days.writers():
            try:
                day.checkpoint()
            except apsw.Error as e:  # it stays in the WAL, where the next writer finds it
                _log.warning("could not checkpoint %s: %s", day.path, e)
        self._abandon()
        self._lease.close()

    # -- retention

    def purge(self, before: int) -> Purged:
        try:
            return self._purge(before)
        except StoreError as e:
            # A commit needs space, and this purge may be what frees a full disk.
            if not e.is_full or not retention.release_reserve(self.directory):
                raise
            return self._purge(before)
        finally:
            # At the end: until then every commit may need the space while the disk is full.
            retention.retake_reserve(self.directory, self._access)

    def _purge(self, before: int) -> Purged:
        with self._changing("purge") as main:
            now = int(self._clock() * 1000)
            horizon = retention.forward(main, min(before, now))
            self._days.forget_before(retention.day_of(horizon))
            days, size = retention.sweep(self.directory, horizon)
            retention.forget_dead_letters(main, horizon)
            retention.forget_statements(main, horizon)
            completeness.forget(main, horizon)
            retention.unask(self.directory, before)
            give_back(self.directory, main)
            return Purged(horizon, days, size)

    def purge_asked(self) -> int | None:
        with translated("read", self.directory):
            return retention.asked(self.directory)

    def acknowledge_asked(self) -> int:
        with translated("read", self.directory):
            asked = retention.acknowledgements(self.directory)
        if not asked:
            return 0
        with self._changing() as main:
            changed = 0
            for process, request in asked:
                changed += completeness.acknowledge(main, process.bytes)
                request.unlink(missing_ok=True)
            return changed

    def replay_asked(self) -> int:
        with translated("read", self.directory):
            asked = retention.replays(self.directory)
        replayed = 0
        for number, request in asked:
            with self._changing() as main:
                try:
                    found = dead_letters.record_of(main, number)
                except RecordError as e:
                    dead_letters.refuse(main, number, str(e))
                    found = None
            if found is not None:
                # After a crash before the dead letter is removed this runs again, and the record is a duplicate.
                written = self.write(Batch(source="", positions={}, records=[found]))
                replayed += not written.dead
                with translated("write", self.directory):
                    dead_letters.remove(self._opened(), number)
            request.unlink(missing_ok=True)
        return replayed

    def partitions_lost(self) -> list[str]:
        with translated("read", self.directory):
            return retention.partitions_lost(self.directory)

    def partition_noted(self, partition: str) -> None:
        with translated("write", self.directory):
            retention.partition_noted(self.directory, partition)

    def take_reindexed(self) -> int:
        with translated("read", self.directory):
            asked = retention.copies_to_take(self.directory)
        if not asked:
            return 0
        with self._changing() as main:
            return sum(self._take_reindexed(main, day) for day in asked)

    def _take_reindexed(self, main: apsw.Connection, day: str) -> bool:
        """Puts the copy of a day in place. False when that failed; the copy is then removed."""
        file = self._days.files.get(day)
        self._days.leave(day)  # nothing may be written to the old file from here on
        new = None if file is None else finish_copy(self.directory, day, file, self._access)
        if file is None:
            remove(self.directory / retention.copy_name(day))
        if file is not None and new is not None:
            self._days.replace(day, new)
            main.execute("UPDATE day SET file = ? WHERE day = ?", (file + 1, day))
            self._days.files[day] = file + 1
            remove(self.directory / day_name(day, file))
        retention.request_to_take(self.directory, day).unlink(missing_ok=True)
        return new is not None

    def last_believed(self) -> float | None:
        return None if self._believed is None else self._believed / 1000

    def note_believed(self, at: float) -> None:
        with self._changing(path=self.directory / MAIN_NAME) as main:
            believed.note_believed(main, int(at * 1000))
            self._believed = int(at * 1000)

    # -- opening and recovering

    @contextmanager
    def _changing(
        self, what: str = "write", *, with_days: bool = False, path: Path | None = None
    ) -> Iterator[apsw.Connection]:
        """main.db, to change it. Its file must still be the one that was opened, and with `with_days` those of the open
        days. After any exception everything is closed: the next call opens and recovers. `what`, `path` (default: the
        directory): what an error names."""
        main = self._opened()
        try:
            with translated(what, path or self.directory):
                self._still_ours()
                if with_days:
                    self._days.are_there()
                yield main
        except BaseException:
            self._abandon()
            raise

    def _opened(self) -> apsw.Connection:
        """main.db; opens and recovers it when it is not open."""
        if self._main is not None:
            return self._main
        try:
            return self._open()
        except StoreError as e:
            # Recovery publishes an interrupted write in a commit, which must succeed even on a full disk.
            if not e.is_full or not retention.lend_reserve(self.directory):
                raise
            return self._open()

    def _open(self) -> apsw.Connection:
        path = self.directory / MAIN_NAME
        try:
            with translated("open", path):
                if self._lease.lost():
                    raise self._lost()
                # Create main.db in one transaction: a reader sees all of its tables or none.
                script = MAIN + self._identity()
                main = open_writing(path, script, MAIN_VERSION, self._access, self._may_make)
                self._main = main
                self._identify(main)
                bring_up(main, int(self._clock() * 1000))
                self._believed = believed.prepare(main)
                self._batches = extent.batches(main)
                self._fence = FenceFile(self.directory, self._access)
                self._standing = Standing([*with_logs(path), self.directory / FENCE_NAME])
            with translated("recover", self.directory):
                self._recover(main)
            return main
        except BaseException:
            self._abandon()
            raise

    def _may_make(self, what: str) -> None:
        """Raises StoreError when an index is expected here. `what`: what was found instead."""
        if self._new_index:
            return
        self._expected.absent(what)
        days = [path.name for path in files_of(self.directory) if day_of_name(path.name)]
        if days:
            raise StoreError(
                f"main.db of the index in {self.directory} is gone, but it has day files ({days[-1]})",
                retriable=False,
                hint="Restore main.db, or start `index` or `serve` once with --new-index, which keeps the records of "
                "the day files.",
            )

    def _identity(self) -> str:
        """SQL that gives a new index its id, in the transaction that creates its tables."""
        made = int(self._clock() * 1000)
        return f"INSERT INTO meta VALUES ('id', '{uuid.uuid4().hex}'); INSERT INTO meta VALUES ('made_at_ms', {made});"

    def _identify(self, main: apsw.Connection) -> None:
        found = index_id(main)
        if not self._new_index:
            self._expected.found(found)
        if found is None:  # created by version 0.1.0
            found = uuid.uuid4().hex
            main.execute("INSERT INTO meta VALUES ('id', ?)", (found,))
        self._expected.taken(found)
        self.id, self.made_at_ms = found, made_at_ms(main)

    def _recover(self, main: apsw.Connection) -> None:
        self._published = published = int(main.execute("SELECT published FROM state").get)
        self._days.files = recovery.days_listed(main, self.directory)
        now = int(self._clock() * 1000)
        for day in recovery.give_up_gone_days(main, self.directory, may=self._new_index, now=now):
            del self._days.files[day]
        self._known_streams.clear()
        # Finish an interrupted purge: its days must not be opened again.
        horizon = retention.horizon_of(main)
        if horizon is not None:
            retention.sweep(self.directory, horizon)
        remove_leftovers(self.directory, self._days.files)
        left = recovery.left_behind(main, self.directory, self._days, published)
        if left.highest > published or left.days or left.arrived:
            main.execute("BEGIN IMMEDIATE")
            self._learn(main, left.days, left.brought)
            arrivals.note(main, left.arrived)
            main.execute("UPDATE state SET published = ?", (left.highest,))
            main.execute("COMMIT")
            self._learned(left.days, left.brought)
            self._published = left.highest
            remove_leftovers(self.directory, self._days.files)
            records = sum(b.records for b in left.brought)
            if records:
                _log.info("recovered %d records that an interrupted write had left unpublished", records)

    def _still_ours(self) -> None:
        """Raises StoreError when a file was moved: writing to removed files would silently lose records."""
        if self._standing.moved() is not None or self._lease.lost():
            raise self._lost()

    def _lost(self) -> StoreError:
        return StoreError(
            f"the index in {self.directory} was removed, replaced or truncated while it was written",
            retriable=False,
            hint="Its last batch is still at the source. Restore the index, then start the indexer again.",
        )

    def _abandon(self) -> None:
        """Close everything but the lease; uncommitted changes are rolled back."""
        self._days.abandon()
        if self._main is not None:
            try:
                if self._main.in_transaction:
                    self._main.execute("ROLLBACK")
            except apsw.Error:
                pass
            finally:
                self._main.close(True)
                self._main = None
        if self._fence is not None:
            self._fence.close()
            self._fence = None

    # -- one batch

    def _write(self, main: apsw.Connection, batch: Batch) -> Written:
        now = int(self._clock() * 1000)
        by_day, dead, expired = sort(batch, now, retention.horizon_of(main) or 0)
        dead += batch.dead_letters
        published = self._published
        iseq = published + 1
        brought: list[Brought] = []
        arrived: list[Arrived] = []
        taken = 0
        for day, records in sorted(by_day.items()):
            taken += len(records)
            of_day = self._write_day(day, records, iseq, published)
            brought += of_day
            if of_day:
                arrived.append(Arrived(day, frozenset(b.account for b in of_day), iseq, iseq))
        inserted = sum(b.records for b in brought)
        days = {day: self._days.files.get(day, 0) for day in sorted(by_day)}
        self._write_main(main, batch, dead, days, brought, arrived, iseq if inserted else published)
        # Check again before acknowledging to the source: files removed since the first check would take the records
        # with them.
        self._still_ours()
        self._days.are_there(by_day)
        if batch.read_until is not None:
            assert self._fence is not None
            self._fence.write(self._batches, batch.read_until)
        return Written(inserted, taken - inserted, expired, len(dead))

    def _write_day(self, day: str, records: Sequence[Decoded], iseq: int, published: int) -> list[Brought]:
        with translated("write", self._days.path(day)):
            return self._days.writer(day).write(records, iseq, published)

    def _write_main(
        self,
        main: apsw.Connection,
        batch: Batch,
        dead: Sequence[DeadLetter],
        days: Mapping[str, int],
        brought: Sequence[Brought],
        arrived: Sequence[Arrived],
        published: int,
    ) -> None:
        with translated("write", self.directory / MAIN_NAME):
            main.execute("BEGIN IMMEDIATE")
            self._learn(main, days, brought)
            arrivals.note(main, arrived)
            for statement in batch.statements:
                take_statement(main, statement)
            if dead:
                bury(main, dead, int(self._clock() * 1000))
            if batch.completion is not None:
                completeness.write(main, batch.completion)
            main.executemany(
                "DELETE FROM position WHERE source = ? AND partition = ?", [(batch.source, p) for p in batch.forget]
            )
            main.executemany(
                "INSERT INTO position VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET next = excluded.next, digest = "
                "excluded.digest",
                [(batch.source, partition, at.next, at.digest) for partition, at in batch.positions.items()],
            )
            main.execute("UPDATE state SET published = ? WHERE published <> ?", (published, published))
            extent.count_batch(main)
            main.execute("COMMIT")
            self._learned(days, brought)
            self._published = published
            self._batches += 1

    def _learn(self, main: apsw.Connection, days: Mapping[str, int], brought: Sequence[Brought]) -> None:
        """Adds to main.db what the batch brought. `days`: day -> file number."""
        new = [(day, file) for day, file in days.items() if day not in self._days.files]
        main.executemany("INSERT OR IGNORE INTO day VALUES (?, ?)", new)
        streams = {(b.service, b.instance, b.account) for b in brought} - self._known_streams
        main.executemany("INSERT OR IGNORE INTO stream VALUES (?, ?, ?)", list(streams))
        count_indexed(main, brought)

    def _learned(self, days: Mapping[str, int], brought: Sequence[Brought]) -> None:
        """Updates the caches; only after the commit."""
        self._days.files.update(days)
        if len(self._known_streams) > _KNOWN_MAX:
            self._known_streams.clear()
        self._known_streams.update((b.service, b.instance, b.account) for b in brought)
