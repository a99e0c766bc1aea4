"""The listener at a real listening socket: which connections it accepts from the kernel's queue, and how many at
once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from tests.support.clock import Clock
from tests.support.waiting import until_in_loop
from uvicorn.server import ServerState

from asgi_audit.api.connection import Connection
from asgi_audit.api.listener import FRESH_MAX, SETTLE_SECONDS, Listener

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the server is asyncio's


class Made:
    """The listener, and the connections that it made."""

    def __init__(self, most: int) -> None:
        self.clock = Clock()
        self.number = 0
        self._config = uvicorn.Config(lambda *_: None, http=Connection, log_config=None)
        self._config.load()
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.listener = Listener(self._make, most=most, monotonic=self.clock)

    def _make(self, listener: Listener) -> Connection:
        self.number += 1
        return Connection(
            watch=listener, monotonic=self.clock, config=self._config, server_state=ServerState(), app_state={}
        )

    def client(self) -> socket.socket:
        client = socket.create_connection(self.listening.getsockname())
        client.setblocking(False)
        return client


@contextlib.asynccontextmanager
async def listener(most: int = 512) -> AsyncIterator[Made]:
    made = Made(most)
    try:
        yield made
    finally:
        made.listener.close()
        made.listener.abort()
        made.listening.close()
        await _turns()


async def _turns(count: int = 50) -> None:
    """Lets the event loop run everything that is scheduled."""
    for _ in range(count):
        await asyncio.sleep(0)


async def _is_closed(client: socket.socket) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.get_running_loop().sock_recv(client, 1) == b""
    return True


async def test_clients_that_left_before_they_were_taken_cost_no_connection() -> None:
    async with listener() as made:
        for _ in range(300):
            client = made.client()
            client.send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            client.close()
        with made.client():
            made.listener.open([made.listening])
            await until_in_loop(lambda: made.number > 0)
            assert made.number == 1


async def test_few_connections_at_once_are_on_the_way_to_their_first_request() -> None:
    async with listener() as made:
        clients = [made.client() for _ in range(3 * FRESH_MAX)]
        made.listener.open([made.listening])
        for round_ in (1, 2, 3):
            await until_in_loop(lambda: made.number == round_ * FRESH_MAX)  # noqa: B023 - called at once
            await _turns()
            assert made.number == round_ * FRESH_MAX
            made.clock.now += 2 * SETTLE_SECONDS
        for client in clients:
            client.close()


async def test_a_silent_client_is_closed_for_a_new_one_when_the_door_is_full() -> None:
    async with listener(most=2) as made:
        made.listener.open([made.listening])
        first, second = made.client(), made.client()
        await until_in_loop(lambda: made.number == 2)
        made.clock.now += 2 * SETTLE_SECONDS
        with made.client(), second, first:
            await until_in_loop(lambda: made.number == 3)
            assert await _is_closed(first)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX: "])
async def test_the_door_closes_who_is_overdue(sent: bytes) -> None:
    async with listener() as made:
        made.listener.open([made.listening])
        with made.client() as client:
            client.send(sent)
            await until_in_loop(lambda: made.number == 1)
            made.clock.now += 11
            async with asyncio.timeout(20):
                assert await _is_closed(client)
