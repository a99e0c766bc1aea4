"""A proof that auditing changes nothing: `assert_transparent` runs an application with and without the middleware and
compares what passes between it and its server, message by message.

Method: the server's side and the application's side write everything that they see into one log, by value (`snapshot`).
The logs of the two runs are compared entry by entry."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from .snapshot import SCOPE_KEY, plain_text, read_headers, snapshot

__all__ = ["ClientRequest", "assert_transparent"]

ASGIApp = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class ClientRequest:
    """What one client does. `body`: the chunks that it sends. `leaves_after`: the number of messages of the application
    after which it disconnects."""

    method: str = "GET"
    path: str = "/"
    query_string: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ((b"host", b"testserver"),)
    body: Sequence[bytes] = (b"",)
    leaves_after: int | None = None

    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query_string,
            "root_path": "",
            "headers": list(self.headers),
            "client": ("127.0.0.1", 50_000),
            "server": ("testserver", 80),
            "extensions": {
                "http.response.pathsend": {},
                "http.response.trailers": {},
                "http.response.zerocopysend": {},
            },
            "state": {},
        }


REQUESTS: tuple[ClientRequest, ...] = (
    ClientRequest(),
    ClientRequest(method="HEAD"),
    ClientRequest(
        method="POST",
        headers=((b"host", b"testserver"), (b"content-type", b"application/json"), (b"content-length", b"15")),
        body=(b'{"answer": 42}\n',),
    ),
    ClientRequest(method="POST", path="/upload", query_string=b"a=1&a=2", body=(b"x" * 70_000, b"", b"yz", b"")),
    ClientRequest(leaves_after=0),
    ClientRequest(leaves_after=1),
)


def assert_transparent(
    app: ASGIApp,
    requests: Sequence[ClientRequest] | None = None,
    *,
    wrap: Callable[[ASGIApp], ASGIApp] | None = None,
    request_id_header: str | None = "x-request-id",
    lifespan: bool = True,
    interleaving: bool = True,
    timeout_seconds: float = 10.0,
) -> None:
    """Raises AssertionError when `app` or its server could notice the middleware, for any of `requests` (by default a
    small table).

    It compares: the scope and the context variables that the application sees; every message in each direction, in
    order; the order of both directions among each other (unless `interleaving` is False: with `durable` delivery other
    tasks of the application may run in between); that bodies are the same objects; that no message of the application
    was changed; and what the application raised. The only difference allowed is the header `request_id_header`; with
    None there must be none.

    `wrap` makes the middleware, by default an AuditMiddleware that records into memory. The application runs twice for
    each request and must respond the same both times. Its lifespan is run, too, unless that is turned off. May be
    called from synchronous and asynchronous tests."""
    if wrap is None:

        def wrap(inner: ASGIApp) -> ASGIApp:
            from ..wiring.application import AuditMiddleware

            return AuditMiddleware(inner, transport="memory://", request_id_header=request_id_header)

    probe = _Probe(app)
    wrapped = wrap(probe)
    allowed = request_id_header.encode("ascii").lower() if request_id_header else None
    runs: list[tuple[str, Callable[[ASGIApp], Awaitable[list[Any]]]]] = []
    if lifespan:
        runs.append(("lifespan", lambda a: _run_lifespan(a, probe)))
    for request in requests if requests is not None else REQUESTS:
        runs.append((f"{request}", lambda a, r=request: _run_request(a, probe, r)))  # type: ignore[misc]
    for name, run in runs:
        bare = _on_a_loop_of_its_own(run, probe, timeout_seconds)
        inner_id = probe.request_id
        audited = _on_a_loop_of_its_own(run, wrapped, timeout_seconds)
        if inner_id is not None:  # the application contains a middleware itself: each run has another id
            bare, audited = _without_id(bare, inner_id), _without_id(audited, probe.request_id)
        elif allowed is not None and not _sets_header(bare, allowed):
            audited = _without_added_header(audited, allowed)
        _compare(name, bare, audited, interleaving)


class _Probe:
    """Placed between the middleware and the application; writes what it sees into the same log as the server's side."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.log: list[Any] = []
        self.sent: list[tuple[Any, Any]] = []  # a message of the application, and a copy of its state then
        self.request_id: bytes | None = None  # of the last run: the request id that a middleware added

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> Any:
        log = self.log
        log.append(("application: scope", snapshot(scope)))
        names = {v.name for v in contextvars.copy_context()} - {"asgi_audit_request"}
        log.append(("application: context", sorted(names)))

        async def probed_receive() -> Any:
            log.append(("application: receives",))
            message = await receive()
            log.append(("application: received", snapshot(message)))
            return message

        async def probed_send(message: Any) -> None:
            kept = snapshot(message)
            self.sent.append((message, kept))
            log.append(("application: sends", kept))
            try:
                await send(message)
            except BaseException as error:
                log.append(("application: send raised", type(error), plain_text(str(error))))
                raise
            log.append(("application: sent",))

        try:
            return await self.app(scope, probed_receive, probed_send)
        finally:
            log.append(("application: ended",))


