"""Lifespan passes through while the recorder is opened and closed around it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import pytest
from tests.support.asgi import ListRecorder, Server, exchange_refused, make_capture

from asgi_audit.capture import middleware


async def run_lifespan(capture: Any, messages: list[str]) -> list[str]:
    sent: list[str] = []
    given = iter(messages)

    async def receive() -> dict[str, Any]:
        return {"type": f"lifespan.{next(given)}"}

    async def send(message: Any) -> None:
        sent.append(message["type"].removeprefix("lifespan."))

    await capture({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    return sent


async def usual(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        return await send({"type": "http.response.body"})
    assert (await receive())["type"] == "lifespan.startup"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await send({"type": "lifespan.shutdown.complete"})
    return None


class SlowRecorder(ListRecorder):
    """Each call blocks until `gate` is released once, and records the thread in which it runs."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.fails = fails
        self.threads: list[threading.Thread] = []

    def _block(self) -> None:
        self.threads.append(threading.current_thread())
        self.gate.acquire(timeout=60)
        if self.fails:
            raise RuntimeError("ours")

    def open(self, wait_seconds: float) -> None:
        super().open(wait_seconds)
        self._block()

    def flush(self, timeout_seconds: float, *, close: bool = False) -> bool:
        super().flush(timeout_seconds, close=close)
        self._block()
        return True


