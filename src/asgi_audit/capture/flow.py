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
import logging
import sys
from typing import Any

import msgspec

from ..recording.base import RecorderBase, Wake
from ..settings import Settings
from .asgi import Message, Receive, Scope, Send
from .exchange import Body, Exchange
from .identity import Slot, apply_notes, read_identity
from .policy import Decision
from .waiter import new_waiter

__all__ = ["EMPTY", "UNREAD", "Facts", "Flow", "facts_of"]

_log = logging.getLogger("asgi_audit")
_logged: list[str] = []

SMALL_BYTES = 4096
_JOIN_BELOW = 1024  # small chunks are joined up to this, or 64 KiB in single bytes would cost megabytes of objects
_NO_BODY = (204, 304)
_CLIENT_GONE = ("BrokenResourceError", "ClosedResourceError", "ClientDisconnected")
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class Facts(msgspec.Struct, eq=False):
    """What all requests of one middleware share."""

    recorder: RecorderBase
    excluded: bool
    durable: bool
    wait_seconds: float
    request_limit: int
    response_limit: int
    request_small: int  # at most so many bytes of a body are taken in one step and accounted for at the seal
    response_small: int
    header_in: bytes
    header_out: bytes | None

    def internal_error(self, where: str) -> None:
        """Counts; the first of a process is logged with its traceback, which names our code and shows no values."""
        try:
            self.recorder.count("internal_errors")
            if not _logged:
                _logged.append(where)
                _log.exception("asgi-audit failed at %r; the application is not affected", where)
        except Exception:
            pass


def facts_of(settings: Settings, recorder: RecorderBase, decision: Decision) -> Facts:
    limit = settings.body_bytes_max
    request = limit if decision.request == "bodies" else 0
    response = limit if decision.response == "bodies" else 0
    header = settings.request_id_header
    out = header.encode("ascii") if header is not None else None
    return Facts(
        recorder=recorder,
        excluded=decision.excluded,
        durable=settings.delivery == "durable" and not decision.excluded,
        wait_seconds=settings.durable_wait_seconds,
        request_limit=request,
        response_limit=response,
        request_small=min(request, SMALL_BYTES),
        response_small=min(response, SMALL_BYTES),
        header_in=out or b"x-request-id",
        header_out=out,
    )


