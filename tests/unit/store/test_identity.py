"""A missing or replaced index: for its reader, its writer, and commands that inspect it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import apsw
import pytest
from tests.support.records import DAY_MS, NOON, batch, over_days, read_until, record

from asgi_audit.errors import StoreError
from asgi_audit.record.line import TIME_END
from asgi_audit.store.base import Query, Reader
from asgi_audit.store.identity import Seen
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter, completeness, inspect, purge_directory
from asgi_audit.store.state import Incident

DAY = "day-2026-11-22.db"


def clock() -> float:
    return NOON / 1000


def copied(index: Path) -> Path:
    shutil.copytree(index, index.parent / "copy")
    return index.parent / "copy"


def moved(index: Path) -> None:
    index.rename(index.parent / "moved")


def emptied(index: Path) -> None:
    moved(index)
    index.mkdir()


def replaced(index: Path) -> None:
    moved(index)
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(9)]))
    writer.close()


def unlinked(index: Path) -> None:
    shutil.rmtree(index)


def cut_to_nothing(index: Path) -> None:
    os.truncate(index / "main.db", 0)


def without_main(index: Path) -> None:
    for end in ("", "-wal", "-shm"):
        (index / f"main.db{end}").unlink()


def a_file_in_its_place(index: Path) -> None:
    moved(index)
    index.write_text("")


GONE = [moved, emptied, replaced, unlinked, cut_to_nothing, without_main, a_file_in_its_place]


def asked(reader: Reader) -> list[Callable[[], object]]:
    query = Query(accounts=None, start=0, end=TIME_END)
    return [
        reader.check,
        reader.snapshot,
        lambda: reader.page(query, published=5, before=None, limit=10, bytes_max=1 << 20),
        lambda: reader.seen(None, "gateway", "i1"),
        reader.processes,
        lambda: reader.completeness(0, TIME_END),
        lambda: reader.incidents(0, TIME_END),
        reader.dead_letters,
    ]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    writer = SqliteWriter(tmp_path / "index", clock=clock)
    writer.write(batch([record(1)]))
    writer.close()
    return tmp_path / "index"


def test_id_stays_and_no_two_are_alike(index: Path, tmp_path: Path) -> None:
    first = SqliteWriter(index, clock=clock)
    second = SqliteWriter(tmp_path / "other", clock=clock)
    assert first.id != second.id
    assert first.made_at_ms == second.made_at_ms == NOON
    facts = inspect(index)
    assert facts is not None
    assert facts.id == first.id
    first.close()
    second.close()


def test_index_of_the_first_version_gets_an_id_when_it_is_opened_for_writing(index: Path) -> None:
    connection = apsw.Connection(str(index / "main.db"))
    connection.execute("DELETE FROM meta WHERE key IN ('id', 'made_at_ms')")
    connection.close()
    memory = Seen()
    reader = SqliteReader(index, memory)
    assert reader.snapshot().published == 1
    assert memory.named() == {}
    writer = SqliteWriter(index, clock=clock)
    again = SqliteReader(index, memory)
    assert again.snapshot().published == 1
    assert memory.named() == {"this process": writer.id}
    assert writer.made_at_ms is None
    writer.close()
    reader.close()
    again.close()


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "new"])
@pytest.mark.parametrize("gone", GONE, ids=lambda f: f.__name__)
def test_reader_says_so_when_the_index_that_was_seen_is_gone(
    gone: Callable[[Path], None], is_open: bool, index: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Seen()
    reader = SqliteReader(index, memory)
    reader.snapshot()
    gone(index)
    if not is_open:
        reader.close()
        reader = SqliteReader(index, memory)
    for ask in asked(reader):
        with pytest.raises(StoreError) as e:
            ask()
        assert e.value.retriable  # 503: it may return
    assert len(caplog.records) <= 1  # not once per query
    assert all(len(r.getMessage()) > 40 for r in caplog.records)
    with pytest.raises(StoreError):
        inspect(index, memory=memory)
    reader.close()


class MadeMeanwhile(Seen):
    """Another process creates the index and names it just before the n-th read of the names."""

    def __init__(self, index: Path, call: int) -> None:
        super().__init__()
        self._at, self._left = index, call

    def named(self, *, again: bool = False) -> Mapping[str, str]:
        self._left -= 1
        if self._left == 0:
            writer = SqliteWriter(self._at, clock=clock)
            writer.write(batch([record(1)]))
            self.remember(writer.id)
            writer.close()
        return super().named()


@pytest.mark.parametrize("call", [1, 2, 3])
def test_index_that_is_made_while_a_reader_looks_is_never_called_gone(call: int, tmp_path: Path) -> None:
    memory = MadeMeanwhile(tmp_path / "new", call)
    reader = SqliteReader(tmp_path / "new", memory)
    assert [reader.snapshot().published for _ in range(3)][-1] == 1
    reader.close()
    memory = MadeMeanwhile(tmp_path / "another", call)
    assert [inspect(tmp_path / "another", memory=memory) is None for _ in range(3)][-1] is False


@pytest.mark.parametrize("gone", GONE, ids=lambda f: f.__name__)
def test_writer_makes_no_other_index_when_the_one_that_is_named_is_gone(
    gone: Callable[[Path], None], index: Path
) -> None:
    memory = Seen()
    SqliteWriter(index, clock=clock, memory=memory).close()
    named = dict(memory.named())
    gone(index)
    before = sorted(p.name for p in index.iterdir()) if index.is_dir() else None
    with pytest.raises(StoreError) as e:
        SqliteWriter(index, clock=clock, memory=memory)
    assert "--new-index" in e.value.hint or not index.is_dir()
    after = sorted(p.name for p in index.iterdir()) if index.is_dir() else None
    assert set(after or []) - set(before or []) <= {"lease", "reserve"}
    assert (after is None) == (before is None)
    assert memory.named() == named


@pytest.mark.parametrize("gone", [moved, emptied, replaced, unlinked, cut_to_nothing, without_main])
def test_writer_makes_or_takes_an_index_when_it_is_said_to_be_meant(gone: Callable[[Path], None], index: Path) -> None:
    memory = Seen()
    SqliteWriter(index, clock=clock, memory=memory).close()
    gone(index)
    writer = SqliteWriter(index, clock=clock, memory=memory, new_index=True)
    assert memory.named() == {"this process": writer.id}
    writer.close()
    SqliteWriter(index, clock=clock, memory=memory).close()


@pytest.mark.parametrize("gone", [cut_to_nothing, without_main])
def test_day_files_without_main_are_never_taken_for_a_new_index(gone: Callable[[Path], None], index: Path) -> None:
    """No id is remembered: the remaining files are enough to detect it."""
    gone(index)
    with pytest.raises(StoreError, match=r"main\.db .* is gone"):
        SqliteWriter(index, clock=clock)
    writer = SqliteWriter(index, clock=clock, new_index=True)
    reader = SqliteReader(index)
    assert reader.records() == 1
    assert reader.seen(None, "gateway", "i1")
    reader.close()
    writer.close()


def day_unlinked(index: Path) -> None:
    (index / DAY).unlink()


def day_replaced(index: Path) -> None:
    shutil.copy(index / DAY, index / "x")
    os.replace(index / "x", index / DAY)


def day_cut(index: Path) -> None:
    os.truncate(index / DAY, 4096)


def wal_unlinked(index: Path) -> None:
    (index / "main.db-wal").unlink()


def lease_unlinked(index: Path) -> None:
    (index / "lease").unlink()


@pytest.mark.parametrize(
    "gone",
    [moved, emptied, unlinked, cut_to_nothing, without_main, day_unlinked, day_replaced, day_cut, wal_unlinked,
     lease_unlinked],
    ids=lambda f: f.__name__,
)  # fmt: skip
@pytest.mark.parametrize("when", ["before", "in the middle"])
def test_batch_is_not_acknowledged_when_its_files_are_gone(
    when: str, gone: Callable[[Path], None], index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle: after the day file's commit, before main.db's."""
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(2)]))
    if when == "before":
        gone(index)
    else:
        original = writer._write_main

        def write_main(*given: object) -> None:
            gone(index)
            original(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(writer, "_write_main", write_main)
    with pytest.raises(StoreError) as e:
        writer.write(batch([record(3)]))
    assert not e.value.retriable
    writer.close()


@pytest.mark.parametrize("gone", [moved, emptied, unlinked, without_main], ids=lambda f: f.__name__)
def test_idle_writer_notices_within_a_second_that_its_index_is_gone(
    gone: Callable[[Path], None], index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = [100.0]
    monkeypatch.setattr("asgi_audit.store.sqlite.writer.time.monotonic", lambda: at[0])
    writer = SqliteWriter(index, clock=clock)
    writer.read_until(read_until(1.0))
    gone(index)
    at[0] += 1.0
    with pytest.raises(StoreError, match="removed, replaced"):
        writer.read_until(read_until(2.0))
    writer.close()


def test_writer_goes_on_when_the_index_it_has_seen_is_back(index: Path) -> None:
    memory = Seen()
    writer = SqliteWriter(index, clock=clock, memory=memory)
    moved(index)
    with pytest.raises(StoreError):
        writer.write(batch([record(2)]))
    writer.close()
    (index.parent / "moved").rename(index)
    writer = SqliteWriter(index, clock=clock, memory=memory)
    assert writer.write(batch([record(2)])).inserted == 1
    writer.close()


@pytest.mark.parametrize("gone", [day_unlinked, lambda index: os.truncate(index / DAY, 0)])
def test_day_whose_file_is_gone_is_no_empty_day(gone: Callable[[Path], None], index: Path) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(2, NOON - DAY_MS)]))
    writer.close()
    reader = SqliteReader(index)
    gone(index)

    def page(start: int, end: int) -> int:
        query = Query(accounts=None, start=start, end=end)
        return len(reader.page(query, published=9, before=None, limit=10, bytes_max=1 << 20)[0])

    assert page(NOON - DAY_MS, NOON - DAY_MS + 1) == 1  # rows of other days are returned
    with pytest.raises(StoreError, match=f"{DAY} .* is gone"):
        page(NOON, NOON + 1)
    with pytest.raises(StoreError, match=f"{DAY} .* is gone"):
        reader.records()
    for look in (reader.check, lambda: inspect(index), lambda: SqliteWriter(index, clock=clock)):
        with pytest.raises(StoreError, match=f"{DAY} .* is gone"):
            look()
    reader.close()


