"""Purging day files: with a crash, an open reader, a full disk or a running indexer."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.records import (
    DAY_MS,
    NOON,
    PROCESS,
    batch,
    everything,
    extent,
    over_days,
    record,
    sequences,
    statement,
    walk,
)

from asgi_audit.errors import StoreError
from asgi_audit.store.base import Written
from asgi_audit.store.sqlite import (
    SqliteReader,
    SqliteWriter,
    acknowledge_in_directory,
    purge_directory,
    purge_preview,
    retention,
)
from asgi_audit.store.sqlite.followed import FollowedFile
from asgi_audit.store.state import Completion, DeadLetter, Incident, ProcessState

MIDNIGHT = NOON - DAY_MS // 2


def clock() -> float:
    return (NOON + 3_600_000) / 1000


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Three days of ten records each."""
    writer = SqliteWriter(tmp_path / "index", clock=clock)
    writer.write(batch(over_days(1, 30)))
    writer.close()
    return tmp_path / "index"


@pytest.fixture
def reader(index: Path) -> Iterator[SqliteReader]:
    reader = SqliteReader(index)
    yield reader
    reader.close()


def days_on_disk(index: Path) -> set[str]:
    return {name[4:14] for name in os.listdir(index) if name.startswith("day-")}


def test_files_of_a_day_are_gone_when_it_is_purged(index: Path) -> None:
    writer = SqliteWriter(index, clock=clock)
    before = {p.name for p in index.iterdir()}
    assert {"day-2026-11-20.db", "day-2026-11-20.db-wal", "day-2026-11-20.db-shm"} <= before
    writer.write(batch(over_days(31, 3)))  # so that the day is open
    purged = writer.purge(NOON)
    assert (purged.days, purged.horizon) == (2, MIDNIGHT)
    assert purged.bytes > 2 * 8192
    assert days_on_disk(index) == {"2026-11-22"}
    assert writer.write(batch(over_days(34, 3))) == Written(1, 0, 2, 0)
    assert writer.purge(NOON).days == 0
    writer.close()


class Crash(BaseException):
    pass


@pytest.mark.parametrize("unlinked", [0, 1, 2, 4])
def test_purge_is_finished_by_the_next_writer_when_it_was_cut_short(
    index: Path, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch, unlinked: int
) -> None:
    """Method: the purge dies before the n-th unlink; from then on the days are not readable, and the next writer
    finishes the purge."""
    left = [unlinked]
    real = os.unlink

    def dying(path: Any) -> None:
        if "day-" in str(path):
            if not left[0]:
                raise Crash
            left[0] -= 1
        real(path)

    writer = SqliteWriter(index, clock=clock)
    monkeypatch.setattr("asgi_audit.store.sqlite.retention.os.unlink", dying)
    with pytest.raises(Crash):
        writer.purge(NOON)
    writer.close()
    monkeypatch.undo()
    kept = [s for s in range(30, 0, -1) if s % 3 == 0]
    assert sequences(walk(reader)) == kept
    assert len(days_on_disk(index)) > 1
    again = SqliteWriter(index, clock=clock)
    assert days_on_disk(index) == {"2026-11-22"}
    assert sequences(walk(reader)) == kept
    assert again.write(batch(over_days(1, 30))) == Written(0, 10, 20, 0)
    again.close()


def test_purged_day_is_not_learned_again_when_a_crash_left_it_unpublished(index: Path) -> None:
    """A batch whose day file is committed and main.db is not; then the horizon passes it."""

    class Dying(SqliteWriter):
        def _write_main(self, *_: Any) -> None:
            raise Crash

    writer = Dying(index, clock=clock)
    with pytest.raises(Crash):
        writer.write(batch([record(99, NOON - 2 * DAY_MS)]))
    writer.close()
    after = SqliteWriter(index, clock=clock)
    after.purge(NOON)
    assert after.write(batch([record(99, NOON - 2 * DAY_MS)])) == Written(0, 0, 1, 0)
    after.close()


