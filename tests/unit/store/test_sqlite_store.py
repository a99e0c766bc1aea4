"""Properties of the SQLite store alone: crash points, ids, disk errors, files that are added and removed."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import apsw
import pytest
from tests.support.records import (
    DAY_MS,
    NOON,
    OTHER,
    PROCESS,
    batch,
    everything,
    extent,
    over_days,
    read_until,
    record,
    sequences,
    statement,
    walk,
)

from asgi_audit.errors import StoreError
from asgi_audit.store.base import Row, Snapshot, Written
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter, dead_letters, open_days, schema
from asgi_audit.store.sqlite.fence import FENCE_NAME, FenceFile
from asgi_audit.store.state import Completion, DeadLetter


def clock() -> float:
    return (NOON + 3_600_000) / 1000


def test_ids_spill_into_neighbours_when_a_millisecond_is_full(
    index: Path, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method: four ids per millisecond instead of 65,536, and many records in the last milliseconds of a day."""
    monkeypatch.setattr("asgi_audit.store.sqlite.day.SLOTS", 4)
    for module in ("reader", "selection"):
        monkeypatch.setattr(f"asgi_audit.store.sqlite.{module}.SLOTS", 4)
    writer = SqliteWriter(index, clock=clock)
    midnight = NOON - DAY_MS // 2
    last = midnight - 1
    times = [last] * 11 + [last - 1] * 5 + [midnight] * 9 + [midnight + 1] * 2
    rng = random.Random(1)
    numbered = list(enumerate(times, 1))
    rng.shuffle(numbered)
    for start in range(0, len(numbered), 5):
        writer.write(batch(record(s, t) for s, t in numbered[start : start + 5]))
    rows = walk(reader, limit=3)
    assert sorted(sequences(rows)) == list(range(1, len(times) + 1))
    assert len({r.id for r in rows}) == len(rows)
    for at in (last - 1, last, midnight, midnight + 1):
        for accounts in (None, frozenset({"acme"})):
            found = walk(reader, everything(start=at, end=at + 1, accounts=accounts), limit=2)
            assert sorted(sequences(found)) == [s for s, t in enumerate(times, 1) if t == at]
    writer.close()


def limited(monkeypatch: pytest.MonkeyPatch, name: str) -> Callable[[bool], None]:
    """While active, files whose name contains `name` cannot grow: SQLITE_FULL, as on a full disk."""
    connections: list[tuple[Path, apsw.Connection]] = []
    state = {"on": False}
    original = schema.open_writing

    def opened(path: Path, *given: Any) -> apsw.Connection:
        connection = original(path, *given)
        connections.append((path, connection))
        if state["on"] and name in path.name:
            connection.execute("PRAGMA max_page_count=1")
        return connection

    def switch(on: bool) -> None:
        state["on"] = on
        for path, connection in connections:
            if name in path.name:
                try:
                    connection.execute(f"PRAGMA max_page_count={1 if on else 1 << 30}")
                except apsw.ConnectionClosedError:
                    pass

    monkeypatch.setattr("asgi_audit.store.sqlite.day.open_writing", opened)
    monkeypatch.setattr("asgi_audit.store.sqlite.writer.open_writing", opened)
    return switch


@pytest.mark.parametrize("name", ["day-", "day-2026-11-22", "main"])
def test_write_is_retriable_and_loses_nothing_when_the_disk_is_full(
    index: Path, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    switch = limited(monkeypatch, name)
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(over_days(1, 30)))
    switch(True)
    big = [record(s, NOON - (s % 3) * DAY_MS + s, path="/" + "x" * 3000 + str(s)) for s in range(31, 400)]
    letters = [DeadLetter("test", "p", 1, "too big", b"x" * 65_536)]
    full = batch(big, following=400, dead_letters=letters)
    for _ in range(3):
        with pytest.raises(StoreError) as caught:
            writer.write(full)
        assert caught.value.retriable
        assert "FullError" in str(caught.value)
        assert "Free space" in caught.value.hint
        assert writer.positions("test")[str(PROCESS)].next == 1
    switch(False)
    written = writer.write(full)
    assert (written.inserted + written.duplicates, written.dead) == (369, 1)
    assert sorted(sequences(walk(reader))) == list(range(1, 400))
    assert reader.dead_letters() == 1
    assert reader.processes()[0].indexed == 399
    writer.close()


