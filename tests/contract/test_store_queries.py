"""Goal: for any query and any state of the index, both stores find, count and sum exactly the visible records that
`store.query.matches` accepts.

Method: hypothesis makes records of few values (so that filters match) around midnight, writes them in several
batches, takes a snapshot somewhere between them, purges a day or not, and runs random queries. The oracle is a
list."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.memory_store import MemoryStore
from tests.support.records import DAY_MS, NOON, batch, everything, record, sequences, walk

from asgi_audit.errors import QueryError
from asgi_audit.record.codec import Decoded
from asgi_audit.record.derived import LEVELS
from asgi_audit.record.line import TIME_END
from asgi_audit.store.base import HISTOGRAM_BUCKETS_MAX, Query
from asgi_audit.store.query import matches, statuses_of
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter

MINUTE_MS = 60_000
MIDNIGHT = NOON - DAY_MS // 2
FIRST, LAST = MIDNIGHT - 3 * MINUTE_MS, MIDNIGHT + 3 * MINUTE_MS
ROUTES = ("", "/", "/api", "/api/orders/{id}", "/api/ordersx", "/apix")
WORDS = ("alpha", "BETA", "Gamma", "naïve", "→")
TRACES = ("", "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7a3ce929d0e0e4736")


def clock() -> float:
    return (NOON + DAY_MS) / 1000


@contextmanager
def stores() -> Iterator[list[tuple[Any, Any]]]:
    """(writer, reader) of each store."""
    with tempfile.TemporaryDirectory() as directory:
        writer = SqliteWriter(Path(directory), clock=clock)
        reader = SqliteReader(Path(directory))
        twin = MemoryStore(clock=clock)
        try:
            yield [(writer, reader), (twin, twin)]
        finally:
            reader.close()
            writer.close()


def write(writer: Any, made: list[list[Decoded]], counted: int) -> None:
    """Writes these batches; the rollup of the `counted` first ones is written too, and the counts of the rest wait."""
    for n, records in enumerate(made, 1):
        writer.write(batch(records))
        if n == counted and isinstance(writer, SqliteWriter):
            writer._days.roll_up(1)


times = st.integers(FIRST, LAST - 1) | st.sampled_from(
    [FIRST, MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + MINUTE_MS - 1, MIDNIGHT + MINUTE_MS, LAST - 1]
)
contexts = st.fixed_dictionaries(
    {},
    optional={
        "route": st.sampled_from(ROUTES),
        "client": st.sampled_from(["", "192.0.2.1", "192.0.2.2"]),
        "traceId": st.sampled_from(TRACES),
        "outcome": st.sampled_from(["completed", "failed", "cancelled"]),
        "level": st.sampled_from(LEVELS),
        "message": st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(" ".join),
    },
)
fields = st.fixed_dictionaries(
    {
        "account": st.sampled_from(["acme", "beta"]),
        "service": st.sampled_from(["gateway", "logs"]),
        "instance": st.sampled_from(["i1", "i2"]),
        "method": st.sampled_from(["GET", "POST"]),
        "status": st.sampled_from([200, 204, 401, 404, 500]),
        "region": st.sampled_from(["eu", "global"]),
        "principal": st.sampled_from([None, "alice", "bob"]),
        "operation": st.sampled_from([None, "read", "write"]),
        "request_id": st.sampled_from(["r1", "r2"]),
    }
)


@st.composite
def batches(draw: st.DrawFn) -> list[list[Decoded]]:
    made: list[list[Decoded]] = []
    sequence = 0
    for size in draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)):
        made.append([])
        for _ in range(size):
            sequence += 1
            made[-1].append(record(sequence, draw(times), **draw(fields), **draw(contexts)))
    return made


def some(*values: Any) -> st.SearchStrategy[Any]:
    """Mostly not filtered: otherwise filters would never leave a record."""
    return st.one_of(st.none(), st.none(), st.none(), st.sampled_from(values))


searches = st.lists(st.sampled_from([w for w in WORDS if w.isalnum()]), min_size=1, max_size=3).flatmap(
    lambda said: st.sampled_from([" ".join(said), '"' + " ".join(said) + '"', said[0] + ' "' + " ".join(said) + '"'])
)
rolled_up = {
    "account": some("acme", "none"),
    "accounts": some(frozenset(["acme"]), frozenset(["acme", "beta"]), frozenset(["none"])),
    "service": some("gateway", "logs"),
    "except_service": some("logs"),
    "method": some("GET"),
    "levels": some(frozenset(["ERROR"]), frozenset(["INFO", "WARN", "DEBUG"])),
    "failure": some(True, False),
    "statuses": some(statuses_of("4xx"), statuses_of("404,200-299")),
}
queries = st.builds(
    dict,
    order=st.sampled_from(["newest", "oldest"]),
    window=st.tuples(times, times).map(sorted) | st.just([0, TIME_END]),
    instance=some("i1"),
    text=st.none() | searches,
    principal=some("alice", ""),
    operation=some("read", "GET"),
    request_id=some("r1"),
    region=some("eu"),
    outcome=some("failed"),
    client=some("192.0.2.1"),
    route=some("/api"),
    path_prefix=some("/", "/api", "/api/orders"),
    trace_id=some(TRACES[1]),
    **rolled_up,
)
narrow = st.builds(dict, window=st.tuples(times, times).map(sorted), **rolled_up)


def query_of(given: dict[str, Any]) -> Query:
    start, end = given["window"]
    return Query(start=start, end=end, **{name: value for name, value in given.items() if name != "window"})


@settings(deadline=None)
@given(
    made=batches(),
    seen=st.integers(0, 3),
    counted=st.integers(0, 4),
    asked=st.lists(queries | narrow, min_size=1, max_size=4),
    is_purged=st.booleans(),
    limit=st.integers(1, 5),
    skip=st.integers(0, 12),
)
def test_answers_are_those_of_the_oracle(
    made: list[list[Decoded]],
    seen: int,
    counted: int,
    asked: list[dict[str, Any]],
    is_purged: bool,
    limit: int,
    skip: int,
) -> None:
    visible = [d for records in made[: seen + 1] for d in records if not is_purged or d.timestamp >= MIDNIGHT]
    with stores() as both:
        for writer, reader in both:
            write(writer, made[: seen + 1], counted)
            published = reader.snapshot().published
            for given in asked:  # remembered counts must not stay when the day changes
                reader.count(query_of(given), published=published)
            write(writer, made[seen + 1 :], counted - seen - 1)
            for given in asked:
                now = [d for records in made for d in records if matches(query_of(given), d)]
                assert reader.count(query_of(given), published=reader.snapshot().published) == len(now)
            if is_purged:
                writer.purge(MIDNIGHT)
            for given in asked:
                query = query_of(given)
                found = [d for d in visible if matches(query, d)]
                rows = walk(reader, query, published=published, limit=limit)
                assert sorted(sequences(rows)) == sorted(d.sequence for d in found)
                at = [row.id >> 16 for row in rows]
                assert at == sorted(at, reverse=query.order == "newest")
                assert reader.count(query, published=published) == len(found)
                some_rows, _ = reader.page(
                    query, published=published, before=None, limit=limit, bytes_max=1 << 20, skip=skip
                )
                assert some_rows == rows[skip : skip + limit]


@settings(deadline=None)
@given(
    made=batches(),
    seen=st.integers(0, 3),
    counted=st.integers(0, 4),
    given=narrow,
    by=st.sampled_from(["level", "status"]),
    minutes=st.data(),
)
def test_histogram_sums_up_what_the_oracle_finds(
    made: list[list[Decoded]], seen: int, counted: int, given: dict[str, Any], by: Any, minutes: st.DataObject
) -> None:
    start, end = given.pop("window")
    if minutes.draw(st.booleans()):  # whole hours come from another table
        start, end = start - 90 * MINUTE_MS, end + 120 * MINUTE_MS
    width = minutes.draw(st.sampled_from([1, 2, 5, 60, 120]))
    query = Query(start=start, end=end, **given)
    expected: dict[int, Counter[str]] = {}
    for d in (d for records in made[: seen + 1] for d in records):
        if matches(query, d):
            at = d.timestamp // (width * MINUTE_MS) * width * MINUTE_MS
            expected.setdefault(at, Counter())[d.level if by == "level" else f"{d.status // 100}xx"] += 1
    with stores() as both:
        for writer, reader in both:
            write(writer, made[: seen + 1], counted)
            published = reader.snapshot().published
            write(writer, made[seen + 1 :], counted - seen - 1)
            found = reader.histogram(query, published=published, by=by, minutes=width)
            assert found == sorted((at, dict(counts)) for at, counts in expected.items())


@pytest.mark.parametrize("start", [0, 1, 17, 59, 60, 61])
@pytest.mark.parametrize("length", [1, 59, 60, 61, 119, 150, 181])
def test_count_is_exact_when_a_window_begins_and_ends_within_an_hour(
    hourly: SqliteReader, start: int, length: int
) -> None:
    """Whole hours and the minutes around them come from two tables, parts of a minute from the rows."""
    for more in (0, 1, MINUTE_MS - 1):
        begin, end = NOON + start * MINUTE_MS + more, NOON + (start + length) * MINUTE_MS - more
        seconds = [at for at in range(NOON + 20_000, NOON + 300 * MINUTE_MS, 20_000) if begin <= at < end]
        assert hourly.count(everything(start=begin, end=max(begin, end)), published=1) == len(seconds)


@pytest.fixture(scope="module")
def hourly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteReader]:
    """A record every 20 s for 5 hours, and a later batch that the snapshot 1 does not see."""
    index = tmp_path_factory.mktemp("hourly")
    writer, reader = SqliteWriter(index, clock=clock), SqliteReader(index)
    writer.write(batch(record(s, NOON + s * 20_000) for s in range(1, 900)))
    writer.write(batch(record(1000 + n, NOON + n * 7_000) for n in range(2_500)))
    yield reader
    reader.close()
    writer.close()


def test_count_is_refused_and_never_guessed_when_its_work_is_over(tmp_path: Path) -> None:
    writer, reader = SqliteWriter(tmp_path, clock=clock), SqliteReader(tmp_path)
    writer.write(batch(record(s, NOON + s) for s in range(1, 50)))
    published = reader.snapshot().published
    with pytest.raises(QueryError, match="use a shorter time range") as raised:
        reader.count(everything(text="orders"), published=published, work_seconds=0.0)
    assert raised.value.kind == "too_costly"
    assert reader.count(everything(text="orders"), published=published) == 49, "the reader goes on"
    writer.close()
    reader.close()


def test_count_reads_no_row_when_the_rollup_has_it(tmp_path: Path) -> None:
    """Method: the rows are deleted without the store's knowledge; only the rollup can know their number."""
    import apsw

    writer, reader = SqliteWriter(tmp_path, clock=clock), SqliteReader(tmp_path)
    writer.write(batch(record(s, NOON + s * 1000, status=200 + s % 3) for s in range(1, 100)))
    writer.close()
    database = apsw.Connection(str(tmp_path / "day-2026-11-22.db"))
    database.execute("DELETE FROM record")
    database.close()
    query = everything(accounts=frozenset(["acme"]), levels=frozenset(["INFO"]), statuses=statuses_of("201"))
    assert reader.count(query, published=1) == 33
    reader.close()


