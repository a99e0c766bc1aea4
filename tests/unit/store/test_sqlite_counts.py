"""Goal: a reader counts a day once, then only the rows added since; it counts all again when the file is another
one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.records import DAY_MS, NOON, batch, everything, record

from asgi_audit.errors import StoreError
from asgi_audit.store.base import IndexVersion
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter, counting
from asgi_audit.store.sqlite import reader as module
from asgi_audit.store.sqlite.counts import COUNTS_MAX, Counted, Counts, DayFile, name_of_filters

DAYS = 4


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SqliteWriter]:
    """An index with one record on each of four days, one batch each; the last day is today."""
    writer = SqliteWriter(tmp_path / "index", clock=lambda: (NOON + DAY_MS) / 1000)
    for n in range(DAYS):
        writer.write(batch([record(n + 1, NOON - (DAYS - 1 - n) * DAY_MS)]))
    yield writer
    writer.close()


@pytest.fixture
def reader(writer: SqliteWriter) -> Iterator[SqliteReader]:
    reader = SqliteReader(writer.directory)
    yield reader
    reader.close()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The counted reads, as `count DAY` and `count_added DAY`."""
    read: list[str] = []

    def noting(name: str) -> Any:
        original = getattr(module, name)

        def noted(connection: Any, *asked: Any) -> Any:
            read.append(f"{name} {Path(connection.filename).stem.removeprefix('day-')}")
            return original(connection, *asked)

        return noted

    for name in ("count", "count_added"):
        monkeypatch.setattr(module, name, noting(name))
    return read


def total(reader: SqliteReader, published: int | None = None, **filters: Any) -> int:
    published = reader.snapshot().published if published is None else published
    return reader.count(everything(**filters), published=published)


def test_day_is_not_looked_at_again_when_another_one_changed(
    writer: SqliteWriter, reader: SqliteReader, counted: list[str]
) -> None:
    assert total(reader) == DAYS
    assert len(counted) == DAYS
    counted.clear()
    assert total(reader) == DAYS
    assert not counted
    for n in range(3):
        writer.write(batch([record(9 + n, NOON + n)]))
        assert total(reader) == DAYS + 1 + n
        assert total(reader, failure=True, start=NOON + n) == 0
    assert [c for c in counted if "11-22" not in c] == []
    assert counted.count("count_added 2026-11-22") == 3


def test_late_record_of_a_past_day_is_counted_in_the_snapshots_that_have_it(
    writer: SqliteWriter, reader: SqliteReader, counted: list[str]
) -> None:
    before = reader.snapshot().published
    assert total(reader) == DAYS
    writer.write(batch([record(9, NOON - DAY_MS), record(10, NOON - DAY_MS, account="beta")]))
    counted.clear()
    assert total(reader, before) == DAYS, "an older snapshot does not have it"
    for _ in range(2):
        assert total(reader) == DAYS + 2
    assert counted == ["count_added 2026-11-21"] * 2
    assert total(reader, before) == DAYS
    assert counted[2:] == ["count 2026-11-21"], "of what is remembered only a later snapshot can be told"
    assert total(reader) == DAYS + 2
    assert len(counted) == 3, "the count of the later snapshot is kept"