@pytest.mark.parametrize("fails", [False, True])
def test_recorder_is_opened_and_closed_off_the_loop_when_lifespan_runs(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the loop lets the recorder continue, so the loop must run while the recorder blocks, when it opens and
    closes."""
    monkeypatch.setattr(middleware, "OPEN_SECONDS_STARTUP", 60.0)
    monkeypatch.setattr(middleware, "CLOSE_SECONDS", 60.0)
    recorder = SlowRecorder(fails=fails)
    capture, _ = make_capture(usual, recorder)

    async def main() -> list[str]:
        async def let_go() -> None:
            for calls in (1, 2):
                while len(recorder.threads) < calls:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                recorder.gate.release()

        letting_go = asyncio.create_task(let_go())
        sent = await run_lifespan(capture, ["startup", "shutdown"])
        await letting_go
        server = Server()
        await capture(server.scope, server.receive, server.send)
        return sent

    assert asyncio.run(main()) == ["startup.complete", "shutdown.complete"]
    assert recorder.opened == [60.0]  # not again at the first request
    assert recorder.flushed == [(60.0, True)]
    assert threading.current_thread() not in recorder.threads


@pytest.mark.parametrize("fails", [False, True])
def test_loop_goes_on_when_the_first_request_opens_the_recorder(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """For servers without lifespan. The first request waits; the loop and concurrent requests do not."""
    monkeypatch.setattr(middleware, "OPEN_SECONDS_FIRST_REQUEST", 60.0)
    recorder = SlowRecorder(fails=fails)
    capture, _ = make_capture(usual, recorder)
    ends: list[str] = []

    async def main() -> None:
        async def one(name: str) -> None:
            server = Server()
            await capture(server.scope, server.receive, server.send)
            ends.append(name)
            recorder.gate.release()

        await asyncio.gather(one("first"), one("second"))

    asyncio.run(main())
    assert ends == ["second", "first"]
    assert recorder.opened == [60.0]
    assert threading.current_thread() not in recorder.threads
    assert len(recorder.sealed) == 2
    assert not recorder.counts


@pytest.mark.parametrize("waits", [False, True])
def test_first_request_goes_as_far_as_without_us_when_it_is_cancelled_while_the_recorder_opens(waits: bool) -> None:
    recorder = SlowRecorder()
    begun: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append(True)
        if waits:
            await asyncio.sleep(5)
        await usual(scope, receive, send)

    capture, _ = make_capture(app, recorder)
    server = Server()

    async def main() -> None:
        task = asyncio.create_task(capture(server.scope, server.receive, server.send))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() is waits  # a task that never waits again ends before a cancellation can arrive

    asyncio.run(main())
    recorder.gate.release()
    (exchange,) = recorder.sealed
    assert begun == [True]
    assert (exchange.outcome, exchange.status) == (("cancelled", 499) if waits else ("completed", 200))
    assert len(server.sent) == (0 if waits else 2)


def test_startup_goes_on_when_the_journal_hangs() -> None:
    """It hangs for longer than this test may take."""
    recorder = SlowRecorder()
    capture, _ = make_capture(usual, recorder)
    began = time.monotonic()

    async def main() -> None:
        given = iter(["startup"])

        async def receive() -> dict[str, Any]:
            return {"type": f"lifespan.{next(given)}"}

        async def send(message: Any) -> None:
            raise ConnectionAbortedError  # ends the application after its start

        with pytest.raises(ConnectionAbortedError):
            await capture({"type": "lifespan"}, receive, send)

    asyncio.run(main())
    assert time.monotonic() - began > 0.9
    recorder.gate.release()


@pytest.mark.parametrize("error", [AssertionError("lifespan is not supported"), SystemError("boom")])
def test_exception_passes_when_the_application_knows_no_lifespan(error: Exception) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise error
        await usual(scope, receive, send)

    capture, recorder = make_capture(app)

    async def main() -> None:
        with pytest.raises(type(error)) as caught:
            await run_lifespan(capture, ["startup"])
        assert caught.value is error
        for _ in range(3):
            server = Server()
            await capture(server.scope, server.receive, server.send)

    asyncio.run(main())
    assert recorder.opened == [0.05]
    assert recorder.flushed == []
    assert len(recorder.sealed) == 3


@pytest.mark.parametrize("wrong", [None, 5, "lifespan.startup.complete", [], {}, {"type": ["x"]}])
def test_server_refuses_itself_what_is_no_message(wrong: Any) -> None:
    """What the application sends, and what it receives from a careless server."""
    seen, recorder = exchange_refused(wrong, {"type": "lifespan", "asgi": {"version": "3.0"}})
    assert [message is wrong for message in seen] == [True, True]
    assert recorder.counts == {}


def test_recorder_is_closed_when_the_application_returns_without_saying_so() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()

    capture, recorder = make_capture(app)
    assert asyncio.run(run_lifespan(capture, ["startup", "shutdown"])) == ["startup.complete"]
    assert recorder.flushed == [(2.0, True)]


def test_recorder_is_opened_again_when_the_process_was_forked() -> None:
    capture, recorder = make_capture(usual)

    def one() -> None:
        async def main() -> None:
            server = Server()
            await capture(server.scope, server.receive, server.send)

        asyncio.run(main())

    one()
    one()
    assert recorder.opened == [0.05]
    pid = os.fork()
    if pid == 0:
        try:
            one()
            os._exit(0 if recorder.opened == [0.05, 0.05] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def steps_of(coroutine: Any) -> int:
    """How often it yields to the loop."""
    steps = 0
    try:
        while True:
            coroutine.send(None)
            steps += 1
    except StopIteration:
        return steps


def test_loop_is_not_given_away_when_the_recorder_is_open() -> None:
    """By the startup and the first request of a second instance: test suites make one for each test."""
    recorder = ListRecorder()
    recorder.is_open = True

    async def starts(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    for _ in range(2):
        capture, _ = make_capture(starts, recorder)
        assert steps_of(capture({"type": "lifespan"}, startup_alone, nothing)) == 0
        capture, _ = make_capture(usual, recorder)
        assert steps_of(capture({"type": "http", "method": "GET", "path": "/"}, nothing, nothing)) == 0
    assert recorder.opened == []
    assert len(recorder.sealed) == 2


async def nothing(*_: Any) -> Any:
    return {}


async def startup_alone() -> Any:
    return {"type": "lifespan.startup"}


@pytest.mark.parametrize("at", ["startup", "shutdown"])
def test_lifespan_message_is_not_lost_when_the_server_cancels_while_the_recorder_works(at: str) -> None:
    """The application gets `startup` and the server `shutdown.complete`, and the cancellation is raised after that."""
    recorder = SlowRecorder()
    recorder.is_open = at == "shutdown"
    got: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.append((await receive())["type"])
        if at == "shutdown":
            await send({"type": "lifespan.startup.complete"})
            got.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
        await asyncio.sleep(5)

    capture, _ = make_capture(app, recorder)
    sent: list[str] = []

    async def main() -> None:
        given = iter(["startup", "shutdown"])

        async def receive() -> dict[str, Any]:
            return {"type": f"lifespan.{next(given)}"}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        task = asyncio.create_task(capture({"type": "lifespan"}, receive, send))
        while not recorder.threads:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel("from outside")
        with pytest.raises(asyncio.CancelledError, match="from outside"):
            await task

    asyncio.run(main())
    recorder.gate.release()
    assert got[-1] == f"lifespan.{at}"
    assert sent == ([] if at == "startup" else ["lifespan.startup.complete", "lifespan.shutdown.complete"])
