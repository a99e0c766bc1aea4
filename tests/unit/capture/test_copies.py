"""Copies of a request's objects: scopes, requests, applications."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from tests.support.asgi import Server, make_capture

from asgi_audit import AuditMiddleware, annotate
from asgi_audit.capture.middleware import live_captures

START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"served"}


def drive(capture: Any, server: Server) -> None:
    async def run() -> None:
        await capture(server.scope, server.receive, server.send)

    asyncio.run(run())


def test_scope_is_copied_deeply_and_is_still_of_its_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for copied in (copy.deepcopy(scope), copy.copy(scope), dict(scope)):
            assert copied == scope
            assert annotate(copied, principal="alice")
        await send(START)
        await send(END)

    capture, recorder = make_capture(app)
    drive(capture, Server())
    assert recorder.sealed[0].principal == "alice"
    assert not recorder.counts


def test_kept_scope_is_copied_and_pickled_when_its_request_is_over() -> None:
    kept: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.append(scope)
        kept.append(pickle.loads(pickle.dumps(scope)))
        await send(START)
        await send(END)

    capture, recorder = make_capture(app)
    drive(capture, Server())
    kept.append(pickle.loads(pickle.dumps(copy.deepcopy(kept[0]))))
    for unpickled in kept[1:]:
        # It becomes text, because the process that unpickles it may not have this package.
        assert unpickled["asgi_audit"] == recorder.sealed[0].request_id
        assert unpickled | {"asgi_audit": None} == kept[0] | {"asgi_audit": None}
        assert not annotate(unpickled, principal="alice")
        drive(capture, Server(**unpickled))  # an exchange of its own, when the copy is served
    assert len(recorder.sealed) == 3


def test_request_with_its_channels_is_copied_deeply() -> None:
    """Test clients pass functions as channels, which are copied; their replacements are copied, too."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = copy.deepcopy(Request(scope, receive, send))
        assert await request.body() == b"sent"
        await PlainTextResponse("served")(request.scope, receive, send)

    capture, recorder = make_capture(app)
    drive(capture, Server([b"sent"]))
    assert recorder.sealed[0].request_body.data() == b"sent"


def test_scope_with_its_application_is_copied_deeply() -> None:
    """Frameworks put the application into the scope, and with it the stack of middleware."""

    class Framework:
        def __init__(self) -> None:
            self.stack = AuditMiddleware(self.serve, transport="memory://")
            self.copies: list[Any] = []

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope["app"] = self
            await self.stack(scope, receive, send)

        async def serve(self, scope: Any, receive: Any, send: Any) -> None:
            copied = copy.deepcopy(scope)["app"]
            self.copies.append(copied)
            await send(START)
            await send(END)

    app = Framework()
    drive(app, Server())
    (copied,) = app.copies
    assert copied is not app
    drive(copied, Server())
    assert [len(made.copies) for made in (app, copied)] == [1, 1]


def test_copy_of_a_wrapped_application_is_an_application_of_its_own() -> None:
    class App:
        calls = 0

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            self.calls += 1
            await send(START)
            await send(END)

    inner = App()
    middleware = AuditMiddleware(inner, transport="memory://")
    copied = copy.deepcopy(middleware)
    assert isinstance(copied, AuditMiddleware)
    assert copied.recorder is middleware.recorder
    assert copied in live_captures()
    drive(copied, Server())
    assert (inner.calls, copied.calls) == (0, 1)
