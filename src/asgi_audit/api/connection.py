"""One connection of the API's server, with a time limit for each phase.

uvicorn limits only the pause between two requests (5 s). A client that never finishes its headers or its body, or never
reads its response, would hold its connection, its descriptor and its page for ever. `Connection` is uvicorn's HTTP/1.1
protocol (h11) that also keeps the current phase and its start; `door` closes overdue connections.

All connections receive into one shared buffer of `RECEIVE_BYTES`, and received bytes are parsed at once. So headers
above h11's limit (16 KiB) are refused before many more bytes are read, and a connection holds at most 64 KiB of a body
and one buffer of pipelined data. (asyncio would read 256 KiB at a time.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Protocol

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connection", "Phase", "Watch"]

RECEIVE_BYTES = 16_384
HEAD_SECONDS = 10.0  # from the opening, or from the previous response, to the end of the headers
BODY_SECONDS = 10.0  # from there to the end of the body (at most 64 KiB)
# A safety net: waiting for the indexer (2 s), for memory (10 s) and for the index (30 s) has separate limits.
ANSWER_SECONDS = 60.0
# A client must read a response within this time plus one second per SEND_BYTES_A_SECOND: 79 s for a page of 8 MiB.
SEND_SECONDS = 15.0
SEND_BYTES_A_SECOND = 131_072


class Phase(Enum):
    """What the connection waits for."""

    HEAD = auto()  # the client, to send a request
    BODY = auto()  # the client, to send the rest of the request
    ANSWER = auto()  # us
    SEND = auto()  # the client, to read


class Watch(Protocol):
    """Closes overdue connections."""

    def made(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """Created by `door` for each socket. `address`: of the client, '' when unknown."""

    _buffer = bytearray(RECEIVE_BYTES)

    def __init__(self, *, watch: Watch, monotonic: Callable[[], float] = time.monotonic, **given: Any) -> None:
        super().__init__(**given)
        self._watch = watch
        self._monotonic = monotonic
        self._application = self.app
        self.app = self._answer
        self.address = ""
        self.has_sent = False
        """Whether the client sent anything yet, and it was looked at."""
        self._enter(Phase.HEAD)
        self._sent = 0
        self._send_began = 0.0

    # -- asyncio's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._watch.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._watch.lost(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.has_sent = True
        self.data_received(bytes(memoryview(self._buffer)[:nbytes]))

    # -- the door's side

    @property
    def is_reading_slowly(self) -> bool:
        """Whether bytes of a response wait for the client to read them."""
        return self.transport.get_write_buffer_size() > 0

    def is_overdue(self, now: float) -> bool:
        if self.phase is Phase.SEND or self.is_reading_slowly:
            return now - self._send_began > SEND_SECONDS + self._sent / SEND_BYTES_A_SECOND
        seconds = {Phase.HEAD: HEAD_SECONDS, Phase.BODY: BODY_SECONDS, Phase.ANSWER: ANSWER_SECONDS}
        return now - self.since > seconds[self.phase]

    def abort(self) -> None:
        """Closes now and drops unsent bytes."""
        self.transport.abort()

    # -- the application's side

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.since = self._monotonic()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        self._enter(Phase.BODY if _has_body(scope) else Phase.ANSWER)

        async def receiving() -> Any:
            message = await receive()
            if self.phase is Phase.BODY and not message.get("more_body"):
                self._enter(Phase.ANSWER)
            return message

        async def sending(message: Any) -> None:
            if self.phase is not Phase.SEND:
                self._enter(Phase.SEND)
                # Unread bytes of an earlier response keep their time limit: pipelining does not extend it.
                if not self.is_reading_slowly:
                    self._send_began, self._sent = self.since, 0
            self._sent += len(message.get("body", b""))
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._enter(Phase.HEAD)

        await self._application(scope, receiving, sending)


def _has_body(scope: Any) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )
