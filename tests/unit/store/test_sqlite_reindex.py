"""Days are rebuilt beside readers and writers: ids, batches and bytes stay, and every interruption leaves the old day
or the new one, never a mix."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.support.days import days_of_version_1
from tests.support.records import DAY_MS, NOON, batch, everything, foreign, record, sequences, walk

from asgi_audit.errors import QueryError, RecordError, StoreError
from asgi_audit.record.codec import Decoded
from asgi_audit.store.query import matches, statuses_of
from asgi_audit.store.sqlite import SqliteAdmin, SqliteReader, SqliteWriter, copying, reindexing, retention
from asgi_audit.store.sqlite.day import DayWriter
from asgi_audit.store.sqlite.lease import LeaseHeld

YESTERDAY = NOON - DAY_MS
DAY = "2026-11-21"
OLD, NEW, COPY = f"day-{DAY}.db", f"day-{DAY}.1.db", f"reindex-{DAY}.db"
_PATHS = ("/orders", "/orders/7", "/login")


def clock() -> float:
    return (NOON + 3_600_000) / 1000


def old_record(s: int) -> Decoded:
    """A record; sometimes two in one millisecond, several streams and kinds, some of other producers."""
    given: dict[str, Any] = {
        "account": f"a{s % 3}", "status": (200, 404, 500)[s % 3], "path": _PATHS[s % 3], "route": _PATHS[s % 2],
        "client": "192.0.2.1" if s % 4 else "192.0.2.2", "traceId": f"{s % 5:032x}",
    }  # fmt: skip
    at = YESTERDAY + s // 2 * 700
    if s % 10 == 0:
        return foreign(at, name=f"x{s}", **given)
    return record(s, at, **given)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several transactions for each copy."""
    monkeypatch.setattr(copying, "_EACH", 17)
    monkeypatch.setattr(reindexing, "_FEW", 3)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An index whose day of yesterday is of version 1, with the sequences 1 to 100 in 4 batches."""
    index = tmp_path / "index"
    with days_of_version_1():
        writer = SqliteWriter(index, clock=clock)
        for first in (3, 2, 1, 4):  # including late ones
            writer.write(batch(old_record(s) for s in range(first, 101, 4)))
        writer.close()
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(record(s, NOON + s) for s in range(201, 204)))
    writer.close()
    return index


@pytest.fixture
def writer(old: Path) -> Iterator[SqliteWriter]:
    writer = SqliteWriter(old, clock=clock)
    yield writer
    writer.close()


@pytest.fixture
def reader(old: Path) -> Iterator[SqliteReader]:
    reader = SqliteReader(old)
    yield reader
    reader.close()


def beside(writer: SqliteWriter) -> Callable[[Path], bool]:
    """The writer handles requests, as the indexer does between two batches."""

    def take(request: Path) -> bool:
        writer.take_reindexed()
        return not request.exists()

    return take


def digest_of(reader: SqliteReader) -> tuple[int, str, list[int]]:
    """Of all rows: count, ids and bytes; and the ids that each earlier snapshot shows."""
    rows = walk(reader)
    whole = hashlib.sha256(b"".join(b"%d %b %r" % (r.id, r.record, repr(r.cuts).encode()) for r in rows))
    seen = [len(walk(reader, published=n)) for n in range(reader.snapshot().published + 1)]
    return len(rows), whole.hexdigest(), seen


def files(index: Path) -> set[str]:
    return {p.name for p in index.iterdir() if p.name.startswith(("day-", "reindex")) and p.suffix in (".db", "")}


QUERIES: list[dict[str, Any]] = [
    {"route": "/orders/7"}, {"path_prefix": "/orders"}, {"client": "192.0.2.2"}, {"trace_id": f"{3:032x}"},
    {"outcome": "completed", "levels": frozenset({"WARN"})}, {"text": '"get orders"'}, {"text": "404 login"},
    {"statuses": statuses_of("4xx"), "accounts": frozenset({"a1"})}, {"request_id": "req-7"}, {"principal": ""},
]  # fmt: skip


def check_new(reader: SqliteReader, sequences_there: Iterable[int], others: Iterable[Decoded] = ()) -> None:
    """Every filter finds the right rows, and the rollup counts them."""
    there = [*(old_record(s) for s in sequences_there), *others]
    window = {"start": YESTERDAY, "end": YESTERDAY + DAY_MS // 2}
    for given in QUERIES:
        query = everything(**window, **given)
        expected = sorted(d.data for d in there if matches(query, d))
        assert sorted(r.record for r in walk(reader, query)) == expected, given
        assert reader.count(query, published=reader.snapshot().published) == len(expected)
    buckets = reader.histogram(everything(**window), published=reader.snapshot().published, by="level", minutes=1)
    assert sum(n for _, counts in buckets for n in counts.values()) == len(there)


@pytest.mark.parametrize("has_indexer", [True, False])
def test_day_made_new_holds_the_same_rows_and_answers_every_filter(
    old: Path, reader: SqliteReader, has_indexer: bool
) -> None:
    before = digest_of(reader)
    with pytest.raises(QueryError, match=r"it works from 2026-11-22 .* on"):
        walk(reader, everything(route="/orders"))
    said: list[tuple[int, int]] = []
    admin = SqliteAdmin(old)
    assert [(d.day, d.version, d.records, d.is_old) for d in admin.days()] == [
        ("2026-11-22", 2, 3, False), (DAY, 1, 100, True),
    ]  # fmt: skip
    if has_indexer:
        writer = SqliteWriter(old, clock=clock)
        with reindexing.SqliteReindexing(old, beside(writer)) as work:
            assert work.renew(DAY, lambda *at: said.append(at))
    else:
        with admin.reindexing(wait_seconds=0) as work:
            assert work.renew(DAY, lambda *at: said.append(at))
    assert said == [(min(n * 17, 100), 100) for n in range(7)]
    assert digest_of(reader) == before
    assert files(old) == {NEW, "day-2026-11-22.db", "reindexing"}
    check_new(reader, range(1, 101))
    assert [(d.day, d.version, d.records) for d in admin.days()] == [("2026-11-22", 2, 3), (DAY, 2, 100)]
    # It is a normal day: new records are added once each, and it can be rebuilt again.
    if not has_indexer:
        writer = SqliteWriter(old, clock=clock)
    written = writer.write(batch(old_record(s) for s in range(95, 105)))
    assert (written.inserted, written.duplicates) == (4, 6)
    check_new(reader, range(1, 105))
    with reindexing.SqliteReindexing(old, beside(writer)) as work:
        assert work.renew(DAY)
    check_new(reader, range(1, 105))
    writer.close()
    assert files(old) == {f"day-{DAY}.2.db", "day-2026-11-22.db", "reindexing"}


def test_late_records_are_not_lost_while_their_day_is_copied(
    old: Path, writer: SqliteWriter, reader: SqliteReader
) -> None:
    """Method: at each step of the copy two records are added to the day, before and after the copied position, and ten
    after the copy was handed over."""
    came = 100

    def arrive(copied: int, records: int) -> None:
        nonlocal came
        if came < 120:
            writer.write(batch([old_record(came + 1)]))
            writer.write(batch([record(came + 2, YESTERDAY + 1)]))
            came += 2

    take = beside(writer)

    def take_late(request: Path) -> bool:
        writer.write(batch(old_record(s) for s in range(200, 210)))
        return take(request)

    with reindexing.SqliteReindexing(old, take_late) as work:
        assert work.renew(DAY, arrive)
    there = [*range(1, 101), *range(101, came, 2), *range(200, 210)]
    check_new(reader, there, others=[record(s, YESTERDAY + 1) for s in range(102, came + 1, 2)])
    again = writer.write(batch(old_record(s) for s in there))
    assert (again.inserted, again.duplicates) == (0, len(there))


def test_open_readers_go_on_over_the_change(old: Path, writer: SqliteWriter, reader: SqliteReader) -> None:
    """A cursor continues, a count of an earlier snapshot stays, and the old file is closed at the next call."""
    expected = [r.id for r in walk(reader)]
    held = reader.snapshot().published
    page, _ = reader.page(everything(), published=held, before=None, limit=30, bytes_max=1 << 20)
    with reindexing.SqliteReindexing(old, beside(writer)) as work:
        work.renew(DAY)
    rest: list[int] = []
    before = page[-1].id
    while before:
        rows, more = reader.page(everything(), published=held, before=before, limit=30, bytes_max=1 << 20)
        rest += [r.id for r in rows]
        before = rows[-1].id if more else 0
    assert [r.id for r in page] + rest == expected
    assert reader.count(everything(), published=held) == len(expected)
    assert not [f for f in open_files() if OLD in f]


def open_files() -> list[str]:
    return [str(p.readlink()) for p in Path("/proc/self/fd").iterdir() if p.is_symlink()]


def test_reader_that_met_the_old_file_in_main_finds_the_new_one(
    old: Path, writer: SqliteWriter, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method: the day is replaced after main.db was read and before the day's file is opened."""
    days_of = reader._days_and_batches

    def late(*args: Any, **given: Any) -> Any:
        found = days_of(*args, **given)
        with reindexing.SqliteReindexing(old, beside(writer)) as work:
            work.renew(DAY)
        monkeypatch.setattr(reader, "_days_and_batches", days_of)
        return found

    monkeypatch.setattr(reader, "_days_and_batches", late)
    assert reader.count(everything(), published=reader.snapshot().published) == 103