def test_write_is_retriable_when_the_file_is_locked(
    index: Path, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_BUSY_MS", 20)
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(1)]))
    shell = apsw.Connection(str(index / "main.db"))
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError) as caught:
        writer.write(batch([record(2)]))
    assert caught.value.retriable
    assert "BusyError" in str(caught.value)
    shell.execute("ROLLBACK")
    shell.close()
    assert writer.write(batch([record(2)])) == Written(0, 1, 0, 0), "recovered before it was written again"
    assert sorted(sequences(walk(reader))) == [1, 2]
    writer.close()


def test_opening_says_what_is_wrong_when_a_file_is_no_index(index: Path) -> None:
    index.mkdir()
    (index / "main.db").write_bytes(b"this is no database, only a text of some length" * 100)
    with pytest.raises(StoreError, match="NotADBError") as caught:
        SqliteWriter(index)
    assert not caught.value.retriable
    assert caught.value.hint
    with pytest.raises(StoreError, match="NotADBError"):
        SqliteReader(index).snapshot()
    (index / "main.db").unlink()
    other = apsw.Connection(str(index / "main.db"))
    other.execute("CREATE TABLE theirs (x)")
    other.close()
    for attempt in (lambda: SqliteWriter(index), lambda: SqliteReader(index).snapshot()):
        with pytest.raises(StoreError, match="not an index of asgi-audit") as caught:
            attempt()
        assert not caught.value.retriable


def test_opening_is_refused_when_a_newer_version_wrote_the_index(index: Path) -> None:
    SqliteWriter(index).close()
    newer = apsw.Connection(str(index / "main.db"))
    newer.execute("PRAGMA user_version=99")
    newer.close()
    for attempt in (lambda: SqliteWriter(index), lambda: SqliteReader(index).snapshot()):
        with pytest.raises(StoreError, match=r"has version 99.* reads up to 2") as caught:
            attempt()
        assert not caught.value.retriable


def test_damaged_day_file_is_an_error_that_names_it(index: Path, reader: SqliteReader) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(s, body="x" * 500) for s in range(1, 200)]))
    writer.close()
    path = index / "day-2026-11-22.db"
    with path.open("r+b") as f:
        f.seek(8192)
        f.write(b"\xff" * (path.stat().st_size - 8192))
    with pytest.raises(StoreError, match=r"day-2026-11-22\.db.*Corrupt") as caught:
        walk(reader)
    assert caught.value.retriable  # for readers, because an operator may repair it; a writer stops
    assert "backup" in caught.value.hint


def test_writing_ends_when_the_directory_was_removed_under_it(index: Path) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(1)]))
    shutil.rmtree(index)
    with pytest.raises(StoreError, match="removed, replaced") as caught:
        writer.write(batch([record(2)]))
    assert not caught.value.retriable
    writer.close()
    again = SqliteWriter(index, clock=clock)
    assert again.positions("test") == {}
    again.close()


def test_reader_makes_no_file_when_the_index_is_missing_or_closed(index: Path, reader: SqliteReader) -> None:
    assert reader.snapshot() == Snapshot(0, 0.0)
    assert walk(reader) == []
    assert not index.exists()
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(over_days(1, 9), read_until=read_until(5.0)))
    writer.close()
    before = sorted(p.name for p in index.iterdir())
    other = SqliteReader(index)
    assert len(walk(other)) == 9
    assert other.snapshot() == Snapshot(1, 5.0)
    other.close()
    assert sorted(p.name for p in index.iterdir()) == before


def test_reader_follows_when_files_appear_vanish_and_are_made_anew(index: Path, reader: SqliteReader) -> None:
    assert walk(reader) == []
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(over_days(1, 9)))
    assert len(walk(reader)) == 9
    writer.close()
    for name in ("", "-wal", "-shm"):
        (index / f"day-2026-11-21.db{name}").unlink()
    with pytest.raises(StoreError, match=r"day-2026-11-21.db .* is gone"):
        walk(reader)
    with pytest.raises(StoreError, match=r"day-2026-11-21.db .* is gone"):
        SqliteWriter(index, clock=clock)
    SqliteWriter(index, clock=clock, new_index=True).close()
    assert sorted(sequences(walk(reader))) == [2, 3, 5, 6, 8, 9]
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(over_days(1, 9)))
    assert sorted(sequences(walk(reader))) == list(range(1, 10))
    writer.close()
    shutil.rmtree(index)
    assert walk(reader) == []
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(77)]))
    assert sequences(walk(reader)) == [77]
    writer.close()


def test_fence_counts_as_never_when_main_came_back_from_a_backup(
    index: Path, reader: SqliteReader, tmp_path: Path
) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(1)], read_until=read_until(10.0)))
    writer.close()
    shutil.copytree(index, tmp_path / "backup")
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(2)], read_until=read_until(20.0)))
    writer.close()
    assert reader.snapshot() == Snapshot(2, 20.0)
    shutil.copy(index / FENCE_NAME, tmp_path / "backup")
    restored = SqliteReader(tmp_path / "backup")
    assert restored.snapshot() == Snapshot(1, 0.0)
    restored.close()


def test_reader_leaves_no_transaction_open_when_a_page_ends_early(index: Path, reader: SqliteReader) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(record(s, NOON + s) for s in range(1, 500)))
    reader.page(everything(), published=1, before=None, limit=10, bytes_max=1 << 20)
    reader.page(everything(method="GET"), published=1, before=None, limit=10, bytes_max=1)
    day = apsw.Connection(str(index / "day-2026-11-22.db"))
    day.set_busy_timeout(0)
    # TRUNCATE requires that no connection reads from the WAL.
    day.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    day.close()
    writer.close()


def test_window_is_an_error_when_the_file_of_a_day_is_gone(index: Path, reader: SqliteReader) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(over_days(1, 9)))
    writer.close()
    window = (NOON - 3 * DAY_MS, NOON + DAY_MS)
    assert [w.indexed for w in reader.window(*window)] == [9]
    for name in ("", "-wal", "-shm"):
        (index / f"day-2026-11-21.db{name}").unlink()
    with pytest.raises(StoreError, match=r"day-2026-11-21.db .* is gone"):
        reader.window(*window)


def test_window_counts_no_record_of_a_batch_that_comes_in_between(index: Path, reader: SqliteReader) -> None:
    """Method: the batch is written between the two statements that count a day."""
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(1)]))
    day = reader._day("2026-11-22").get()
    assert day is not None

    def traced(_cursor: Any, sql: str, _values: Any) -> bool:
        if "count(*)" in sql:
            writer.write(batch([record(2)]))
        return True

    day.exec_trace = traced
    assert [w.indexed for w in reader.window(NOON - DAY_MS, NOON + DAY_MS)] == [1]
    day.exec_trace = None
    assert [w.indexed for w in reader.window(NOON - DAY_MS, NOON + DAY_MS)] == [2]
    writer.close()


def unreadable(database: Path) -> None:
    """From now on every descriptor of a database and its log that this process has refers to a directory: reading gives
    an I/O error."""
    files = {(s.st_dev, s.st_ino) for s in (os.stat(database), os.stat(f"{database}-wal"))}
    directory = os.open(database.parent, os.O_RDONLY)
    for fd in map(int, os.listdir("/dev/fd")):
        with contextlib.suppress(OSError):  # the descriptor of this listing
            s = os.fstat(fd)
            if (s.st_dev, s.st_ino) in files:
                os.dup2(directory, fd)
    os.close(directory)


@pytest.mark.parametrize("call", ["page", "count", "window", "completeness"])
def test_io_error_is_what_is_seen_and_retriable_when_it_ended_the_transaction(
    index: Path, reader: SqliteReader, call: str
) -> None:
    """Method: the file becomes unreadable once it is open, and nothing of it is cached."""
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(record(s, NOON + s) for s in range(1, 500)))
    writer.close()
    lengths = itertools.count(7)
    calls: dict[str, Callable[[], object]] = {
        "page": lambda: reader.page(everything(), published=1, before=None, limit=10, bytes_max=1 << 20),
        # A new window each time: the reader remembers counts.
        "count": lambda: reader.count(everything(start=NOON, end=NOON + next(lengths)), published=1),
        "window": lambda: reader.window(NOON, NOON + 7),
        "completeness": lambda: reader.completeness(NOON, NOON + 7),
    }
    calls[call]()
    file = reader._main if call == "completeness" else reader._day("2026-11-22")
    connection = file.get()
    assert connection is not None

    def breaks(_cursor: Any, sql: str, _values: Any) -> bool:
        if connection.in_transaction:
            connection.exec_trace = None
            connection.execute("PRAGMA shrink_memory")
            unreadable(file.path)
        return True

    connection.exec_trace = breaks
    with pytest.raises(StoreError, match="IOError") as caught:
        calls[call]()
    assert caught.value.retriable


