"""The recorder's thread fails at each step of its loop, also in its recovery and permanently: no record is silently
lost.

Method: a table of step × exception × when (before the step's work or after it) × how often in a row. Exchanges continue
meanwhile. At the end every sequence is written or stated lost, none both, and the journal is complete for an indexer:
no incident, all settled. The seed of the traffic is the row's own.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from tests.support.exchanges import begun, seal
from tests.support.waiting import until

from asgi_audit.indexing.completeness import Consumed, RecordEvent, StatementEvent, Tracker
from asgi_audit.record.merkle import leaf_hash, statement_digest
from asgi_audit.record.statement import Statement, decode_statement
from asgi_audit.recording import output as output_module
from asgi_audit.recording import thread as thread_module
from asgi_audit.recording import writing
from asgi_audit.recording.ledger import Ledger, Losses
from asgi_audit.recording.output import Output
from asgi_audit.recording.recorder import Recorder, shared_recorder
from asgi_audit.recording.state import RecorderState
from asgi_audit.recording.thread import RecorderThread
from asgi_audit.recording.writing import Writing
from asgi_audit.settings import Settings, make_settings
from asgi_audit.transport.base import Kind, ProcessFacts
from asgi_audit.transport.memory import MemoryJournal, MemoryWriter


class Builder:
    def __init__(self, settings: Settings, facts: ProcessFacts) -> None: ...

    def build(self, exchange: Any, shed: int = 0) -> bytes:
        return json.dumps({"n": exchange.sequence, "shed": shed}).encode()


class Step(NamedTuple):
    owner: Any
    name: str

    def __str__(self) -> str:
        return f"{getattr(self.owner, '__name__', self.owner)}.{self.name}"


STEPS = [
    *(Step(Writing, name) for name in (
        "_wait", "_resume", "_turn", "_drain", "_write_batch", "_begin_next", "_build", "_release", "_wake",
        "_append_statements", "_complete_requests", "_statement_at", "_recover", "_settle_interrupted",
    )),
    *(Step(Output, name) for name in (
        "open", "attach", "pressure", "is_full", "append_held", "sync", "write_statements",
    )),
    *(Step(RecorderState, name) for name in ("tally", "attach", "record_loss", "count")),
    *(Step(RecorderThread, name) for name in ("back_off", "pause", "succeeded")),
    *(Step(Ledger, name) for name in ("make", "written", "recorded", "chained")),
    *(Step(Losses, name) for name in ("until", "stated")),
    *(Step(MemoryWriter, name) for name in ("append", "sync", "room")),
    Step(Recorder, "build"),
    Step(writing, "leaf_hash"),
    Step(writing, "encode_statement"),
    Step(writing, "exchange_of"),
    Step(logging.Logger, "log"),
]  # fmt: skip
# Steps that are only reached when another one fails, too.
DRAIN = Step(Writing, "_drain")
ALSO = {
    **dict.fromkeys(("_recover", "_settle_interrupted", "count", "back_off", "pause", "log"), DRAIN),
    "record_loss": Step(Recorder, "build"),
}
FIRST = ("open", "attach")  # done once, at the beginning
EXCEPTIONS: tuple[type[BaseException], ...] = (RuntimeError, MemoryError, SystemExit, KeyboardInterrupt)


class Fault:
    """Makes a step fail `times` times, in the recorder's thread alone."""

    def __init__(self, step: Step, error: type[BaseException], times: int, *, is_after: bool) -> None:
        self.original = getattr(step.owner, step.name)
        self.left = 0
        self.times = times
        self.error = error
        self.is_after = is_after
        self.broke = 0

    def __call__(self, *args: Any, **given: Any) -> Any:
        breaks = self.left > 0 and threading.current_thread().name == "asgi-audit-recorder"
        if breaks:
            self.left -= 1
            self.broke += 1
        if breaks and not self.is_after:
            raise self.error("injected")
        answer = self.original(*args, **given)
        if breaks:
            raise self.error("injected")
        return answer


@pytest.fixture
def recorder() -> Iterator[tuple[Recorder, MemoryJournal]]:
    journal = MemoryJournal(bytes_max=1 << 22)
    settings = make_settings({}, transport=f"memory://{uuid.uuid4()}")
    made = shared_recorder(settings, journal.writer, builder_factory=Builder)
    yield made, journal
    made.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_module, "RESTART_SECONDS", (0.001, 0.01))
    monkeypatch.setattr(writing, "FLUSH_SECONDS", 0.005)
    monkeypatch.setattr(writing, "_BUSY_SECONDS", 0.01)
    monkeypatch.setattr(output_module, "_RETRY_SECONDS", (0.001, 0.01))


