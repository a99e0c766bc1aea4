"""One connection of the API's server, with a time limit for each phase.

uvicorn limits only the pause between two requests (5 s). A client that never finishes its headers or its body, or never
reads its response, would hold its connection, its descriptor and its page for ever. `Connection` is uvicorn's HTTP/1.1
protocol (h11) that also keeps the current phase and its start; `listener` closes overdue connections.

All connections receive into one shared buffer of `RECEIVE_BYTES`, and received bytes are parsed at once. So headers
above h11's limit (16 KiB) are refused before many more bytes are read, and a connection holds at most 64 KiB of a body
and one buffer of pipelined data. (asyncio would read 256 KiB at a time.)

What h11 refuses gets the error of its dialect in place of uvicorn's plain text. A connection that is closed while the
client still sends is closed in two steps (RFC 9112, 9.6): our side first, then, after what still comes was discarded,
all of it. Closed at once, the system would reset it, and the client might never see the response.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Protocol, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .failure import Failure, phrase_of
from .head import LINE_BYTES_MAX, in_origin_form, refusal_of, refused_scope

__all__ = ["Connection", "Phase", "Watch"]

RECEIVE_BYTES = 16_384
HEAD_SECONDS = 10.0  # from the opening, or from the previous response, to the end of the headers
BODY_SECONDS = 10.0  # from there to the end of the body (at most 64 KiB)
# A safety net: waiting for the indexer (2 s), for memory (10 s) and for the index (30 s) has separate limits.
ANSWER_SECONDS = 60.0
# A client must read a response within this time plus one second per SEND_BYTES_A_SECOND: 79 s for a page of 8 MiB.
SEND_SECONDS = 15.0
SEND_BYTES_A_SECOND = 131_072
# How long bytes that a client sends after its last response are discarded, until it notices that our side is closed.
LINGER_SECONDS = 2.0
LINGER_BYTES_MAX = 4 << 20
# States of the client, as h11 names them, in which it cannot send a request. `MUST_CLOSE`: it announced the end of the
# connection.
_NO_MORE = (h11.ERROR, h11.MUST_CLOSE, h11.CLOSED)


class Phase(Enum):
    """What the connection waits for."""

    HEAD = auto()  # the client, to send a request
    BODY = auto()  # the client, to send the rest of the request
    ANSWER = auto()  # us
    SEND = auto()  # the client, to read
    LINGER = auto()  # the client, to close


class Watch(Protocol):
    """Closes overdue connections."""

    def made(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """Created by `listener` for each socket. `address`: of the client, '' when unknown."""

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
        self.phase, self.since = Phase.HEAD, monotonic()
        self._sent = 0
        self._send_began = 0.0
        self._head = b""  # the first bytes of the request that is read now
        self._discarded = 0

    # -- asyncio's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self._begin_to_close)))
        self.address = self.client[0] if self.client else ""
        self._watch.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._watch.lost(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.has_sent = True
        if self.phase is not Phase.LINGER and self.conn.their_state not in _NO_MORE:
            self.data_received(bytes(memoryview(self._buffer)[:nbytes]))
            return
        self._discarded += nbytes
        if self._discarded > LINGER_BYTES_MAX:
            self.abort()

    def handle_events(self) -> None:
        if self.conn.their_state is h11.IDLE:
            self._head = self.conn.trailing_data[0][:LINE_BYTES_MAX]  # h11 forgets what it refuses
        super().handle_events()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn while it handles h11's exception about a request that h11 refused."""
        if self.conn.our_state is h11.SEND_BODY:
            self.cycle.keep_alive = False  # the error is in the body, which is not read: the response continues
            return
        self._enter(Phase.LINGER)
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # it has had its response
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # for the application, which waits for the rest of the body
            self.cycle.message_event.set()
        task = self.loop.create_task(self._refuse(refusal_of(sys.exception())))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _refuse(self, refusal: Failure) -> None:
        """Sends the dialect's error, and closes."""

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            event: h11.Event = h11.Data(data=message.get("body", b""))
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (b"connection", b"close")]
                reason = phrase_of(message["status"])
                event = h11.Response(status_code=message["status"], headers=headers, reason=reason)
            write(event)

        def write(event: h11.Event) -> None:
            if not self.transport.is_closing():  # else the client has left, and h11 sends nothing more
                self.transport.write(self.conn.send(event) or b"")

        of_us = {"client": self.client, "server": self.server, "scheme": self.scheme, "state": self.app_state.copy()}
        try:
            await self._application(refused_scope(self._head, refusal, **of_us), receive, send)
            write(h11.EndOfMessage())
        finally:
            self.transport.close()

    def _begin_to_close(self) -> bool:
        """Returns whether the client may still send; what it sends is discarded from now on."""
        if self.conn.their_state not in (h11.SEND_BODY, h11.ERROR) and not self._discarded:
            return False
        self._enter(Phase.LINGER)
        return True

    # -- the listener's side

    @property
    def is_reading_slowly(self) -> bool:
        """Whether bytes of a response wait for the client to read them."""
        return self.transport.get_write_buffer_size() > 0

    def is_overdue(self, now: float) -> bool:
        if self.phase is Phase.SEND or self.is_reading_slowly:
            return now - self._send_began > SEND_SECONDS + self._sent / SEND_BYTES_A_SECOND
        lingering = LINGER_SECONDS + self._sent / SEND_BYTES_A_SECOND
        seconds = {
            Phase.HEAD: HEAD_SECONDS,
            Phase.BODY: BODY_SECONDS,
            Phase.ANSWER: ANSWER_SECONDS,
            Phase.LINGER: lingering,
        }
        return now - self.since > seconds[self.phase]

    def abort(self) -> None:
        """Closes now and drops unsent bytes."""
        self.transport.abort()

    # -- the application's side

    def _enter(self, phase: Phase) -> None:
        if self.phase is Phase.LINGER:
            return  # it is the last one
        self.phase = phase
        self.since = self._monotonic()
        if phase is Phase.LINGER and not self.is_reading_slowly:
            self._send_began, self._sent = self.since, 0

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        scope = in_origin_form(scope)
        self._enter(Phase.BODY if _has_body(scope) else Phase.ANSWER)
        if _has_two_lengths(scope):
            self.cycle.keep_alive = False

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
            if message["type"] == "http.response.start":
                cast(_Transport, self.transport).hold()
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._enter(Phase.HEAD)

        await self._application(scope, receiving, sending)


