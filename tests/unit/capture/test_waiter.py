"""Waiting for another thread, with each supported event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
import trio
import uvloop
from tests.support.asgi import ListRecorder, make_capture

from asgi_audit.capture.waiter import new_waiter, off_loop

RUNS = {
    "asyncio": asyncio.run,
    "uvloop": uvloop.run,
    "trio": lambda coroutine: trio.run(_awaited, coroutine),
}


async def _awaited(coroutine: Any) -> Any:
    return await coroutine


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Any:
    return RUNS[request.param]


@pytest.mark.parametrize("answer", [True, False])
def test_waiter_gives_the_answer_when_another_thread_wakes_it(run: Any, answer: bool) -> None:
    async def wait() -> bool:
        waiter = new_waiter()
        assert waiter is not None
        threading.Timer(0.02, lambda: (waiter.wake(answer), waiter.wake(not answer))).start()
        return await waiter.wait(60)

    assert run(wait()) is answer


def test_waiter_gives_up_when_nobody_wakes_it(run: Any) -> None:
    waiters = []

    async def wait() -> bool:
        waiter = new_waiter()
        assert waiter is not None
        waiters.append(waiter)
        return await waiter.wait(0.02)

    began = time.monotonic()
    assert run(wait()) is False
    assert time.monotonic() - began > 0.015
    waiters[0].wake(True)  # the loop is closed: no error in the recorder's thread


def test_waiter_answers_at_once_when_it_was_woken_before(run: Any) -> None:
    async def wait() -> bool:
        waiter = new_waiter()
        assert waiter is not None
        waiter.wake(True)
        return await waiter.wait(60)

    assert run(wait()) is True


def test_no_waiter_is_made_when_no_loop_runs() -> None:
    assert new_waiter() is None


def test_call_runs_off_the_loop_when_it_blocks(run: Any) -> None:
    threads = []
    gate = threading.Event()

    async def call() -> tuple[bool, bool, bool]:
        def note() -> None:
            threads.append(threading.current_thread())

        def fail() -> None:
            raise RuntimeError("dropped")

        return await off_loop(note, 60), await off_loop(gate.wait, 0.001), await off_loop(fail, 60)

    try:
        assert run(call()) == (True, False, True)
    finally:
        gate.set()
    assert threading.current_thread() not in threads


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_cancelled_call_off_the_loop_leaves_nothing_behind_its_timeout(run: Any) -> None:
    gate = threading.Event()

    async def main() -> None:
        async with asyncio.timeout(60) as timeout:
            asyncio.get_running_loop().call_soon(timeout.reschedule, 0)
            assert await off_loop(gate.wait, 60) is False
        for _ in range(3):
            await asyncio.sleep(0)

    try:
        run(main())
    finally:
        gate.set()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_cancelled_call_off_the_loop_is_cancelled_at_the_next_wait(run: Any) -> None:
    gate = threading.Event()
    after: list[bool] = []

    async def main() -> None:
        async def call() -> None:
            after.append(await off_loop(gate.wait, 60))
            await asyncio.sleep(60)

        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        task.cancel("from outside")
        with pytest.raises(asyncio.CancelledError, match="from outside"):
            await task
        assert task.cancelling() == 1

    try:
        run(main())
    finally:
        gate.set()
    assert after == [False]


def test_durable_request_is_served_when_it_runs_under_trio() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    recorder = ListRecorder()
    capture, _ = make_capture(app, recorder, delivery="durable")
    sent: list[Any] = []

    async def main() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            await trio.sleep_forever()

        await capture({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)

    trio.run(main)
    assert len(sent) == 2
    assert recorder.unwaited_count == 0


def test_outcome_is_cancelled_when_trio_cancels_the_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    capture, recorder = make_capture(app)

    async def main() -> None:
        async def nothing(*_: Any) -> Any:
            await trio.sleep_forever()

        with trio.move_on_after(0.01):
            await capture({"type": "http", "method": "GET", "path": "/", "headers": []}, nothing, nothing)

    trio.run(main)
    (exchange,) = recorder.sealed
    assert (exchange.outcome, exchange.status) == ("cancelled", 499)