@pytest.mark.parametrize("most", [3, 2])
def test_rows_that_were_added_are_counted_only_when_they_are_few(
    writer: SqliteWriter, reader: SqliteReader, counted: list[str], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(counting, "_ADDED_MAX", most)
    assert total(reader, service="gateway") == DAYS
    writer.write(batch(record(9 + n, NOON + n) for n in range(3)))
    counted.clear()
    assert total(reader, service="gateway") == DAYS + 3
    assert ("count 2026-11-22" in counted) == (most == 2)


def test_search_counts_the_day_again_only_when_what_was_added_lies_far_apart(
    writer: SqliteWriter, reader: SqliteReader, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "_ADDED_MAX", 2)
    assert total(reader, text="orders") == DAYS
    writer.write(batch([record(9, NOON + 9), record(10, NOON + 10, path="/invoices")]))
    counted.clear()
    assert total(reader, text="orders") == DAYS + 1
    assert total(reader, text="nowhere") == 0
    counted.clear()
    writer.write(batch([record(11, NOON + 11), record(12, NOON + 1)]))
    assert total(reader, text="orders") == DAYS + 3
    assert total(reader, text="nowhere") == 0
    assert counted == ["count_added 2026-11-22", "count 2026-11-22"] * 2


def test_snapshot_that_the_index_has_not_reached_is_not_remembered(writer: SqliteWriter, reader: SqliteReader) -> None:
    """The snapshot of an index that was here before: the new index has not reached its batches yet."""
    assert total(reader, 99) == DAYS
    writer.write(batch([record(9, NOON + 1)]))
    assert total(reader, 99) == DAYS + 1
    assert total(reader) == DAYS + 1


def test_whole_days_are_counted_once_for_windows_that_differ(reader: SqliteReader, counted: list[str]) -> None:
    assert total(reader) == DAYS
    counted.clear()
    assert total(reader, start=NOON - DAY_MS + 1) == 1
    assert counted == ["count 2026-11-21"], "the part of a day that the window begins in"
    assert total(reader, start=NOON - DAY_MS) == 2
    assert counted == ["count 2026-11-21"] * 2


def test_filters_and_accounts_have_counts_of_their_own(writer: SqliteWriter, reader: SqliteReader) -> None:
    writer.write(batch([record(20, NOON - DAY_MS, account="beta", status=500, service="billing")]))
    for _ in range(2):
        assert total(reader) == DAYS + 1
        assert total(reader, accounts=frozenset(["acme"])) == DAYS
        assert total(reader, accounts=frozenset(["beta"])) == 1
        assert total(reader, accounts=frozenset(["beta", "acme"])) == DAYS + 1
        assert total(reader, accounts=frozenset()) == 0
        assert total(reader, account="beta") == 1
        assert total(reader, failure=True) == 1
        assert total(reader, service="gateway") == DAYS
        assert total(reader, except_service="gateway") == 1


def test_day_is_counted_again_when_its_file_was_replaced(
    writer: SqliteWriter, reader: SqliteReader, tmp_path: Path
) -> None:
    """Method: an operator replaces a day by that of another index. main.db is the same for both."""
    other = SqliteWriter(tmp_path / "other", clock=lambda: (NOON + DAY_MS) / 1000)
    for n in range(DAYS):
        other.write(batch([record(n + 1, NOON - (DAYS - 1 - n) * DAY_MS + m, process=None, identity=f"{n} {m}")
                           for m in range(3)]))  # fmt: skip
    other.close()
    assert total(reader) == DAYS
    name = "day-2026-11-20.db"
    for suffix in ("-wal", "-shm", ""):
        (writer.directory / (name + suffix)).unlink(missing_ok=True)
        shutil.copy(tmp_path / "other" / (name + suffix), writer.directory / (name + suffix))
    assert total(reader) == DAYS + 2


def test_missing_file_is_an_error_when_its_day_was_counted_before(writer: SqliteWriter, reader: SqliteReader) -> None:
    assert total(reader) == DAYS
    (writer.directory / "day-2026-11-20.db").unlink()
    with pytest.raises(StoreError, match="2026-11-20"):
        total(reader)


def test_purged_day_counts_no_more(writer: SqliteWriter, reader: SqliteReader) -> None:
    assert total(reader) == DAYS
    writer.purge(NOON - DAY_MS)
    assert total(reader) == 2


def test_counts_are_bounded_and_the_one_used_longest_ago_goes_first() -> None:
    counts = Counts()
    file = DayFile(IndexVersion("x", 1), "2026-11-22", 0, 1, 2, 3)
    counts.put(file, b"first", 0, 1, Counted(5, 7))
    counts.put(file, b"first", 0, 1, Counted(4, 6))
    for n in range(COUNTS_MAX + 10):
        assert counts.get(file, b"first", 0, 1) == (5, 7), "used all the time"
        counts.put(file, b"", n, n + 1, Counted(1, n))
    assert len(counts._found) == COUNTS_MAX
    assert counts.get(file, b"", 0, 1) is None


def test_filters_have_one_name_whatever_the_order_of_their_values() -> None:
    names = [f"account-{n}" for n in range(50)]
    one = name_of_filters(everything(accounts=frozenset(names), start=1, order="oldest"))
    assert one == name_of_filters(everything(accounts=frozenset(reversed(names))))
    assert one != name_of_filters(everything(accounts=frozenset(names[1:])))
    assert one != name_of_filters(everything(account="account-1"))
