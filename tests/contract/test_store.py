"""One suite for every store: a Reader returns what a Writer wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.support.memory_store import MemoryStore
from tests.support.records import (
    DAY_MS,
    NOON,
    OTHER,
    PROCESS,
    batch,
    everything,
    over_days,
    payload,
    read_until,
    record,
    sequences,
    statement,
    walk,
)

from asgi_audit.errors import QueryError
from asgi_audit.record.slices import usage_slice
from asgi_audit.store.base import IndexVersion, Reader, Snapshot, Writer, Written
from asgi_audit.store.query import statuses_of
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter
from asgi_audit.store.state import DeadLetter
from asgi_audit.transport.base import Position


class Store(NamedTuple):
    writer: Writer
    reader: Reader


def _clock() -> float:
    return (NOON + 3_600_000) / 1000


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        twin = MemoryStore(clock=_clock)
        yield Store(twin, twin)
        return
    writer = SqliteWriter(tmp_path / "index", clock=_clock)
    reader = SqliteReader(tmp_path / "index")
    yield Store(writer, reader)
    reader.close()
    writer.close()


def test_page_is_empty_and_snapshot_zero_when_nothing_was_written(store: Store) -> None:
    assert store.reader.snapshot() == Snapshot(0, 0.0)
    assert store.reader.index() == IndexVersion(store.writer.id, 1)
    assert store.reader.page(everything(), published=0, before=None, limit=10, bytes_max=100) == ([], False)
    assert not store.reader.seen(None, "gateway", "i1")
    assert store.reader.processes() == []
    assert store.reader.dead_letters() == 0
    assert store.writer.positions("test") == {}


def test_row_holds_the_very_bytes_and_cuts_when_read_back(store: Store) -> None:
    data = payload(1, body={"text": 'é "quoted" ,"context": 1e400', "n": [1, 2.50]})
    store.writer.write(batch([record(1, body={"text": 'é "quoted" ,"context": 1e400', "n": [1, 2.50]})]))
    (row,) = walk(store.reader)
    assert row.record == data
    assert usage_slice(row.record, row.cuts) == data[: data.rindex(b',"context"')] + b"}"


def test_page_is_newest_first_and_keeps_source_order_within_a_millisecond(store: Store) -> None:
    times = [(1, NOON + 5), (2, NOON), (3, NOON + 5), (4, NOON - 2 * DAY_MS), (5, NOON + 5)]
    written = store.writer.write(batch(record(s, t) for s, t in times))
    assert written == Written(inserted=5, duplicates=0, expired=0, dead=0)
    rows = walk(store.reader, limit=2)
    assert sequences(rows) == [5, 3, 1, 2, 4]
    assert [r.id for r in rows] == sorted({r.id for r in rows}, reverse=True)


def test_record_counts_as_duplicate_when_it_comes_again_in_one_batch_or_in_another(store: Store) -> None:
    assert store.writer.write(batch([record(1), record(1), record(2)])) == Written(2, 1, 0, 0)
    assert store.writer.write(batch([record(2), record(3), record(1)])) == Written(1, 2, 0, 0)
    assert sorted(sequences(walk(store.reader))) == [1, 2, 3]


def test_record_is_new_when_only_its_process_differs(store: Store) -> None:
    store.writer.write(batch([record(1), record(1, process=OTHER)]))
    assert len(walk(store.reader)) == 2


def test_foreign_record_is_told_apart_by_its_id_when_it_has_no_process(store: Store) -> None:
    foreign = [record(0, process=None, identity=name) for name in ("a", "b", "a")]
    assert store.writer.write(batch(foreign)) == Written(2, 1, 0, 0)
    assert store.writer.write(batch(foreign)) == Written(0, 3, 0, 0)
    assert len(walk(store.reader)) == 2


def test_duplicates_are_found_when_sequences_lie_far_apart(store: Store) -> None:
    far = [1, 10**6, 10**12, 1 << 62]
    store.writer.write(batch(record(s) for s in far))
    assert store.writer.write(batch(record(s) for s in [*far, 5])) == Written(1, 4, 0, 0)


def test_snapshot_never_changes_when_more_is_written(store: Store) -> None:
    store.writer.write(batch(record(s, NOON + s) for s in range(1, 11)))
    before = store.reader.snapshot().published
    store.writer.write(batch(record(s, NOON + s - 5) for s in range(11, 21)))
    assert sorted(sequences(walk(store.reader, published=before))) == list(range(1, 11))
    assert sorted(sequences(walk(store.reader))) == list(range(1, 21))


def test_page_says_more_only_when_a_row_follows(store: Store) -> None:
    store.writer.write(batch(record(s, NOON + s - (s % 3) * DAY_MS) for s in range(1, 7)))
    published = store.reader.snapshot().published
    for limit in range(1, 8):
        rows, more = store.reader.page(everything(), published=published, before=None, limit=limit, bytes_max=1 << 20)
        assert (len(rows), more) == (min(limit, 6), limit < 6)


def test_page_ends_at_its_bytes_but_holds_one_row_when_a_record_is_larger(store: Store) -> None:
    store.writer.write(batch(record(s, NOON + s, body="x" * 5_000) for s in range(1, 5)))
    published = store.reader.snapshot().published
    first, more = store.reader.page(everything(), published=published, before=None, limit=10, bytes_max=12_000)
    assert (len(first), more) == (2, True)
    first, more = store.reader.page(everything(), published=published, before=None, limit=10, bytes_max=10)
    assert (len(first), more) == (1, True)


def test_window_is_start_inclusive_and_end_exclusive(store: Store) -> None:
    store.writer.write(batch(record(s, NOON + s) for s in range(1, 6)))
    assert sequences(walk(store.reader, everything(start=NOON + 2, end=NOON + 4))) == [3, 2]
    assert walk(store.reader, everything(start=NOON + 2, end=NOON + 2)) == []
    midnight = NOON - DAY_MS // 2
    store.writer.write(batch([record(8, midnight - 1), record(9, midnight)]))
    assert sequences(walk(store.reader, everything(start=midnight - 1, end=midnight))) == [8]
    assert sequences(walk(store.reader, everything(start=midnight, end=midnight + 1))) == [9]


VARIED: list[dict[str, Any]] = [
    {"account": "acme", "principal": "alice", "method": "POST", "status": 401, "path": "/login", "route": "/login",
     "client": "192.0.2.1"},
    {"account": "acme-eu", "service": "library", "operation": "listBooks", "region": "eu", "route": "/api/books/{id}"},
    {"account": "acme", "instance": "i2", "status": 500, "principal": "bob O'Neil", "route": "/api/book",
     "outcome": "failed", "traceId": "4bf92f3577b34da6a3ce929d0e0e4736"},
    {"account": "globex", "method": "HEAD", "request_id": "R:1.2-3", "route": "/"},
    {"account": "acme", "status": 404, "path": "/Ünïcode/naïve", "client": "2001:db8::1"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"accounts": frozenset({"acme"})}, [5, 3, 1]),
        ({"accounts": frozenset({"acme", "globex"})}, [5, 4, 3, 1]),
        ({"accounts": frozenset()}, []),
        ({"accounts": frozenset({"acm"})}, []),
        ({"service": "library"}, [2]),
        ({"except_service": "library"}, [5, 4, 3, 1]),
        ({"except_service": "none"}, [5, 4, 3, 2, 1]),
        ({"except_service": "gateway", "accounts": frozenset({"acme", "acme-eu"})}, [2]),
        ({"except_service": "library", "service": "library"}, []),
        ({"instance": "i2"}, [3]),
        ({"accounts": frozenset({"acme"}), "service": "gateway", "instance": "i1"}, [5, 1]),
        ({"accounts": frozenset({"acme", "globex"}), "service": "gateway", "instance": "i1"}, [5, 4, 1]),
        ({"method": "HEAD"}, [4]),
        ({"method": "head"}, []),
        ({"levels": frozenset({"ERROR"})}, [3, 1]),
        ({"levels": frozenset({"WARN", "DEBUG"})}, [5, 4]),
        ({"levels": frozenset()}, []),
        ({"levels": frozenset({"ERROR", "WARN"}), "failure": False}, [5]),
        ({"levels": frozenset({"ERROR", "WARN"}), "failure": True}, [3, 1]),
        ({"statuses": statuses_of("404")}, [5]),
        ({"statuses": statuses_of("4xx")}, [5, 1]),
        ({"statuses": statuses_of("402-500")}, [5, 3]),
        ({"statuses": statuses_of("200, 5xx")}, [4, 3, 2]),
        ({"statuses": statuses_of("3xx")}, []),
        ({"principal": "bob O'Neil"}, [3]),
        ({"principal": ""}, [5, 4, 2]),
        ({"operation": "listBooks"}, [2]),
        ({"operation": "GET"}, [5]),
        ({"operation": "GET /api/book"}, [3]),
        ({"request_id": "R:1.2-3"}, [4]),
        ({"failure": True}, [3, 1]),
        ({"failure": False}, [5, 4, 2]),
        ({"region": "eu"}, [2]),
        ({"outcome": "failed"}, [3]),
        ({"outcome": "completed", "failure": True}, [1]),
        ({"client": "2001:db8::1"}, [5]),
        ({"route": "/api/book"}, [3]),
        ({"route": "/api"}, []),
        ({"path_prefix": "/api"}, [3, 2]),
        ({"path_prefix": "/api/"}, [3, 2]),
        ({"path_prefix": "/api/book"}, [3]),
        ({"path_prefix": "/api/books"}, [2]),
        ({"path_prefix": "/api/books/{id}"}, [2]),
        ({"path_prefix": "/api/books/{id}/x"}, []),
        ({"path_prefix": "/"}, [4, 3, 2, 1]),
        ({"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}, [3]),
        ({"text": "login"}, [1]),
        ({"text": "alice 401"}, [1]),
        ({"text": "401 ALICE"}, [1]),
        ({"text": "POST /login → 401"}, [1]),
        ({"text": '"POST /login → 401"'}, [1]),
        ({"text": '"login post"'}, []),
        ({"text": '"unauthorized alice" post'}, [1]),
        ({"text": '"401 alice"'}, []),
        ({"text": "alice bob"}, []),
        ({"text": "unicode NAIVE"}, [5]),
        ({"text": "12 ms"}, [5, 4, 3, 2, 1]),
        ({"text": '"12 ms"', "failure": True}, [3, 1]),
        ({"text": "log"}, []),
        ({"accounts": frozenset({"acme"}), "text": "ms", "method": "POST", "failure": True, "principal": "alice"}, [1]),
    ],
)
def test_filter_finds_exactly_its_records_when_asked(store: Store, given: dict[str, Any], expected: list[int]) -> None:
    store.writer.write(batch(record(i + 1, NOON + i, **varied) for i, varied in enumerate(VARIED)))
    query = everything(**given)
    assert sequences(walk(store.reader, query, limit=2)) == expected
    assert sequences(walk(store.reader, everything(**given, order="oldest"), limit=2)) == expected[::-1]
    assert store.reader.count(query, published=store.reader.snapshot().published) == len(expected)


@pytest.mark.parametrize(
    "text",
    [
        '"', "'", 'a" OR "b', "login OR 401", "NEAR(login 401)", "message : login", "log*", "^login", "-login", "(",
        "\0", "a\0b", "{message} : x", "\ud800", "tokens : f", "login AND NOT 401",
    ],
)  # fmt: skip
def test_text_is_never_syntax_when_it_looks_like_it(store: Store, text: str) -> None:
    """None of these has all of its words in the message."""
    store.writer.write(batch([record(1, path="/other")]))
    if any(c.isalnum() for c in text):
        assert walk(store.reader, everything(text=text)) == []
    else:
        with pytest.raises(QueryError, match="text: it has no word"):
            everything(text=text)


def test_text_and_accounts_may_be_many(store: Store) -> None:
    store.writer.write(batch([record(1, path="/" + "/".join(f"w{i}" for i in range(300)))]))
    assert len(walk(store.reader, everything(text=" ".join(f"w{i}" for i in range(300))))) == 1
    accounts = frozenset({f"account-{i}" for i in range(500)} | {"acme"})
    assert len(walk(store.reader, everything(accounts=accounts))) == 1


def test_seen_knows_streams_per_account(store: Store) -> None:
    store.writer.write(batch([record(1), record(2, account="globex", service="library", instance="x")]))
    seen = store.reader.seen
    assert seen(None, "gateway", "i1")
    assert seen(frozenset({"acme"}), "gateway", "i1")
    assert seen(frozenset({"other", "globex"}), "library", "x")
    assert not seen(frozenset({"globex"}), "gateway", "i1")
    assert not seen(frozenset(), "gateway", "i1")
    assert not seen(None, "gateway", "x")


def test_positions_are_kept_per_source_and_forgotten_when_told(store: Store) -> None:
    store.writer.write(batch(positions={"p": Position(5, b"a" * 16), "q": Position(7, b"b" * 16)}))
    store.writer.write(batch(positions={"p": Position(9, b"c" * 16)}, forget=["q", "unknown"]))
    assert store.writer.positions("test") == {"p": Position(9, b"c" * 16)}
    store.writer.write(batch(positions={"p": Position(1, b"e" * 16)}, forget=["p"]))
    assert store.writer.positions("test") == {"p": Position(1, b"e" * 16)}
    assert store.writer.positions("another") == {}


def test_record_is_a_dead_letter_when_more_than_a_day_ahead(store: Store) -> None:
    now = int(_clock() * 1000)
    written = store.writer.write(batch([record(1, now + DAY_MS), record(2, now + DAY_MS + 1)]))
    assert written == Written(inserted=1, duplicates=0, expired=0, dead=1)
    assert store.reader.dead_letters() == 1
    assert sequences(walk(store.reader)) == [1]


def test_record_is_expired_when_older_than_the_horizon(store: Store) -> None:
    midnight = NOON - DAY_MS // 2
    assert store.writer.purge(NOON).horizon == midnight, "whole days only"
    assert store.writer.write(batch([record(1, midnight - 1), record(2, midnight)])) == Written(1, 0, 1, 0)
    assert sequences(walk(store.reader)) == [2]


def test_whole_days_vanish_and_stay_away_when_they_are_purged(store: Store) -> None:
    store.writer.write(batch(over_days(1, 30), following=30))
    before, positions = store.reader.snapshot(), store.writer.positions("test")
    kept = [s for s in sequences(walk(store.reader)) if s % 3 == 0]
    store.writer.purge(NOON)
    assert sequences(walk(store.reader)) == kept
    assert (store.reader.snapshot(), store.writer.positions("test")) == (before, positions)
    assert store.writer.write(batch(over_days(1, 30))) == Written(0, 10, 20, 0)
    assert sequences(walk(store.reader)) == kept


def test_horizon_moves_forward_only_and_never_past_today(store: Store) -> None:
    midnight = NOON - DAY_MS // 2
    assert store.writer.purge(NOON - DAY_MS).horizon == midnight - DAY_MS
    assert store.writer.purge(NOON - 9 * DAY_MS).horizon == midnight - DAY_MS
    store.writer.write(batch([record(1)]))
    assert store.writer.purge(NOON + 5 * DAY_MS).horizon == midnight
    assert sequences(walk(store.reader)) == [1]


def test_stream_stays_known_when_all_of_its_records_are_purged(store: Store) -> None:
    store.writer.write(batch([record(1, NOON - 5 * DAY_MS)]))
    store.writer.purge(NOON)
    assert walk(store.reader) == []
    assert store.reader.seen(frozenset(["acme"]), "gateway", "i1")
    assert not store.reader.seen(frozenset(["beta"]), "gateway", "i1")


def test_pages_go_on_without_repeat_when_days_are_purged_in_between(store: Store) -> None:
    store.writer.write(batch(over_days(1, 30)))
    published = store.reader.snapshot().published
    rows, more = store.reader.page(everything(), published=published, before=None, limit=13, bytes_max=1 << 20)
    assert more
    store.writer.purge(NOON - DAY_MS)
    rest, more = store.reader.page(everything(), published=published, before=rows[-1].id, limit=99, bytes_max=1 << 20)
    assert not more
    assert sorted(sequences(rows + rest)) == [s for s in range(1, 31) if s % 3 != 2]


def test_dead_letters_are_counted_when_a_batch_brings_them(store: Store) -> None:
    letters = [DeadLetter("test", "p", n, "no record", b"x" * 100_000) for n in range(3)]
    assert store.writer.write(batch(dead_letters=letters)).dead == 3
    assert store.reader.dead_letters() == 3


def test_fence_is_there_when_noted_alone_or_with_a_batch(store: Store) -> None:
    store.writer.read_until(read_until(1000.5))
    assert store.reader.snapshot() == Snapshot(0, 1000.5)
    store.writer.write(batch([record(1)], read_until=read_until(1001.25)))
    assert store.reader.snapshot() == Snapshot(1, 1001.25)
    store.writer.write(batch([record(2)]))
    assert store.reader.snapshot() == Snapshot(2, 1001.25)


def test_process_sums_up_its_statements_once_each_when_they_come_again(store: Store) -> None:
    facts = {"host": "web-1", "service": "gateway", "started": NOON - 5}
    first = statement(1, 1, 10, lost=[(3, 4, "queue")], excluded=2, open_count=3, closed="provisional", **facts)
    second = statement(2, 11, 12, lost=[(11, 11, "journal")], lost_more=5, excluded=4, **facts)
    store.writer.write(batch([record(1), record(2)], statements=[first]))
    store.writer.write(batch([record(2), record(5)], statements=[first, second]))
    (process,) = store.reader.processes()
    assert process.process == PROCESS
    assert (process.service, process.host, process.started) == ("gateway", "web-1", NOON - 5)
    assert (process.last, process.indexed, process.lost, process.excluded, process.open_count) == (12, 3, 8, 4, 0)
    assert (process.watermark, process.closed, process.proven) == (NOON + 2, "", True)


def test_process_is_known_without_statement_when_a_record_names_it(store: Store) -> None:
    store.writer.write(batch([record(1), record(1, process=OTHER)], statements=[statement(1, 1, 1, proven=False)]))
    first, second = sorted(store.reader.processes(), key=lambda p: p.process)
    assert (first.indexed, first.proven, second.indexed, second.proven) == (1, False, 1, True)
    assert second.started == int(OTHER.hex[:12], 16)