@pytest.mark.parametrize(
    ("given", "minutes", "field"),
    [
        ({"text": "x"}, 1, "text"),
        ({"instance": "i1"}, 1, "instance"),
        ({"start": NOON + MINUTE_MS - 1, "end": NOON + HISTOGRAM_BUCKETS_MAX * MINUTE_MS + 1}, 1, "minutes"),
        ({}, 0, "minutes"),
        ({"end": NOON + (HISTOGRAM_BUCKETS_MAX + 1) * MINUTE_MS}, 1, "minutes"),
    ],
)
def test_histogram_is_refused_when_the_rollup_cannot_tell(
    tmp_path: Path, given: dict[str, Any], minutes: int, field: str
) -> None:
    reader = SqliteReader(tmp_path)
    query = everything(**{"start": NOON, "end": NOON + HISTOGRAM_BUCKETS_MAX * MINUTE_MS, **given})
    with pytest.raises(QueryError) as raised:
        reader.histogram(query, published=0, by="level", minutes=minutes)
    assert (raised.value.kind, raised.value.field) == ("invalid", field)
    reader.close()


@pytest.mark.parametrize("text", ["", "40", "4x", "xxx", "0xx", "404-", "500-400", "099", "1000", "404;405", "4XX"])
def test_status_selector_is_refused_when_it_selects_none(text: str) -> None:
    with pytest.raises(QueryError, match="accepted: 404, 4xx and 400-499"):
        statuses_of(text)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"client": ""}, "client"),
        ({"trace_id": ""}, "trace_id"),
        ({"path_prefix": "api"}, "path_prefix"),
        ({"text": " "}, "text"),
        ({"order": "random"}, "order"),
    ],
)
def test_query_is_refused_when_no_record_can_have_its_value(given: dict[str, Any], field: str) -> None:
    with pytest.raises(QueryError) as raised:
        everything(**given)
    assert (raised.value.kind, raised.value.field) == ("invalid", field)
