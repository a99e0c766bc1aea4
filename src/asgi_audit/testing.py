"""For tests of applications: the records of a test in a list, and a proof that auditing changes nothing.

`audit_records` is a pytest fixture that the package brings along (no import needed). While a test uses it, every
AuditMiddleware of this process records into memory, whatever transport its settings name: those made before the test
too. Nothing touches a disk.

    def test_login_is_audited(client, audit_records):
        client.post("/login", json={"user": "alice", "password": "s3cret"})
        (record,) = audit_records.wait(1)
        assert record["response"]["statusCode"] == 401

`assert_transparent(app)` runs an application with and without the middleware and compares both streams, message by
message.

pytest loads this module in every run, so it imports neither a framework nor the rooms of the package before they are
used.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from .recording.base import RecorderBase
    from .settings import Settings

__all__ = ["AuditRecords", "ClientRequest", "assert_transparent", "audit_records"]

ASGIApp = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[Any]]

_MEMORY_BYTES = 256 << 20
_FLUSH_SECONDS = 5.0


class AuditRecords(Sequence[dict[str, Any]]):
    """The records of a test, decoded, in the order in which their exchanges were sealed.

    Every look first waits until what is sealed by now is written, so with an in-process client (TestClient, httpx's
    ASGITransport) a finished request is there. With a server in another thread use `wait`."""

    def __init__(self) -> None:
        from .transport.memory import MemoryJournal

        self._journal = MemoryJournal(bytes_max=_MEMORY_BYTES)
        self._source = self._journal.source()
        self._source.open({})
        self._transport = f"memory://{uuid.uuid4().hex}"
        self._recorders: list[RecorderBase] = []
        self._records: list[dict[str, Any]] = []

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, at: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return self._read()[at]

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        return f"<AuditRecords: {self._summary()}>"

    def wait(self, count: int = 1, timeout: float = 5.0) -> list[dict[str, Any]]:
        """All records, as soon as there are at least `count`. AssertionError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            records = self._read(max(0.0, deadline - time.monotonic()))
            if len(records) >= count:
                return list(records)
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{count} audit records were expected within {timeout:g} s, there are {self._summary()}"
                )
            time.sleep(0.002)

    def clear(self) -> None:
        """Forget the records so far."""
        self._read()
        self._records.clear()

    def stats(self) -> dict[str, int]:
        """The recorder's counters since the test began; {} before the first middleware."""
        return self._recorders[0].stats() if self._recorders else {}

    @contextlib.contextmanager
    def capturing(self) -> Iterator[AuditRecords]:
        """Every middleware of this process records here as long as this lasts."""
        from .capture.middleware import live_captures
        from .wiring import application

        original = application.recorder_of
        before = {capture: capture.recorder for capture in live_captures() if capture.recorder is not None}
        for capture in before:
            capture.recorder = self._recorder_of(capture.settings)
        application.recorder_of = self._recorder_of
        try:
            yield self
        finally:
            application.recorder_of = original
            for capture in live_captures():  # one that was made meanwhile may serve the next test without the fixture
                capture.recorder = before[capture] if capture in before else original(capture.settings)
            self._read()
            for recorder in self._recorders[:1]:  # they are faces of one
                recorder.stop()  # type: ignore[attr-defined]

    def _recorder_of(self, settings: Settings) -> RecorderBase:
        from .recording.recorder import shared_recorder

        default = type(settings)()
        # What two middlewares over one journal must agree on, in production two journals: here they share one.
        mine = dataclasses.replace(
            settings,
            transport=self._transport,
            capture_bytes_max=default.capture_bytes_max,
            journal_bytes_max=default.journal_bytes_max,
        )
        recorder = shared_recorder(mine, self._journal.writer)
        self._recorders.append(recorder)
        return recorder

    def _read(self, timeout: float = _FLUSH_SECONDS) -> list[dict[str, Any]]:
        import orjson

        from .transport.base import Kind

        if self._recorders:
            self._recorders[0].flush(timeout)
        while True:
            batch = self._source.poll(1000, 0.0)
            self._records += [orjson.loads(m.payload) for m in batch.messages if m.kind == Kind.RECORD]
            self._source.commit(batch.positions)
            if not batch.messages:
                return self._records

    def _summary(self) -> str:
        lines = [
            f"{r['request']['method']} {r['request']['path']} {r['response']['statusCode']}" for r in self._records
        ]
        return f"{len(lines)}" + (f" ({', '.join(lines[-10:])})" if lines else "")


try:
    import pytest
except ImportError:  # assert_transparent works without it
    pass
else:

    @pytest.fixture
    def audit_records() -> Iterator[AuditRecords]:
        """The audit records of this test, from every AuditMiddleware of this process; see `asgi_audit.testing`."""
        with AuditRecords().capturing() as records:
            yield records


