"""A recorder in memory and a server as a function, for tests of capture."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from asgi_audit.capture.middleware import Capture
from asgi_audit.exchange.draft import Draft
from asgi_audit.exchange.recorder import Begun
from asgi_audit.exchange.sealed import Exchange, SealedExchange, Wake, exchange_of
from asgi_audit.settings import make_settings

App = Callable[..., Awaitable[None]]


class ListRecorder:
    """Keeps sealed exchanges in a list. `wakes`: None leaves waiters waiting; True or False wakes them from a
    thread."""

    def __init__(self, *, budget: int = 1 << 30, wakes: bool | None = True, enqueues: bool = True) -> None:
        self.sealed: list[Exchange] = []
        self.held: list[int] = []  # bytes of the budget, by exchange
        self.open_now: set[int] = set()
        self.begun = 0
        self.opened: list[float] = []
        self.flushed: list[tuple[float, bool]] = []
        self.counts: dict[str, int] = {}
        self.accounts: list[str] = []  # in the order of the calls
        self.budget = budget
        self.wakes = wakes
        self.enqueues = enqueues
        self.unwaited_count = 0
        self.waiting: list[Wake] = []
        self.wake_threads: list[threading.Thread] = []
        self.log: list[str] = []  # shared with a Server, to compare the order of events

    is_crowded = False
    is_open = False

    def open(self, wait_seconds: float) -> None:
        self.opened.append(wait_seconds)

    def begin(self) -> Begun:
        self.begun += 1
        self.open_now.add(self.begun)
        return self.begun, time.perf_counter_ns(), time.time_ns()

    def reserve(self, draft: Draft, size: int) -> bool:
        assert draft.ticket in self.open_now
        if size > self.budget:
            return False
        self.budget -= size
        draft.held += size
        return True

    def build(self, exchange: Exchange, shed: int) -> bytes:
        raise NotImplementedError

    def seal(
        self,
        draft: Draft,
        outcome: str,
        route: Any,
        endpoint: Any,
        principal: str | None,
        notes: dict[str, Any] | None,
        wake: Wake | None = None,
    ) -> bool:
        assert draft.ticket in self.open_now, "sealed twice"
        self.open_now.remove(draft.ticket)
        self.log.append("sealed")
        if draft.detail.excluded:
            self.count("excluded")
            return False
        sequence, ended_ns = len(self.sealed) + 1, time.perf_counter_ns()
        sealed = SealedExchange(sequence, ended_ns, draft, outcome, route, endpoint, principal, notes, self, wake)
        self.sealed.append(exchange_of(sealed))
        self.held.append(draft.held)
        if not self.enqueues:
            return False
        if wake is not None:
            self.waiting.append(wake)
            if self.wakes is not None:
                thread = threading.Thread(target=self._wake, args=(wake, self.wakes))
                self.wake_threads.append(thread)
                thread.start()
        return True

    def _wake(self, wake: Wake, answer: bool) -> None:
        time.sleep(0.01)  # simulates writing to the journal
        self.log.append("durable")
        wake(answer)

    def learn_account(self, draft: Draft, account_id: str) -> None:
        self.accounts.append(account_id)

    def unwaited(self) -> None:
        self.unwaited_count += 1

    def flush(self, timeout_seconds: float, *, close: bool = False) -> bool:
        self.flushed.append((timeout_seconds, close))
        return True

    def count(self, name: str, amount: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + amount

    def stats(self) -> dict[str, int]:
        return dict(self.counts)


class Server:
    """The server's side of one request: sends `body` in chunks, then waits (after `leaves_after` messages:
    disconnect)."""

    def __init__(
        self,
        body: Sequence[bytes] = (b"",),
        *,
        leaves_after: int | None = None,
        send_raises: tuple[int, BaseException] | None = None,
        log: list[str] | None = None,
        **scope: Any,
    ) -> None:
        self.chunks = list(body)
        self.leaves_after = leaves_after
        self.send_raises = send_raises
        self.sent: list[Any] = []
        self.log = log if log is not None else []
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"testserver")],
            "client": ("127.0.0.1", 1234),
            "server": ("testserver", 80),
            **scope,
        }
        self._left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self.leaves_after is not None and len(self.sent) >= self.leaves_after:
            return {"type": "http.disconnect"}
        if self.chunks:
            chunk = self.chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self.chunks)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self.send_raises is not None and len(self.sent) == self.send_raises[0]:
            raise self.send_raises[1]
        self.sent.append(message)
        self.log.append(message["type"].removeprefix("http.response."))
        final = message["type"] == "http.response.body" and not message.get("more_body", False)
        if final or len(self.sent) == self.leaves_after:
            self._left.set()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.sent if m["type"] == "http.response.body")


def make_capture(app: App, recorder: ListRecorder | None = None, **settings: Any) -> tuple[Capture, ListRecorder]:
    recorder = recorder or ListRecorder()
    return Capture(app, make_settings({}, **settings), recorder), recorder


def exchange_refused(message: Any, scope: dict[str, Any], **settings: Any) -> tuple[list[Any], ListRecorder]:
    """The application receives `message` and sends it, and the server raises ValueError, which must reach the server
    again. Returns what the application received and what the server was sent."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await receive())
        await send(message)

    async def receive() -> Any:
        return message

    async def send(sent: Any) -> None:
        seen.append(sent)
        raise ValueError("refused by the server")

    capture, recorder = make_capture(app, **settings)
    with pytest.raises(ValueError, match="refused by the server"):
        asyncio.run(capture(scope, receive, send))
    return seen, recorder


def serve_once(
    app: App,
    *,
    recorder: ListRecorder | None = None,
    body: Sequence[bytes] = (b"",),
    leaves_after: int | None = None,
    send_raises: tuple[int, BaseException] | None = None,
    settings: dict[str, Any] | None = None,
    raises: type[BaseException] | None = None,
    **scope: Any,
) -> tuple[Server, Exchange, ListRecorder]:
    """One request through the middleware on a loop of its own; returns its one exchange. `raises`: the expected
    exception."""
    capture, recorder = make_capture(app, recorder, **(settings or {}))
    server: Server | None = None

    async def run() -> None:
        nonlocal server
        server = Server(body, leaves_after=leaves_after, send_raises=send_raises, log=recorder.log, **scope)
        try:
            await capture(server.scope, server.receive, server.send)
        except BaseException as error:
            if raises is None or type(error) is not raises:
                raise
        else:
            assert raises is None, f"{raises} was expected"

    asyncio.run(run())
    for thread in recorder.wake_threads:
        thread.join()
    assert server is not None
    assert not recorder.open_now, "an exchange was never sealed"
    assert not recorder.counts.get("internal_errors"), "an error of ours"
    (exchange,) = recorder.sealed
    return server, exchange, recorder
