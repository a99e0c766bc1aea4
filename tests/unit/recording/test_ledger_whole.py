"""Roots, chain and policy of the statements that a recorder writes, checked by the indexer's own tracker."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator

import pytest
from tests.support.digest import root_of
from tests.support.waiting import until
from tests.unit.recording.test_recorder import House, TrivialBuilder, go

from asgi_audit.errors import TransportError
from asgi_audit.exchange.sealed import Exchange
from asgi_audit.indexing.completeness import Consumed, RecordEvent, StatementEvent, Tracker
from asgi_audit.record.merkle import EMPTY_ROOT, leaf_hash, statement_digest
from asgi_audit.record.statement import Statement, decode_statement
from asgi_audit.recording.ledger import Ledger, Tally, policy_digest, policy_of
from asgi_audit.settings import make_settings
from asgi_audit.store.state import Completion
from asgi_audit.transport.base import Entry, Kind


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.recorder.stop()


def track(house: House) -> Completion:
    """The tracker's result for everything in the journal."""
    events: list[RecordEvent | StatementEvent] = []
    for name, partition in house.journal.partitions.items():
        process = uuid.UUID(name).bytes
        for e in partition.entries:
            if e.kind is Kind.RECORD:
                events.append(RecordEvent(process, name, e.sequence, None, leaf_hash(e.payload)))
            else:
                events.append(StatementEvent(process, name, decode_statement(e.payload), statement_digest(e.payload)))
    made = Tracker().take(Consumed(events, now=1 << 42))
    assert made is not None
    return made


def statements(house: House) -> list[tuple[Statement, bytes]]:
    (partition,) = house.journal.partitions.values()
    return [(decode_statement(e.payload), e.payload) for e in partition.entries if e.kind is Kind.STATEMENT]


def test_roots_cover_the_records_before_each_statement_when_many_threads_seal(house: House) -> None:
    """Method: statements are requested continuously while four threads seal; every root must be that of the records
    that the tracker saw before the statement."""

    halfway = threading.Event()

    def serve() -> None:
        for n in range(300):
            go(house.recorder)
            if n == 150:
                halfway.wait(60)  # otherwise one statement might cover all

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        house.recorder.flush(60, close=True)
        if any(s.count for s, _ in statements(house)):
            halfway.set()
    for thread in threads:
        thread.join()
    assert house.recorder.flush(60, close=True)
    made = track(house)
    (state,) = made.processes
    assert (state.last, state.unverified, list(made.incidents)) == (1200, 0, [])
    with_records = [s for s, _ in statements(house) if s.count]
    assert len(with_records) > 1


def test_nothing_stands_between_a_statement_and_the_records_it_covers(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method: while a record is built for a statement that is due, the next exchange is sealed."""
    monkeypatch.setattr("asgi_audit.recording.writing._BUSY_SECONDS", 0.0)
    build = TrivialBuilder.build

    def build_and_seal(self: TrivialBuilder, made: Exchange, shed: int = 0) -> bytes:
        if made.sequence < 20:
            go(house.recorder)
        return build(self, made, shed)

    monkeypatch.setattr(TrivialBuilder, "build", build_and_seal)
    go(house.recorder)
    until(lambda: house.recorder.stats()["sealed"] == 20 and not house.recorder.stats()["waiting"])
    assert house.recorder.flush(60, close=True)
    made = track(house)
    assert [(s.last, s.unverified) for s in made.processes] == [(20, 0)]
    assert list(made.incidents) == []


def test_chain_names_the_bytes_of_the_statement_before(house: House) -> None:
    for _ in range(3):
        assert house.recorder.flush(60, close=True)
    found = statements(house)
    assert [s.previous for s, _ in found] == [None, *(statement_digest(data) for _, data in found[:-1])]
    assert found[0][0].root == EMPTY_ROOT.hex()


def test_root_leaves_out_what_became_no_record(house: House) -> None:
    for path in ("/", "/unbuildable", "/"):
        go(house.recorder, path)
    assert house.recorder.flush(60, close=True)
    (state,) = track(house).processes
    assert (state.lost, state.missing, state.unverified) == (1, 0, 0)


def test_root_is_right_when_the_journal_failed_for_a_while(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from asgi_audit.transport.memory import MemoryWriter

    original = MemoryWriter.append
    failing = [True]

    def append(writer: MemoryWriter, entries: list[Entry]) -> None:
        if failing[0] and any(e.kind is Kind.RECORD for e in entries):
            raise TransportError("disk is full")
        original(writer, entries)

    monkeypatch.setattr(MemoryWriter, "append", append)
    for _ in range(5):
        go(house.recorder)
    house.recorder.flush(0.2, close=True)
    failing[0] = False
    until(lambda: house.recorder.flush(1, close=True))
    made_of = track(house)
    assert [(s.last, s.missing, s.unverified) for s in made_of.processes] == [(5, 0, 0)]
    assert list(made_of.incidents) == []


def test_policy_tells_settings_apart_that_capture_differently(house: House) -> None:
    assert house.recorder.flush(60, close=True)
    before = statements(house)[-1][0].policy
    house.face(service="another")
    assert house.recorder.flush(60, close=True)
    assert statements(house)[-1][0].policy == before
    house.face(detail="metadata")
    assert house.recorder.flush(60, close=True)
    after = statements(house)[-1][0].policy
    expected = {policy_of(make_settings({})), policy_of(make_settings({}, detail="metadata"))}
    assert before == policy_digest({policy_of(make_settings({}))})
    assert after == policy_digest(expected) != before


def snapshot(last: int) -> Tally:
    return Tally(
        now=100, open_count=0, open_oldest=None, recent_oldest=None, last=last, excluded=0, unwaited=0, clock_steps=0
    )


def test_split_statements_have_no_root_and_the_next_has_one_again() -> None:
    ledger = Ledger(process="p", host="h", service="s", started=0)
    for n in range(2, 5000, 2):
        ledger.losses.add(n, n, "queue")
    parts = ledger.make(snapshot(5000))
    assert len(parts) > 2
    assert [p.root for p in parts] == [None] * len(parts)
    ledger.written(parts[:1], b"first")  # the second one cannot be written
    assert [p.root for p in ledger.make(snapshot(5001))] == [None] * (len(parts) - 1)
    ledger.written(ledger.make(snapshot(5001)), b"rest")
    leaf = leaf_hash(b"r")
    ledger.recorded([leaf])
    (made,) = ledger.make(snapshot(5002))
    assert made.root == root_of([leaf]).hex()
    assert ledger.chained(made).previous == statement_digest(b"rest")


def test_policy_is_stated_when_the_application_has_replaced_json_dumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frameworks make their middleware at the first request, when a test may have replaced `json.dumps` by a mock."""
    before = policy_of(make_settings({}))
    assert before == json.dumps(json.loads(before), sort_keys=True)
    monkeypatch.delattr(json, "dumps")
    assert policy_of(make_settings({})) == before
