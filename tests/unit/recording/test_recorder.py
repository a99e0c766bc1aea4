"""The recorder with a journal in memory: sequences, seals, budget, waiters, statements, fork."""

from __future__ import annotations

import json
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from tests.support.exchanges import begun, seal
from tests.support.waiting import until

from asgi_audit.errors import ConfigError, TransportError
from asgi_audit.exchange.draft import Body
from asgi_audit.exchange.sealed import Exchange, Wake
from asgi_audit.record.statement import STATEMENT_BYTES_MAX, Lost, Statement, decode_statement
from asgi_audit.recording.clock import Clock
from asgi_audit.recording.ledger import Losses
from asgi_audit.recording.recorder import Recorder, shared_recorder
from asgi_audit.recording.state import Phase
from asgi_audit.recording.thread import RecorderThread
from asgi_audit.settings import Settings, make_settings
from asgi_audit.transport.base import Kind, ProcessFacts
from asgi_audit.transport.memory import MemoryJournal


class TrivialBuilder:
    def __init__(self, settings: Settings, facts: ProcessFacts) -> None:
        self.service = settings.service
        self.process = str(facts.process)

    def build(self, exchange: Exchange, shed: int = 0) -> bytes:
        if exchange.path == "/unbuildable":
            raise ValueError("hunter2")
        size = len(exchange.request_body.data()) if shed == 0 else 0
        made = {"service": self.service, "process": self.process, "n": exchange.sequence, "shed": shed, "x": "a" * size}
        return json.dumps(made).encode()


class House:
    """A recorder, its journal, and all entries read from it."""

    def __init__(self, bytes_max: int = 1 << 22, **given: Any) -> None:
        self.settings = make_settings({}, transport=f"memory://{uuid.uuid4()}", **given)
        self.journal = MemoryJournal(bytes_max=bytes_max)
        self.opened: list[ProcessFacts] = []
        self.recorder = self.face()

    def open_writer(self, facts: ProcessFacts) -> Any:
        self.opened.append(facts)
        return self.journal.writer(facts)

    def face(self, **given: Any) -> Recorder:
        settings = make_settings({}, **{"transport": self.settings.transport, **self.given(), **given})
        return shared_recorder(settings, self.open_writer, builder_factory=TrivialBuilder)

    def given(self) -> dict[str, Any]:
        names = ("capture_bytes_max", "journal_bytes_max")
        return {name: getattr(self.settings, name) for name in names}

    def read(self) -> tuple[list[dict[str, Any]], list[Statement]]:
        entries = [e for p in self.journal.partitions.values() for e in p.entries]
        return (
            [json.loads(e.payload) for e in entries if e.kind is Kind.RECORD],
            [decode_statement(e.payload) for e in entries if e.kind is Kind.STATEMENT],
        )


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.recorder.stop()


def go(recorder: Recorder, path: str = "/", body: bytes = b"", wake: Wake | None = None) -> bool:
    return seal(recorder, begun(recorder, path, body), wake)


