"""How long each phase of a connection may last, with an injected clock and a pair of connected sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from typing import Any

import h11
import pytest
import uvicorn
from tests.support.clock import Clock
from tests.support.waiting import until_in_loop
from uvicorn.server import ServerState

from asgi_audit.api.connection import (
    ANSWER_SECONDS,
    BODY_SECONDS,
    HEAD_SECONDS,
    LINGER_BYTES_MAX,
    LINGER_SECONDS,
    SEND_BYTES_A_SECOND,
    SEND_SECONDS,
    Connection,
    Phase,
)
from asgi_audit.api.head import LINE_BYTES_MAX

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the server is asyncio's


PAGE = 4 << 20


class Watch:
    def __init__(self) -> None:
        self.connections: list[Connection] = []

    def made(self, connection: Connection) -> None:
        self.connections.append(connection)

    def lost(self, connection: Connection) -> None:
        self.connections.remove(connection)


class App:
    """Reads the body when `may_read` is set, then responds with `PAGE` bytes when `may_answer` is set."""

    reads = True

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while self.reads and (message := await receive())["type"] == "http.request" and message.get("more_body"):
            pass
        await self.may_answer.wait()
        headers = [(b"content-length", str(PAGE).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(PAGE - 1), "more_body": True})
        await self.may_end.wait()
        await send({"type": "http.response.body", "body": b"."})


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, socket.socket, App, Clock]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    app, clock, watch = App(), Clock(), Watch()
    config = uvicorn.Config(app, http=Connection, log_config=None)
    config.load()

    def make() -> Connection:
        return Connection(watch=watch, monotonic=clock, config=config, server_state=ServerState(), app_state={})

    _, connection = await asyncio.get_running_loop().connect_accepted_socket(make, ours)
    try:
        yield connection, theirs, app, clock
    finally:
        theirs.close()
        connection.abort()
        app.may_answer.set()
        await until_in_loop(lambda: not watch.connections)


async def _turns() -> None:
    """Lets the loop read what was sent, and run what follows from it."""
    for _ in range(10):
        await asyncio.sleep(0)


async def _phase(connection: Connection, phase: Phase) -> None:
    await until_in_loop(lambda: connection.phase is phase)


def _lasts(connection: Connection, clock: Clock, seconds: float) -> bool:
    """Whether the phase that was just entered is overdue after `seconds`, and not before."""
    return not connection.is_overdue(clock.now + seconds) and connection.is_overdue(clock.now + seconds + 0.001)


async def test_headers_that_never_end_are_overdue_however_often_a_byte_comes() -> None:
    async with connected() as (connection, client, _, clock):
        assert _lasts(connection, clock, HEAD_SECONDS)
        began = clock.now
        client.send(b"GET / HTTP/1.1\r\n")
        for _ in range(5):
            clock.now += HEAD_SECONDS / 5
            client.send(b"X: y\r\n")
            await _turns()
        assert connection.since == began
        assert connection.is_overdue(clock.now + 0.001)


async def test_a_body_that_never_ends_is_overdue_however_often_a_byte_comes() -> None:
    async with connected() as (connection, client, _, clock):
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n")
        await _phase(connection, Phase.BODY)
        assert _lasts(connection, clock, BODY_SECONDS)
        clock.now += BODY_SECONDS
        client.send(b" " * 100)
        await _turns()
        assert connection.phase is Phase.BODY
        assert connection.is_overdue(clock.now + 0.001)


async def test_the_end_of_a_body_begins_the_time_of_the_answer() -> None:
    async with connected() as (connection, client, _, clock):
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        await _phase(connection, Phase.BODY)
        clock.now += BODY_SECONDS / 2
        client.send(b"}")
        await _phase(connection, Phase.ANSWER)
        assert _lasts(connection, clock, ANSWER_SECONDS)


async def test_a_request_without_a_body_waits_for_us() -> None:
    async with connected() as (connection, client, _, clock):
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await _phase(connection, Phase.ANSWER)
        assert _lasts(connection, clock, ANSWER_SECONDS)


async def test_an_answer_that_is_not_read_is_overdue_by_its_length() -> None:
    async with connected() as (connection, client, app, clock):
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await _phase(connection, Phase.ANSWER)
        clock.now += 5
        app.may_answer.set()
        await until_in_loop(lambda: connection.is_reading_slowly)
        assert _lasts(connection, clock, SEND_SECONDS + PAGE / SEND_BYTES_A_SECOND)


async def test_requests_sent_ahead_buy_no_time_for_an_answer_that_is_not_read() -> None:
    async with connected() as (connection, client, app, clock):
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        app.may_answer.set()
        await until_in_loop(lambda: connection.is_reading_slowly)
        begun = clock.now
        clock.now += 10
        await _turns()  # independent of the second one
        assert connection.is_overdue(begun + SEND_SECONDS + 2 * PAGE / SEND_BYTES_A_SECOND + 0.001)


async def test_the_time_for_headers_begins_again_when_an_answer_was_read() -> None:
    async with connected() as (connection, client, app, clock):
        app.may_answer.set()
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        clock.now += 5
        loop, read = asyncio.get_running_loop(), 0
        while read < PAGE:
            read += len(await loop.sock_recv(client, 1 << 20))
        await _phase(connection, Phase.HEAD)
        await until_in_loop(lambda: not connection.is_reading_slowly)
        assert _lasts(connection, clock, HEAD_SECONDS)


async def test_a_client_that_sends_on_after_a_refusal_is_overdue_soon_and_bounded_in_bytes() -> None:
    async with connected() as (connection, client, app, clock):
        app.may_answer.set()
        client.send(b"GET /\r\n\r\n")
        await _phase(connection, Phase.LINGER)
        loop = asyncio.get_running_loop()
        read = 0
        while read < PAGE:  # the application's response to any request, then our side is closed
            read += len(await loop.sock_recv(client, 1 << 16))
        await until_in_loop(lambda: not connection.is_reading_slowly)
        assert _lasts(connection, clock, LINGER_SECONDS)
        began = connection.since
        clock.now += 1
        client.send(b"a" * 1_000)
        await _turns()
        assert (connection.phase, connection.since) == (Phase.LINGER, began)
        with contextlib.suppress(ConnectionError):
            for _ in range(LINGER_BYTES_MAX // 65_536 + 1):
                await loop.sock_sendall(client, bytes(65_536))
        await until_in_loop(connection.transport.is_closing)
        with contextlib.suppress(ConnectionError):
            while await loop.sock_recv(client, 1 << 16):
                pass


async def test_a_head_of_one_byte_at_a_time_is_remembered_up_to_its_bound() -> None:
    async with connected() as (connection, client, _, __):
        for _ in range(3_000):
            client.send(b"GET ")
            await asyncio.sleep(0)
        await _turns()
        assert len(connection._head) <= LINE_BYTES_MAX


async def test_client_that_leaves_before_it_is_refused_leaves_no_error() -> None:
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with connected() as (connection, client, app, _):
        client.send(b"GET /\r\n\r\n")
        await _phase(connection, Phase.LINGER)
        client.close()
        await until_in_loop(connection.transport.is_closing)
        [refusing] = connection.tasks
        app.may_answer.set()
        await asyncio.wait([refusing])
        assert refusing.exception() is None
    assert errors == []


def _written(connection: Connection) -> list[bytes]:
    """What is handed to the system from now on, by call."""
    written: list[bytes] = []
    inner = connection.transport._transport  # type: ignore[attr-defined]
    write = inner.write

    def writing(data: bytes) -> None:
        if data:
            written.append(bytes(data))
        write(data)

    inner.write = writing
    return written


async def test_head_of_a_response_is_sent_together_with_its_body() -> None:
    async with connected() as (connection, client, app, _):
        written = _written(connection)
        app.may_answer.set()
        for _ in range(2):
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await _phase(connection, Phase.SEND)
            read = b""
            while len(read.partition(b"\r\n\r\n")[2]) < PAGE:
                read += await asyncio.get_running_loop().sock_recv(client, 1 << 16)
            assert read.startswith(b"HTTP/1.1 200 OK\r\n")
            assert [len(w) for w in written] == [len(read) - 1, 1]
            written.clear()


@pytest.mark.parametrize("starts", [1, 2])
async def test_head_is_sent_when_the_application_fails_before_the_body(starts: int) -> None:
    """Also when it fails because it starts a second response."""
    async with connected() as (connection, client, _, __):

        async def failing(scope: Any, receive: Any, send: Any) -> None:
            for _ in range(starts):
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
            raise RuntimeError("before the body")

        connection._application = failing
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until_in_loop(connection.transport.is_closing)
        got = await asyncio.get_running_loop().sock_recv(client, 1 << 16)
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_connection_that_the_client_has_reset_is_closed_at_once() -> None:
    async with connected() as (connection, client, app, _):
        client.send(b"GET /\r\n\r\n")
        await _phase(connection, Phase.LINGER)
        [refusing] = connection.tasks
        inner = connection.transport._transport  # type: ignore[attr-defined]

        def reset() -> None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

        inner.write_eof = reset  # as the operating system does when the reset came just before
        app.may_answer.set()
        await asyncio.wait([refusing])
        assert refusing.exception() is None
        assert inner.is_closing()


async def test_wrong_body_that_nobody_reads_is_discarded_and_its_response_sent() -> None:
    async with connected() as (connection, client, app, _):
        app.reads = False
        app.may_end.clear()
        app.may_answer.set()
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await until_in_loop(lambda: connection.is_reading_slowly)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, b"zz\r\n")
        await until_in_loop(lambda: connection.conn.their_state is h11.ERROR)
        kept = len(connection.conn.trailing_data[0])
        for _ in range(16):
            await loop.sock_sendall(client, bytes(65_536))
        await until_in_loop(lambda: connection._discarded >= 1 << 20)
        assert len(connection.conn.trailing_data[0]) == kept
        app.may_end.set()
        got = b""
        while more := await loop.sock_recv(client, 1 << 16):  # until our side is closed
            got += more
        assert len(got.partition(b"\r\n\r\n")[2]) == PAGE


async def _response(client: socket.socket) -> bytes:
    """Reads until our side is closed."""
    got = b""
    while more := await asyncio.get_running_loop().sock_recv(client, 1 << 16):
        got += more
    return got


@pytest.mark.parametrize("more", [b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["an empty line", "a request"])
async def test_what_follows_the_last_request_is_discarded_and_that_request_answered(more: bytes) -> None:
    async with connected() as (connection, client, app, _):
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await _phase(connection, Phase.ANSWER)
        client.send(more)
        await until_in_loop(lambda: connection._discarded == len(more))
        assert connection.phase is Phase.ANSWER
        app.may_answer.set()
        head, _, body = (await _response(client)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert len(body) == PAGE


async def test_a_body_of_two_lengths_ends_the_connection() -> None:
    async with connected() as (_, client, app, _):
        app.may_answer.set()
        body = b"0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head.encode() + body)
        assert (await _response(client)).count(b"HTTP/1.1 ") == 1
