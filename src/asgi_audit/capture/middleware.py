"""The middleware: pure ASGI, one `HttpCapture` for each HTTP request; lifespan is observed, all else passes through.

An error of the middleware becomes the counter `internal_errors`; exceptions of the application pass unchanged. Cost: a
third of what a small Starlette application takes for the same request (`python -m tests.bench --only path`). Memory: at
most `body_bytes_max` of each body, copied or sliced. The recorder opens its journal at lifespan startup or, in an OS
process without one (a forked child), at the first request. It is flushed before the server learns that the application
has shut down.
"""

from __future__ import annotations

import copy
import re
import weakref
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from ..exchange.draft import Draft, Headers
from ..exchange.recorder import RecorderBase
from ..forking import Step, after_fork_in_child
from ..policy.decision import decide
from ..record.ids import new_request_id
from ..settings import Settings
from .asgi import ASGIApp, Message, Receive, Scope, Send, as_asgi3
from .config import CaptureConfig, config_of
from .handle import SCOPE_KEY, RequestHandle, current_handle
from .http import HttpCapture
from .outside import carry_request_id, layers_outside, warn_of_layers
from .reading import ReadHeaders, Reading, all_tuples
from .waiter import off_loop

__all__ = ["ASGIApp", "Capture", "Message", "Receive", "Scope", "Send", "live_captures"]

OPEN_SECONDS_STARTUP = 1.0
OPEN_SECONDS_FIRST_REQUEST = 0.05
CLOSE_SECONDS = 2.0

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_live: weakref.WeakSet[Capture] = weakref.WeakSet()
_SCOPE = itemgetter("method", "path", "raw_path", "query_string", "root_path", "http_version", "scheme", "client")
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


after_fork_in_child(Step.CAPTURE, _after_fork)


class Capture:
    """`app` with its HTTP exchanges recorded by `recorder`. WebSocket and unknown scopes pass through; without a
    recorder everything does.

    `AuditMiddleware` inherits from it: wrapping it would cost another coroutine for each request."""

    def __init__(self, app: ASGIApp, settings: Settings, recorder: RecorderBase | None) -> None:
        self.app = as_asgi3(app)
        self.settings = settings
        self._config: CaptureConfig | None = None
        self._looked = False
        if recorder is not None:
            self._config = config_of(settings, recorder, decide(settings))
            _live.add(self)

    @property
    def recorder(self) -> RecorderBase | None:
        return self._config.recorder if self._config is not None else None

    @recorder.setter
    def recorder(self, recorder: RecorderBase) -> None:
        if self._config is not None:
            self._config.recorder = recorder
            if self._config.crowded is not None:
                self._config.crowded.recorder = recorder

    def __deepcopy__(self, memo: dict[int, Any]) -> Capture:
        """A copy around a copy of the application, with the same recorder."""
        made = copy.copy(self)
        memo[id(self)] = made
        made.app = copy.deepcopy(self.app, memo)
        if made._config is not None:
            _live.add(made)
        return made

    # Any: the frameworks' own types for these three are not compatible with each other.
    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        config = self._config
        try:
            kind = scope["type"]
        except Exception:
            kind = None  # let the application decide what it is
        if kind != "http" or config is None:
            if kind == "lifespan" and config is not None:
                self._look_outside(config, scope)
                return await _lifespan(self.app, config, scope, receive, send)
            return await self.app(scope, receive, send)
        try:
            capture = None if SCOPE_KEY in scope and _is_audited(scope) else _begin(config, scope, receive, send)
        except Exception:
            capture = None
            config.internal_error("begin")
        if capture is None:
            return await self.app(scope, receive, send)
        handle = capture.handle
        token = current_handle.set(handle)
        try:
            if config.opened != _forks:
                self._look_outside(config, scope)
                # When the task is cancelled in here, the application's first await raises the cancellation.
                await _open(config, OPEN_SECONDS_FIRST_REQUEST)
            answer = await self.app(scope, capture.receive, capture.send)
        except BaseException as error:
            if handle.draft is not None:
                await capture.raised(error)
            raise
        else:
            if handle.draft is not None:
                await capture.returned()
            return answer
        finally:
            try:
                current_handle.reset(token)
            except ValueError:
                pass  # the coroutine was continued in another context than it began in

    def _look_outside(self, config: CaptureConfig, scope: Scope) -> None:
        """Look for layers outside of this one, once, at the first call: see `outside`."""
        if self._looked:
            return
        self._looked = True
        try:
            layers = layers_outside(self, scope)
            warn_of_layers(layers, scope)
            if config.header_out is not None:
                carry_request_id(layers, config.header_out.decode())
        except Exception:
            config.internal_error("look outside")