def test_page_ends_cleanly_when_its_day_is_purged_while_it_is_read(index: Path, reader: SqliteReader) -> None:
    """Method: the purge happens while a statement is open, and between opening a file and reading it."""
    writer = SqliteWriter(index, clock=clock)
    published = reader.snapshot().published
    original = reader._blocks.decompress
    decompressed = 0

    def purging(data: bytes) -> bytes:
        nonlocal decompressed
        decompressed += 1
        if decompressed == 2:  # the block of the second day, before its first row exists
            writer.purge(NOON)
        return original(data)

    reader._blocks.decompress = purging  # type: ignore[assignment]
    rows, more = reader.page(everything(), published=published, before=None, limit=99, bytes_max=1 << 20)
    assert not more
    assert len(sequences(rows)) == len(set(sequences(rows))) == 20, "the open day to its end, the next one not at all"
    rest = reader.page(everything(), published=published, before=rows[14].id, limit=99, bytes_max=1 << 20)
    assert rest == ([], False)
    writer.close()


def test_no_record_of_a_closed_day_is_kept_in_memory(index: Path, reader: SqliteReader) -> None:
    """Days are closed when they are purged and when others are opened: a later purge would go unnoticed."""

    def kept() -> int:
        page = reader.page(everything(), published=published, before=None, limit=1_000, bytes_max=1 << 20)
        assert page[0]
        assert {day for day, _ in reader._blocks._data} == {file.get() for file in reader._days.values()}
        assert reader._blocks._size == sum(map(len, reader._blocks._data.values()))
        return len(reader._days)

    published = reader.snapshot().published
    assert kept() > 1
    for day in range(1, 9):
        reader._day(f"2026-01-0{day}")
    assert not reader._blocks._data
    assert reader._blocks._size == 0
    reader._days.clear()
    assert kept() > 1
    writer = SqliteWriter(index, clock=clock)
    writer.purge(NOON)
    writer.close()
    reader.snapshot()
    assert len({day for day, _ in reader._blocks._data}) == 1
    assert kept() == 1


