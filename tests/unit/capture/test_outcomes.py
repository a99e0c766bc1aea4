"""The outcome of a request, for every way in which one can end; exceptions are not changed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.asgi import ListRecorder, Server, make_capture, serve_once

from asgi_audit.capture.sealing import _is_cancellation

START = {"type": "http.response.start", "status": 201, "headers": []}


class Refused(Exception):
    pass


def app_answering(status: int, body: bytes = b"x") -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return app


def raising(error: BaseException, *, after: int = 0) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if after > 0:
            await send(START)
        if after > 1:
            await send({"type": "http.response.body", "body": b"x", "more_body": after == 2})
        raise error

    return app


@pytest.mark.parametrize("delivery", ["buffered", "durable"])
@pytest.mark.parametrize(
    ("error", "fatal", "outcome"),
    [
        (Refused("secret"), False, "failed"),
        (ExceptionGroup("g", [ValueError("a")]), False, "failed"),
        (BaseExceptionGroup("g", [SystemError(), asyncio.CancelledError()]), True, "failed"),
        (SystemExit(3), True, "failed"),
        (GeneratorExit(), False, "cancelled"),
        (asyncio.CancelledError(), False, "cancelled"),
        (BaseExceptionGroup("g", [asyncio.CancelledError()]), False, "cancelled"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else str(v),
)
@pytest.mark.parametrize("after", [0, 1, 2])
def test_outcome_is_the_exceptions_when_one_is_raised(
    error: BaseException, fatal: bool, outcome: str, after: int, delivery: str
) -> None:
    capture, recorder = make_capture(raising(error, after=after), delivery=delivery)
    server = Server()

    async def run() -> BaseException:
        try:
            await capture(server.scope, server.receive, server.send)
        except BaseException as caught:
            return caught
        raise AssertionError("nothing was raised")

    coroutine = run()  # driven without a loop: asyncio.run would handle SystemExit itself
    loop = asyncio.new_event_loop()
    try:
        caught = loop.run_until_complete(coroutine)
    finally:
        loop.close()
    for thread in recorder.wake_threads:
        thread.join()
    assert caught is error
    assert (error.__cause__, error.__context__) == (None, None)
    (exchange,) = recorder.sealed
    assert exchange.outcome == outcome
    assert exchange.error_fatal is fatal
    assert exchange.error_type == (None if outcome == "cancelled" else type(error).__name__)
    assert exchange.status == (201 if after else 500 if outcome == "failed" else 499)
    # After an exception the server sends a complete 500, so that response waits.
    waits = delivery == "durable" and after == 0 and isinstance(error, Exception)
    assert len(recorder.waiting) == waits


def test_exchange_is_completed_when_the_application_raises_after_its_answer() -> None:
    """starlette #1438: an exception of a background task is not a failure of the response."""
    _, exchange, _ = serve_once(raising(Refused(), after=3), raises=Refused)
    assert (exchange.outcome, exchange.error_type) == ("completed", None)