def entries(journal: MemoryJournal) -> list[Any]:
    return [e for p in journal.partitions.values() for e in p.entries]


def stated(journal: MemoryJournal) -> list[Statement]:
    return [decode_statement(e.payload) for e in entries(journal) if e.kind is Kind.STATEMENT]


def assert_whole(journal: MemoryJournal, sealed: int) -> None:
    """Checks the journal as an indexer reads it."""
    tracker, events = Tracker(), []
    recorded: set[int] = set()
    for e in entries(journal):
        if e.kind is Kind.RECORD:
            recorded.add(e.sequence)
            events.append(RecordEvent(b"p" * 16, "p", e.sequence, 1, leaf_hash(e.payload)))
        else:
            events.append(StatementEvent(b"p" * 16, "p", decode_statement(e.payload), statement_digest(e.payload)))
    completion = tracker.take(Consumed(events, now=int(time.time() * 1000)))
    assert completion is not None
    assert [(i.kind, i.detail) for i in completion.incidents if i.resolved_at is None] == []
    lost = {n for s in stated(journal) for r in s.lost for n in range(r.first, r.last + 1)}
    assert recorded | lost == set(range(1, sealed + 1))
    assert not recorded & lost
    each = {s.number: s for s in stated(journal)}  # one that was written again is equal
    assert sum(s.count for s in each.values()) == len(recorded), "each loss is stated once"
    assert stated(journal)[-1].last == sealed


def rows() -> Iterator[Any]:
    for number, step in enumerate(STEPS):
        for is_after in (False, True):
            for turn in range(2):
                error = EXCEPTIONS[(number + 2 * turn + is_after) % 4]
                times = (1, 3)[(number + turn) % 2]
                when = "after" if is_after else "before"
                yield pytest.param(step, error, times, is_after, id=f"{step}-{error.__name__}-{when}-{times}")


@pytest.mark.parametrize(("step", "error", "times", "is_after"), list(rows()))
def test_records_are_written_once_or_stated_lost_when_a_step_breaks(
    recorder: tuple[Recorder, MemoryJournal], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    step: Step, error: type[BaseException], times: int, is_after: bool,
) -> None:  # fmt: skip
    made, journal = recorder
    rng = random.Random(f"{step}{error.__name__}{times}{is_after}")
    fault = Fault(step, error, times, is_after=is_after)
    monkeypatch.setattr(step.owner, step.name, lambda *args, **given: fault(*args, **given))  # a function, to be bound
    also = Fault(ALSO[step.name], RuntimeError, 20, is_after=False) if step.name in ALSO else None
    if also is not None:
        monkeypatch.setattr(ALSO[step.name].owner, ALSO[step.name].name, lambda *args, **given: also(*args, **given))
        also.left = 20
    is_early = step.name in FIRST or also is not None or rng.random() < 0.3
    fault.left = times if is_early else 0
    answers: list[bool] = []
    waited = 0
    for n in range(60):
        if n == 20 and not is_early:
            fault.left = times
        is_durable = rng.random() < 0.2
        waited += is_durable
        assert seal(made, begun(made), answers.append if is_durable else None)
        if rng.random() < 0.1:
            made.flush(0.05, close=rng.random() < 0.5)
        if rng.random() < 0.3:
            time.sleep(0.002)  # requests do not arrive all at once
    until(lambda: fault.broke > 0)
    fault.left = 0
    until(lambda: not made.stats()["waiting"] and made.flush(0.5, close=True))
    assert_whole(journal, 60)
    until(lambda: not made.stats()["recorder_down"])
    assert len(answers) >= waited, "whoever waited was told"
    stats = made.stats()
    assert stats["held_bytes"] == 0