def _is_audited(scope: Scope) -> bool:
    """Whether an AuditMiddleware outside of this one makes a record of the request."""
    handle = scope[SCOPE_KEY]
    return isinstance(handle, RequestHandle) and handle.draft is not None and not handle.draft.detail.excluded


def _begin(config: CaptureConfig, scope: Scope, receive: Receive, send: Send) -> HttpCapture:
    # Keep this short, with the common case first: after the application has run, this code starts with cold processor
    # caches (39 µs for 66,000 instructions, where the application's own 346,000 took 94).
    try:
        given_scope = _SCOPE(scope)
    except KeyError:  # the server leaves out keys that ASGI calls optional
        given_scope = _SCOPE({**_OPTIONAL, **scope})
    method, path, raw_path, query_string, root_path, http_version, scheme, client = given_scope
    if type(client) is not tuple and client is not None:
        client = _read_client(scope, client)
    received = scope.get("headers")
    header_in = config.header_in
    given = headers = None
    if type(received) is list and all_tuples(map(type, received)):
        try:
            for name, value in received:
                if name == header_in:
                    given = value
            headers = received.copy()
        except ValueError:
            pass  # not pairs
    if headers is None or (given is not None and type(given) is not bytes):
        headers, given = _read_headers(scope, received, header_in)
    if given is not None and _REQUEST_ID.fullmatch(given) is not None:
        request_id = given.decode("ascii")
    else:
        request_id = new_request_id()
    recorder = config.recorder
    handle = scope[SCOPE_KEY] = RequestHandle(None, recorder, request_id)
    capture = HttpCapture(config, handle, scope, False, receive, send)
    # Last, after everything that may fail: what has begun must be sealed.
    ticket, began_ns, started_ns = recorder.begin()
    handle.draft = Draft(
        ticket, began_ns, started_ns, method, path, raw_path, query_string, root_path, http_version, scheme, client,
        headers, request_id, config.detail,
    )  # fmt: skip
    if recorder.is_crowded and config.crowded is not None:
        capture.config = config.crowded
    return capture


def _read_headers(scope: Scope, received: Any, name: bytes) -> tuple[Headers, bytes | None]:
    """(the headers as pairs, the value of the one with this name), for a server that does not send a list of tuples."""
    if received is None:
        return [], None
    scope["headers"] = received  # if the scope is read-only, this raises before anything is read
    read = ReadHeaders(received)
    scope["headers"] = read.replacement
    return read.pairs, read.value(name)


def _read_client(scope: Scope, client: Any) -> Any:
    """The peer's address and port. ASGI allows any iterable of two."""
    if isinstance(client, (list, str, Mapping)):
        return client if isinstance(client, list) else None
    scope["client"] = client  # as above
    reading = Reading(client, 3)
    scope["client"] = reading.replacement()
    return reading.items if reading.is_whole else None


async def _open(config: CaptureConfig, seconds: float) -> None:
    """Wait at most `seconds` for the recorder's journal to be open. Does not yield to the loop when it is open
    already."""
    config.opened = _forks
    try:
        if config.recorder.is_open:
            return
        await off_loop(lambda: config.recorder.open(seconds), seconds)
    except Exception:  # waiting is not possible in this loop: the recorder opens its journal by itself
        config.internal_error("open")


async def _lifespan(app: ASGIApp, config: CaptureConfig, scope: Scope, receive: Receive, send: Send) -> Any:
    stopping = closed = False

    async def watched_receive() -> Message:
        nonlocal stopping
        message = await receive()
        kind = _type_of(message)
        if kind == "lifespan.startup":
            await _open(config, OPEN_SECONDS_STARTUP)
        elif kind == "lifespan.shutdown":
            stopping = True
        return message

    async def watched_send(message: Message) -> None:
        kind = _type_of(message)
        if kind == "lifespan.shutdown.complete" or kind == "lifespan.shutdown.failed":
            await close()
        await send(message)

    async def close() -> None:
        nonlocal closed
        if not closed:
            closed = True
            try:
                await off_loop(lambda: config.recorder.flush(CLOSE_SECONDS, close=True), CLOSE_SECONDS)
            except Exception:
                config.internal_error("close")

    answer = await app(scope, watched_receive, watched_send)
    if stopping:  # the application returned without sending lifespan.shutdown.complete
        await close()
    return answer


def _type_of(message: Any) -> Any:
    """The type of a message; None for an object that is no message, which its reader will refuse."""
    try:
        return message["type"]
    except Exception:
        return None


def live_captures() -> list[Capture]:
    """All captures of this process that are in use. `testing` gives each another recorder during a test."""
    return list(_live)