def test_days_are_closed_when_many_are_written(index: Path, reader: SqliteReader) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(record(s, NOON - s * DAY_MS) for s in range(1, 41)))
    assert len(writer._days.writers()) == open_days._OPEN_MAX
    assert sequences(walk(reader)) == list(range(1, 41))
    assert len(reader._days) <= 16
    writer.close()


def test_dead_letters_keep_reason_position_and_64_kib(index: Path) -> None:
    writer = SqliteWriter(index, clock=clock)
    ahead = record(9, NOON + 3 * DAY_MS)
    writer.write(batch([ahead], dead_letters=[DeadLetter("journal", "p", 41, "no JSON", b"x" * 100_000)]))
    main = apsw.Connection(str(index / "main.db"))
    kept = main.execute(
        'SELECT source, partition, "offset", reason, length(payload), payload_bytes, at '
        "FROM dead_letter ORDER BY source"
    ).fetchall()
    now = int(clock() * 1000)
    assert kept[0] == ("journal", "p", 41, "no JSON", 65_536, 100_000, now)
    assert kept[1][:3] == ("test", str(PROCESS), -1)
    assert kept[1][3] == "timestamp is 255600 s ahead of the indexer's clock (sequence 9, id id-0001-9)"
    assert kept[1][4] == len(ahead.data)
    main.close()
    writer.close()


