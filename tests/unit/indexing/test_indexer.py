"""The indexer's loop, with a small source and a small store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.support.memory_store import MemoryStore
from tests.support.records import NOON, OTHER, PROCESS, payload, sequences, statement, walk
from tests.support.source import ListSource
from tests.support.waiting import until

from asgi_audit.errors import StoreError, TransportError
from asgi_audit.indexing.indexer import Indexer, IndexerProgress
from asgi_audit.record.line import TIME_END
from asgi_audit.record.loss import Loss, encode_loss
from asgi_audit.record.statement import encode_statement
from asgi_audit.store.base import Batch, Written
from asgi_audit.store.state import NO_PROCESS, Completeness, ReadUntil
from asgi_audit.transport.base import Kind, Position, SourceIncident

P = str(PROCESS)


class RecordingStore(MemoryStore):
    """Remembers its input; fails when the test sets it to, before anything is written."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: NOON / 1000)
        self.batches: list[Batch] = []
        self.attempts: list[Batch] = []
        self.noted: list[float] = []
        self.fail: list[Exception] = []
        self.at_write: Callable[[], None] = lambda: None

    def write(self, batch: Batch) -> Written:
        self.attempts.append(batch)
        if self.fail:
            raise self.fail.pop(0)
        self.batches.append(batch)
        self.at_write()
        return super().write(batch)

    def read_until(self, mark: ReadUntil) -> None:
        if self.fail:
            raise self.fail.pop(0)
        self.noted.append(mark.taken_at / 1000)
        super().read_until(mark)


class Running:
    def __init__(self, source: ListSource, store: RecordingStore, **given: object) -> None:
        self.source = source
        self.store = store
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.indexer = Indexer(source, store, stop=self.stop, **given)  # type: ignore[arg-type]
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.indexer.run()
        except BaseException as e:
            self.error = e

    def until(self, true: Callable[[], bool]) -> None:
        until(true, lambda: f"{self.indexer.progress}, {self.error!r}")


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    monkeypatch.setattr("asgi_audit.indexing.indexer._PAUSE_FIRST", 0.005)
    monkeypatch.setattr("asgi_audit.indexing.indexer._PAUSE_MAX", 0.02)
    started: list[Running] = []

    def begin(source: ListSource | Running, store: RecordingStore | None = None, **given: object) -> Running:
        running = source if isinstance(source, Running) else Running(source, store or RecordingStore(), **given)
        started.append(running)
        running.thread.start()
        return running

    yield begin
    for running in started:
        running.stop.set()
        running.thread.join(60)
        assert not running.thread.is_alive()


def filled(count: int, first: int = 1) -> ListSource:
    source = ListSource()
    for s in range(first, first + count):
        source.put(P, Kind.RECORD, s, payload(s, NOON + s))
    return source


def test_records_are_written_with_positions_then_committed(start: Callable[..., Running]) -> None:
    source, store = filled(1000), RecordingStore()
    running = start(source, store)
    running.until(lambda: source.committed.get(P, Position(0, b"")).next == 1000)
    assert sorted(sequences(walk(store, limit=500))) == list(range(1, 1001))
    assert store.positions("test")[P].next == 1000
    progress = running.indexer.progress
    assert (progress.indexed, progress.duplicates, progress.dead) == (1000, 0, 0)
    assert progress.lag is not None


def test_batches_grow_when_more_is_waiting_and_stay_below_their_maximum(start: Callable[..., Running]) -> None:
    source, store = filled(3000), RecordingStore()
    running = start(source, store, batch_max=1000)
    running.until(lambda: running.indexer.progress.indexed == 3000)
    sizes = [len(b.records) for b in store.batches]
    assert sizes[:3] == [256, 512, 1000]
    assert max(sizes) == 1000
    assert [b.read_until is None for b in store.batches] == [True] * (len(sizes) - 1) + [False]