def test_recorder_is_open_for_each_face_when_one_opened_it(house: House) -> None:
    assert not house.recorder.is_open
    house.recorder.open(10)
    assert house.recorder.is_open
    assert house.face().is_open
    pid = os.fork()
    if pid == 0:
        os._exit(1 if house.recorder.is_open else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_record_is_in_the_journal_within_the_flush_time_when_sealed(house: House) -> None:
    house.recorder.open(2)
    made = begun(house.recorder)
    assert made.started_ns > 1_600_000_000 * 10**9
    assert seal(house.recorder, made)
    until(lambda: len(house.read()[0]) == 1)
    assert house.read()[0][0]["n"] == 1


def test_second_seal_and_seal_without_begin_do_nothing(house: House) -> None:
    made = begun(house.recorder)
    assert seal(house.recorder, made)
    assert not seal(house.recorder, made)
    made.ticket = 1_000_000
    assert not seal(house.recorder, made)
    assert house.recorder.stats()["sealed"] == 1


def test_exchange_of_detail_none_is_excluded_and_gets_no_sequence(house: House) -> None:
    made = begun(house.recorder, detail="none")
    assert house.recorder.reserve(made, 10)
    assert not seal(house.recorder, made)
    assert house.recorder.stats()["sealed"] == 0
    assert go(house.recorder)
    assert house.recorder.flush(60, close=True)
    stats = house.recorder.stats()
    assert (stats["excluded"], stats["sealed"], stats["held_bytes"]) == (1, 1, 0)
    assert house.read()[1][-1].excluded == 1


def test_numbers_agree_and_sequences_are_whole_when_several_threads_seal(house: House) -> None:
    def run() -> None:
        for _ in range(500):
            go(house.recorder)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert house.recorder.flush(60, close=True)
    records, statements = house.read()
    assert [r["n"] for r in records] == list(range(1, 2001))
    assert sum(s.count for s in statements) == 2000
    assert statements[-1].last == 2000
    stats = house.recorder.stats()
    assert stats["sealed"] == stats["recorded"] == 2000


def test_exchange_is_lost_and_stated_when_the_queue_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_audit.recording.state.QUEUE_MAX", 100)
    house = House()
    house.recorder._thread._start_at = float("inf")  # no thread, so the queue is not emptied
    for _ in range(103):
        go(house.recorder)
    assert house.recorder.stats()["lost_queue"] == 3
    house.recorder._thread._start_at = float("-inf")
    assert house.recorder.flush(60, close=True)
    records, statements = house.read()
    assert len(records) == 100
    assert [r for s in statements for r in s.lost] == [Lost(101, 103, "queue")]
    house.recorder.stop()


def test_budget_is_shared_and_given_back_when_written() -> None:
    house = House(capture_bytes_max=65_536)
    first, second = begun(house.recorder), begun(house.recorder)
    assert house.recorder.reserve(first, 60_000)
    assert not house.recorder.reserve(second, 6_000)
    assert house.recorder.reserve(second, 5_000)
    seal(house.recorder, first)
    assert not house.recorder.reserve(first, 1)
    assert house.recorder.flush(60)
    assert house.recorder.reserve(second, 60_000)
    seal(house.recorder, second)
    assert house.recorder.flush(60)
    assert house.recorder.stats()["held_bytes"] == 0
    house.recorder.stop()


def test_small_bodies_are_dropped_for_pressure_when_many_wait_and_the_budget_is_spent() -> None:
    """Bodies that arrived in one small message are counted only from the 65th waiting exchange on: the possible size of
    those before it is reserved."""
    house = House(capture_bytes_max=64 * 16 * 8192)
    state = house.recorder._state
    house.recorder._thread._start_at = float("inf")  # no thread, so the queue is not emptied
    large = begun(house.recorder)
    assert house.recorder.reserve(large, state.bytes_max - 10_000)
    for _ in range(64 + 4):
        assert go(house.recorder, body=b"b" * 4000)
    bodies = [item.draft.request for item in state.queue]
    assert [isinstance(b, bytes) for b in bodies] == [True] * 66 + [False] * 2
    assert house.recorder.stats()["held_bytes"] == state.bytes_max - 10_000 + 2 * 4000
    (dropped,) = {(b.data(), b.total, b.complete, b.pressure) for b in bodies if isinstance(b, Body)}
    assert dropped == (b"", 4000, True, True)
    assert seal(house.recorder, large)
    house.recorder._thread._start_at = float("-inf")
    assert house.recorder.flush(60)
    assert house.recorder.stats()["held_bytes"] == 0
    house.recorder.stop()


def test_waiter_is_woken_once_and_true_when_the_record_is_durable(house: House) -> None:
    answers: list[bool] = []
    for _ in range(20):
        assert go(house.recorder, wake=answers.append)
    until(lambda: len(answers) == 20)
    assert set(answers) == {True}


def test_waiter_that_raises_harms_nobody(house: House) -> None:
    answers: list[bool] = []

    def bad(_: bool) -> None:
        raise RuntimeError("of somebody else")

    first, second = begun(house.recorder), begun(house.recorder)
    seal(house.recorder, first, bad)
    seal(house.recorder, second, answers.append)
    until(lambda: answers == [True])
    assert house.recorder.stats()["internal_errors"] == 1


def test_loss_is_stated_and_no_secret_logged_when_a_record_cannot_be_built(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[bool] = []
    go(house.recorder)
    go(house.recorder, "/unbuildable", wake=answers.append)
    go(house.recorder)
    assert house.recorder.flush(60, close=True)
    records, statements = house.read()
    assert [r["n"] for r in records] == [1, 3]
    assert [r for s in statements for r in s.lost] == [Lost(2, 2, "build")]
    assert answers == [False]
    assert "ValueError" in caplog.text
    assert "hunter2" not in caplog.text


def test_two_middlewares_share_sequence_and_keep_their_identity(house: House) -> None:
    other = house.face(service="other", account_id="acme")
    go(house.recorder)
    go(other)
    assert house.recorder.flush(60)
    assert [(r["n"], r["service"]) for r in house.read()[0]] == [(1, "app"), (2, "other")]
    assert len(house.opened) == 1
    assert other.stats() == house.recorder.stats()


def test_conflicting_settings_of_the_recorder_are_refused(house: House) -> None:
    with pytest.raises(ConfigError, match="capture_bytes_max is 77777"):
        house.face(capture_bytes_max=77_777)


def test_statement_is_provisional_at_close_and_revoked_by_the_next(house: House) -> None:
    go(house.recorder)
    assert house.recorder.flush(60, close=True)
    assert house.read()[1][-1].closed == "provisional"
    go(house.recorder)
    until(lambda: house.read()[1][-1].last == 2)
    assert house.read()[1][-1].closed == ""
    house.recorder.stop()
    assert house.read()[1][-1].closed == "final"


def parked(house: House) -> None:
    until(lambda: house.recorder._state.phase is Phase.PARKED)


def test_whoever_waits_is_served_at_once_when_the_thread_is_parked_or_gathers(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method: the gathering time and the idle time never end."""
    monkeypatch.setattr("asgi_audit.recording.writing._IDLE_SECONDS", 3600.0)
    go(house.recorder)
    assert house.recorder.flush(30)
    parked(house)
    monkeypatch.setattr("asgi_audit.recording.writing.FLUSH_SECONDS", 3600.0)
    for count in (2, 4):
        woken = threading.Event()
        assert go(house.recorder, wake=lambda is_durable, woken=woken: woken.set())
        assert woken.wait(30)
        assert len(house.read()[0]) == count
        go(house.recorder)  # this one is gathered, until the next one has a waiter


def test_recorder_is_not_down_when_it_was_stopped() -> None:
    never = House()
    never.recorder.stop()
    used = House()
    go(used.recorder)
    used.recorder.stop()
    assert [h.recorder.stats()["recorder_down"] for h in (never, used)] == [0, 0]
    assert [h.recorder._state.phase for h in (never, used)] == [Phase.ENDED, Phase.ENDED]


def test_process_states_at_once_when_an_exchange_begins_after_it_closed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers of its statements no longer wait for it; a long exchange must not be unknown for 10 s.

    Method: the time of idleness never ends."""
    monkeypatch.setattr("asgi_audit.recording.writing._IDLE_SECONDS", 3600.0)
    assert house.recorder.flush(5, close=True)
    parked(house)
    before = len(house.read()[1])
    draft = begun(house.recorder)
    until(lambda: len(house.read()[1]) > before)
    said = house.read()[1][-1]
    assert (said.closed, said.open_count) == ("", 1)
    assert said.watermark <= draft.started_ns // 1_000_000
    seal(house.recorder, draft)


def test_process_states_at_once_when_its_clock_was_set(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asgi_audit.recording.writing._IDLE_SECONDS", 3600.0)
    go(house.recorder)
    assert house.recorder.flush(60)
    parked(house)
    before = len(house.read()[1])
    clock = house.recorder._state.clock
    clock.wall_ns = lambda: time.time_ns() - 3_600 * 1_000_000_000
    draft = begun(house.recorder)
    until(lambda: len(house.read()[1]) > before)
    assert house.read()[1][-1].clock_steps == 1
    seal(house.recorder, draft)


def test_forwarder_is_told_when_the_process_is_heard_of_and_heard_of_again() -> None:
    told: list[int] = []
    journal = MemoryJournal(bytes_max=1 << 22)
    settings = make_settings({}, transport=f"memory://{uuid.uuid4()}")
    recorder = shared_recorder(
        settings, journal.writer, builder_factory=TrivialBuilder, on_begun=lambda: told.append(1)
    )
    go(recorder)
    until(lambda: len(told) == 1)
    assert recorder.flush(5, close=True)
    assert len(told) == 1, "a goodbye is carried on by itself"
    go(recorder)
    until(lambda: len(told) == 2)
    recorder.stop()


def test_watermark_is_held_back_by_open_exchange_but_not_by_an_old_one() -> None:
    house = House()
    house.recorder.stop()
    clock = Clock()
    house.recorder = shared_recorder(house.settings, house.open_writer, builder_factory=TrivialBuilder, clock=clock)
    old = begun(house.recorder)
    old_ns = house.recorder._state.open[old.ticket] = old.started_ns - 61 * 10**9
    young = begun(house.recorder)
    young_ns = young.started_ns
    assert house.recorder.flush(60, close=True)
    statement = house.read()[1][-1]
    assert statement.open_count == 2
    assert statement.open_oldest == old_ns // 10**6
    assert statement.watermark == young_ns // 10**6
    until(lambda: clock.now_ms() > young_ns // 10**6)
    seal(house.recorder, young)
    assert house.recorder.flush(60, close=True)
    assert house.read()[1][-1].watermark > young_ns // 10**6
    house.recorder.stop()


def test_open_exchanges_are_stated_by_account_when_it_is_known_and_they_are_open_for_long(house: House) -> None:
    one, two, unknown, sealed, moved = [begun(house.recorder) for _ in range(5)]
    for draft, account in ((one, "b"), (two, "b"), (sealed, "c"), (moved, "x"), (moved, "a")):
        house.recorder.learn_account(draft, account)
    seal(house.recorder, sealed)
    house.recorder.learn_account(sealed, "c")
    house.recorder.learn_account(begun(house.recorder), "young")
    opened = house.recorder._state.open
    for draft in (one, two, unknown, moved):
        opened[draft.ticket] -= 86_400 * 10**9
    assert house.recorder.flush(60, close=True)
    closed = house.read()[1][-1]
    assert (closed.open_count, closed.open_long) == (5, 4)
    assert [(o.account, o.count) for o in closed.open_accounts] == [("b", 2), ("a", 1), ("young", 1)]
    begun(house.recorder)
    until(lambda: house.read()[1][-1].closed == "")
    assert [(o.account, o.count) for o in house.read()[1][-1].open_accounts] == [("b", 2), ("a", 1)]
    for draft in (one, two, moved):
        seal(house.recorder, draft)
    assert house.recorder._state.accounts.keys() <= opened.keys()


def test_configured_account_is_known_until_the_application_names_another(house: House) -> None:
    own = house.face(account_id="own")
    first, second = begun(own), begun(own)
    assert house.recorder.flush(60, close=True)
    assert [(o.account, o.count) for o in house.read()[1][-1].open_accounts] == [("own", 2)]
    own.learn_account(first, "own")
    own.learn_account(second, "other")
    begun(own)
    assert house.recorder.flush(60, close=True)
    named = house.read()[1][-1].open_accounts
    assert [(o.account, o.count) for o in named] == [("other", 1), ("own", 1)], "the third may be anybody's"


def test_accounts_beyond_a_hundred_are_not_named_and_a_statement_is_never_too_long(house: House) -> None:
    for n in range(150):
        draft = begun(house.recorder)
        house.recorder.learn_account(draft, f"{n:03}" + "\N{GRINNING FACE}" * 197)
    for n in range(2000):
        house.recorder._state.record_loss(2 * n + 1, 2 * n + 1, "journal_full")
    house.recorder._state.last = 4000
    assert house.recorder.flush(60, close=True)
    entries = [e for p in house.journal.partitions.values() for e in p.entries if e.kind is Kind.STATEMENT]
    assert max(len(e.payload) for e in entries) <= STATEMENT_BYTES_MAX
    statements = house.read()[1]
    assert sum(len(s.lost) for s in statements) == 2000, "losses go before accounts"
    assert 0 < len(statements[-1].open_accounts) < 100


def test_counters_survive_in_the_page_from_the_first_request_on(house: House) -> None:
    for _ in range(3):
        go(house.recorder)
    begun(house.recorder)
    assert house.recorder.flush(60)
    counters = house.recorder._thread.work._output.writer.counters  # type: ignore[attr-defined]
    assert list(counters.cast("B").cast("Q")) == [4, 3, 0]


def test_records_are_held_until_there_is_a_journal_when_it_cannot_be_opened(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    is_broken = [True]

    def open_writer(facts: ProcessFacts) -> Any:
        if is_broken[0]:
            raise TransportError("journal open: read-only file system", hint="set `transport`")
        return house.journal.writer(facts)

    house.recorder.stop()
    house.recorder = shared_recorder(house.settings, open_writer, builder_factory=TrivialBuilder)
    house.recorder.open(0.05)
    answers: list[bool] = []
    go(house.recorder, wake=answers.append)
    until(lambda: answers == [False])
    go(house.recorder)
    assert not house.recorder.flush(0.2)
    assert caplog.text.count("the journal cannot be opened; records stay in memory") == 1
    is_broken[0] = False
    until(lambda: len(house.read()[0]) == 2)
    assert house.recorder.flush(60, close=True)
    assert sum(s.count for s in house.read()[1]) == 2
    house.recorder.stop()


def test_bodies_then_records_are_dropped_and_stated_when_the_journal_fills_up(caplog: pytest.LogCaptureFixture) -> None:
    house = House(bytes_max=1 << 20)
    for _ in range(300):
        go(house.recorder, body=b"b" * 10_000)
        if house.recorder.stats()["sealed"] % 5 == 0:
            assert house.recorder.flush(60) or True
    house.recorder.flush(60)
    stats = house.recorder.stats()
    records, _ = house.read()
    assert {r["shed"] for r in records} >= {0, 1, 2}
    assert [r["shed"] for r in records] == sorted(r["shed"] for r in records)
    while stats.get("lost_journal_full", 0) == 0:
        for _ in range(100):
            go(house.recorder)
        house.recorder.flush(60)
        stats = house.recorder.stats()
    assert "the journal is half full; is an indexer running? When" in caplog.text
    said = re.search(r"(\d+) records are lost so far, reason journal_full; .* the journal is full, is an", caplog.text)
    assert said is not None
    assert 1 <= int(said[1]) <= stats["lost_journal_full"]
    house.recorder.flush(60, close=True)
    stats = house.recorder.stats()
    assert stats["sealed"] == stats["recorded"] + stats["lost_journal_full"]
    stated = sum(r.last - r.first + 1 for s in house.read()[1] for r in s.lost)
    assert stated == stats["lost_journal_full"]
    house.recorder.stop()


def test_turn_goes_on_and_writes_what_was_built_when_a_bug_breaks_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.recorder.open(2)
    go(house.recorder)
    assert house.recorder.flush(60)
    monkeypatch.setattr(Recorder, "build", lambda *a: 1 / 0)  # caught: a loss of one
    go(house.recorder)
    assert house.recorder.flush(60)
    monkeypatch.undo()
    original = type(house.recorder._thread.work)._release
    broken = [True]

    def breaks(self: Any, *items: Any) -> None:
        if broken.pop() if broken else False:
            raise RuntimeError("a bug")
        original(self, *items)

    monkeypatch.setattr(type(house.recorder._thread.work), "_release", breaks)
    go(house.recorder)
    until(lambda: house.recorder.stats()["internal_errors"] == 1)
    go(house.recorder)
    assert house.recorder.flush(60, close=True)
    records, statements = house.read()
    assert [r["n"] for r in records] == [1, 3, 4]
    assert [(r.first, r.last) for s in statements for r in s.lost] == [(2, 2)]


def test_record_that_can_never_fit_is_lost_alone(house: House) -> None:
    house.recorder.open(2)
    house.recorder._state.lock.acquire()  # so that all three are in one batch
    for size in (10, 5 << 20, 10):
        go(house.recorder, body=b"b" * size)
    house.recorder._state.lock.release()
    assert house.recorder.flush(60, close=True)
    records, statements = house.read()
    assert [r["n"] for r in records] == [1, 3]
    assert [r for s in statements for r in s.lost] == [Lost(2, 2, "journal")]


def test_open_does_not_wait_when_the_journal_cannot_be_opened() -> None:
    house = House()
    house.recorder.stop()

    def open_writer(facts: ProcessFacts) -> Any:
        raise TransportError("journal open: read-only file system")

    house.recorder = shared_recorder(house.settings, open_writer, builder_factory=TrivialBuilder)
    house.recorder.open(3600)  # longer than this test may take
    house.recorder.stop(0.1)


def test_unwaited_is_stated(house: House) -> None:
    house.recorder.unwaited()
    assert house.recorder.flush(60, close=True)
    assert house.read()[1][-1].unwaited == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_child_starts_a_new_process_when_forked(house: House) -> None:
    """Goal: after fork no lock is stuck, no entry of the parent is written twice, and the child counts from 1."""
    house.recorder.open(2)
    before = begun(house.recorder)
    go(house.recorder)
    assert house.recorder.flush(60)
    parent = house.recorder._state.facts.process
    reading, writing = os.pipe()
    held = threading.Event()
    release = threading.Event()

    def hold() -> None:
        with house.recorder._state.lock:
            held.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    pid = os.fork()  # while another thread holds the lock
    if pid == 0:
        try:
            sealed = seal(house.recorder, before)
            reserved = house.recorder.reserve(before, 10)
            begun(house.recorder)  # its number is that of `before`
            sealed = sealed or seal(house.recorder, before)
            go(house.recorder)
            is_written = house.recorder.flush(60)
            facts = house.opened[-1]
            answer = [
                sealed,
                reserved,
                house.recorder.stats()["sealed"],
                is_written,
                facts.process != parent,
                house.recorder.stats()["begun"],
            ]
            os.write(writing, json.dumps(answer).encode())
        finally:
            os._exit(0)
    release.set()
    holder.join()
    os.waitpid(pid, 0)
    assert json.loads(os.read(reading, 1000)) == [False, False, 1, True, True, 2]
    os.close(reading)
    os.close(writing)
    assert seal(house.recorder, before)
    assert house.recorder.stats()["sealed"] == 2


class Interrupted:
    """The start of the first recorder thread is interrupted, as by Ctrl-C: after the thread runs, or before it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, runs: bool) -> None:
        self.threads: list[threading.Thread] = []
        self.start = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if thread.name != "asgi-audit-recorder":
                self.start(thread)
                return
            self.threads.append(thread)
            if runs or len(self.threads) > 1:
                self.start(thread)
            if len(self.threads) == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.parametrize("runs", [True, False])
def test_one_thread_writes_when_its_start_is_interrupted(monkeypatch: pytest.MonkeyPatch, runs: bool) -> None:
    interrupted = Interrupted(monkeypatch, runs=runs)
    house = House()
    state = house.recorder._state
    with pytest.raises(KeyboardInterrupt):
        begun(house.recorder)
    house.recorder._thread._start_at = float("-inf")  # no pause before the next start
    for n in range(200):
        assert go(house.recorder)
        if n == 100 and not runs:  # it begins to run only now
            interrupted.start(interrupted.threads[0])
            interrupted.threads[0].join(60)
    assert len([t for t in interrupted.threads if t.is_alive()]) == 1
    assert state.thread is interrupted.threads[-1]
    assert house.recorder.flush(60, close=True)
    records, statements = house.read()
    assert [r["n"] for r in records] == list(range(1, 201))
    assert (sum(s.count for s in statements), statements[-1].lost) == (200, [])
    stats = house.recorder.stats()
    assert (stats["recorded"], stats["recorder_restarts"], stats["recorder_down"]) == (200, 0, 0)
    house.recorder.stop()
    assert not any(t.is_alive() for t in interrupted.threads)


def test_no_thread_runs_beside_the_end_when_its_start_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sealed exchanges are stated by the caller of `stop`; the thread begins to run in the middle of that."""
    interrupted = Interrupted(monkeypatch, runs=False)
    house = House()
    with pytest.raises(KeyboardInterrupt):
        begun(house.recorder)
    keeper = house.recorder._thread
    monkeypatch.setattr(keeper, "_start_at", float("inf"))
    ran: list[threading.Thread] = []
    run = keeper.work.run

    def note(thread: RecorderThread) -> None:
        ran.append(threading.current_thread())
        if len(ran) == 1:
            interrupted.start(interrupted.threads[0])
            interrupted.threads[0].join(60)
        run(thread)

    monkeypatch.setattr(keeper.work, "run", note)
    assert go(house.recorder)
    house.recorder.stop()
    assert ran == [threading.current_thread()]
    records, statements = house.read()
    assert not records
    assert statements[-1].lost == [Lost(1, 1, "exit")]


def test_nothing_is_started_when_nothing_was_recorded() -> None:
    house = House()
    assert house.recorder.flush(0.1)
    assert house.recorder._state.thread is None
    house.recorder.stop()


def test_open_exchanges_are_crowded_only_beyond_a_few(house: House) -> None:
    few = house.recorder._state.few
    opened = [begun(house.recorder) for _ in range(few)]
    assert not house.recorder.is_crowded
    opened.append(begun(house.recorder))
    assert house.recorder.is_crowded
    for exchange in opened:
        seal(house.recorder, exchange)
    begun(house.recorder)
    assert not house.recorder.is_crowded


def test_small_bodies_are_counted_when_those_in_hand_are_many(house: House) -> None:
    """Bodies of the batch that the thread builds still use memory: the length of the queue alone is not enough."""
    state = house.recorder._state
    house.recorder._thread._start_at = float("inf")  # no thread
    assert go(house.recorder, body=b"x" * 100)
    assert house.recorder.stats()["held_bytes"] == 0
    state.in_progress.extend([state.queue.popleft()] * state.few)
    assert go(house.recorder, body=b"x" * 100)
    assert house.recorder.stats()["held_bytes"] == 100
    state.in_progress.clear()
    house.recorder._thread._start_at = float("-inf")
    assert house.recorder.flush(60)
    assert house.recorder.stats()["held_bytes"] == 0


def test_loss_is_kept_when_the_garbage_collector_adds_it_while_losses_are_stated() -> None:
    """Method: reading the list of ranges seals, and so loses, another exchange."""
    losses = Losses()
    losses.add(1, 3, "queue")
    losses.add(7, 9, "build")
    seen: list[int] = []

    class Nesting(list):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[Any]:
            for item in list.__iter__(self):
                if not seen:
                    seen.append(1)
                    losses.add(10, 10, "build")
                yield item

    losses._ranges = Nesting(losses._ranges)
    losses.stated(8)
    assert [(lost.first, lost.last, lost.reason) for lost in losses.until(20)[0]] == [(9, 10, "build")]


def test_garbage_collector_may_seal_in_the_middle_of_a_seal(house: House) -> None:
    """Goal: an abandoned request that the collector finishes inside our own critical section neither hangs nor repeats
    a sequence. Method: a queue whose append seals another exchange."""
    state = house.recorder._state
    nested = begun(house.recorder)
    house.recorder._thread._start_at = float("inf")  # no thread

    class Nesting(type(state.queue)):  # type: ignore[misc]
        def append(self, item: Any) -> None:
            seal(house.recorder, nested)
            super().append(item)

    state.queue = Nesting()
    assert go(house.recorder)
    assert house.recorder.stats()["sealed"] == 2
    house.recorder._thread._start_at = float("-inf")
    assert house.recorder.flush(60, close=True)
    records, statements = house.read()
    assert sorted(r["n"] for r in records) == [1, 2]
    assert sum(s.count for s in statements) == 2


class PreparedBuilder(TrivialBuilder):
    made: ClassVar[list[str]] = []

    def __init__(self, settings: Settings, facts: ProcessFacts) -> None:
        super().__init__(settings, facts)
        self.made.append(threading.current_thread().name)


class FailingBuilder(TrivialBuilder):
    def __init__(self, settings: Settings, facts: ProcessFacts) -> None:
        raise ValueError("no tables")


def test_builder_is_made_by_the_thread_before_the_first_record(house: House) -> None:
    PreparedBuilder.made.clear()
    house.recorder = shared_recorder(house.settings, house.open_writer, builder_factory=PreparedBuilder)
    house.recorder.open(60)
    until(lambda: PreparedBuilder.made, "the builder is made")
    assert go(house.recorder)
    assert house.recorder.flush(60)
    assert len(PreparedBuilder.made) == 1
    assert PreparedBuilder.made[0] != threading.current_thread().name


def test_builder_that_cannot_be_made_is_met_by_the_record_alone(house: House) -> None:
    house.recorder = shared_recorder(house.settings, house.open_writer, builder_factory=FailingBuilder)
    house.recorder.open(60)
    assert house.recorder.flush(60)
    assert house.recorder.stats().get("lost_build", 0) == 0
    assert go(house.recorder)
    house.recorder.flush(60)
    assert house.recorder.stats()["lost_build"] == 1