class Crash(BaseException):
    pass


def _crash(*args: Any, **given: Any) -> Any:
    raise Crash


def crash_after(function: Callable[..., Any], calls: int = 1) -> Callable[..., Any]:
    left = [calls]

    def wrapped(*args: Any, **given: Any) -> Any:
        found = function(*args, **given)
        left[0] -= 1
        if not left[0]:
            raise Crash
        return found

    return wrapped


STEPS: dict[str, tuple[str, Callable[[], Callable[..., Any]]]] = {
    "the copy is made": ("day.DayWriter.take", lambda: crash_after(DayWriter.take)),
    "some are copied": ("day.DayWriter.take", lambda: crash_after(DayWriter.take, 4)),
    "all are copied": ("retention.ask_to_take", lambda: _crash),
    "it is asked": ("retention.ask_to_take", lambda: crash_after(retention.ask_to_take)),
    "the copy is finished": ("day.DayWriter.finish", lambda: crash_after(DayWriter.finish)),
    "it has its name": ("reindexing.retention.sync", lambda: _crash),
    "it is opened": ("open_days.DayWriter", lambda: crash_after(DayWriter)),
    "main.db says so": ("writer.remove", lambda: _crash),
    "the old file is gone": ("writer.remove", lambda: crash_after(reindexing.remove)),
}