@pytest.mark.parametrize("gone", [day_unlinked, lambda index: os.truncate(index / DAY, 0)])
def test_day_that_is_given_up_stays_an_incident(gone: Callable[[Path], None], index: Path) -> None:
    """T has passed the day and does not depend on a file: without the incident its records would be lost silently."""
    day = NOON - NOON % DAY_MS
    gone(index)
    writer = SqliteWriter(index, clock=clock, new_index=True)
    assert writer.resumed().last_incident == 1, "the indexer numbers its own from there"
    writer.write(batch([record(2)]))  # new records are accepted again
    writer.close()
    for _ in range(2):  # also after a restart, with and without the flag
        SqliteWriter(index, clock=clock).close()
        SqliteWriter(index, clock=clock, new_index=True).close()
        reader = SqliteReader(index)
        (incident,) = reader.incidents(0, TIME_END)
        assert (incident.kind, incident.start, incident.end, incident.opened_at, incident.resolved_at) == (
            "day_lost", day, day + DAY_MS, NOON, None,
        )  # fmt: skip
        assert "2026-11-22" in incident.detail
        counts = [reader.completeness(at, at + 1).incidents for at in (day - 1, day, day + DAY_MS - 1, day + DAY_MS)]
        assert counts == [0, 1, 1, 0]
        query = Query(accounts=None, start=0, end=TIME_END)
        assert len(reader.page(query, published=9, before=None, limit=10, bytes_max=1 << 20)[0]) == 1
        reader.close()