@dataclass(frozen=True, kw_only=True)
class ClientRequest:
    """What one client does. `body` comes in these chunks; after `leaves_after` messages of the application the client
    is gone."""

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
    """AssertionError when `app` or its server could notice the middleware, for any of `requests` (a small table by
    default).

    Compared are: the scope and the context variables that the application sees, every message in each direction, in
    order, the order of both directions among each other (unless `interleaving` is False: `durable` delivery waits in
    between, while other tasks of the application go on), that bodies are the same objects, that no message of the
    application was changed, and what it raised. The one difference allowed is the header `request_id_header`, none when
    it is None.

    `wrap` makes the middleware, by default AuditMiddleware into memory. The application is run twice for each request,
    so it must answer the same both times. Also runs its lifespan unless told not to. Callable from synchronous and
    asynchronous tests."""
    if wrap is None:

        def wrap(inner: ASGIApp) -> ASGIApp:
            from .wiring.application import AuditMiddleware

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
        audited = _on_a_loop_of_its_own(run, wrapped, timeout_seconds)
        _compare(name, bare, _without_header(audited, bare, allowed), interleaving)


class _Probe:
    """Stands between middleware and application and writes down what passes there, in the same log as the server."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.log: list[Any] = []
        self.sent: list[tuple[Any, dict[str, Any]]] = []  # a message of the application, and how it was

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> Any:
        log = self.log
        log.append(("application: scope", {k: v for k, v in scope.items() if k != "asgi_audit"}))
        log.append(
            ("application: context", sorted(v.name for v in contextvars.copy_context() if v.name != "asgi_audit_slot"))
        )

        async def probed_receive() -> Any:
            log.append(("application: receives",))
            message = await receive()
            log.append(("application: received", _kept(message)))
            return message

        async def probed_send(message: Any) -> None:
            kept = _kept(message)
            self.sent.append((message, kept))
            log.append(("application: sends", kept))
            try:
                await send(message)
            except BaseException as error:
                log.append(("application: send raised", type(error), str(error)))
                raise
            log.append(("application: sent",))

        try:
            return await self.app(scope, probed_receive, probed_send)
        finally:
            log.append(("application: ended",))


def _kept(message: Any) -> dict[str, Any]:
    kept = dict(message)
    if isinstance(kept.get("headers"), (list, tuple)):
        kept["headers"] = list(kept["headers"])
    return kept


async def _run(
    app: ASGIApp,
    probe: _Probe,
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    on_send: Callable[[Any], None],
) -> list[Any]:
    """One call; the log of both ends."""
    log: list[Any] = []
    probe.log = log
    probe.sent = []

    async def server_receive() -> Any:
        log.append(("server: asked",))
        message = await receive()
        log.append(("server: gives", _kept(message)))
        return message

    async def server_send(message: Any) -> None:
        given, kept = probe.sent[-1]
        same = message is given
        if "body" in kept and message.get("body") is not kept["body"]:
            log.append(("server: the body is another object",))
        log.append(("server: takes", _kept(message), same))
        on_send(message)

    try:
        log.append(("server: returned", await app(scope, server_receive, server_send)))
    except BaseException as error:
        if asyncio.current_task().cancelling():  # type: ignore[union-attr]
            raise  # our own timeout
        chain = (type(error.__cause__), type(error.__context__))
        log.append(("server: raised", type(error), str(error), chain))
    for message, kept in probe.sent:
        if isinstance(message.get("headers"), (list, tuple, type(None))) and _kept(message) != kept:
            log.append(("a message of the application was changed", kept, _kept(message)))
    log.append(("server: scope", {k: v for k, v in scope.items() if k != "asgi_audit"}))
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
    """In a thread, so that an asynchronous test can call it too."""
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
    if not result or isinstance(result[0], TimeoutError):  # nothing: it never gave its loop a chance to stop it
        raise AssertionError(
            f"the application did not end within {timeout_seconds:g} s; an endless one needs requests with leaves_after"
        )
    if isinstance(result[0], BaseException):
        raise result[0]
    log: list[Any] = result[0]
    return log


def _without_header(log: list[Any], bare: list[Any], name: bytes | None) -> list[Any]:
    """The log as if the request id had not been added to a copied start message."""
    own = any(
        entry[0] == "server: takes" and any(n.lower() == name for n, _ in entry[1].get("headers") or ())
        for entry in bare
    )
    if name is None or own:
        return log
    cleaned = []
    for entry in log:
        if entry[0] == "server: takes" and entry[1].get("type") == "http.response.start" and not entry[2]:
            headers = entry[1].get("headers") or []
            if headers and headers[-1][0] == name:
                message = {**entry[1], "headers": headers[:-1]}
                entry = (entry[0], message, True)
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
    """Equal; a start message without headers equals one with an empty list (the header was put on a list of its
    own)."""
    if a == b:
        return True
    if isinstance(a, tuple) and isinstance(b, tuple) and a[0] == b[0] == "server: takes":
        return {"headers": [], **a[1]} == {"headers": [], **b[1]} and a[2:] == b[2:] and not b[1].get("headers")
    return False