def unlinked_and_open(index: Path) -> list[str]:
    """Unlinked index files that this process still has open: they still use disk space."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this listing
            name = os.readlink(f"/proc/self/fd/{fd}")
            if name.startswith(str(index)) and name.endswith(" (deleted)"):
                found.append(name)
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc/self/fd: run it on Linux")
@pytest.mark.parametrize("call", ["snapshot", "check", "completeness", "page"])
def test_files_of_purged_days_are_closed_at_the_next_call_of_a_reader(
    index: Path, reader: SqliteReader, call: str
) -> None:
    published = reader.snapshot().published
    assert len(walk(reader)) == 30  # opens all three days
    purge_directory(index, NOON, wait_seconds=0, clock=clock)
    assert len({name.partition(".db")[0] for name in unlinked_and_open(index)}) == 2
    calls: dict[str, Callable[[], object]] = {
        "snapshot": reader.snapshot,
        "check": reader.check,
        "completeness": lambda: reader.completeness(0, NOON),
        "page": lambda: reader.page(everything(), published=published, before=None, limit=1, bytes_max=1),
    }
    calls[call]()
    assert unlinked_and_open(index) == []
    assert len(walk(reader)) == 10


def test_page_passes_over_a_day_when_its_wal_goes_before_it_is_read(
    index: Path, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SqliteWriter(index, clock=clock)
    original = FollowedFile.get

    def slow(file: FollowedFile) -> Any:
        found = original(file)
        if "day-2026-11-21" in file.path.name and file.path.exists():
            writer.purge(NOON)
            raise StoreError("as a file without its -wal looks", retriable=False)
        return found

    monkeypatch.setattr(FollowedFile, "get", slow)
    assert sequences(walk(reader)) == [s for s in range(30, 0, -1) if s % 3 == 0]
    writer.close()


def test_orphaned_wal_files_go_when_a_reader_made_them_after_the_purge(index: Path) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.purge(NOON)
    (index / "day-2026-11-20.db-wal").write_bytes(b"")
    (index / "day-2026-11-20.db-shm").write_bytes(bytes(32768))
    writer.close()
    SqliteWriter(index, clock=clock).close()
    assert days_on_disk(index) == {"2026-11-22"}


def test_dead_letters_of_before_the_horizon_go_too(index: Path, reader: SqliteReader) -> None:
    now = NOON - 3 * DAY_MS
    writer = SqliteWriter(index, clock=lambda: now / 1000)
    writer.write(batch(dead_letters=[DeadLetter("test", "p", 1, "no record", b"x" * 100)]))
    now = NOON
    writer.write(batch(dead_letters=[DeadLetter("test", "p", 2, "no record", b"x" * 50)]))
    writer.purge(NOON)
    assert writer._opened().execute('SELECT "offset" FROM dead_letter').fetchall() == [(2,)]
    assert writer._opened().execute("SELECT dead_bytes FROM state").get == 50
    assert reader.dead_letters() == 2, "counted for ever"
    writer.close()


def test_statements_of_before_the_horizon_go_and_their_sums_stay(index: Path, reader: SqliteReader) -> None:
    begun = MIDNIGHT - 5 * DAY_MS
    hour = DAY_MS // 24
    said = [
        statement(n, n, n, started=begun, watermark=begun + n * hour, lost=[(n, n, "queue")], excluded=n)
        for n in range(1, 110)
    ]
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(statements=said))
    before = reader.processes()
    for _ in range(2):
        writer.purge(NOON)
        kept = writer._opened().execute("SELECT min(number), max(number) FROM statement").get
        assert kept == (96, 109), "a day more than the horizon"
        assert reader.processes() == before
    writer.close()


def test_dry_run_says_days_records_and_bytes_and_removes_nothing(index: Path) -> None:
    found = purge_preview(index, NOON)
    assert [(d.day, d.records) for d in found] == [("2026-11-20", 10), ("2026-11-21", 10)]
    assert all(d.bytes > 8192 for d in found)
    assert days_on_disk(index) == {"2026-11-20", "2026-11-21", "2026-11-22"}
    assert purge_preview(index / "nothing", NOON) == []


def test_purge_needs_no_indexer(index: Path, reader: SqliteReader) -> None:
    assert purge_directory(index, NOON, wait_seconds=0, clock=clock)
    assert days_on_disk(index) == {"2026-11-22"}
    assert retention.asked(index) is None
    with pytest.raises(StoreError, match="there is no index"):
        purge_directory(index / "nothing", NOON, wait_seconds=0, clock=clock)


def test_purge_is_asked_of_whoever_holds_the_lease_and_waits_for_it(index: Path) -> None:
    writer = SqliteWriter(index, clock=clock)
    assert not purge_directory(index, NOON, wait_seconds=0, clock=clock)
    assert writer.purge_asked() == MIDNIGHT, "the request stays"
    writer.close()
    late = SqliteWriter(index, clock=clock)
    asked = late.purge_asked()
    assert asked is not None

    done: list[bool] = []
    waiting = threading.Thread(target=lambda: done.append(purge_directory(index, NOON, wait_seconds=20, clock=clock)))
    waiting.start()
    late.purge(asked)
    waiting.join(20)
    assert done == [True]
    assert late.purge_asked() is None
    late.close()


def test_requests_of_nonsense_are_passed_over_and_one_for_the_future_removes_no_more_than_up_to_today(
    index: Path,
) -> None:
    writer = SqliteWriter(index, clock=clock)
    (index / "purge-yesterday").touch()
    assert writer.purge_asked() is None
    (index / "purge-2099-01-01").touch()
    asked = writer.purge_asked()
    assert asked is not None
    assert writer.purge(asked).horizon == MIDNIGHT
    assert writer.purge_asked() is None
    writer.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A separate disk of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("other platform: a tmpfs cannot be mounted here: run as root in a container with --privileged")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "filler").open("ab", 0) as filler:
        while True:
            filler.write(b"x" * 4096)
    assert os.statvfs(disk).f_bavail == 0


def test_purge_works_when_the_disk_is_really_full(disk: Path) -> None:
    """Method: records of two days are written until a write fails, then the disk is filled to its last byte."""
    writer = SqliteWriter(disk / "index", clock=clock)
    sequence = 1
    days = (NOON - 2 * DAY_MS, NOON)
    while True:
        records = [record(sequence + i, days[i % 2] + sequence, body=os.urandom(500).hex()) for i in range(50)]
        try:
            writer.write(batch(records, following=sequence))
        except StoreError:
            break
        sequence += 50
    fill(disk)
    assert writer.purge(NOON).days == 1
    written = writer.write(batch(records, following=sequence))
    # The failed write may have reached the day's file: then it was recovered, and its records are duplicates.
    assert written.inserted + written.duplicates == 25
    assert (disk / "index/reserve").stat().st_size == retention.RESERVE_BYTES
    writer.close()


def test_purge_works_when_the_reserve_was_lent_and_the_writer_began_again_on_the_full_disk(disk: Path) -> None:
    writer = SqliteWriter(disk / "index", clock=clock)
    writer.write(batch(over_days(1, 30)))
    writer.close()
    assert retention.lend_reserve(disk / "index")
    fill(disk)
    writer = SqliteWriter(disk / "index", clock=clock)
    fill(disk)
    assert writer.purge(NOON).days == 2
    writer.close()


def test_purge_leaves_what_the_next_one_needs_when_it_ends_no_full_disk(disk: Path) -> None:
    """No day is old enough to be removed; dead letters are, and are deleted with the space of the reserve."""
    writer = SqliteWriter(disk / "index", clock=lambda: clock() - 4 * 86_400)
    writer.write(batch(dead_letters=[DeadLetter("test", "p", n, "odd", os.urandom(50_000)) for n in range(20)]))
    writer.close()
    writer = SqliteWriter(disk / "index", clock=clock)
    writer.write(batch(over_days(1, 30)))
    retention.lend_reserve(disk / "index")
    for number in range(3):
        fill(disk)
        assert writer.purge(MIDNIGHT - 2 * DAY_MS).days == 0
        held = (disk / "index/reserve").stat().st_size
        assert held >= retention.RESERVE_BYTES // 8, f"after purge {number}"
    writer.close()


@pytest.mark.parametrize("held", [0, retention.RESERVE_BYTES // 4])
def test_reserve_is_as_it_was_when_there_is_no_room_for_more(tmp_path: Path, held: int) -> None:
    """Method: no file may be larger than 300 KiB."""
    path = tmp_path / "reserve"
    path.write_bytes(bytes(held))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300 << 10, before[1]))
    try:
        assert not retention.keep_reserve(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.stat().st_size == held
    assert retention.keep_reserve(tmp_path)
    assert path.stat().st_size == retention.RESERVE_BYTES


def test_reserve_is_taken_back_when_there_is_room_again(index: Path) -> None:
    writer = SqliteWriter(index, clock=clock)
    assert retention.lend_reserve(index)
    writer.write(batch([record(100)]))
    assert (index / "reserve").stat().st_size == retention.RESERVE_BYTES
    writer.close()


def test_reserve_is_not_given_when_it_cannot_be(tmp_path: Path) -> None:
    """A non-file in its place: the writer raises only its own error."""
    (tmp_path / "reserve" / "x").mkdir(parents=True)
    assert not retention.lend_reserve(tmp_path)
    assert not retention.release_reserve(tmp_path)
    assert not retention.keep_reserve(tmp_path)


def silent(writer: SqliteWriter, process: uuid.UUID) -> None:
    known = Incident(id=1, kind="silent", process=process, opened_at=NOON, start=NOON - 120_000, end=None)
    other = Incident(id=2, kind="silent", process=uuid.UUID(int=9), opened_at=NOON, start=NOON, end=None)
    off = ProcessState(process=process.bytes, partition="p", started=NOON, standing="off")
    writer.write(batch(completion=Completion(extent(NOON), [off], [known, other])))


def test_silent_process_is_acknowledged_with_and_without_an_indexer(index: Path, reader: SqliteReader) -> None:
    """Goal: the incident of that process, and no other one, ends at the time when it was written off, so that later
    windows are complete."""
    writer = SqliteWriter(index, clock=clock)
    silent(writer, PROCESS)
    after = (NOON, NOON + DAY_MS)
    assert reader.completeness(*after).incidents == 2
    assert not acknowledge_in_directory(index, PROCESS, wait_seconds=0, clock=clock), "an indexer holds the lease"
    (index / "acknowledge-nobody").touch()
    assert writer.acknowledge_asked() == 1
    assert writer.acknowledge_asked() == 0
    assert reader.completeness(*after).incidents == 1
    assert reader.completeness(NOON - 1000, NOON).incidents == 1, "what is unproven stays so"
    known = writer.known(PROCESS.bytes)
    assert known is not None
    assert (known.incidents[0].end, known.incidents[0].resolved_at) == (NOON, None)
    assert "acknowledged" in known.incidents[0].detail
    writer.close()
    assert acknowledge_in_directory(index, uuid.UUID(int=9), wait_seconds=0, clock=clock)
    assert reader.completeness(NOON + 1, NOON + DAY_MS).incidents == 0
    with pytest.raises(StoreError, match="there is no index"):
        acknowledge_in_directory(index / "nothing", PROCESS, wait_seconds=0, clock=clock)