def test_day_that_is_given_up_is_an_incident_until_it_is_purged(index: Path) -> None:
    day_unlinked(index)
    writer = SqliteWriter(index, clock=lambda: NOON / 1000 + 2 * 86_400, new_index=True)
    writer.purge(NOON)
    assert len(writer_incidents(index)) == 1, "the horizon stands at the beginning of that day"
    writer.purge(NOON + DAY_MS)
    assert writer_incidents(index) == []
    assert writer.resumed().last_incident == 1, "its number is not given again"
    writer.close()


def writer_incidents(index: Path) -> list[Incident]:
    reader = SqliteReader(index)
    try:
        return list(reader.incidents(0, TIME_END))
    finally:
        reader.close()


def test_nothing_is_given_up_when_the_incident_cannot_be_written(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between the two would leave a day that neither exists nor is reported."""
    day_unlinked(index)

    def breaks(*_: object) -> None:
        raise apsw.FullError

    with monkeypatch.context() as patched:
        patched.setattr(completeness, "note_lost_days", breaks)
        with pytest.raises(StoreError):
            SqliteWriter(index, clock=clock, new_index=True)
    with pytest.raises(StoreError, match=f"{DAY} .* is gone"):
        SqliteWriter(index, clock=clock)


def test_day_is_never_called_gone_when_it_is_purged_while_it_is_read(index: Path) -> None:
    """Readers run in a loop beside a writer that adds and purges days."""
    writer = SqliteWriter(index, clock=clock)
    stop = threading.Event()
    errors: list[StoreError] = []

    def read() -> None:
        reader = SqliteReader(index)
        while not stop.is_set():
            try:
                for ask in asked(reader):
                    ask()
                inspect(index)
            except StoreError as e:
                errors.append(e)
        reader.close()

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(20):
            first = NOON - (60 - turn) * DAY_MS
            writer.write(batch(record(10 * turn + d, first + d * DAY_MS) for d in (1, 2, 3)))
            writer.purge(first + DAY_MS)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        writer.close()
    assert not errors, errors[0]


def test_purge_is_not_asked_of_another_index(index: Path) -> None:
    memory = Seen()
    SqliteReader(index, memory).snapshot()
    replaced(index)
    with pytest.raises(StoreError, match="expects the index"):
        purge_directory(index, NOON, wait_seconds=0, memory=memory)
    assert not list(index.glob("purge-*"))


@pytest.mark.parametrize("number", ["ESTALE", "EIO", "EACCES"])
def test_stale_handle_of_a_network_disk_is_a_store_error(
    number: str, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    reader = SqliteReader(index, Seen())
    reader.snapshot()
    writer = SqliteWriter(index, clock=clock)
    stat = os.stat

    def stale(path: object, *given: object, **more: object) -> os.stat_result:
        if isinstance(path, Path) and path.is_relative_to(index):
            raise OSError(getattr(errno, number), "stale")
        return stat(path, *given, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", stale)
        for ask in asked(reader)[1:]:
            with pytest.raises(StoreError):
                ask()
        with pytest.raises(StoreError):
            writer.write(batch([record(2)]))
    assert reader.snapshot().published == 1
    assert writer.write(batch(over_days(1, 3))).inserted
    reader.close()
    writer.close()
