"""`durable` holds a message back, and the request is cancelled meanwhile: the client gets the same messages as without
the middleware, the cancellation is raised in the same place, and nothing hangs.

Method: a recorder whose records never become durable; the cancelling task first waits until the request waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
import trio
from fastapi import Depends, FastAPI
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from tests.support.asgi import ListRecorder, Server, make_capture

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"x"}
BACKENDS = {
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}


async def plain(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY)


async def broken(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("the application's own")


async def silent(scope: Any, receive: Any, send: Any) -> None:
    return


class Slow(Server):
    """Takes each message after several steps of the loop."""

    async def send(self, message: Any) -> None:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        await super().send(message)


class Stuck(Server):
    """Takes the first message and never the next one: the client does not read."""

    async def send(self, message: Any) -> None:
        if self.sent:
            await anyio.sleep_forever()
        await super().send(message)


class Gone(Server):
    async def send(self, message: Any) -> None:
        if self.sent:
            raise OSError("the client is gone")
        await super().send(message)


class Case:
    """One request, cancelled while it waits for its record."""

    def __init__(self, app: Any, server: Callable[[], Server] = Server) -> None:
        self.recorder = ListRecorder(wakes=None)
        self.capture, _ = make_capture(app, self.recorder, delivery="durable", durable_wait_seconds=60)
        self.make_server = server
        self.error: BaseException | None = None

    async def serve(self) -> None:
        self.server = self.make_server()
        try:
            await self.capture(self.server.scope, self.server.receive, self.server.send)
        except BaseException as error:
            self.error = error
            raise

    async def until_waiting(self) -> None:
        while not self.recorder.waiting:  # noqa: ASYNC110
            await anyio.sleep(0.001)

    def sent(self) -> list[str]:
        return [m["type"].removeprefix("http.response.") for m in self.server.sent]


async def by_scope(case: Case) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def cancel() -> None:
                await case.until_waiting()
                scope.cancel()

            tasks.start_soon(cancel)
            await case.serve()
    assert scope.cancelled_caught


async def by_sibling(case: Case) -> None:
    async def fail() -> None:
        await case.until_waiting()
        raise LookupError

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(case.serve)
            tasks.start_soon(fail)
    assert isinstance(caught.value.exceptions[0], LookupError)
    assert len(caught.value.exceptions) == 1


async def by_deadline(case: Case) -> None:
    with anyio.move_on_after(60) as scope:
        async with anyio.create_task_group() as tasks:

            async def expire() -> None:
                await case.until_waiting()
                scope.deadline = anyio.current_time()

            tasks.start_soon(expire)
            await case.serve()
    assert scope.cancelled_caught


async def by_task(case: Case) -> None:
    task = asyncio.create_task(case.serve())
    await case.until_waiting()
    task.cancel("from outside")
    with pytest.raises(asyncio.CancelledError, match="from outside"):
        await task
    assert task.cancelled()


async def by_timeout(case: Case) -> None:
    with pytest.raises(TimeoutError):  # noqa: PT012
        async with asyncio.timeout(60) as timeout:

            async def expire() -> None:
                await case.until_waiting()
                timeout.reschedule(0)

            other = asyncio.create_task(expire())
            await case.serve()
    await other
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def by_task_group(case: Case) -> None:
    async def fail() -> None:
        await case.until_waiting()
        raise LookupError

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(case.serve())
            tasks.create_task(fail())
    assert isinstance(caught.value.exceptions[0], LookupError)
    assert len(caught.value.exceptions) == 1


EVERYWHERE = [by_scope, by_sibling, by_deadline]
ASYNCIO = [by_task, by_timeout, by_task_group]
WAYS = [(backend, way) for backend in BACKENDS for way in EVERYWHERE + ASYNCIO * (backend != "trio")]


@pytest.mark.parametrize(("backend", "way"), WAYS, ids=lambda v: v if isinstance(v, str) else v.__name__)
@pytest.mark.parametrize("server", [Server, Slow])
def test_client_gets_its_last_bytes_when_the_request_is_cancelled(backend: str, way: Any, server: Any) -> None:
    case = Case(plain, server)
    anyio.run(way, case, **BACKENDS[backend])  # type: ignore[arg-type]
    assert case.sent() == ["start", "body"]
    assert isinstance(case.error, (asyncio.CancelledError, trio.Cancelled))
    (exchange,) = case.recorder.sealed
    assert exchange.outcome == "completed"
    assert case.recorder.unwaited_count == 1  # the client has it before the record is durable
    assert not case.recorder.counts
    for wake in case.recorder.waiting:
        wake(True)  # late, on a loop that is closed


@pytest.mark.parametrize(("backend", "way"), WAYS, ids=lambda v: v if isinstance(v, str) else v.__name__)
@pytest.mark.parametrize("server", [Stuck, Gone])
def test_cancellation_ends_the_request_when_the_server_does_not_take_the_message(
    backend: str, way: Any, server: Any
) -> None:
    case = Case(plain, server)
    anyio.run(way, case, **BACKENDS[backend])  # type: ignore[arg-type]
    assert case.sent() == ["start"]
    assert isinstance(case.error, (asyncio.CancelledError, trio.Cancelled))
    assert not case.recorder.counts


@pytest.mark.parametrize("backend", BACKENDS)
def test_exception_of_the_application_is_raised_when_its_request_is_cancelled_meanwhile(backend: str) -> None:
    """It was raised before the cancellation arrived: the server sends a 500."""
    case = Case(broken)

    async def run() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def cancel() -> None:
                    await case.until_waiting()
                    scope.cancel()

                tasks.start_soon(cancel)
                with pytest.raises(ValueError, match="the application's own"):
                    await case.serve()
                await anyio.sleep_forever()  # the cancellation is raised here
        assert scope.cancelled_caught

    anyio.run(run, **BACKENDS[backend])  # type: ignore[arg-type]
    assert [(e.status, e.outcome) for e in case.recorder.sealed] == [(500, "failed")]


@pytest.mark.parametrize("app", [broken, silent])
def test_next_wait_raises_the_cancellation_when_the_application_had_ended(app: Any) -> None:
    case = Case(app)

    async def run() -> None:
        async def server() -> None:
            try:
                await case.serve()
            except ValueError:
                pass
            case.server.sent.append("the server's own answer")
            await asyncio.sleep(60)

        task = asyncio.create_task(server())
        await case.until_waiting()
        task.cancel("from outside")
        with pytest.raises(asyncio.CancelledError, match="from outside"):
            await task
        assert task.cancelling() == 1

    asyncio.run(run())
    assert case.server.sent == ["the server's own answer"]


TIMEOUTS: dict[str, Callable[[], Any]] = {
    "asyncio.timeout": lambda: asyncio.timeout(60),
    "anyio.move_on_after": lambda: anyio.move_on_after(60),
    "anyio.fail_after": lambda: anyio.fail_after(60),
}


def expire(timeout: Any) -> None:
    if isinstance(timeout, asyncio.Timeout):
        timeout.reschedule(0)
    else:
        timeout.deadline = anyio.current_time()


@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])
@pytest.mark.parametrize("way", TIMEOUTS)
@pytest.mark.parametrize("app", [broken, silent])
def test_no_cancellation_is_raised_outside_of_the_timeout_that_asked_for_it(backend: str, way: str, app: Any) -> None:
    """The application raises or returns, its wait for the record is interrupted, and the timeout ends before the task
    waits again."""
    case = Case(app)

    async def run() -> None:
        async def end() -> None:
            await case.until_waiting()
            expire(timeout)

        other = asyncio.create_task(end())
        try:
            async with contextlib.AsyncExitStack() as stack:
                made = TIMEOUTS[way]()
                is_async = isinstance(made, asyncio.Timeout)
                timeout = await stack.enter_async_context(made) if is_async else stack.enter_context(made)
                await case.serve()
        except (ValueError, TimeoutError):
            pass
        for _ in range(3):
            await asyncio.sleep(0)
        await other
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    anyio.run(run, **BACKENDS[backend])  # type: ignore[arg-type]


def test_cancellation_from_outside_arrives_when_a_timeout_ends_in_the_same_wait() -> None:
    case = Case(broken)

    async def run() -> None:
        async def server() -> None:
            with pytest.raises(ValueError, match="the application's own"):  # noqa: PT012
                async with asyncio.timeout(60) as timeout:
                    timeouts.append(timeout)
                    await case.serve()
            await asyncio.sleep(60)

        timeouts: list[asyncio.Timeout] = []
        task = asyncio.create_task(server())
        await case.until_waiting()
        timeouts[0].reschedule(0)
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_request_that_was_cancelled_before_is_served_as_far_as_without_us() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await plain(scope, receive, send)

    for server in (Server, Stuck, Slow):
        case = Case(app, server)
        bare = server()

        async def run(case: Case = case, bare: Server = bare) -> None:
            for call in (case.serve(), app(bare.scope, bare.receive, bare.send)):
                task = asyncio.create_task(call)
                await asyncio.wait([task])
                assert task.cancelled()

        asyncio.run(run())
        assert len(case.server.sent) >= len(bare.sent)


def test_second_cancellation_ends_the_forwarding() -> None:
    case = Case(plain, Stuck)

    async def run() -> None:
        task = asyncio.create_task(case.serve())
        await case.until_waiting()
        task.cancel("first")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel("second")
        with pytest.raises(asyncio.CancelledError, match="first"):
            await task

    asyncio.run(run())


def fastapi_app() -> Any:
    app = FastAPI()

    async def resource() -> AsyncIterator[str]:
        yield "x"

    @app.get("/")
    async def index(found: str = Depends(resource)) -> str:
        return found

    return app


def streaming_app() -> Any:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(chunks())(scope, receive, send)

    return app


def base_http_app() -> Any:
    async def dispatch(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    return BaseHTTPMiddleware(fastapi_app(), dispatch=dispatch)


@pytest.mark.parametrize("make_app", [fastapi_app, streaming_app, base_http_app])
@pytest.mark.parametrize(("backend", "way"), WAYS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_client_gets_its_last_bytes_when_a_framework_answers(make_app: Any, backend: str, way: Any) -> None:
    """Frameworks send from tasks of their own, inside cancel scopes of anyio, which repeat their cancellation."""
    case = Case(make_app(), Slow)
    anyio.run(way, case, **BACKENDS[backend])  # type: ignore[arg-type]
    assert case.sent()[0] == "start"
    assert b"".join(m.get("body", b"") for m in case.server.sent) in (b"x", b'"x"')
    assert [e.outcome for e in case.recorder.sealed] == ["completed"]
