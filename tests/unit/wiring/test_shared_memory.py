"""Memory shared by the processes of one `serve`: bounds that hold over all of them, and the counts of a dead one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from tests.support.clock import Clock

from asgi_audit.api.throttle import FAILURES_ALL_MAX, FAILURES_MAX, WINDOW_SECONDS, Throttle
from asgi_audit.errors import QueryError
from asgi_audit.query.admission import IN_FLIGHT_KEY_MAX, Admission
from asgi_audit.wiring.shared_memory import SharedMemory, Text

WORKERS = 3


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def parent(clock: Clock) -> Iterator[SharedMemory]:
    made = SharedMemory.make(WORKERS)
    yield SharedMemory(made.fd, WORKERS, monotonic=clock)
    made.close()


@pytest.fixture
def workers(parent: SharedMemory, clock: Clock) -> list[SharedMemory]:
    return [SharedMemory(parent.fd, WORKERS, slot, monotonic=clock) for slot in range(WORKERS)]


def test_key_has_its_most_answers_in_flight_over_all_workers(workers: list[SharedMemory]) -> None:
    admissions = [Admission(tally=worker) for worker in workers]
    leases = [admissions[n % WORKERS].enter("a") for n in range(IN_FLIGHT_KEY_MAX)]
    for admission in admissions:
        with pytest.raises(QueryError, match=f"this key has {IN_FLIGHT_KEY_MAX}"):
            admission.enter("a")
        admission.enter("b").close()
    leases.pop().close()
    admissions[0].enter("a").close()
    assert [admission.in_flight for admission in admissions] == [IN_FLIGHT_KEY_MAX - 1] * WORKERS


def test_two_that_enter_at_once_are_never_more_than_the_bound(workers: list[SharedMemory]) -> None:
    """Each in a thread of its own, at full speed; refused attempts leave no counts behind."""
    admissions = [Admission(tally=worker) for worker in workers]
    most, held = [0], [0] * WORKERS
    begin = threading.Barrier(WORKERS)

    def enter(n: int) -> None:
        admission = admissions[n]
        begin.wait()
        for _ in range(400):
            leases = []
            for _ in range(IN_FLIGHT_KEY_MAX):
                try:
                    leases.append(admission.enter("a"))
                except QueryError:
                    break
            held[n] = len(leases)
            most[0] = max(most[0], sum(held))
            held[n] = 0
            for lease in leases:
                lease.close()

    threads = [threading.Thread(target=enter, args=(n,)) for n in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 0 < most[0] <= IN_FLIGHT_KEY_MAX
    assert [worker.add("a", 0) for worker in workers] == [0] * WORKERS
    assert admissions[0].in_flight == 0


def test_dead_worker_has_nothing_in_flight_any_more(parent: SharedMemory, workers: list[SharedMemory]) -> None:
    for worker in workers:
        worker.add("a", 5)
    parent.left(1)
    assert workers[0].add("a", 0) == 10
    # Its successor begins with nothing, whatever the earlier one left.
    workers[2] = SharedMemory(parent.fd, WORKERS, 2)
    assert workers[0].add("a", 0) == 5


def test_failures_count_over_all_workers_and_windows_that_began_apart(
    workers: list[SharedMemory], clock: Clock
) -> None:
    throttles = [Throttle(worker.windows(0)) for worker in workers]
    for n in range(FAILURES_MAX):
        if n == 20:
            clock.now += 50
        assert throttles[n % WORKERS].failed("10.0.0.1", "") == 0
    assert all(throttle.is_over("10.0.0.1", "") for throttle in throttles)
    assert throttles[0].failed("10.0.0.1", "") > 0
    assert not throttles[0].is_over("10.0.0.2", "")
    clock.now += 10  # the first windows end; each worker began its own then
    assert not any(throttle.is_over("10.0.0.1", "") for throttle in throttles)


def test_two_throttles_do_not_share_their_counts(workers: list[SharedMemory]) -> None:
    throttles = [Throttle(workers[0].windows(n)) for n in range(2)]
    for _ in range(FAILURES_MAX):
        throttles[0].failed("10.0.0.1", "k")
    assert [throttle.is_over("10.0.0.1", "k") for throttle in throttles] == [True, False]
    assert throttles[0].to_record() == 0
    assert throttles[1].to_record() == 0


def test_failures_from_everywhere_are_counted_over_all_workers(workers: list[SharedMemory]) -> None:
    throttles = [Throttle(worker.windows(0)) for worker in workers]
    for n in range(FAILURES_ALL_MAX):
        throttles[n % WORKERS].failed(f"a{n}", f"k{n}")
    assert throttles[1].is_over("new", "new")


def test_one_refusal_in_a_window_is_recorded_by_whichever_worker(workers: list[SharedMemory], clock: Clock) -> None:
    throttles = [Throttle(worker.windows(0)) for worker in workers]
    assert throttles[0].to_record() == 0
    assert [throttle.to_record() for throttle in throttles * 2] == [None] * 6
    clock.now += WINDOW_SECONDS
    assert throttles[2].to_record() == 6
    assert [throttle.to_record() for throttle in throttles] == [None] * 3
    assert [throttle.unrecorded for throttle in throttles] == [9] * 3


def test_counts_of_refusals_stay_when_a_worker_is_replaced(parent: SharedMemory, workers: list[SharedMemory]) -> None:
    throttle = Throttle(workers[1].windows(0))
    throttle.to_record()
    throttle.to_record()
    parent.left(1)
    assert Throttle(SharedMemory(parent.fd, WORKERS, 1).windows(0)).unrecorded == 1


def test_parent_hears_of_each_worker(parent: SharedMemory, workers: list[SharedMemory], clock: Clock) -> None:
    assert parent.silent_seconds(1) is None
    workers[1].beat()
    clock.now += 61
    assert parent.silent_seconds(1) == pytest.approx(61)
    parent.left(1)
    assert parent.silent_seconds(1) is None


def test_workers_hear_how_the_parent_sees_things(parent: SharedMemory, workers: list[SharedMemory]) -> None:
    assert workers[0].unready() == ""  # there is no indexer, or it was not checked yet
    parent.note(indexer=False, workers=2, restarts={"indexer": 3, "worker": 4})
    assert workers[2].unready() == "the indexer process is not running"
    assert workers[2].measures() == {
        "asgi_audit_serve_workers": 2.0,
        "asgi_audit_serve_restarts": {"exporter": 0.0, "indexer": 3.0, "worker": 4.0},
    }
    parent.note(indexer=True, workers=3, restarts={"indexer": 3, "worker": 4})
    assert workers[2].unready() == ""


def test_text_is_shown_while_it_is_fresh_and_whole() -> None:
    text = Text.make()
    assert text.read(60) == b""
    text.write(b"indexed 1\n" * 100)
    text.write(b"indexed 2\n")
    assert Text(text.fd).read(60) == b"indexed 2\n"
    assert text.read(0) == b""
    text.write(b"x" * 100_000)  # too long: the earlier text stays
    assert text.read(60) == b"indexed 2\n"
    os.pwrite(text.fd, b"?", 20)
    assert text.read(60) == b""
    text.close()