@pytest.mark.parametrize("step", STEPS)
def test_day_is_whole_when_it_all_dies_after(
    old: Path, reader: SqliteReader, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest_of(reader)
    name, made = STEPS[step]
    writer = SqliteWriter(old, clock=clock)
    writer.write(batch([]))
    with monkeypatch.context() as patched, reindexing.SqliteReindexing(old, beside(writer)) as work:
        if step == "it has its name":  # the first one is for the request
            sync, left = retention.sync, iter([False, True])
            patched.setattr(retention, "sync", lambda directory: _crash() if next(left, False) else sync(directory))
        else:
            patched.setattr(f"asgi_audit.store.sqlite.{name}", made())
        with pytest.raises(Crash):
            work.renew(DAY)
        writer._abandon()
    assert digest_of(reader) == before
    writer.close()
    assert digest_of(reader) == before
    # The next process continues; late records are added first.
    writer = SqliteWriter(old, clock=clock)
    writer.write(batch([old_record(101)]))
    writer.take_reindexed()
    assert len(walk(reader)) == 104
    with reindexing.SqliteReindexing(old, beside(writer)) as work:
        assert work.renew(DAY)
    writer.close()
    check_new(reader, range(1, 102))
    (new,) = {name for name in files(old) if DAY in name}
    assert new in (NEW, f"day-{DAY}.2.db")


def test_copy_that_was_cut_short_goes_on_where_it_was(old: Path, writer: SqliteWriter, reader: SqliteReader) -> None:
    def stop(copied: int, records: int) -> None:
        if copied >= 51:
            raise Crash

    said: list[int] = []
    with reindexing.SqliteReindexing(old, beside(writer)) as work:
        with pytest.raises(Crash):
            work.renew(DAY, stop)
        assert COPY in files(old)
        writer.write(batch([old_record(101)]))
        work.renew(DAY, lambda copied, records: said.append(copied))
    assert said == [51, 68, 85, 100, 101]
    check_new(reader, range(1, 102))


@pytest.mark.parametrize("at", ["copying", "finishing", "main.db"])
def test_disk_gets_its_space_back_when_it_is_full(
    old: Path, reader: SqliteReader, at: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before, there = digest_of(reader), files(old)
    writer = SqliteWriter(old, clock=clock)

    def full(*args: Any) -> None:
        raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as patched, reindexing.SqliteReindexing(old, beside(writer)) as work:
        if at == "copying":
            take, left = DayWriter.take, iter([True] * 4)
            patched.setattr(DayWriter, "take", lambda *args: take(*args) if next(left, False) else full())
        elif at == "finishing":
            patched.setattr(DayWriter, "finish", full)
        else:
            assert writer._main is not None
            writer._main.set_authorizer(
                lambda action, table, *rest: full() if (action, table) == (apsw.SQLITE_UPDATE, "day") else 0
            )
        with pytest.raises(StoreError, match="full" if at != "finishing" else "the day is unchanged"):
            work.renew(DAY)
    if at == "finishing":
        assert "was not rebuilt and is unchanged: could not take" in caplog.text
    writer.close()
    SqliteWriter(old, clock=clock).close()
    assert files(old) - {f"reindexed-{DAY}"} == there | {"reindexing"}
    assert digest_of(reader) == before


def test_copy_ends_before_the_disk_is_full(old: Path, writer: SqliteWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reindexing, "LOW_BYTES", 1 << 60)
    with (
        reindexing.SqliteReindexing(old, beside(writer)) as work,
        pytest.raises(StoreError, match="MiB free") as caught,
    ):
        work.renew(DAY)
    assert caught.value.is_full
    assert COPY not in files(old)


def test_copy_of_a_day_that_is_purged_meanwhile_is_removed(old: Path, writer: SqliteWriter) -> None:
    def purge(copied: int, records: int) -> None:
        if copied == 51:
            writer.purge(NOON)

    with reindexing.SqliteReindexing(old, beside(writer)) as work:
        assert work.renew(DAY, purge)
        assert work.renew(DAY)
    assert files(old) == {"day-2026-11-22.db", "reindexing"}


def test_purge_removes_an_unfinished_copy_too(old: Path, writer: SqliteWriter) -> None:
    with reindexing.SqliteReindexing(old, beside(writer)) as work, pytest.raises(Crash):
        work.renew(DAY, _crash)
    assert writer.purge(NOON).days == 1
    assert files(old) == {"day-2026-11-22.db", "reindexing"}


def test_unfinished_copies_are_discarded_when_asked(old: Path, writer: SqliteWriter) -> None:
    with reindexing.SqliteReindexing(old, beside(writer)) as work:
        with pytest.raises(Crash):
            work.renew(DAY, _crash)
        assert work.discard() == 1
        assert work.discard() == 0
    assert files(old) == {OLD, "day-2026-11-22.db", "reindexing"}


def test_one_at_a_time_makes_days_new(old: Path, writer: SqliteWriter) -> None:
    with (
        reindexing.SqliteReindexing(old, beside(writer)),
        pytest.raises(LeaseHeld, match="another reindex is running"),
    ):
        reindexing.SqliteReindexing(old, beside(writer))
    with reindexing.SqliteReindexing(old, beside(writer)):
        pass


def test_day_stays_when_its_copy_lacks_a_record(
    old: Path, writer: SqliteWriter, reader: SqliteReader, caplog: pytest.LogCaptureFixture
) -> None:
    before = digest_of(reader)
    day = apsw.Connection(str(old / OLD))
    day.execute("UPDATE state SET records = records + 1")
    day.close()
    with (
        reindexing.SqliteReindexing(old, beside(writer)) as work,
        pytest.raises(StoreError, match="the day is unchanged"),
    ):
        work.renew(DAY)
    assert "should hold 101 records, but its copy has 100" in caplog.text
    assert (digest_of(reader), files(old)) == (before, {OLD, "day-2026-11-22.db", "reindexing"})


def test_record_that_is_refused_today_stays_as_it_was_derived(
    old: Path, writer: SqliteWriter, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest_of(reader)
    decode = copying.decode

    def strict(data: bytes) -> Any:
        d = decode(data)
        if d.sequence == 31 or d.id == "x40":
            raise RecordError("not today")
        return d

    monkeypatch.setattr(copying, "decode", strict)
    with reindexing.SqliteReindexing(old, beside(writer)) as work:
        work.renew(DAY)
    assert digest_of(reader) == before
    assert sequences(walk(reader, everything(request_id="req-31"))) == [31]
    again = writer.write(batch([old_record(31), old_record(40)]))
    assert again.duplicates == 2


def test_day_made_new_is_found_when_main_came_back_older(
    old: Path, reader: SqliteReader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An old file beside the new one, which main.db does not list, is removed."""
    caplog.set_level(logging.INFO)
    before = digest_of(reader)
    shutil.copytree(old, tmp_path / "backup")
    with SqliteAdmin(old).reindexing(wait_seconds=0) as work:
        work.renew(DAY)
    reader.close()
    for end in ("", "-wal", "-shm"):
        shutil.copy(tmp_path / "backup" / f"main.db{end}", old)
    SqliteWriter(old, clock=clock).close()
    assert digest_of(reader) == before
    shutil.copy(tmp_path / "backup" / OLD, old)
    SqliteWriter(old, clock=clock).close()
    assert digest_of(reader) == before
    assert files(old) == {NEW, "day-2026-11-22.db", "reindexing"}
    assert f"removing {OLD}" in caplog.text


def test_day_made_new_is_taken_in_when_main_is_gone(old: Path, reader: SqliteReader) -> None:
    before = digest_of(reader)[:2]
    with SqliteAdmin(old).reindexing(wait_seconds=0) as work:
        work.renew(DAY)
    reader.close()
    for path in old.glob("main.db*"):
        path.unlink()
    SqliteWriter(old, clock=clock, new_index=True).close()
    assert digest_of(reader)[:2] == before
