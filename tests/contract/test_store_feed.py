"""Goal: a feed returns every record of its accounts once, in the order in which it was indexed, including late ones of
past days; when a purge removes unread records, the feed reports it.

Method: hypothesis interleaves batches (around two midnights, of two accounts), pages of three feeds and purges. The
oracle is a list of the batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.memory_store import MemoryStore
from tests.support.records import DAY_MS, NOON, batch, foreign, record

from asgi_audit.errors import QueryError
from asgi_audit.record.codec import Decoded, decode
from asgi_audit.store.base import Fed, Place, Query
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter
from asgi_audit.store.sqlite.schema import DAY_1

MIDNIGHTS = (NOON - DAY_MS // 2, NOON + DAY_MS // 2)
EVER = 1 << 20  # bytes of a page


def clock() -> float:
    return (NOON + DAY_MS) / 1000


@contextmanager
def sqlite() -> Iterator[tuple[Any, Any]]:
    with TemporaryDirectory() as directory:
        writer = SqliteWriter(Path(directory), clock=clock)
        reader = SqliteReader(Path(directory))
        try:
            yield writer, reader
        finally:
            reader.close()
            writer.close()


@contextmanager
def memory() -> Iterator[tuple[Any, Any]]:
    twin = MemoryStore(clock=clock)
    yield twin, twin


STORES: dict[str, Any] = {"sqlite": sqlite, "memory": memory}


@dataclass
class Feed:
    accounts: frozenset[str] | None
    place: Place | None = None
    left: list[tuple[int, Decoded]] = field(default_factory=list)  # (batch, record) still to be returned

    def owns(self, d: Decoded) -> bool:
        return self.accounts is None or d.account in self.accounts


times = st.integers(-3, 3).map(lambda n: MIDNIGHTS[0] + n) | st.integers(-3, 3).map(lambda n: MIDNIGHTS[1] + n)
one = st.tuples(st.sampled_from(["acme", "beta"]), times)
steps = st.lists(
    st.tuples(st.just("index"), st.lists(one, min_size=1, max_size=8))
    | st.tuples(st.just("page"), st.tuples(st.integers(0, 2), st.integers(1, 5), st.sampled_from([1_500, EVER])))
    | st.tuples(st.just("page"), st.tuples(st.integers(0, 2), st.integers(1, 5), st.just(EVER)))
    | st.tuples(st.just("purge"), st.sampled_from(MIDNIGHTS)),
    min_size=3,
    max_size=30,
)


@pytest.mark.parametrize("name", STORES)
@settings(deadline=None)
@given(steps=steps, is_hurried=st.booleans())
def test_feed_gives_everything_once_and_says_what_was_purged(name: str, steps: list[Any], is_hurried: bool) -> None:
    feeds = [Feed(frozenset({"acme"})), Feed(frozenset({"beta", "none"})), Feed(None)]
    there: list[tuple[int, Decoded]] = []
    lost: list[tuple[int, Decoded]] = []  # purged
    batches = made = 0
    with STORES[name]() as (writer, reader):
        for step, asked in steps:
            if step == "index":
                records = [record(made + n, at, account=account) for n, (account, at) in enumerate(asked, 1)]
                made += len(records)
                kept = [d for d in records if d.timestamp >= horizon_of(lost)]
                if writer.write(batch(records)).inserted:
                    batches += 1
                kept.sort(key=lambda d: d.timestamp)
                there += [(batches, d) for d in kept]
                for feed in feeds:
                    feed.left += [(batches, d) for d in kept if feed.owns(d)]
            elif step == "purge":
                writer.purge(asked)
                lost += [(n, d) for n, d in there if d.timestamp < asked]
                there = [(n, d) for n, d in there if d.timestamp >= asked]
                lost.append((0, record(0, asked - 1, process=None, identity="mark")))
            else:
                which, limit, bytes_max = asked
                read(reader, feeds[which], there, lost, limit, bytes_max, 0.0 if is_hurried else 2.0)
        for feed in feeds:
            for _ in range(200):
                if not read(reader, feed, there, lost, 3, EVER, 2.0):
                    break
            assert feed.left == []


def horizon_of(lost: list[tuple[int, Decoded]]) -> int:
    return max((d.timestamp + 1 for n, d in lost if n == 0), default=0)


def read(
    reader: Any, feed: Feed, there: Any, lost: list[tuple[int, Decoded]], limit: int, bytes_max: int, seconds: float
) -> bool:
    """One page; False when nothing is left."""
    unread = [(n, d) for n, d in feed.left if (n, d) in lost]
    if feed.place is None:
        feed.left = [(n, d) for n, d in there if feed.owns(d)]
    fed: Fed | None = None
    with suppress(QueryError):
        fed = reader.feed(feed.accounts, after=feed.place, limit=limit, bytes_max=bytes_max, work_seconds=seconds)
    if fed is None:
        # In the current batch, rows that it has returned may count as well.
        assert feed.place is not None
        assert unread or any(n >= feed.place.iseq and feed.owns(d) for n, d in lost)
        feed.place = None
        return True
    assert feed.place is None or not unread, "purged records were passed over"
    given = [decode(row.record).sequence for row in fed.rows]
    assert given == [d.sequence for _, d in feed.left[: len(given)]]
    assert len(given) <= limit
    del feed.left[: len(given)]
    assert fed.more or not feed.left
    if seconds:
        assert fed.more == bool(feed.left)
        assert fed.rows or not fed.more
    feed.place = fed.place
    return fed.more


@pytest.mark.parametrize("name", STORES)
def test_feed_since_a_time_begins_with_the_first_record_indexed_of_then_or_later(name: str) -> None:
    with STORES[name]() as (writer, reader):
        writer.write(batch([record(1, NOON - DAY_MS), record(2, NOON)]))
        writer.write(batch([record(3, NOON + 5, account="beta"), record(4, NOON - 5)]))
        writer.write(batch([record(5, NOON + 7), record(6, NOON - 2 * DAY_MS)]))
        writer.write(batch([record(7, NOON - 9)]))

        def given_since(since: int, accounts: Any = frozenset({"acme"})) -> list[int]:
            fed = reader.feed(accounts, after=None, since=since, limit=10, bytes_max=EVER)
            assert not fed.more
            return [decode(row.record).sequence for row in fed.rows]

        assert given_since(NOON) == [1, 2, 4, 6, 5, 7]
        assert given_since(NOON + 1) == [6, 5, 7]  # not from beta's batch on
        assert given_since(NOON + 1, None) == [4, 3, 6, 5, 7]
        assert given_since(NOON + 8) == []
        assert given_since(0) == [1, 2, 4, 6, 5, 7]


@pytest.mark.parametrize("name", STORES)
def test_feed_is_gone_above_what_is_published(name: str) -> None:
    with STORES[name]() as (writer, reader):
        writer.write(batch([record(1, NOON)]))
        with pytest.raises(QueryError) as caught:
            reader.feed(None, after=Place(2, 0), limit=1, bytes_max=EVER)
        assert caught.value.kind == "gone"


def test_feed_that_was_away_too_long_to_know_what_was_purged_is_gone(tmp_path: Path) -> None:
    now = [NOON / 1000]
    writer = SqliteWriter(tmp_path, clock=lambda: now[0])
    reader = SqliteReader(tmp_path)
    writer.write(batch([record(1, NOON)]))
    place = reader.feed(None, after=None, limit=1, bytes_max=EVER).place
    for days in (1, 2, 150):
        now[0] = NOON / 1000 + days * 86_400
        writer.write(batch([record(1 + days, NOON + days * DAY_MS)]))
        writer.purge(NOON + days * DAY_MS)
    with pytest.raises(QueryError, match="purged"):
        reader.feed(None, after=place, limit=1, bytes_max=EVER)
    assert reader.feed(None, after=None, limit=9, bytes_max=EVER).place.horizon > 0
    reader.close()
    writer.close()


def test_feed_reads_an_index_that_an_earlier_version_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """main.db has no batches of that time, and the day has no index on them."""
    with monkeypatch.context() as patched:
        patched.setattr("asgi_audit.store.sqlite.day.DAY", DAY_1)
        patched.setattr("asgi_audit.store.sqlite.day.DAY_VERSION", 1)
        writer = SqliteWriter(tmp_path, clock=clock)
        for n in range(1, 5):
            writer.write(batch([record(n, NOON - n)]))
        writer.close()
    database = apsw.Connection(str(tmp_path / "main.db"))
    database.execute("DELETE FROM arrival")
    database.close()
    writer, reader = SqliteWriter(tmp_path, clock=clock), SqliteReader(tmp_path)
    for n in range(5, 8):
        writer.write(batch([record(n, NOON - n), record(100 + n, NOON - DAY_MS)]))
    place, more = None, True
    given: list[int] = []
    while more:
        rows, place, more = reader.feed(frozenset({"acme"}), after=place, limit=3, bytes_max=EVER)
        given += [decode(row.record).sequence for row in rows]
    assert given == [1, 2, 3, 4, 105, 5, 106, 6, 107, 7]
    reader.close()
    writer.close()


def test_page_of_a_feed_costs_the_same_wherever_it_stands(tmp_path: Path) -> None:
    """Counted in steps of SQLite's virtual machine, over an index of two days and 6,000 records."""
    writer, reader = SqliteWriter(tmp_path, clock=clock), SqliteReader(tmp_path)
    for n in range(60):
        writer.write(
            batch(record(n * 100 + s + 1, NOON - s - (n % 2) * DAY_MS, account=f"a{s % 4}") for s in range(100))
        )
    steps = 0
    costs = []
    place, more = None, True

    def stepped() -> bool:
        nonlocal steps
        steps += 1
        return False

    for file in (reader._main, *(reader._day(day) for day in ("2026-11-21", "2026-11-22"))):
        connection = file.get()
        assert connection is not None
        connection.set_progress_handler(stepped, 100, id="counting")
    total = 0
    while more:
        before = steps
        rows, place, more = reader.feed(frozenset({"a1"}), after=place, limit=100, bytes_max=EVER)
        costs.append(steps - before)
        total += len(rows)
    assert total == 1_500
    middle = sorted(costs[1:-1])
    assert middle[-1] <= 2 * middle[0] + 5, costs
    reader.close()
    writer.close()


