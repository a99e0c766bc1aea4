"""One request as it passes by: the two wrapped callables, what they keep, and the seal.

Nothing is parsed, delayed or reordered here, and no object of the application is changed. Two exceptions, both
settings: the request id goes out on a copied start message, and `durable` delivery holds back the message that
completes the response: the start itself for HEAD, 204, 304 and Content-Length 0, the one that completes the declared
Content-Length (a BaseHTTPMiddleware below us sends an empty final message after it), else the final one; never the
start of a stream.

Outcomes. `completed`: the server took the final message. `failed`: the application raised (status 500 when it had not
started a response: the server answers so), or returned without starting one. `interrupted`: it returned in the middle
of its response. `disconnected`: `http.disconnect` came, or `send` raised that the client is gone, before the response
was complete (499 when none was started). `cancelled`: the server or a timeout outside us cancelled the request (499
likewise). A client that left explains whatever follows, so `disconnected` goes before `failed` and `cancelled`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Protocol

import msgspec

from ..recording.base import RecorderBase, Wake
from .asgi import Message, Receive, Scope, Send
from .exchange import Body, Exchange
from .identity import Slot, apply_notes, read_identity
from .waiter import new_waiter

__all__ = ["Flow", "FlowFacts"]

_JOIN_BELOW = 1024  # small chunks are joined up to this, or 64 KiB in single bytes would cost megabytes of objects
_NO_BODY = (204, 304)
_CLIENT_GONE = ("BrokenResourceError", "ClosedResourceError", "ClientDisconnected")
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class FlowFacts(Protocol):
    """What a flow asks of the middleware that it belongs to."""

    recorder: RecorderBase
    durable: bool
    wait_seconds: float
    request_limit: int
    response_limit: int
    header_out: bytes | None

    def internal_error(self, where: str) -> None: ...


class Flow(msgspec.Struct, eq=False):
    """The two wrapped callables of one request. `exchange` is None once it is sealed: everything passes through
    then."""

    capture: FlowFacts
    exchange: Exchange | None
    slot: Slot
    scope: Scope
    inner_receive: Receive
    inner_send: Send
    gone: bool = False  # the client left before the response was complete
    finishing: bool = False  # the final message is on its way to the server
    trailers: bool = False  # announced: the last trailer is the final message
    bodyless: bool = False  # HEAD, 204, 304: the server sends no body, whatever the application does
    length: int = -1  # the declared Content-Length; only when delivery needs it

    async def receive(self) -> Message:
        message = await self.inner_receive()
        exchange = self.exchange
        if exchange is not None:
            try:
                kind = message["type"]
                if kind == "http.request":
                    body = exchange.request_body
                    data = message.get("body")
                    if data:
                        self._keep(exchange, body, data, self.capture.request_limit)
                    if not message.get("more_body", False):
                        body.complete = True
                elif kind == "http.disconnect" and not self.finishing and not self._all_sent(exchange):
                    self.gone = True
            except Exception:
                self.capture.internal_error("receive")
        return message

    async def send(self, message: Message) -> None:
        exchange = self.exchange
        if exchange is None:
            return await self.inner_send(message)
        last = False
        starting = False
        try:
            kind = message["type"]
            if kind == "http.response.body":
                body = exchange.response_body
                data = message.get("body")
                if data and not self.bodyless:
                    self._keep(exchange, body, data, self.capture.response_limit)
                if not message.get("more_body", False):
                    body.complete = True
                    last = not self.trailers
                elif self.length >= 0 and body.total >= self.length:
                    body.complete = True
                    last = True
            elif kind == "http.response.start":
                if exchange.status is None:
                    starting = True
                    message, last = self._start(exchange, message)
            else:
                last = self._other(exchange, kind, message)
        except Exception:
            self.capture.internal_error("send")
        if last:
            if self.capture.durable:
                await self._seal_durably("disconnected" if self.gone else "completed")
                return await self.inner_send(message)
            self.finishing = True
        try:
            await self.inner_send(message)
        except BaseException as error:
            self.finishing = False
            if self.exchange is not None:
                self._not_sent(exchange, error, starting)
            raise
        if last:
            self.seal("disconnected" if self.gone else "completed")
        return None

    def _start(self, exchange: Exchange, message: Message) -> tuple[Message, bool]:
        """The message to forward, and whether it completes the response for the client (only asked for `durable`)."""
        given = message.get("headers")
        # A list of its own: Starlette hands over a response's own list, and appending to it would grow it on every
        # call.
        headers = list(given) if given is not None else []
        status = message["status"]
        if type(status) is not int:  # an HTTPStatus
            status = int(status)
        exchange.status = status
        exchange.response_headers = headers
        if message.get("trailers", False):
            self.trailers = True
        if exchange.method == "HEAD" or status in _NO_BODY:
            self.bodyless = True
        capture = self.capture
        wanted = capture.header_out
        if wanted is not None and not _names(headers, wanted):
            added = (wanted, exchange.request_id.encode("ascii"))
            message = {**message, "headers": [*headers, added]}
        elif given is not None and not isinstance(given, (list, tuple)):
            message = {**message, "headers": headers}  # an iterator, which can be read only once
        if not capture.durable or self.trailers:
            return message, False
        if not self.bodyless:
            self.length = _content_length(headers)
        if self.bodyless or self.length == 0:
            exchange.response_body.complete = True
            return message, True
        return message, False

    def _other(self, exchange: Exchange, kind: str, message: Message) -> bool:
        """Messages of extensions; True for one that is the last of the response."""
        body = exchange.response_body
        if kind == "http.response.pathsend":
            # The server reads the file; what it declared is all that we know of the size without asking the disk.
            body.total += max(0, _content_length(exchange.response_headers))
            body.complete = True
            return not self.trailers
        if kind == "http.response.zerocopysend":
            count = message.get("count")
            if isinstance(count, int):
                body.total += count
            if message.get("more_body", False):
                return False
            if not isinstance(count, int):
                body.total = max(body.total, _content_length(exchange.response_headers))
            body.complete = True
            return not self.trailers
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return False

    def _keep(self, exchange: Exchange, body: Body, data: Any, limit: int) -> None:
        """Count a chunk, and keep what the limit and the shared budget leave room for, in bytes of our own."""
        exact = type(data) is bytes
        if not exact and not isinstance(data, bytes):
            data = memoryview(data)  # a bytearray, which the application may use again
            if data.ndim != 1 or data.itemsize != 1:
                data = data.cast("B")
        size = given = len(data)
        body.total += given
        kept = body.kept
        if kept + given > limit:
            size = limit - kept
            if size <= 0:
                return
        if body.pressure:
            return
        if not self.capture.recorder.reserve(exchange, size):
            body.pressure = True
            return
        if size < given:
            data = data[:size]
        if not exact:
            data = bytes(data)
        body.kept = kept + size
        if kept and len(body.chunks[-1]) + size <= _JOIN_BELOW:
            body.chunks[-1] += data
        else:
            body.chunks.append(data)

    def _all_sent(self, exchange: Exchange) -> bool:
        """The client has its whole response though the final message is still to come (BaseHTTPMiddleware sends an
        empty one): it may leave then and did not disconnect."""
        if exchange.status is None or self.trailers:
            return False
        if self.bodyless:
            return True
        return 0 <= _content_length(exchange.response_headers) <= exchange.response_body.total

    def _not_sent(self, exchange: Exchange, error: BaseException, starting: bool) -> None:
        """The server refused a message."""
        if starting:
            exchange.status = None
            exchange.response_headers = []
            self.bodyless = self.trailers = False
        if isinstance(error, OSError):
            if not isinstance(error, _NO_FILE):  # of pathsend: the file is gone, not the client
                self.gone = True
        elif type(error).__name__ in _CLIENT_GONE:
            self.gone = True

    async def raised(self, error: BaseException) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        cancelled = _is_cancellation(error)
        if not cancelled:
            exchange.error_type = type(error).__name__
            exchange.error_fatal = not isinstance(error, Exception)
        outcome = "disconnected" if self.gone else "cancelled" if cancelled else "failed"
        if exchange.status is None:
            exchange.status = 500 if outcome == "failed" else 499
            # The server answers an exception with a 500 that the client sees complete. Whatever is no Exception ends
            # the process or the task: nothing waits then.
            if self.capture.durable and isinstance(error, Exception) and not self.gone:
                await self._seal_durably(outcome)
        self.seal(outcome)  # does nothing the second time

    async def returned(self) -> None:
        """The application returned without having completed its response."""
        exchange = self.exchange
        if exchange is None:
            return
        if self.gone:
            outcome = "disconnected"
        else:
            outcome = "failed" if exchange.status is None else "interrupted"
        if exchange.status is None:
            exchange.status = 499 if self.gone else 500
            if self.capture.durable and not self.gone:
                await self._seal_durably(outcome)
        self.seal(outcome)  # does nothing the second time

    async def _seal_durably(self, outcome: str) -> None:
        """Seal, then wait until the record is on disk, never will be, or the bound is reached. Raises only
        cancellation."""
        try:
            waiter = new_waiter()
        except Exception:
            waiter = None
            self.capture.internal_error("wait")
        recorder = self.capture.recorder
        if waiter is None:
            if self.seal(outcome):
                recorder.unwaited()
            return
        if not self.seal(outcome, waiter.wake):
            return  # lost or excluded: counted already
        try:
            durable = await waiter.wait(self.capture.wait_seconds)
            if not durable:
                recorder.unwaited()
        except Exception:
            self.capture.internal_error("wait")

    def seal(self, outcome: str, wake: Wake | None = None) -> bool:
        """Make the exchange a record, once; True when it was enqueued (and `wake` will be called)."""
        exchange = self.exchange
        if exchange is None:
            return False
        self.exchange = None
        slot = self.slot
        slot.exchange = None
        capture = self.capture
        exchange.outcome = outcome
        try:
            read_identity(exchange, self.scope)
        except Exception:
            capture.internal_error("identity")
        try:
            if slot.notes is not None:
                apply_notes(exchange, slot.notes)
            return capture.recorder.seal(exchange, wake)
        except Exception:
            capture.internal_error("seal")
            return False


def _names(headers: list[tuple[bytes, bytes]], wanted: bytes) -> bool:
    size = len(wanted)
    for name, _ in headers:  # noqa: SIM110  a generator costs 0.6 µs more
        if len(name) == size and name.lower() == wanted:
            return True
    return False


def _content_length(headers: list[tuple[bytes, bytes]]) -> int:
    """The declared length, or -1."""
    for name, value in headers:
        if len(name) == 14 and name.lower() == b"content-length":
            return int(value) if value.isdigit() else -1
    return -1


def _is_cancellation(error: BaseException) -> bool:
    """Of asyncio or trio, alone or as nothing but a group of them; also a coroutine that its driver closes."""
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return True
    if isinstance(error, BaseExceptionGroup):
        return all(_is_cancellation(e) for e in error.exceptions)
    trio = sys.modules.get("trio")
    return trio is not None and isinstance(error, trio.Cancelled)