class _Shared(Body):
    """A body of which there is one for all requests."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("this body is shared by all requests")


UNREAD: Body = _Shared()
EMPTY: Body = _Shared(complete=True)


class Flow(msgspec.Struct, eq=False):
    """The two wrapped callables of one request. `exchange` is None once it is sealed: everything passes through
    then."""

    facts: Facts
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
    pending: int = 0  # bytes of small bodies, accounted for at the seal

    async def receive(self) -> Message:
        message = await self.inner_receive()
        exchange = self.exchange
        if exchange is not None:
            try:
                if message["type"] == "http.request":
                    data = message.get("body", b"")
                    if (
                        exchange.request_body is UNREAD
                        and not message.get("more_body")
                        and type(data) is bytes
                        and len(data) <= self.facts.request_small
                    ):
                        # The usual request in one step.
                        size = len(data)
                        self.pending = size
                        exchange.request_body = Body([data], size, size, True)
                    else:
                        self._request_body(exchange, data, message.get("more_body", False))
                elif message["type"] == "http.disconnect" and not self.finishing and not self._all_sent(exchange):
                    self.gone = True
            except Exception:
                self.facts.internal_error("receive")
        return message

    async def send(self, message: Message) -> None:
        exchange = self.exchange
        if exchange is None:
            return await self.inner_send(message)
        last = starting = False
        try:
            if message["type"] == "http.response.body":
                data = message.get("body", b"")
                if (
                    exchange.response_body is UNREAD
                    and not message.get("more_body")
                    and type(data) is bytes
                    and len(data) <= self.facts.response_small
                    and not self.bodyless
                ):
                    # The usual response in one step.
                    size = len(data)
                    self.pending += size
                    exchange.response_body = Body([data], size, size, True)
                    last = not self.trailers
                else:
                    last = self._response_body(exchange, data, message.get("more_body", False))
            elif message["type"] == "http.response.start":
                if exchange.status is None:
                    starting = True
                    message = self._start(exchange, message)
                    last = self.facts.durable and self._completes(exchange)
            else:
                last = self._other(exchange, message["type"], message)
        except Exception:
            self.facts.internal_error("send")
        if last:
            if self.facts.durable:
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

    def _request_body(self, exchange: Exchange, data: Any, more: bool) -> None:
        body = exchange.request_body
        if isinstance(body, _Shared):
            body = exchange.request_body = Body()
        if data:
            self._keep(exchange, body, data, self.facts.request_limit)
        if not more:
            body.complete = True

    def _response_body(self, exchange: Exchange, data: Any, more: bool) -> bool:
        """True when this is the last of the response, or completes it for the client of a `durable` one."""
        body = self._own_response_body(exchange)
        if data and not self.bodyless:
            self._keep(exchange, body, data, self.facts.response_limit)
        if not more:
            body.complete = True
            return not self.trailers
        if 0 <= self.length <= body.total:
            body.complete = True
            return True
        return False

    def _own_response_body(self, exchange: Exchange) -> Body:
        if isinstance(exchange.response_body, _Shared):
            exchange.response_body = Body()
        return exchange.response_body

    def _start(self, exchange: Exchange, message: Message) -> Message:
        """The message to forward: the same one, or a copy with the request id."""
        status = message["status"]
        exchange.status = status if type(status) is int else int(status)  # not an HTTPStatus
        given = message.get("headers", ())
        # A list of its own: Starlette hands over a response's own list, and appending to it would grow it on every
        # call.
        exchange.response_headers = headers = list(given)
        if "trailers" in message:
            self.trailers = bool(message["trailers"])
        if status in _NO_BODY or exchange.method == "HEAD":
            self.bodyless = True
        wanted = self.facts.header_out
        if wanted is not None:
            size = len(wanted)
            for name, _ in headers:
                if len(name) == size and name.lower() == wanted:
                    break
            else:
                return {**message, "headers": [*headers, (wanted, exchange.request_id.encode())]}
        if isinstance(given, (list, tuple)):
            return message
        return {**message, "headers": headers}  # an iterator, which can be read only once

    def _completes(self, exchange: Exchange) -> bool:
        """Whether the start completes the response for the client; for `durable` delivery."""
        if self.trailers:
            return False
        if not self.bodyless:
            self.length = _content_length(exchange.response_headers)
            if self.length != 0:
                return False
        exchange.response_body = EMPTY
        return True

    def _other(self, exchange: Exchange, kind: str, message: Message) -> bool:
        """Messages of extensions; True for one that is the last of the response."""
        body = self._own_response_body(exchange)
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
        if not self.facts.recorder.reserve(exchange, size):
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
            if self.facts.durable and isinstance(error, Exception) and not self.gone:
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
            if self.facts.durable and not self.gone:
                await self._seal_durably(outcome)
        self.seal(outcome)  # does nothing the second time

    async def _seal_durably(self, outcome: str) -> None:
        """Seal, then wait until the record is on disk, never will be, or the bound is reached. Raises only
        cancellation."""
        try:
            waiter = new_waiter()
        except Exception:
            waiter = None
            self.facts.internal_error("wait")
        recorder = self.facts.recorder
        if waiter is None:
            if self.seal(outcome):
                recorder.unwaited()
            return
        if not self.seal(outcome, waiter.wake):
            return  # lost or excluded: counted already
        try:
            durable = await waiter.wait(self.facts.wait_seconds)
            if not durable:
                recorder.unwaited()
        except Exception:
            self.facts.internal_error("wait")

    def seal(self, outcome: str, wake: Wake | None = None) -> bool:
        """Make the exchange a record, once; True when it was enqueued (and `wake` will be called)."""
        exchange = self.exchange
        if exchange is None:
            return False
        self.exchange = None
        slot = self.slot
        slot.exchange = None
        facts = self.facts
        exchange.outcome = outcome
        try:
            read_identity(exchange, self.scope)
        except Exception:
            facts.internal_error("identity")
        try:
            recorder = facts.recorder
            if self.pending and not recorder.reserve(exchange, self.pending):
                exchange.request_body = _without_data(exchange.request_body)
                exchange.response_body = _without_data(exchange.response_body)
            if slot.notes is not None:
                apply_notes(exchange, slot.notes)
            return recorder.seal(exchange, wake)
        except Exception:
            facts.internal_error("seal")
            return False


def _without_data(body: Body) -> Body:
    """A small body whose bytes the shared budget has no room for; larger ones have their share of it already."""
    if 0 < body.kept == body.total <= SMALL_BYTES:
        return Body(total=body.total, complete=body.complete, pressure=True)
    return body


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
