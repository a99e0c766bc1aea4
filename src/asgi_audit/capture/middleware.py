"""The middleware: pure ASGI, one `Flow` per HTTP request; lifespan is watched, everything else passes through.

An error of ours becomes the counter `internal_errors`; the application's exceptions pass untouched. Cost: under 10 µs a
request (`python -m tests.bench.path`). Memory: at most `body_bytes_max` of each body, copied or sliced. The recorder
opens its journal at lifespan startup, or at the first request of an OS process that saw none (again after fork), and is
flushed before the server hears that the application has shut down.
"""

from __future__ import annotations

import logging
import os
import re
import weakref

from ..record.ids import new_request_id
from ..recording.base import RecorderBase
from ..settings import Settings
from .asgi import ASGIApp, Message, Receive, Scope, Send
from .exchange import Exchange
from .flow import Flow
from .identity import SCOPE_KEY, Slot, current_slot
from .policy import decide
from .waiter import off_loop

__all__ = ["ASGIApp", "Capture", "Message", "Receive", "Scope", "Send", "live_captures"]

_log = logging.getLogger("asgi_audit")

OPEN_SECONDS_STARTUP = 1.0
OPEN_SECONDS_FIRST_REQUEST = 0.05
CLOSE_SECONDS = 2.0

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_logged: list[str] = []
_live: weakref.WeakSet[Capture] = weakref.WeakSet()
_forks = 0


def _after_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_after_fork)


class Capture:
    """`app` with its HTTP exchanges recorded by `recorder`. WebSocket and unknown scopes pass through."""

    def __init__(self, app: ASGIApp, settings: Settings, recorder: RecorderBase) -> None:
        self.app = app
        self.settings = settings
        self.recorder = recorder
        self.decision = decide(settings)
        # The exchange's own default is `bodies`; whatever else is set on it costs a dict.
        self._detail = None if self.decision == ("bodies", "bodies") else self.decision
        self.durable = settings.delivery == "durable" and not self.decision.excluded
        self.wait_seconds = settings.durable_wait_seconds
        limit = settings.body_bytes_max
        self.request_limit = limit if self.decision.request == "bodies" else 0
        self.response_limit = limit if self.decision.response == "bodies" else 0
        header = settings.request_id_header
        self.header_out = header.encode("ascii") if header is not None else None
        self.header_in = self.header_out or b"x-request-id"
        _live.add(self)
        self._opened = -1  # the value of `_forks` when the recorder was opened in this OS process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http":
            if kind == "lifespan":
                await self._lifespan(scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        flow = self._begin(scope, receive, send)
        if flow is None:
            await self.app(scope, receive, send)
            return
        token = current_slot.set(flow.slot)
        try:
            await self.app(scope, flow.receive, flow.send)
        except BaseException as error:
            if flow.exchange is not None:
                await flow.raised(error)
            raise
        else:
            if flow.exchange is not None:
                await flow.returned()
        finally:
            try:
                current_slot.reset(token)
            except ValueError:
                pass  # driven from another context than it was begun in

    def _begin(self, scope: Scope, receive: Receive, send: Send) -> Flow | None:
        """None: this request is audited by an AuditMiddleware outside of this one already, or we failed."""
        try:
            slot = scope.get(SCOPE_KEY)
            if slot is not None and slot.exchange is not None:
                return None
            if self._opened != _forks:
                self._opened = _forks
                self.recorder.open(OPEN_SECONDS_FIRST_REQUEST)
            headers = list(scope["headers"])
            request_id = None
            wanted = self.header_in
            for name, value in headers:
                if name == wanted:
                    if _REQUEST_ID.fullmatch(value) is not None:
                        request_id = value.decode("ascii")
                    break
            if request_id is None:
                request_id = new_request_id()
            get = scope.get
            client = get("client")
            exchange = Exchange(
                scope["method"],
                scope["path"],
                get("raw_path"),
                get("query_string", b""),
                get("root_path", ""),
                get("http_version", "1.1"),
                get("scheme", "http"),
                client[0] if client else None,
                headers,
                request_id,
            )
            if self._detail is not None:
                exchange.detail_request, exchange.detail_response = self._detail
            slot = Slot(exchange, self.recorder, request_id)
            flow = Flow(self, exchange, slot, scope, receive, send)
            scope[SCOPE_KEY] = slot
            self.recorder.begin(exchange)
            return flow
        except Exception:
            self.internal_error("begin")
            return None

    def internal_error(self, where: str) -> None:
        """Counts; the first of a process is logged with its traceback, which names our code and shows no values."""
        try:
            self.recorder.count("internal_errors")
            if not _logged:
                _logged.append(where)
                _log.exception("asgi-audit failed at %r; the application is not affected", where)
        except Exception:
            pass

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        recorder = self.recorder
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

        await self.app(scope, watched_receive, watched_send)
        if stopping:  # an application may return instead of sending lifespan.shutdown.complete
            await close()


def live_captures() -> list[Capture]:
    """Every one of this process that is still in use: `testing` puts another recorder under each for the time of a
    test."""
    return list(_live)
