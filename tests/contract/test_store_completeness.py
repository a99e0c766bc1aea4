"""One suite for every store: the stored completeness state is there for the indexer to resume from, and for every
response."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from tests.support.memory_store import MemoryStore
from tests.support.records import DAY_MS, NOON, OTHER, PROCESS, batch, extent, read_until, record, statement

from asgi_audit.record.line import TIME_END
from asgi_audit.store.base import Reader, Writer
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter
from asgi_audit.store.state import MARGIN_MS, Completeness, Completion, Extent, Hold, Incident, ProcessState, Resumed

_ALL = (0, TIME_END)


class Store(NamedTuple):
    writer: Writer
    reader: Reader


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        twin = MemoryStore(clock=lambda: NOON / 1000)
        yield Store(twin, twin)
        return
    writer = SqliteWriter(tmp_path / "index", clock=lambda: NOON / 1000)
    reader = SqliteReader(tmp_path / "index")
    yield Store(writer, reader)
    reader.close()
    writer.close()


def state(process: uuid.UUID = PROCESS, **given: Any) -> ProcessState:
    return ProcessState(process=process.bytes, partition="p", started=NOON, **given)


def incident(number: int, start: int, end: int | None, *, of: uuid.UUID = PROCESS, resolved: bool = False) -> Incident:
    kind: Literal["missing"] = "missing"
    return Incident(
        id=number, kind=kind, process=of, opened_at=NOON, resolved_at=NOON if resolved else None, start=start,
        end=end, ranges=[(number, number + 1)], count=2,
    )  # fmt: skip


def write(store: Store, *states: ProcessState, until: int | None = NOON, ceiling: int | None = 0, **more: Any) -> None:
    incidents, holds = more.pop("incidents", ()), more.pop("holds", None)
    completion = Completion(extent(until, ceiling, begins=5), states, incidents, 0, holds)
    store.writer.write(batch(completion=completion, **more))


def test_nothing_is_complete_when_nothing_was_said(store: Store) -> None:
    assert store.reader.completeness(*_ALL) == Completeness(None, 0, 0, None)
    assert store.reader.window(*_ALL) == []
    assert store.reader.holds() == []
    assert store.reader.incidents(*_ALL) == []
    assert store.writer.resumed() == Resumed(known=[], holds=[], made_at=NOON)
    assert store.writer.known(PROCESS.bytes) is None


def test_incidents_are_counted_when_open_and_overlapping(store: Store) -> None:
    write(store, incidents=[incident(1, 100, 200), incident(2, 150, None), incident(3, 0, 300, resolved=True)])
    counted = {
        w: store.reader.completeness(*w).incidents for w in ((0, 100), (0, 101), (199, 200), (200, 300), (150, 150))
    }
    assert counted == {(0, 100): 0, (0, 101): 1, (199, 200): 2, (200, 300): 1, (150, 150): 0}
    assert [i.id for i in store.reader.incidents(*_ALL)] == [2, 1, 3]
    assert [i.id for i in store.reader.incidents(0, 120)] == [1, 3]
    assert [i.id for i in store.reader.incidents(*_ALL, limit=1)] == [2]


def test_open_exchanges_are_counted_when_begun_in_the_window(store: Store) -> None:
    write(
        store, state(open_count=3, open_from=100, open_to=200), state(OTHER, open_count=2, open_from=150, open_to=150)
    )
    counted = {w: store.reader.completeness(*w).open for w in ((0, 100), (0, 101), (150, 151), (200, 201), (201, 300))}
    assert counted == {(0, 100): 0, (0, 101): 3, (150, 151): 5, (200, 201): 3, (201, 300): 0}


def test_open_exchanges_of_other_accounts_are_left_out_when_accounts_are_asked_for(store: Store) -> None:
    named = [("a", 2), ("b", 3)]
    write(store, state(open_count=6, open_from=100, open_to=200, open_accounts=named), state(OTHER, open_count=4))

    def opened(*accounts: str) -> int:
        return store.reader.completeness(50, 300, frozenset(accounts)).open

    assert (opened("a"), opened("b"), opened("a", "b"), opened("c"), opened()) == (3, 4, 6, 1, 1)
    assert store.reader.completeness(50, 300).open == 6
    assert store.reader.completeness(*_ALL, frozenset("a")).open == 7, "what no account is named for counts for all"
    assert store.reader.completeness(201, 300, frozenset("a")).open == 0
    write(store, state(open_count=2, open_from=100, open_to=200, open_accounts=named[:1]))
    assert (opened("a"), opened("b")) == (2, 0), "the latest statement counts"


def test_t_is_what_was_written_when_somebody_holds_it(store: Store) -> None:
    write(store, state(), read_until=read_until((NOON + 5000) / 1000))
    assert store.reader.completeness(*_ALL).until == NOON


def test_t_goes_on_with_the_fences_up_to_its_ceiling(store: Store) -> None:
    write(store, ceiling=None)
    assert store.reader.completeness(*_ALL).until == NOON
    mark = read_until((NOON + 5000) / 1000)
    store.writer.read_until(mark)
    assert store.reader.completeness(*_ALL).until == NOON + 5000 - MARGIN_MS
    resumed = store.writer.resumed()
    assert (resumed.extent, resumed.read_until) == (Extent(NOON, None, 5, True), mark)
    store.writer.read_until(read_until((NOON - 5000) / 1000))
    assert store.reader.completeness(*_ALL).until == NOON
    write(store, ceiling=NOON + 100, read_until=mark)
    assert store.reader.completeness(*_ALL).until == NOON + 100


def test_complete_from_is_said_when_it_is_known_and_follows_the_horizon(store: Store) -> None:
    first = Completion(Extent(NOON, None, 7))
    store.writer.write(batch(completion=first))
    assert store.reader.completeness(*_ALL).begins is None
    write(store)
    assert store.reader.completeness(0, 0).begins == 5
    store.writer.purge(NOON)
    assert store.reader.completeness(*_ALL).begins == NOON - NOON % DAY_MS


def test_holds_are_there_until_others_are_told(store: Store) -> None:
    holds = [Hold("3", "it has no leader", NOON), Hold("4", "it has no leader", NOON + 1, True)]
    write(store, holds=holds)
    write(store)
    assert store.reader.holds() == holds
    assert store.writer.resumed().holds == holds
    write(store, holds=[])
    assert store.reader.holds() == []


def test_window_holds_the_numbers_of_its_exchanges(store: Store) -> None:
    """Goal: `lost` contains the losses that may have begun in the window, by the statements that report them."""
    said = [
        statement(1, 1, 2, at=NOON + 10, watermark=NOON + 10, started=NOON),
        statement(2, 3, 4, at=NOON + 20, watermark=NOON + 20, started=NOON, lost=[(4, 4, "queue")]),
        statement(3, 5, 6, at=NOON + 30, watermark=NOON + 30, started=NOON, lost_more=2),
    ]
    records = [record(n, NOON + at) for n, at in ((1, 1), (2, 5), (3, 15))]
    write(store, state(lost=4), records=records, statements=said)  # of 4 one was refused by Kafka

    def window(start: int, end: int) -> list[tuple[int, int]]:
        return [(w.indexed, w.lost) for w in store.reader.window(NOON + start, NOON + end)]

    assert window(0, 100) == [(3, 4)]
    assert window(0, 10) == [(2, 1)]
    assert window(10, 20) == [(1, 2)]
    assert window(25, 26) == [(0, 3)]
    assert store.reader.window(NOON - DAY_MS, NOON + DAY_MS)[0].indexed == 3


def test_state_is_there_again_when_asked_for(store: Store) -> None:
    kept = state(number=3, last=9, low=NOON + 1, digest="d", above=[(11, 12)], leaves=[b"\0" * 32], leaf_count=1)
    left = state(OTHER, standing="left", closed="adopted")
    theirs = incident(4, 1, 2, of=OTHER)
    write(store, kept, left, incidents=[incident(1, 1, 2), incident(2, 1, 2, resolved=True), theirs])
    resumed = store.writer.resumed()
    assert resumed.extent.until == NOON
    assert resumed.last_incident == 4
    assert [(k.state, [i.id for i in k.incidents]) for k in resumed.known] == [(kept, [1])]
    known = store.writer.known(OTHER.bytes)
    assert known is not None
    assert (known.state, known.incidents) == (left, [theirs])


def test_later_words_replace_earlier_ones_when_of_the_same_id(store: Store) -> None:
    write(store, state(lost=1), incidents=[incident(1, 1, 2)])
    write(store, state(lost=2, standing="off"), until=NOON + 1, incidents=[incident(1, 1, 2, resolved=True)])
    assert store.reader.completeness(*_ALL) == Completeness(NOON + 1, 0, 0, 5)
    resumed = store.writer.resumed()
    assert (resumed.extent.until, resumed.known, resumed.last_incident) == (NOON + 1, [], 1)


def test_processes_show_what_is_missing_when_it_is_known(store: Store) -> None:
    write(store, state(lost=4, missing=2, low=NOON + 7), records=[record(1)], statements=[statement(1, 1, 7)])
    (process,) = store.reader.processes()
    assert (process.last, process.indexed, process.lost, process.missing) == (7, 1, 4, 2)
    assert (process.standing, process.low) == ("active", NOON + 7)


def test_ranges_are_cut_when_there_are_many(store: Store) -> None:
    many = incident(1, 1, 2)
    many.ranges, many.count = [(n, n) for n in range(1, 500, 2)], 250
    write(store, state(), incidents=[many])
    (shown,) = store.reader.incidents(*_ALL)
    assert (len(shown.ranges), shown.count) == (100, 250)
    assert len(store.writer.resumed().known[0].incidents[0].ranges) == 250


def test_purge_forgets_processes_that_had_their_last_word_and_what_concerned_removed_days(store: Store) -> None:
    midnight = NOON - NOON % DAY_MS
    old, young = midnight - DAY_MS - 1, midnight - DAY_MS
    names = ("gone", "acknowledged", "said goodbye", "waited for", "open", "lately", "active")
    ids = {name: uuid.UUID(int=(0x7 << 76) + n) for n, name in enumerate(names, 1)}
    facts: dict[str, Any] = {name: {"low": old, "standing": "left", "closed": "final"} for name in names}
    facts["acknowledged"] = {"low": old - 90 * DAY_MS, "standing": "off"}
    facts["said goodbye"]["closed"] = "provisional"
    facts["open"] |= {"open_count": 1, "open_from": 0, "open_to": young}
    facts["lately"]["low"] = young
    facts["active"]["standing"] = "active"
    write(
        store,
        *(state(ids[name], **given) for name, given in facts.items()),
        incidents=[
            incident(1, 0, midnight, of=ids["gone"]),
            incident(2, 0, midnight, of=ids["lately"], resolved=True),
            incident(3, 0, midnight + 1, of=ids["lately"], resolved=True),
            incident(4, 0, midnight, of=ids["active"]),
            incident(5, 0, None, of=ids["waited for"]),
            incident(6, 0, midnight, of=uuid.UUID(int=0)),
        ],
        statements=[
            statement(1, 1, 0, process=ids[name], watermark=facts[name]["low"], closed=facts[name].get("closed", ""))
            for name in names
        ],
    )
    store.writer.purge(NOON)
    kept = [name for name in names if store.writer.known(ids[name].bytes) is not None]
    assert kept == ["said goodbye", "waited for", "open", "lately", "active"]
    assert {p.process for p in store.reader.processes()} == {ids[name] for name in kept}
    assert [i.id for i in store.reader.incidents(*_ALL)] == [5, 4, 3]
    assert store.writer.resumed().last_incident == 6, "no id is given twice"
    # A repeated one is new.
    write(store, state(ids["gone"], low=old), incidents=[incident(7, 0, 1)])
    known = store.writer.known(ids["gone"].bytes)
    assert known is not None
    assert known.state.number == 0


def test_no_id_is_given_twice_when_a_purge_leaves_lower_ones_than_one_before(store: Store) -> None:
    write(store, incidents=[incident(5, 0, None), incident(10, 0, 1, resolved=True)])
    for _ in range(2):
        store.writer.purge(NOON)
        assert [i.id for i in store.reader.incidents(*_ALL)] == [5]
        assert store.writer.resumed().last_incident == 10


def test_nothing_is_missing_when_a_purge_forgets_the_incident_that_named_it(store: Store) -> None:
    midnight = NOON - NOON % DAY_MS
    left = state(standing="left", closed="final", low=NOON, missing=4)
    write(
        store, left, incidents=[incident(1, 0, midnight), incident(2, 0, NOON)],
        statements=[statement(1, 1, 9)],
    )  # fmt: skip
    store.writer.purge(NOON)
    assert [i.id for i in store.reader.incidents(*_ALL)] == [2]
    assert [p.missing for p in store.reader.processes()] == [2]
    known = store.writer.known(PROCESS.bytes)
    assert known is not None
    assert known.state.missing == 2