def test_thread_is_started_again_when_its_recovery_breaks(
    recorder: tuple[Recorder, MemoryJournal], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While it fails, stats and log report it; afterwards everything that waited is written."""
    made, journal = recorder
    fault, recovery = (
        Fault(Step(Writing, name), MemoryError, 1 << 30, is_after=False) for name in ("_turn", "_settle_interrupted")
    )
    for name, broken in (("_turn", fault), ("_settle_interrupted", recovery)):
        monkeypatch.setattr(Writing, name, lambda *args, broken=broken, **given: broken(*args, **given))
        broken.left = broken.times
    for _ in range(5):
        assert seal(made, begun(made))
    until(lambda: made.stats()["recorder_restarts"] > 2)
    assert made.stats()["recorder_down"] == 1
    assert made.stats()["waiting"] == 5
    assert caplog.text.count("the recorder's thread is down (MemoryError)") == 1
    fault.left = recovery.left = 0
    until(lambda: not made.stats()["waiting"] and not made.stats()["recorder_down"])
    assert made.flush(60, close=True)
    assert_whole(journal, 5)
    assert not any(s.lost for s in stated(journal))


@pytest.mark.parametrize("is_after", [False, True])
def test_exchange_is_not_lost_when_taking_it_off_the_queue_breaks(
    recorder: tuple[Recorder, MemoryJournal], is_after: bool
) -> None:
    made, journal = recorder
    breaks = [True]

    class Queue(deque):  # type: ignore[type-arg]
        def popleft(self) -> Any:
            is_breaking = bool(breaks)
            breaks.clear()
            if is_breaking and not is_after:
                raise MemoryError
            item = super().popleft()
            if is_breaking:
                raise MemoryError
            return item

    made._state.queue = Queue()
    for _ in range(5):
        assert seal(made, begun(made))
    until(lambda: made.flush(20, close=True))
    assert_whole(journal, 5)


def test_pauses_grow_when_the_thread_breaks_at_every_start(
    recorder: tuple[Recorder, MemoryJournal], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = recorder
    pauses: list[float] = []
    run = Writing.run

    def breaks(self: Writing, thread: RecorderThread) -> None:
        if len(pauses) < 8:
            raise OSError
        run(self, thread)

    monkeypatch.setattr(RecorderThread, "pause", lambda self, seconds: pauses.append(seconds))
    monkeypatch.setattr(Writing, "run", breaks)
    begun(made)
    assert made.flush(60)
    assert [round(seconds * 1000) for seconds in pauses] == [0, 1, 2, 4, 8, 10, 10, 10]


def test_process_says_so_when_no_thread_can_be_started(
    recorder: tuple[Recorder, MemoryJournal], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, journal = recorder
    start = threading.Thread.start

    def cannot(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", cannot)
    for _ in range(3):
        assert seal(made, begun(made)), "the application is served, and what it does waits"
    assert made.stats()["recorder_down"] == 1
    assert "no thread can be started" in caplog.text
    monkeypatch.setattr(threading.Thread, "start", start)
    until(lambda: made.stats()["recorder_down"] == 0)
    assert made.flush(60, close=True)
    assert_whole(journal, 3)


def test_thread_is_found_gone_when_it_ended_without_a_word(
    recorder: tuple[Recorder, MemoryJournal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even its last act was done: the next call of `begin`, `flush` or `stats` starts another one."""
    made, journal = recorder
    made.open(5)
    state = made._state
    thread = state.thread
    assert thread is not None
    with monkeypatch.context() as patched:
        patched.setattr(RecorderThread, "_thread_ended", lambda self, why: None)
        patched.setattr(Writing, "_turn", lambda self: (_ for _ in ()).throw(SystemExit))
        patched.setattr(Writing, "_settle_interrupted", lambda self: (_ for _ in ()).throw(SystemExit))
        assert seal(made, begun(made))
        thread.join(60)
        assert not thread.is_alive()
    for _ in range(2 * state.few):
        assert seal(made, begun(made))
    assert state.thread is not thread, "by whoever finds that nobody empties the queue"
    assert made.flush(60, close=True)
    assert_whole(journal, 2 * state.few + 1)


def test_losses_are_stated_by_the_thread_that_ends_the_program_when_no_other_can_be_started(
    recorder: tuple[Recorder, MemoryJournal], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, journal = recorder

    def cannot(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", cannot)
    for _ in range(7):
        assert seal(made, begun(made))
    made._thread.at_exit()
    assert [(r.first, r.last, r.reason) for s in stated(journal) for r in s.lost] == [(1, 7, "exit")]
    assert_whole(journal, 7)
    assert not seal(made, begun(made)), "it is served, and counted in the page"
    assert made.stats()["lost_exit"] == 8


def test_thread_is_started_again_when_the_log_handler_hangs(
    recorder: tuple[Recorder, MemoryJournal], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, journal = recorder
    made.open(5)
    hangs, broken = threading.Event(), [SystemExit()]
    log = logging.getLogger("asgi_audit")

    class Hanging(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            hangs.wait(30)

    handler = Hanging()
    run = Writing._turn

    def turn(self: Writing) -> None:
        if broken:
            raise broken[-1]
        run(self)

    monkeypatch.setattr(Writing, "_turn", turn)
    monkeypatch.setattr(Writing, "_recover", lambda self, e: broken.clear() or (_ for _ in ()).throw(e))
    log.addHandler(handler)
    try:
        draft = begun(made)
        until(lambda: not broken)
        assert seal(made, draft)
        # No call of begin, flush or stats: that would start a thread, too.
        until(lambda: any(e.kind is Kind.RECORD for e in entries(journal)))
    finally:
        hangs.set()
        log.removeHandler(handler)
    assert made.flush(20, close=True)
    assert_whole(journal, 1)
