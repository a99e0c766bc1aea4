"""The middleware: pure ASGI, one `Flow` per HTTP request; lifespan is watched, everything else passes through.

An error of ours becomes the counter `internal_errors`; the application's exceptions pass untouched. Cost: a third of
what a small Starlette application takes for the same request (`python -m tests.bench --only path`). Memory: at most
`body_bytes_max` of each body, copied or sliced. The recorder opens its journal at lifespan startup, or at the first
request of an OS process that saw none (again after fork), and is flushed before the server hears that the application
has shut down.
"""

from __future__ import annotations

import copy
import os
import re
import weakref
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from ..record.ids import new_request_id
from ..recording.base import RecorderBase
from ..settings import Settings
from .asgi import ASGIApp, Message, Receive, Scope, Send
from .exchange import Draft, Headers, Parts
from .flow import Facts, Flow, facts_of
from .identity import SCOPE_KEY, Slot, current_slot
from .policy import decide
from .reading import ReadHeaders, Reading, all_tuples
from .waiter import off_loop

__all__ = ["ASGIApp", "Capture", "Message", "Receive", "Scope", "Send", "live_captures"]

OPEN_SECONDS_STARTUP = 1.0
OPEN_SECONDS_FIRST_REQUEST = 0.05
CLOSE_SECONDS = 2.0

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_live: weakref.WeakSet[Capture] = weakref.WeakSet()
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
        self._facts: Facts | None = None
        if recorder is not None:
            self._facts = facts_of(settings, recorder, decide(settings))
            _live.add(self)

    @property
    def recorder(self) -> RecorderBase | None:
        return self._facts.recorder if self._facts is not None else None

    @recorder.setter
    def recorder(self, recorder: RecorderBase) -> None:
        if self._facts is not None:
            self._facts.recorder = recorder
            if self._facts.crowded is not None:
                self._facts.crowded.recorder = recorder

    def __deepcopy__(self, memo: dict[int, Any]) -> Capture:
        """Around a copy of the application, with the same recorder."""
        made = copy.copy(self)
        memo[id(self)] = made
        made.app = copy.deepcopy(self.app, memo)
        if made._facts is not None:
            _live.add(made)
        return made

    # Any: frameworks have types of their own for these three, which are no types of each other.
    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        facts = self._facts
        try:
            kind = scope["type"]
        except Exception:
            kind = None  # the application's to say
        if kind != "http" or facts is None:
            if kind == "lifespan" and facts is not None:
                return await _lifespan(self.app, facts, scope, receive, send)
            return await self.app(scope, receive, send)
        try:
            flow = None if SCOPE_KEY in scope and _is_audited(scope) else _begin(facts, scope, receive, send)
        except Exception:
            flow = None
            facts.internal_error("begin")
        if flow is None:
            return await self.app(scope, receive, send)
        slot = flow.slot
        token = current_slot.set(slot)
        try:
            if facts.opened != _forks:
                # Registered already: cancelled here, it becomes a record.
                await _open(facts, OPEN_SECONDS_FIRST_REQUEST)
            answer = await self.app(scope, flow.receive, flow.send)
        except BaseException as error:
            if slot.draft is not None:
                await flow.raised(error)
            raise
        else:
            if slot.draft is not None:
                await flow.returned()
            return answer
        finally:
            try:
                current_slot.reset(token)
            except ValueError:
                pass  # driven from another context than it was begun in


def _is_audited(scope: Scope) -> bool:
    """By an AuditMiddleware outside of this one, which will make a record of it."""
    slot = scope[SCOPE_KEY]
    return isinstance(slot, Slot) and slot.draft is not None and not slot.draft.detail.excluded


def _begin(facts: Facts, scope: Scope, receive: Receive, send: Send) -> Flow:
    # Few steps, and the common case first: between two requests the application empties the processor's caches, and
    # then a request of 66,000 instructions of ours took 39 µs where its own 346,000 took 94.
    parts: Parts
    try:
        parts = _PARTS(scope)
    except KeyError:  # a server that leaves out what ASGI calls optional
        parts = _PARTS({**_OPTIONAL, **scope})
    if type(parts[7]) is not tuple and parts[7] is not None:
        parts = (*parts[:7], _read_client(scope, parts[7]))
    received = scope.get("headers")
    header_in = facts.header_in
    given = headers = None
    if type(received) is list and all_tuples(map(type, received)):
        try:
            for name, value in received:
                if name == header_in:
                    given = value
            headers = received.copy()
        except ValueError:
            pass  # no pairs
    if headers is None or (given is not None and type(given) is not bytes):
        headers, given = _read_headers(scope, received, header_in)
    if given is not None and _REQUEST_ID.fullmatch(given) is not None:
        request_id = given.decode("ascii")
    else:
        request_id = new_request_id()
    recorder = facts.recorder
    slot = scope[SCOPE_KEY] = Slot(None, recorder, request_id)
    flow = Flow(facts, slot, scope, receive, send)
    # Last, after all that may fail: what is begun is sealed.
    slot.draft = Draft(recorder.begin(), parts, headers, request_id, facts.detail)
    if recorder.is_crowded and facts.crowded is not None:
        flow.facts = facts.crowded
    return flow


def _read_headers(scope: Scope, received: Any, name: bytes) -> tuple[Headers, bytes | None]:
    """Headers of a server that does not send a list of tuples: as pairs, and the value of the one of this name."""
    if received is None:
        return [], None
    scope["headers"] = received  # raises before anything is read where the scope cannot be written to
    read = ReadHeaders(received)
    scope["headers"] = read.stand_in
    return read.pairs, read.value(name)


def _read_client(scope: Scope, client: Any) -> Any:
    """The peer's address and port, which ASGI says is any iterable of two."""
    if isinstance(client, (list, str, Mapping)):
        return client if isinstance(client, list) else None
    scope["client"] = client  # as above
    reading = Reading(client, 3)
    scope["client"] = reading.stand_in()
    return reading.items if reading.is_whole else None


async def _open(facts: Facts, seconds: float) -> None:
    """Wait for the recorder's journal at most so long; the loop is not given away when it is open."""
    facts.opened = _forks
    try:
        if facts.recorder.is_open:
            return
        await off_loop(lambda: facts.recorder.open(seconds), seconds)
    except Exception:  # a loop that cannot wait: the recorder opens by itself
        facts.internal_error("open")


async def _lifespan(app: ASGIApp, facts: Facts, scope: Scope, receive: Receive, send: Send) -> Any:
    stopping = closed = False

    async def watched_receive() -> Message:
        nonlocal stopping
        message = await receive()
        kind = message.get("type")
        if kind == "lifespan.startup":
            await _open(facts, OPEN_SECONDS_STARTUP)
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
            try:
                await off_loop(lambda: facts.recorder.flush(CLOSE_SECONDS, close=True), CLOSE_SECONDS)
            except Exception:
                facts.internal_error("close")

    answer = await app(scope, watched_receive, watched_send)
    if stopping:  # an application may return instead of sending lifespan.shutdown.complete
        await close()
    return answer


def live_captures() -> list[Capture]:
    """Every one of this process that is still in use: `testing` puts another recorder under each for the time of a
    test."""
    return list(_live)