def _has_body(scope: Any) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _has_two_lengths(scope: Any) -> bool:
    """Whether the body is chunked and has a Content-Length as well. A proxy in front may have taken the other one, and
    would take the rest of the body for the next request (RFC 9112, 6.1: the connection must be closed)."""
    return {b"transfer-encoding", b"content-length"} <= {name for name, _ in scope["headers"]}


class _Transport:
    """asyncio's, closed in two steps when the client may still send. `begin`: whether it may; called once."""

    def __init__(self, transport: asyncio.Transport, begin: Callable[[], bool]) -> None:
        self._transport = transport
        self._begin = begin
        self._is_ending = False
        self._is_holding = False
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def hold(self) -> None:
        """What is written next, the head of a response, waits for the body. Sent alone it costs a call of the system,
        and wakes a client that then waits again."""
        self._is_holding = True

    def write(self, data: bytes) -> None:
        held, self._held = self._held, b""
        if self._is_holding:
            self._is_holding, self._held = False, held + data
        else:
            self._transport.write(held + data if held else data)

    def close(self) -> None:
        self._is_holding = False
        if self._held:
            self.write(b"")
        if self._is_ending or self._transport.is_closing() or not self._begin():
            self._transport.close()
            return
        self._is_ending = True
        try:
            self._transport.write_eof()  # after what was written
            self._transport.resume_reading()
        except OSError:
            self._transport.abort()  # the client has reset the connection

    def is_closing(self) -> bool:
        return self._is_ending or self._transport.is_closing()