def uuid7(ms: int, number: int) -> str:
    return f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7000-8000-{number:012x}"


@pytest.mark.parametrize("name", STORES)
def test_record_is_found_by_its_id_for_its_account_alone(name: str) -> None:
    with STORES[name]() as (writer, reader):
        ours = [
            record(s, NOON + s % 3, account="acme" if s % 2 else "beta", identity=uuid7(NOON + s % 3, s))
            for s in range(1, 40)
        ]
        theirs = [foreign(NOON - DAY_MS, name="order/1", account="beta"), foreign(NOON, name="x" * 200)]
        writer.write(batch(ours + theirs))
        later = record(99, NOON + 1, identity=uuid7(NOON + 1, 99))
        writer.write(batch([later]))
        for d in ours + theirs:
            for accounts in (None, frozenset({d.account}), frozenset({"acme", "beta"})):
                row = reader.find(accounts, d.id, published=1)
                assert row is not None
                assert row.record == d.data
            for accounts in (frozenset({"acme", "beta"} - {d.account}), frozenset[str]()):
                assert reader.find(accounts, d.id, published=1) is None
            assert reader.find(None, d.id, published=0) is None
        for wrong in (
            "",
            "x",
            ours[0].id[:-1],
            ours[0].id.upper() + "0",
            "0" * 36,
            "zzzzzzzz-zzzz-7zzz-zzzz-zzzzzzzzzzzz",
        ):
            assert reader.find(None, wrong, published=9) is None
        assert reader.find(None, later.id, published=1) is None
        assert reader.find(None, later.id, published=2) is not None