def test_batches_shrink_when_records_are_large(start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_audit.indexing.indexer._BYTES_MAX", 100_000)
    source, store = ListSource(), RecordingStore()
    for s in range(1, 101):
        source.put(P, Kind.RECORD, s, payload(s, NOON, body="x" * 10_000))
    running = start(source, store)
    running.until(lambda: running.indexer.progress.indexed == 100)
    assert all(len(b.records) <= 10 for b in store.batches[1:])


def test_trickle_is_gathered_when_nothing_else_is_waiting(start: Callable[..., Running]) -> None:
    """Method: a record each millisecond for 200 ms; with a linger of 50 ms there are far fewer batches than records,
    about one for each 50 ms that it took (on a busy machine 200 records take longer)."""
    source, store = ListSource(), RecordingStore()
    began = time.monotonic()
    running = start(source, store, linger_seconds=0.05)
    for s in range(1, 201):
        source.put(P, Kind.RECORD, s, payload(s, NOON + s))
        time.sleep(0.001)  # the pace of the records is an input
    running.until(lambda: running.indexer.progress.indexed == 200)
    assert len(store.batches) <= 2 + (time.monotonic() - began) / 0.05


def test_indexing_goes_on_at_the_stored_positions_and_says_them_to_the_source(start: Callable[..., Running]) -> None:
    source, store = filled(10), RecordingStore()
    stored = Position(6, b"d" * 16)
    store.write(Batch(source="test", positions={P: stored}))
    running = start(source, store)
    running.until(lambda: running.indexer.progress.indexed == 4)
    assert source.opened == {P: stored}
    assert sorted(sequences(walk(store))) == [7, 8, 9, 10]


@pytest.mark.parametrize(
    ("kind", "sequence", "data", "reason"),
    [
        (Kind.RECORD, 1, b"{no json", "not a JSON record"),
        (Kind.RECORD, 1, b"\xff", "not a JSON record"),
        (Kind.RECORD, 2, payload(1), "header has sequence 2, its record 1"),
        (Kind.RECORD, 1, payload(1, process=OTHER), f"of process {OTHER}, but in the journal of {PROCESS}"),
        (Kind.RECORD, 1, payload(0, process=None), "header has sequence 1, its record 0"),
        (Kind.STATEMENT, 1, b'{"statement":"1.0"}', "not a statement"),
        (Kind.STATEMENT, 5, encode_statement(statement(1, 1, 4)), "header has sequence 5, its statement ends at 4"),
        (Kind.STATEMENT, 4, encode_statement(statement(1, 1, 4, process=OTHER)), "but in the journal of"),
        (Kind.STATEMENT, 4, encode_statement(statement(1, 1, 4, process="x")), "not a UUID"),
    ],
)
def test_entry_becomes_a_dead_letter_with_reason_and_position(
    start: Callable[..., Running], kind: Kind, sequence: int, data: bytes, reason: str
) -> None:
    source, store = filled(3, first=11), RecordingStore()
    source.put(P, kind, sequence, data)
    source.put(P, Kind.RECORD, 21, payload(21))
    running = start(source, store)
    running.until(lambda: running.indexer.progress.indexed == 4)
    (letter,) = [d for b in store.batches for d in b.dead_letters]
    assert (letter.source, letter.partition, letter.offset, letter.payload) == ("test", P, 3, data)
    assert reason in letter.reason
    assert running.indexer.progress.dead == 1


def test_damage_becomes_a_dead_letter_when_the_source_reports_it(start: Callable[..., Running]) -> None:
    source, store = filled(1), RecordingStore()
    source.damaged = [(P, 99, "crc does not match", b"torn")]
    running = start(source, store)
    running.until(lambda: running.indexer.progress.dead == 1)
    assert store.batches[0].dead_letters[0].reason == "crc does not match"


def test_statements_are_handed_on(start: Callable[..., Running]) -> None:
    source, store = filled(4), RecordingStore()
    said = statement(1, 1, 4, closed="final")
    source.put(P, Kind.STATEMENT, 4, encode_statement(said))
    running = start(source, store)
    running.until(lambda: running.indexer.progress.statements == 1)
    assert store.processes()[0].closed == "final"


def test_intent_is_counted_and_said_once_and_is_no_dead_letter(
    start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    source, store = filled(2), RecordingStore()
    for s in (3, 4):
        source.put(P, Kind.INTENT, s, b"{}")
    running = start(source, store)
    running.until(lambda: running.indexer.progress.skipped == 2)
    assert running.indexer.progress.dead == 0
    assert [r.getMessage() for r in caplog.records] == [
        f"{P} offset 2: this version does not support entries of kind INTENT; they are skipped and counted"
    ]
    assert store.positions("test")[P].next == 4


def _tomorrow() -> float:
    """T is never ahead of the indexer's clock."""
    return time.time() + 86_400


def test_completeness_is_written_with_the_batch(start: Callable[..., Running]) -> None:
    """A record, a dead letter with a known place, a loss entry and a stated loss are settled; the fifth is missing."""
    source, store = filled(1), RecordingStore()
    source.put(P, Kind.RECORD, 2, b"no record")
    loss = Loss(process=str(PROCESS), sequence=3, at=NOON, reason="refused", leaf="00" * 32, bytes=9)
    source.put(P, Kind.LOSS, 3, encode_loss(loss))
    said = statement(1, 1, 5, lost=[(4, 4, "queue")], started=NOON - 10)
    source.put(P, Kind.STATEMENT, 5, encode_statement(said))
    running = start(source, store, clock=_tomorrow)
    running.until(lambda: running.indexer.progress.statements == 1)
    assert store.completeness(0, TIME_END) == Completeness(NOON + 1, 1, 0, NOON)
    (incident,) = store.incidents(0, TIME_END)
    assert (incident.kind, incident.ranges, str(incident.process)) == ("missing", [(5, 5)], P)
    (process,) = store.processes()
    assert (process.indexed, process.lost, process.missing) == (1, 2, 1)
    assert running.indexer.progress.dead == 1


def test_completeness_goes_on_when_the_indexer_starts_again(start: Callable[..., Running]) -> None:
    source, store = filled(3), RecordingStore()
    running = start(source, store, clock=_tomorrow)
    running.until(lambda: running.indexer.progress.indexed == 3)
    running.stop.set()
    running.thread.join(60)
    source.put(P, Kind.STATEMENT, 3, encode_statement(statement(1, 1, 3)))
    again = start(source, store, clock=_tomorrow)
    again.until(lambda: again.indexer.progress.statements == 1)
    assert store.completeness(0, TIME_END) == Completeness(NOON + 1, 0, 0, NOON)


def test_completeness_writes_off_who_is_silent_while_nothing_comes(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_audit.indexing.completeness.SILENT_MS", 1100)
    source, store = ListSource(), RecordingStore()
    source.put(P, Kind.STATEMENT, 0, encode_statement(statement(1, 1, 0)))
    start(source, store, clock=_tomorrow).until(lambda: bool(store.incidents(0, TIME_END)))
    assert [(i.kind, i.start, i.end) for i in store.incidents(0, TIME_END)] == [("silent", NOON + 1, None)]
    assert store.processes()[0].standing == "off"


def test_partition_that_is_not_a_process_may_hold_records_of_any(start: Callable[..., Running]) -> None:
    source, store = ListSource(), RecordingStore()
    source.put("7", Kind.RECORD, 1, payload(1))
    source.put("7", Kind.RECORD, 1, payload(1, process=OTHER))
    source.put("7", Kind.RECORD, 0, payload(0, process=None, identity="foreign"))
    running = start(source, store)
    running.until(lambda: running.indexer.progress.indexed == 3)
    assert running.indexer.progress.dead == 0


def test_same_batch_is_tried_again_when_the_store_cannot_take_it(
    start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    source, store = filled(5), RecordingStore()
    store.fail = [StoreError("disk full", hint="Free space.") for _ in range(6)]
    heard: list[IndexerProgress] = []
    with caplog.at_level(logging.INFO):
        running = start(source, store, on_progress=heard.append)
        running.until(lambda: running.indexer.progress.indexed == 5)
    assert len(store.attempts) >= 7
    assert all(a is store.attempts[0] for a in store.attempts[:7])
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"], "said once, and once that it goes on"
    assert "disk full. Free space." in caplog.text
    assert [p.paused for p in heard][:2] == ["disk full. Free space.", ""]
    assert running.indexer.progress.dead == 0


class SmallStore(RecordingStore):
    """Has room for this many messages at once."""

    room = 3

    def write(self, batch: Batch) -> Written:
        if len(batch.records) + len(batch.statements) > self.room:
            self.attempts.append(batch)
            raise StoreError("disk full", is_full=True)
        return super().write(batch)


def test_batch_is_halved_when_the_store_has_no_room_for_it(
    start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    """Goal: each half has its own positions, nothing is reported twice or lost, and completeness is the same as with
    one batch. Two partitions, damage in the middle of one, a statement at its end, an incident of the source."""
    source, store = filled(20), SmallStore()
    source.put(P, Kind.STATEMENT, 20, encode_statement(statement(1, 1, 20, watermark=NOON)))
    for s in range(1, 6):
        source.put(str(OTHER), Kind.RECORD, s, payload(s, NOON + s, process=OTHER))
    source.damaged = [(P, 7, "torn", b"x"), (P, 19, "torn", b"y"), (str(OTHER), 99, "torn", b"z")]
    source.incidents = [SourceIncident("topic_recreated", P, 3, 0, NOON / 1000, "")]
    with caplog.at_level(logging.WARNING):
        running = start(source, store, linger_seconds=0)
        running.until(lambda: running.indexer.progress.lag is not None)
        running.until(lambda: source.committed.get(str(OTHER), Position(0, b"")).next == 5)
    progress = running.indexer.progress
    assert (progress.indexed, progress.duplicates, progress.dead, progress.statements) == (25, 0, 3, 1)
    assert progress.paused == ""
    assert caplog.text.count("trying fewer") == 1
    at: dict[str, int] = {}
    for batch in store.batches:
        of_process = {PROCESS.bytes: P, OTHER.bytes: str(OTHER)}
        for record in batch.records:
            assert record.process is not None
            partition = of_process[record.process]
            assert batch.positions[partition].next >= record.sequence, "a record behind the position of its part"
            assert at.get(partition, 0) < record.sequence
        for dead in batch.dead_letters:
            assert dead.offset == 99 or dead.offset < batch.positions[dead.partition].next
            assert dead.offset >= at.get(dead.partition, 0)
        at |= {partition: position.next for partition, position in batch.positions.items()}
    assert all(b.read_until is None for b in store.batches[:-1] if b.records)
    assert store.positions("test") == source.committed
    kinds = [i.kind for b in store.batches if b.completion for i in b.completion.incidents]
    assert kinds == ["topic_recreated"]
    assert store.known(PROCESS.bytes) is not None
    assert store.known(PROCESS.bytes).state.last == 20  # type: ignore[union-attr]
    assert store.known(PROCESS.bytes).state.unverified == 0  # type: ignore[union-attr]


def test_batches_stay_small_for_a_while_when_one_did_not_fit(start: Callable[..., Running]) -> None:
    source, store = filled(300), SmallStore()
    running = start(source, store, linger_seconds=0)
    running.until(lambda: running.indexer.progress.indexed == 300)
    refused = len(store.attempts) - len(store.batches)
    assert refused < 130, "most batches fit at once"
    store.room = 1000
    for s in range(301, 2301):
        source.put(P, Kind.RECORD, s, payload(s, NOON + s))
    running.until(lambda: running.indexer.progress.indexed == 2300)
    assert max(len(b.records) for b in store.batches) > 100, "and large again later"


def test_stop_ends_the_loop_when_the_store_cannot_take_the_batch(start: Callable[..., Running]) -> None:
    source, store = filled(5), RecordingStore()
    store.fail = [StoreError("disk full")] * 1_000_000
    running = start(source, store)
    running.until(lambda: len(store.attempts) >= 2)
    running.stop.set()
    running.thread.join(60)
    assert not running.thread.is_alive()
    assert running.error is None
    assert source.committed == {}, "what is not stored was committed"


def test_loop_goes_on_when_the_source_recovers(start: Callable[..., Running]) -> None:
    source, store = filled(5), RecordingStore()
    source.fail = [TransportError("broken"), TransportError("broken")]
    source.fail_commit = [TransportError("busy")] * 3
    running = start(source, store)
    running.until(lambda: source.committed.get(P, Position(0, b"")).next == 5)
    assert running.indexer.progress.indexed == 5


@pytest.mark.parametrize("where", ["poll", "commit", "write", "idle"])
def test_loop_ends_with_the_error_when_it_is_not_retriable(start: Callable[..., Running], where: str) -> None:
    source, store = filled(0 if where == "idle" else 5), RecordingStore()
    broken: Exception
    if where in ("poll", "commit"):
        broken = TransportError("gone", retriable=False)
        (source.fail if where == "poll" else source.fail_commit).append(broken)
    else:
        broken = StoreError("damaged", retriable=False)
        store.fail.append(broken)
    running = start(source, store)
    running.thread.join(60)
    assert running.error is broken


def test_first_messages_survive_when_the_second_look_fails(start: Callable[..., Running]) -> None:
    """Goal: the linger must not lose the messages of the first poll. Method: the poll after a short batch raises."""
    source, store = filled(5), RecordingStore()
    original = source.poll

    def poll(messages_max: int, timeout_seconds: float) -> object:
        if timeout_seconds == 0 and len(source.polls) == 1:
            source.polls.append(0)
            raise TransportError("broken")
        return original(messages_max, timeout_seconds)

    source.poll = poll  # type: ignore[method-assign,assignment]
    running = start(source, store)
    running.until(lambda: running.indexer.progress.indexed == 5)
    assert sorted(sequences(walk(store))) == [1, 2, 3, 4, 5]


def test_fence_from_before_the_partitions_changed_does_not_pass_with_the_change() -> None:
    source = filled(1)
    original = source.poll

    def poll(messages_max: int, timeout_seconds: float) -> object:
        batch = original(messages_max, timeout_seconds)
        return batch._replace(fence=None, has_changed=True) if len(source.polls) == 2 else batch

    source.poll = poll  # type: ignore[method-assign,assignment]
    batch = Indexer(source, RecordingStore(), linger_seconds=0.001)._poll()
    assert (len(source.polls), len(batch.messages)) == (2, 1)
    assert (batch.fence, batch.has_changed) == (None, True)


def test_partition_that_is_acknowledged_as_lost_is_ignored_until_it_is_recovered(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_audit.indexing.indexer._ASKED_SECONDS", 0.0)
    source, store = ListSource(), RecordingStore()
    lost: list[str] = []
    store.partitions_lost = lambda: list(lost)  # type: ignore[method-assign]
    store.partition_noted = lost.remove  # type: ignore[method-assign]
    source.holds = {"3": "nothing can be read at offset 7"}
    first = start(source, store)
    first.until(lambda: store.holds() != [])
    lost.append("3")
    first.until(lambda: lost == [])
    source.holds = {}
    polls = len(source.polls)
    first.until(lambda: len(source.polls) > polls + 20)
    first.stop.set()
    first.thread.join(60)
    assert ([h.is_lost for h in store.holds()], source.ignored) == ([True], ["3"])

    source.ignored, polls = [], len(source.polls)
    second = start(source, store)
    second.until(lambda: len(source.polls) > polls + 20)
    assert ([h.is_lost for h in store.holds()], source.ignored) == ([True], ["3"])
    source.recovered = ["3"]
    second.until(lambda: (store.holds(), source.ignored) == ([], []))


def test_fence_is_noted_at_most_every_25_ms_when_idle(start: Callable[..., Running]) -> None:
    source, store = ListSource(), RecordingStore()
    running = start(source, store, linger_seconds=0.0)
    running.until(lambda: len(store.noted) >= 8)
    # Eight notes need seven pauses, whatever the times of the fences, which were taken before them.
    assert store.noted[7] - store.noted[0] >= 7 * 0.025 - 0.025
    assert len(store.batches) == 1, "it says once where the index begins"


def test_fence_goes_back_when_the_clock_was_set_back(start: Callable[..., Running]) -> None:
    source, store = ListSource(), RecordingStore()
    source.now = lambda: 500.0 if store.noted else 1000.0
    running = start(source, store)
    running.until(lambda: 500.0 in store.noted)
    assert store.noted[0] == 1000.0


@pytest.mark.parametrize("stopped", [False, True])
def test_position_is_forgotten_when_its_partition_ended(start: Callable[..., Running], stopped: bool) -> None:
    source, store = filled(5), RecordingStore()
    source.ended = [P]
    running = start(source, store)
    running.until(lambda: running.indexer.progress.indexed == 5)
    if stopped:
        running.stop.set()
    running.until(lambda: store.positions("test") == {})
    assert store.snapshot().published == 1


def test_stop_ends_the_loop_after_the_batch_in_hand(start: Callable[..., Running]) -> None:
    source, store = filled(2000), RecordingStore()
    held = Running(source, store, batch_max=100)
    store.at_write = lambda: held.stop.set() if len(store.batches) == 3 else None
    running = start(held)
    running.thread.join(60)
    assert running.error is None
    assert len(store.batches) == 3
    assert source.committed[P].next == store.positions("test")[P].next == 300


def test_what_happens_to_the_source_itself_is_an_incident_of_the_batch(start: Callable[..., Running]) -> None:
    """Also without any message: the topic may be empty."""
    store = RecordingStore()
    source = ListSource()
    source.incidents = [SourceIncident("retention_passed", "3", 100, 250, 1_795_000_000.5, "the topic's retention")]
    running = start(source, store)
    running.until(lambda: bool(store.incidents(0, TIME_END)))
    (incident,) = store.incidents(0, TIME_END)
    assert (incident.kind, incident.process) == ("retention_passed", NO_PROCESS)
    assert incident.detail == "partition 3: messages 100 to 249 were removed before they were read"
    assert (incident.start, incident.end, incident.resolved_at) == (0, 1_795_000_000_501, None)
    source.incidents = [SourceIncident("topic_recreated", "0", 77, 0, 1_795_000_001.0, "another id")]
    running.until(lambda: len(store.incidents(0, TIME_END)) == 2)
    assert {i.kind for i in store.incidents(0, TIME_END)} == {"retention_passed", "topic_recreated"}
