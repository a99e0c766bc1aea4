"""Days of an earlier version are read, written and counted as before; filters that they have no index for are refused,
naming the day from which the filter works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.support.days import days_of_version_1
from tests.support.records import DAY_MS, NOON, batch, everything, record, sequences, walk

from asgi_audit.errors import QueryError
from asgi_audit.store.query import statuses_of
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter

YESTERDAY = NOON - DAY_MS


def clock() -> float:
    return (NOON + 3_600_000) / 1000


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Yesterday is of version 1 and holds the sequences 1 to 6; today is of version 2 and holds 11 to 13."""
    with days_of_version_1():
        writer = SqliteWriter(tmp_path, clock=clock)
        writer.write(batch(record(s, YESTERDAY + s, status=(200, 404, 500)[s % 3]) for s in range(1, 7)))
        writer.close()
    writer = SqliteWriter(tmp_path, clock=clock)
    writer.write(batch(record(s, NOON + s, route="/orders") for s in range(11, 14)))
    writer.close()
    assert versions(tmp_path) == {"day-2026-11-21.db": 1, "day-2026-11-22.db": 2}
    return tmp_path


def versions(index: Path) -> dict[str, Any]:
    found = {}
    for path in index.glob("day-*.db"):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        found[path.name] = connection.pragma("user_version")
        connection.close()
    return found


@pytest.fixture
def reader(index: Path) -> Iterator[SqliteReader]:
    reader = SqliteReader(index)
    yield reader
    reader.close()


def test_clock_of_an_index_without_a_believed_time_is_what_its_newest_day_says(index: Path) -> None:
    """Only once, because later the days may have been written under a wrong clock."""
    main = apsw.Connection(str(index / "main.db"))
    main.execute("DELETE FROM meta WHERE key = 'believed_ms'")
    main.close()
    later = NOON + 400 * DAY_MS
    for n in range(2):
        writer = SqliteWriter(index, clock=lambda: later / 1000)
        assert writer.last_believed() == (NOON + DAY_MS // 2) / 1000
        writer.write(batch([record(20 + n, later)]))
        writer.close()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [13, 12, 11, 6, 5, 4, 3, 2, 1]),
        ({"accounts": frozenset({"acme"}), "service": "gateway", "instance": "i1"}, [13, 12, 11, 6, 5, 4, 3, 2, 1]),
        ({"levels": frozenset({"ERROR", "WARN"})}, [5, 4, 2, 1]),
        ({"failure": True}, [5, 2]),
        ({"failure": False}, [13, 12, 11, 6, 4, 3, 1]),
        ({"statuses": statuses_of("4xx")}, [4, 1]),
        ({"statuses": statuses_of("400-599")}, [5, 4, 2, 1]),
        ({"principal": ""}, [13, 12, 11, 6, 5, 4, 3, 2, 1]),
        ({"text": "404 orders"}, [4, 1]),
        ({"text": '"orders"', "order": "oldest"}, [1, 2, 3, 4, 5, 6, 11, 12, 13]),
        ({"except_service": "gateway"}, []),
    ],
)
def test_day_of_version_1_is_read_and_counted(reader: SqliteReader, given: dict[str, Any], expected: list[int]) -> None:
    query = everything(**given)
    assert sequences(walk(reader, query, limit=2)) == expected
    assert reader.count(query, published=2) == len(expected)


def test_day_of_version_1_is_written_on_as_it_is(index: Path, reader: SqliteReader) -> None:
    writer = SqliteWriter(index, clock=clock)
    written = writer.write(batch(record(s, YESTERDAY + s) for s in range(4, 9)))
    assert (written.inserted, written.duplicates) == (2, 3)
    assert sequences(walk(reader, everything(end=NOON))) == [8, 7, 6, 5, 4, 3, 2, 1]
    assert sequences(walk(reader, everything(end=NOON, method="GET", text="200"))) == [8, 7, 6, 3]
    writer.close()
    assert versions(index)["day-2026-11-21.db"] == 1


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"outcome": "completed"}, "outcome"),
        ({"client": "192.0.2.1"}, "client"),
        ({"route": "/orders"}, "route"),
        ({"path_prefix": "/orders"}, "path_prefix"),
        ({"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}, "trace_id"),
        ({"text": '"get orders"'}, "text"),
    ],
)
def test_filter_is_refused_naming_the_day_from_which_it_works(
    reader: SqliteReader, given: dict[str, Any], field: str
) -> None:
    later = everything(**given, start=NOON - DAY_MS // 2)
    reader.page(later, published=2, before=None, limit=10, bytes_max=1 << 20)
    query = everything(**given)
    for ask in (
        lambda: reader.page(query, published=2, before=None, limit=10, bytes_max=1 << 20),
        lambda: reader.count(query, published=2),
    ):
        with pytest.raises(QueryError, match=rf"^{field}: .* it works from 2026-11-22 \(UTC\) on") as raised:
            ask()
        assert (raised.value.kind, raised.value.field) == ("invalid", field)


def test_filter_is_refused_on_a_later_page_too(reader: SqliteReader) -> None:
    """Its window includes the day, whether or not the page reaches it: the result must not change between pages."""
    with pytest.raises(QueryError, match="it works from 2026-11-22"):
        reader.page(everything(route="/orders"), published=2, before=None, limit=1, bytes_max=1 << 20)


def test_histogram_is_refused_over_a_day_of_version_1(reader: SqliteReader) -> None:
    today = NOON - DAY_MS // 2
    found = reader.histogram(everything(start=today, end=today + DAY_MS), published=2, by="level", minutes=60)
    assert found == [(NOON, {"INFO": 3})]
    with pytest.raises(QueryError, match=r"histogram: .* it works from 2026-11-22"):
        reader.histogram(everything(start=today - DAY_MS, end=today + DAY_MS), published=2, by="level", minutes=60)