def given_by(reader: Any, accounts: frozenset[str] | None = None) -> list[int]:
    found: list[int] = []
    place, more = None, True
    while more:
        rows, place, more = reader.feed(accounts, after=place, limit=2, bytes_max=EVER)
        found += [decode(row.record).sequence for row in rows]
    return found


def test_feed_gives_what_an_interrupted_write_left_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The day files have the batch, main.db does not: the next writer publishes it, and the source sends it again."""
    writer, reader = SqliteWriter(tmp_path, clock=clock), SqliteReader(tmp_path)
    writer.write(batch([record(1, NOON), record(2, NOON - DAY_MS, account="beta")]))
    place = reader.feed(None, after=None, limit=9, bytes_max=EVER).place
    late = [record(3, NOON - DAY_MS), record(4, NOON + 1, account="beta"), record(5, NOON - 2 * DAY_MS)]
    with monkeypatch.context() as patched:

        def dies(*_: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(SqliteWriter, "_write_main", dies)
        with pytest.raises(KeyboardInterrupt):
            writer.write(batch(late))
    assert reader.feed(None, after=place, limit=9, bytes_max=EVER).rows == [], "nothing of it is published"
    writer.close()
    writer = SqliteWriter(tmp_path, clock=clock)
    writer.write(batch([*late, record(6, NOON)]))
    rows = reader.feed(None, after=place, limit=9, bytes_max=EVER).rows
    assert [decode(row.record).sequence for row in rows] == [5, 3, 4, 6]
    assert given_by(reader, frozenset({"beta"})) == [2, 4]
    assert given_by(reader, frozenset({"acme"})) == [1, 5, 3, 6]
    reader.close()
    writer.close()


def test_generation_is_raised_when_the_file_of_a_day_is_given_up(tmp_path: Path) -> None:
    writer, reader = SqliteWriter(tmp_path, clock=clock), SqliteReader(tmp_path)
    writer.write(batch([record(1, NOON), record(2, NOON - DAY_MS)]))
    before = reader.index()
    writer.close()
    for file in tmp_path.glob("day-2026-11-21*"):
        file.unlink()
    SqliteWriter(tmp_path, clock=clock, new_index=True).close()
    assert reader.index() == before._replace(generation=2)
    assert given_by(reader) == [1]
    SqliteWriter(tmp_path, clock=clock).close()
    assert reader.index().generation == 2
    reader.close()


@pytest.mark.parametrize("blocks_bytes_max", [None, 1])
def test_block_is_decompressed_once_for_a_page_of_many_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks_bytes_max: int | None
) -> None:
    """Records of one batch are in blocks of their stream, and a feed returns them in order of time."""
    writer, reader = SqliteWriter(tmp_path, clock=clock), SqliteReader(tmp_path)
    writer.write(batch(record(n, NOON + n, account=f"a{n % 60}") for n in range(1, 601)))
    calls = 0
    decompress = reader._blocks.decompress

    def counting(data: bytes) -> bytes:
        nonlocal calls
        calls += 1
        return decompress(data)

    reader._blocks.decompress = counting  # type: ignore[assignment]
    if blocks_bytes_max is not None:  # a block larger than the cache
        monkeypatch.setattr("asgi_audit.store.sqlite.blocks.BLOCKS_BYTES_MAX", blocks_bytes_max)
    rows = reader.feed(None, after=None, limit=1_000, bytes_max=EVER << 4).rows
    assert [decode(row.record).sequence for row in rows] == list(range(1, 601))
    assert calls == 19 if blocks_bytes_max is None else calls > 100  # blocks of 32
    if blocks_bytes_max is None:
        again = reader.page(
            Query(accounts=None, start=0, end=1 << 43), published=1, before=None, limit=99, bytes_max=EVER
        )
        assert len(again[0]) == 99
        assert calls == 19  # the blocks of the previous page
    reader.close()
    writer.close()