async def _run(
    app: ASGIApp,
    probe: _Probe,
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    on_send: Callable[[Any], None],
) -> list[Any]:
    """Call the application once, and return the log of both sides."""
    log: list[Any] = []
    probe.log = log
    probe.sent = []

    async def server_receive() -> Any:
        log.append(("server: asked",))
        message = await receive()
        log.append(("server: gives", snapshot(message)))
        return message

    async def server_send(message: Any) -> None:
        given = probe.sent[-1][0]
        # An object that can be read only once is replaced by another one with the same content.
        same = message is given or not hasattr(type(given.get("headers", ())), "__len__")
        if "body" in given and message.get("body") is not given["body"]:
            log.append(("server: the body is another object",))
        taken = dict(message)
        if "headers" in taken:
            taken["headers"] = read_headers(message)
        log.append(("server: takes", snapshot(taken), same))
        on_send(message)

    try:
        log.append(("server: returned", snapshot(await app(scope, server_receive, server_send))))
    except BaseException as error:
        if asyncio.current_task().cancelling():  # type: ignore[union-attr]
            raise  # our own timeout
        chain = (type(error.__cause__), type(error.__context__))
        log.append(("server: raised", type(error), plain_text(str(error)), chain))
    for message, kept in probe.sent:
        if (now := snapshot(message)) != kept:
            log.append(("a message of the application was changed", kept, now))
    log.append(("server: scope", snapshot(scope)))
    given_id = getattr(scope.get(SCOPE_KEY), "request_id", None)
    probe.request_id = given_id.encode() if given_id is not None else None
    return log


async def _run_request(app: ASGIApp, probe: _Probe, request: ClientRequest) -> list[Any]:
    chunks = list(request.body)
    left = asyncio.Event()
    count = 0
    if request.leaves_after == 0:
        left.set()

    async def receive() -> dict[str, Any]:
        if chunks:
            body = chunks.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(chunks)}
        await left.wait()
        return {"type": "http.disconnect"}

    def on_send(message: Any) -> None:
        nonlocal count
        count += 1
        final = message["type"] == "http.response.pathsend" or (
            message["type"] == "http.response.body" and not message.get("more_body", False)
        )
        if final or count == request.leaves_after:
            left.set()

    return await _run(app, probe, request.scope(), receive, on_send)


async def _run_lifespan(app: ASGIApp, probe: _Probe) -> list[Any]:
    started = asyncio.Event()
    given: list[str] = []

    async def receive() -> dict[str, Any]:
        given.append("")
        if len(given) == 1:
            return {"type": "lifespan.startup"}
        if len(given) == 2:
            await started.wait()
            return {"type": "lifespan.shutdown"}
        await asyncio.Event().wait()
        raise AssertionError

    def on_send(message: Any) -> None:
        if message["type"].startswith("lifespan.startup"):
            started.set()

    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    return await _run(app, probe, scope, receive, on_send)


def _on_a_loop_of_its_own(
    run: Callable[[ASGIApp], Awaitable[list[Any]]], app: ASGIApp, timeout_seconds: float
) -> list[Any]:
    """Run in a thread, so that asynchronous tests can call it, too."""
    result: list[Any] = []

    async def bounded() -> list[Any]:
        async with asyncio.timeout(timeout_seconds):
            return await run(app)

    def target() -> None:
        try:
            result.append(asyncio.run(bounded()))
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=target, name="asgi-audit-transparent", daemon=True)
    thread.start()
    thread.join(timeout_seconds + 5)
    if not result or isinstance(result[0], TimeoutError):  # nothing: it blocked its loop, so it could not be stopped
        raise AssertionError(
            f"the application did not end within {timeout_seconds:g} s; an endless one needs requests with leaves_after"
        )
    if isinstance(result[0], BaseException):
        raise result[0]
    log: list[Any] = result[0]
    return log


def _sets_header(log: list[Any], name: bytes) -> bool:
    return any(
        header[0].lower() == name
        for entry in log
        if entry[0] == "server: takes"
        for header in entry[1].get("headers") or ()
    )


def _without_added_header(log: list[Any], name: bytes) -> list[Any]:
    """The log without the request id on copied start messages. On the application's own message it would be a change of
    that message, so it stays there."""
    cleaned = []
    for entry in log:
        if entry[0] == "server: takes" and entry[1].get("type") == "http.response.start":
            headers = entry[1].get("headers") or []
            if headers and headers[-1][0] == name:
                entry = (entry[0], {**entry[1], "headers": headers[:-1]}, True)
        cleaned.append(entry)
    return cleaned


def _without_id(log: list[Any], request_id: bytes | None) -> list[Any]:
    """The log without the headers that contain this id, and as if no message had been copied for them."""
    cleaned = []
    for entry in log:
        if len(entry) > 1 and isinstance(entry[1], dict) and entry[1].get("type") == "http.response.start":
            headers = [header for header in entry[1].get("headers") or () if header[1:] != (request_id,)]
            entry = (entry[0], {**entry[1], "headers": headers}, *(True for _ in entry[2:]))
        cleaned.append(entry)
    return cleaned


def _compare(name: str, bare: list[Any], audited: list[Any], interleaving: bool) -> None:
    if interleaving:
        streams = [("", bare, audited)]
    else:
        streams = [
            (part, [e for e in bare if e[0].startswith(part)], [e for e in audited if e[0].startswith(part)])
            for part in ("server: takes", "application: received", "application: scope", "server: r", "a message")
        ]
    for part, without, with_audit in streams:
        for at in range(max(len(without), len(with_audit))):
            a = without[at] if at < len(without) else "nothing"
            b = with_audit[at] if at < len(with_audit) else "nothing"
            if not _same(a, b):
                where = f"{name}, step {at}" + (f" of {part!r}" if part else "")
                raise AssertionError(f"auditing shows in {where}:\n  without: {a!r:.500}\n  with:    {b!r:.500}")


def _same(a: Any, b: Any) -> bool:
    """Whether they are equal. A start message without headers equals one with an empty list: the header was added to a
    new list."""
    if a == b:
        return True
    if isinstance(a, tuple) and isinstance(b, tuple) and a[0] == b[0] == "server: takes":
        return {"headers": [], **a[1]} == {"headers": [], **b[1]} and a[2:] == b[2:] and not b[1].get("headers")
    return False
