"""The middleware: pure ASGI, one `Flow` per HTTP request; lifespan is watched, everything else passes through.

An error of ours becomes the counter `internal_errors`; the application's exceptions pass untouched. Cost: under 10 µs a
request (`python -m tests.bench.path`). Memory: at most `body_bytes_max` of each body, copied or sliced. The recorder
opens its journal at lifespan startup, or at the first request of an OS process that saw none (again after fork), and is
flushed before the server hears that the application has shut down.
"""

from __future__ import annotations

import os
import re
import weakref
from operator import itemgetter
from typing import Any

from ..record.ids import new_request_id
from ..recording.base import RecorderBase
from ..settings import Settings
from .asgi import ASGIApp, Message, Receive, Scope, Send
from .exchange import Exchange
from .flow import UNREAD, Facts, Flow, facts_of
from .identity import SCOPE_KEY, Slot, current_slot
from .policy import decide
from .waiter import off_loop

__all__ = ["ASGIApp", "Capture", "Message", "Receive", "Scope", "Send", "live_captures"]

OPEN_SECONDS_STARTUP = 1.0
OPEN_SECONDS_FIRST_REQUEST = 0.05
CLOSE_SECONDS = 2.0

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_live: weakref.WeakSet[Capture] = weakref.WeakSet()
# In the order of Exchange's fields.
_PARTS = itemgetter("method", "path", "raw_path", "query_string", "root_path", "http_version", "scheme", "client")
_OPTIONAL = {
    "raw_path": None,
    "query_string": b"",
    "root_path": "",
    "http_version": "1.1",
    "scheme": "http",
    "client": None,
}
_forks = 0


def _after_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_after_fork)


class Capture:
    """`app` with its HTTP exchanges recorded by `recorder`. WebSocket and unknown scopes pass through. Without a
    recorder everything does.

    `AuditMiddleware` inherits from it: a layer of its own would cost another coroutine a request."""

    def __init__(self, app: ASGIApp, settings: Settings, recorder: RecorderBase | None) -> None:
        self.app = app
        self.settings = settings
        self._opened = -1  # the value of `_forks` when the recorder was opened in this OS process
        self._facts: Facts | None = None
        # The exchange's own default is `bodies`.
        decision = decide(settings)
        self._detail = None if decision == ("bodies", "bodies") else decision
        if recorder is not None:
            self._facts = facts_of(settings, recorder, decision)
            _live.add(self)

    @property
    def recorder(self) -> RecorderBase | None:
        return self._facts.recorder if self._facts is not None else None

    @recorder.setter
    def recorder(self, recorder: RecorderBase) -> None:
        if self._facts is not None:
            self._facts.recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        facts = self._facts
        kind = scope["type"]
        if kind != "http" or facts is None:
            if kind == "lifespan" and facts is not None:
                return await self._lifespan(facts.recorder, scope, receive, send)
            return await self.app(scope, receive, send)
        try:
            slot = scope.get(SCOPE_KEY)
            if slot is not None and slot.exchange is not None:
                flow = None  # audited by an AuditMiddleware outside of this one
            else:
                flow = self._begin(facts, scope, receive, send)
        except Exception:
            flow = None
            facts.internal_error("begin")
        if flow is None:
            return await self.app(scope, receive, send)
        token = current_slot.set(flow.slot)
        try:
            if self._opened != _forks:
                await self._open(facts.recorder)  # registered already: cancelled meanwhile, it becomes a record
            answer = await self.app(scope, flow.receive, flow.send)
        except BaseException as error:
            if flow.exchange is not None:
                await flow.raised(error)
            raise
        else:
            if flow.exchange is not None:
                await flow.returned()
            return answer
        finally:
            try:
                current_slot.reset(token)
            except ValueError:
                pass  # driven from another context than it was begun in

    async def _open(self, recorder: RecorderBase) -> None:
        self._opened = _forks
        await off_loop(lambda: recorder.open(OPEN_SECONDS_FIRST_REQUEST), OPEN_SECONDS_FIRST_REQUEST)

    def _begin(self, facts: Facts, scope: Scope, receive: Receive, send: Send) -> Flow:
        # Few steps in Python, more in C: between two requests the application empties the processor's caches, and then
        # every byte code costs 12 ns (perf, Starlette) where a warm loop shows 4.
        received = scope["headers"]
        headers = list(received)
        if type(received) is not list and not isinstance(received, (list, tuple)):
            scope["headers"] = headers  # an iterator, which can be read only once
        parts: tuple[str, str, bytes | None, bytes, str, str, str, Any]
        try:
            parts = _PARTS(scope)
        except KeyError:  # a server that leaves out what ASGI calls optional
            parts = _PARTS({**_OPTIONAL, **scope})
        given = dict(headers).get(facts.header_in)
        if given is not None and _REQUEST_ID.fullmatch(given) is not None:
            request_id = given.decode("ascii")
        else:
            request_id = new_request_id()
        exchange = Exchange(*parts, headers, request_id, UNREAD, UNREAD)
        client = exchange.client
        exchange.client = client[0] if client else None
        if self._detail is not None:
            exchange.detail_request, exchange.detail_response = self._detail
        slot = scope[SCOPE_KEY] = Slot(exchange, facts.recorder, request_id)
        flow = Flow(facts, exchange, slot, scope, receive, send)
        facts.recorder.begin(exchange)
        return flow

    async def _lifespan(self, recorder: RecorderBase, scope: Scope, receive: Receive, send: Send) -> Any:
        stopping = closed = False

        async def watched_receive() -> Message:
            nonlocal stopping
            message = await receive()
            kind = message.get("type")
            if kind == "lifespan.startup":
                self._opened = _forks
                await off_loop(lambda: recorder.open(OPEN_SECONDS_STARTUP), OPEN_SECONDS_STARTUP)
            elif kind == "lifespan.shutdown":
                stopping = True
            return message

        async def watched_send(message: Message) -> None:
            kind = message.get("type")
            if kind == "lifespan.shutdown.complete" or kind == "lifespan.shutdown.failed":
                await close()
            await send(message)

        async def close() -> None:
            nonlocal closed
            if not closed:
                closed = True
                await off_loop(lambda: recorder.flush(CLOSE_SECONDS, close=True), CLOSE_SECONDS)

        answer = await self.app(scope, watched_receive, watched_send)
        if stopping:  # an application may return instead of sending lifespan.shutdown.complete
            await close()
        return answer


def live_captures() -> list[Capture]:
    """Every one of this process that is still in use: `testing` puts another recorder under each for the time of a
    test."""
    return list(_live)