def test_dead_letters_are_stored_once_when_only_the_fence_cannot_be_written(
    index: Path, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fence is written after the commit. The indexer writes the batch again, and some time has passed by then."""
    now = itertools.count(clock())
    writer = SqliteWriter(index, clock=lambda: next(now))
    dead = [DeadLetter("test", "p", n, "no JSON", b"x" * n) for n in (40, 41)]
    sent = batch([record(9, NOON + 3 * DAY_MS)], dead_letters=dead, read_until=read_until(1))
    writer.write(batch(dead_letters=dead[:1]))
    with monkeypatch.context() as patch:
        patch.setattr(FenceFile, "write", io_error)
        with pytest.raises(StoreError, match="Input/output") as caught:
            writer.write(sent)
    assert caught.value.retriable
    assert writer.write(sent).dead == 3
    writer.close()
    assert [d.offset for d in dead_letters.dead_letters(index, limit=9)] == [41, 40, -1, 40]
    assert reader.dead_letters() == 4


def io_error(*_: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_dead_letters_are_bounded_when_they_are_many(
    index: Path, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_DEAD_ROWS_MAX", 10)
    monkeypatch.setattr(dead_letters, "_DEAD_BYTES_MAX", 500)
    writer = SqliteWriter(index, clock=clock)
    for n in range(30):
        writer.write(batch(dead_letters=[DeadLetter("s", "p", n, "r", b"x" * (100 if n % 2 else 1))]))
    main = apsw.Connection(str(index / "main.db"))
    rows: Any = main.execute('SELECT "offset", length(payload) FROM dead_letter ORDER BY id').fetchall()
    assert len(rows) <= 10
    assert sum(size for _, size in rows) <= 500
    assert rows[-1][0] == 29
    assert main.execute("SELECT dead_bytes FROM state").get == sum(size for _, size in rows)
    main.close()
    assert reader.dead_letters() == 30
    writer.close()


def test_statement_is_kept_as_it_was_said(index: Path) -> None:
    writer = SqliteWriter(index, clock=clock)
    said = [statement(1, 1, 5, process=OTHER, lost=[(2, 3, "queue")]), statement(2, 6, 6, process=OTHER)]
    writer.write(batch(statements=said))
    main = apsw.Connection(str(index / "main.db"))
    kept = main.execute("SELECT process, number, last, watermark, data FROM statement ORDER BY number").fetchall()
    main.close()
    from asgi_audit.record.statement import decode_statement

    assert [decode_statement(row[4]) for row in kept] == said
    assert [row[:4] for row in kept] == [(OTHER.bytes, s.number, s.last, s.watermark) for s in said]
    writer.close()


def test_writer_waits_as_standby_when_another_holds_the_lease(index: Path) -> None:
    writer = SqliteWriter(index, clock=clock)
    with pytest.raises(StoreError, match="another indexer holds the lease") as caught:
        SqliteWriter(index, wait_seconds=0.05)
    assert caught.value.retriable
    writer.write(batch([record(1)]))
    writer.close()
    SqliteWriter(index, wait_seconds=0.05).close()


def test_connections_sync_fully_and_map_nothing(index: Path) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(1)]))
    (day,) = writer._days.writers()
    for connection in (writer._main, day._connection):
        assert connection is not None
        assert connection.pragma("synchronous") == 2
        assert connection.pragma("journal_mode") == "wal"
        assert connection.pragma("mmap_size") in (0, None)
    writer.close()


def test_day_file_is_learned_whole_when_it_was_brought_back(index: Path, reader: SqliteReader, tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / "other", clock=clock)
    for s in range(1, 6):
        writer.write(batch([record(s, NOON - DAY_MS + s, instance="elsewhere")]))
    writer.close()
    SqliteWriter(index, clock=clock).close()
    shutil.copy(tmp_path / "other" / "day-2026-11-21.db", index)
    writer = SqliteWriter(index, clock=clock)
    assert sorted(sequences(walk(reader))) == [1, 2, 3, 4, 5]
    assert reader.seen(frozenset({"acme"}), "gateway", "elsewhere")
    assert reader.processes()[0].indexed == 5
    assert writer.write(batch([record(9)])).inserted == 1
    assert sorted(sequences(walk(reader))) == [1, 2, 3, 4, 5, 9]
    writer.close()


def test_records_are_answered_when_main_came_back_older_than_its_days(
    index: Path, reader: SqliteReader, tmp_path: Path
) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(1)], following=1))
    writer.close()
    shutil.copytree(index, tmp_path / "backup")
    writer = SqliteWriter(index, clock=clock)
    for s in (2, 3, 4):
        writer.write(batch([record(s, instance=f"i{s}")], following=s))
    writer.close()
    shutil.copy(tmp_path / "backup" / "main.db", index)
    writer = SqliteWriter(index, clock=clock)
    assert writer.positions("test")[str(PROCESS)].next == 1
    assert sorted(sequences(walk(reader))) == [1, 2, 3, 4]
    assert all(reader.seen(None, "gateway", f"i{s}") for s in (1, 2, 3, 4))
    writer.close()


def test_interrupted_write_that_is_recovered_begins_nothing_anew(index: Path, reader: SqliteReader) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(1)], completion=Completion(extent(NOON), [])))
    writer.close()
    main = apsw.Connection(str(index / "main.db"))
    main.execute("UPDATE state SET published = 0")  # as if main.db did not list it
    main.close()
    for _ in range(2):
        SqliteWriter(index, clock=lambda: NOON / 1000 + 60).close()
        assert reader.completeness(0, 1).begins == 0


def test_page_is_an_error_and_no_wrong_record_when_a_block_is_not_what_the_row_says(
    index: Path, reader: SqliteReader
) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(record(s, NOON + s) for s in range(1, 4)))
    writer.close()
    for change in ("UPDATE record SET place = place + 1", "UPDATE record SET block = block + 1", "DELETE FROM block"):
        day = apsw.Connection(str(index / "day-2026-11-22.db"))
        day.execute(change)
        day.close()
        with pytest.raises(StoreError, match="damaged") as caught:
            walk(reader)
        assert not caught.value.retriable


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_rows_are_passed_over_by_the_rollup_and_not_one_by_one(
    index: Path, reader: SqliteReader, order: Literal["newest", "oldest"]
) -> None:
    """Method: steps of SQLite's virtual machine are counted; a filter that the rollup does not have shows the cost of
    visiting each row."""
    writer = SqliteWriter(index, clock=lambda: NOON / 1000 + 20_000)
    writer.write(batch(record(s, NOON + s * 1_500, region="global") for s in range(6_000)[1:]))
    writer.write(batch([record(6_000, NOON)]))  # above the snapshot
    writer.close()
    steps = 0

    def step() -> bool:
        nonlocal steps
        steps += 100
        return False

    def page(**given: Any) -> list[Row]:
        query = everything(order=order, start=NOON + 700, end=NOON + 8_900_700, **given)
        return reader.page(query, published=1, before=None, limit=10, bytes_max=1 << 20, skip=5_000)[0]

    page()
    day = reader._day("2026-11-22").get()
    assert day is not None
    day.set_progress_handler(step, 100)
    rows = page()
    quick, steps = steps, 0
    assert page(region="global") == rows
    first = 5_001 if order == "oldest" else 5_933 - 5_000
    assert sequences(rows) == [first + n * (1 if order == "oldest" else -1) for n in range(10)]
    assert quick < steps / 10
