"""Export requests in the control database: their invariants hold with any number of processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.clock import Clock
from tests.support.exports import ACME, DAY_MS

from asgi_audit.control import Control
from asgi_audit.control.exports import ALIVE_MS, ENDED, Export, ExportRequest, Progress, State
from asgi_audit.query.model import Query

QUERY = Query(
    accounts=frozenset({"acme", "ünï"}), start=DAY_MS, end=DAY_MS + 5, service="s", instance="i/ä", region="eu",
    order="oldest",
)  # fmt: skip
TOKEN = "3fa85f64-5717-4562-b3fc-2c963f66afa6"


@pytest.fixture
def clock() -> Clock:
    return Clock(DAY_MS / 1000 + 1)


@pytest.fixture
def control(tmp_path: Path, clock: Clock) -> Iterator[Control]:
    made = Control(tmp_path / "control.db", clock=clock)
    yield made
    made.close()


def ask(control: Control, token: str = "", state: State = State.REQUESTED) -> Export:
    return control.exports.request(ACME, ExportRequest(QUERY, {"time_start": "x"}, "classic", token, state))[0]


def test_request_is_found_as_it_was_made_by_another_process(control: Control, tmp_path: Path, clock: Clock) -> None:
    made = ask(control)
    other = Control(tmp_path / "control.db", clock=clock)
    assert other.exports.find(ACME, made.id, days=7) == made
    assert made.query == QUERY
    other.close()


def test_state_only_goes_forward(control: Control) -> None:
    exports, progress = control.exports, Progress(index="i", published=3, after=7, records=2, bytes=5, plain_bytes=9)
    for end in sorted(ENDED):
        id_ = ask(control).id
        exports.say(id_, "it waits")
        exports.begin(id_, progress, {"lost": 1})
        assert exports.advance(id_, progress, "so far", is_written=True)
        found = exports.get(id_, days=7)
        assert found is not None
        assert (found.state, found.progress, found.claims) == (State.CREATING, progress, {"lost": 1})
        assert exports.end(id_, end, "why", manifest="m")
        ended = exports.get(id_, days=7)
        assert ended is not None
        assert (ended.state, ended.reason, ended.manifest) == (end, "why", "m")
        exports.say(id_, "it waits")
        exports.begin(id_, progress, {})
        assert not exports.advance(id_, progress, "more")
        assert not exports.end(id_, State.FAILED, "again")
        assert exports.get(id_, days=7) == ended


def test_one_token_is_one_request_when_many_ask_at_once(control: Control, tmp_path: Path, clock: Clock) -> None:
    found: list[str] = []

    def one() -> None:
        own = Control(tmp_path / "control.db", clock=clock)
        found.append(ask(own, TOKEN).id)
        own.close()

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_token_is_none_of_requests_without_one(control: Control) -> None:
    assert ask(control).id != ask(control).id


def test_runner_reads_what_it_can_do_something_about(control: Control, clock: Clock) -> None:
    exports = control.exports
    later = exports.request(ACME, ExportRequest(replace(QUERY, end=DAY_MS + 9_000), {}))[0]
    passed = ask(control)
    ask(control, state=State.DOES_NOT_EXIST)
    assert {e.id for e in exports.open()} == {later.id, passed.id}  # both are new
    for export in (later, passed):
        exports.say(export.id, "it waits")
    assert [e.id for e in exports.open()] == [passed.id]
    clock.now += 8
    assert {e.id for e in exports.open()} == {later.id, passed.id}


def test_runner_is_alive_for_some_seconds_after_its_beat_whatever_way_the_clock_was_set(
    control: Control, clock: Clock
) -> None:
    exports = control.exports
    exports.beat("a")
    for step in (ALIVE_MS / 1000, -ALIVE_MS / 1000):
        clock.now += step
        assert exports.is_running()
        clock.now -= step
    for step in (ALIVE_MS / 1000 + 1, -ALIVE_MS / 1000 - 1):
        clock.now += step
        assert not exports.is_running()
        clock.now -= step
    exports.beat("b")
    exports.leave("a")
    assert exports.is_running()
    exports.leave("b")
    assert not exports.is_running()


def test_first_download_of_a_url_is_the_first_in_any_process(control: Control, tmp_path: Path, clock: Clock) -> None:
    expires = int(clock.now * 1000) + 3_600_000
    other = Control(tmp_path / "control.db", clock=clock)
    assert control.exports.is_first_download("a", expires)
    assert not other.exports.is_first_download("a", expires)
    assert other.exports.is_first_download("b", expires)
    clock.now += 3_601  # a forgotten request no longer opens anything
    assert other.exports.is_first_download("c", expires + 3_600_000)
    assert control.exports.is_first_download("a", expires + 3_600_000)
    other.close()