@pytest.mark.parametrize(
    ("messages", "outcome", "status"),
    [
        ([], "failed", 500),
        ([START], "interrupted", 201),
        ([START, {"type": "http.response.body", "body": b"x", "more_body": True}], "interrupted", 201),
    ],
)
def test_outcome_says_so_when_the_application_returns_in_the_middle(
    messages: list[Any], outcome: str, status: int
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    _, exchange, _ = serve_once(app)
    assert (exchange.outcome, exchange.status, exchange.error_type) == (outcome, status, None)


@pytest.mark.parametrize(("leaves_after", "status"), [(0, 499), (1, 201)])
@pytest.mark.parametrize("then", ["returns", "raises", "is cancelled"])
def test_outcome_is_disconnected_when_the_client_leaves_first(leaves_after: int, status: int, then: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if leaves_after:
            await send(START)
        while (await receive())["type"] != "http.disconnect":
            pass
        if then == "raises":
            raise Refused
        if then == "is cancelled":
            raise asyncio.CancelledError

    raises = {"returns": None, "raises": Refused, "is cancelled": asyncio.CancelledError}[then]
    _, exchange, _ = serve_once(app, leaves_after=leaves_after, raises=raises)
    assert (exchange.outcome, exchange.status) == ("disconnected", status)
    assert exchange.error_type == ("Refused" if then == "raises" else None)


def test_outcome_is_disconnected_when_the_answer_is_finished_without_the_client() -> None:
    """On all servers `send` succeeds after the client has left; only the message shows it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body", "body": b"x"})

    _, exchange, _ = serve_once(app, leaves_after=1)
    assert (exchange.outcome, exchange.status, exchange.response_body.total) == ("disconnected", 201, 1)


def test_client_did_not_disconnect_when_it_leaves_after_its_whole_response() -> None:
    """BaseHTTPMiddleware: the final message is an empty one after the declared Content-Length."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"Content-Length", b"4")]})
        await send({"type": "http.response.body", "body": b"body", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body", "body": b""})

    _, exchange, _ = serve_once(app, leaves_after=2)
    assert exchange.outcome == "completed"


def test_disconnect_after_the_answer_is_none_when_the_server_gives_it_to_everyone() -> None:
    """uvicorn returns http.disconnect from `receive` once the response is complete."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"x"})
        assert (await receive())["type"] == "http.disconnect"

    _, exchange, _ = serve_once(app, leaves_after=2)
    assert exchange.outcome == "completed"


class BrokenResourceError(Exception):
    """Has the name of anyio's exception, which is not an OSError."""


@pytest.mark.parametrize("error", [ConnectionResetError(), OSError("gone"), BrokenResourceError()])
@pytest.mark.parametrize(("at", "status"), [(0, 499), (1, 201), (2, 201)])
@pytest.mark.parametrize("swallows", [True, False])
def test_outcome_is_disconnected_when_send_says_that_the_client_is_gone(
    error: Exception, at: int, status: int, swallows: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(START)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await send({"type": "http.response.body", "body": b"x"})
        except Exception:
            if not swallows:
                raise

    _, exchange, _ = serve_once(app, send_raises=(at, error), raises=None if swallows else type(error))
    assert (exchange.outcome, exchange.status) == ("disconnected", status)


def test_exchange_is_failed_when_the_file_of_a_pathsend_is_gone() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.pathsend", "path": "/gone"})

    _, exchange, _ = serve_once(app, send_raises=(1, FileNotFoundError()), raises=FileNotFoundError)
    assert (exchange.outcome, exchange.error_type) == ("failed", "FileNotFoundError")


def test_second_start_counts_when_the_server_refused_the_first() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({**START, "headers": [(b"bad\nname", b"x")]})
        except RuntimeError:
            server.send_raises = None
            await send({**START, "status": 500})
            await send({"type": "http.response.body"})

    capture, recorder = make_capture(app)
    server = Server(send_raises=(0, RuntimeError("Invalid HTTP header name.")))
    asyncio.run(capture(server.scope, server.receive, server.send))
    (exchange,) = recorder.sealed
    assert (exchange.status, exchange.outcome, exchange.response_headers) == (500, "completed", [])


def test_request_is_cancelled_when_a_timeout_outside_of_us_ends_it() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    capture, recorder = make_capture(app)
    server = Server()

    async def run() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await capture(server.scope, server.receive, server.send)

    asyncio.run(run())
    (exchange,) = recorder.sealed
    assert (exchange.outcome, exchange.status) == ("cancelled", 499)


def test_exchange_is_sealed_when_its_coroutine_is_thrown_away() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Future(loop=loop)

    loop = asyncio.new_event_loop()
    capture, recorder = make_capture(app, delivery="durable")
    server = Server()
    coroutine = capture(server.scope, server.receive, server.send)
    coroutine.send(None)
    coroutine.close()
    loop.close()
    (exchange,) = recorder.sealed
    assert exchange.outcome == "cancelled"


def test_groups_are_cancellations_only_when_nothing_else_is_in_them() -> None:
    cancelled = asyncio.CancelledError()
    assert _is_cancellation(BaseExceptionGroup("", [cancelled, BaseExceptionGroup("", [cancelled])]))
    assert not _is_cancellation(BaseExceptionGroup("", [cancelled, ValueError()]))
    assert not _is_cancellation(ValueError())


@pytest.mark.parametrize("outer", ["none", "metadata"])
def test_one_record_is_made_when_middlewares_are_nested(outer: str) -> None:
    """The outermost middleware that records makes the record: one that excludes the request does not prevent another
    one inside it from recording."""
    recorder, other = ListRecorder(), ListRecorder()
    inner, _ = make_capture(app_answering(200), other)
    capture, _ = make_capture(inner, recorder, detail=outer)

    async def run() -> None:
        server = Server()
        await capture(server.scope, server.receive, server.send)
        assert server.status == 200

    asyncio.run(run())
    assert (len(recorder.sealed), len(other.sealed)) == ((0, 1) if outer == "none" else (1, 0))
    assert recorder.counts.get("excluded", 0) == (1 if outer == "none" else 0)
    assert not recorder.open_now
    assert not other.open_now


@pytest.mark.parametrize("delivery", ["buffered", "durable"])
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
@pytest.mark.parametrize("size", [0, 3, 10_000])
def test_no_body_is_recorded_when_the_response_can_have_none(
    delivery: str, method: str, status: int, size: int
) -> None:
    server, exchange, recorder = serve_once(
        app_answering(status, b"x" * size), method=method, settings={"delivery": delivery}
    )
    assert [m["type"] for m in server.sent] == ["http.response.start", "http.response.body"]
    assert server.body == b"x" * size, "the application's messages pass as they are"
    assert (exchange.status, exchange.outcome) == (status, "completed")
    body = exchange.response_body
    assert (body.data(), body.total, body.complete) == (b"", 0, True)
    assert recorder.unwaited_count == 0
