"""`install` puts the middleware outside of all other layers of a Starlette or FastAPI application."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tests.support.asgi import ListRecorder, Server

import asgi_audit
from asgi_audit.capture.install import install_on
from asgi_audit.capture.middleware import Capture
from asgi_audit.errors import ConfigError
from asgi_audit.settings import make_settings


async def fails(request: Any) -> None:
    raise ValueError("inside")


async def works(request: Any) -> PlainTextResponse:
    return PlainTextResponse("ok")


def call(app: Any, path: str) -> Server:
    server = Server(path=path)

    async def run() -> None:
        try:
            await app(server.scope, server.receive, server.send)
        except ValueError:
            pass  # ServerErrorMiddleware sends a 500, then raises again

    asyncio.run(run())
    return server


@pytest.mark.parametrize("kind", [Starlette, FastAPI])
@pytest.mark.parametrize("started", [False, True])
def test_answer_of_the_error_handler_is_recorded_when_installed(kind: Any, started: bool) -> None:
    app = kind(routes=[Route("/fails", fails), Route("/works", works)])
    recorder = ListRecorder()
    if started:
        call(app, "/works")
    install_on(app, lambda inner: Capture(inner, make_settings({}), recorder))
    assert type(app) is kind
    assert call(app, "/fails").status == 500
    assert call(app, "/works").body == b"ok"
    failed, worked = recorder.sealed
    # ServerErrorMiddleware, inside ours, sent a complete 500: completed, with its body.
    assert (failed.status, failed.outcome, failed.response_body.data()) == (500, "completed", b"Internal Server Error")
    # FastAPI sets the route of its own routes only; of a Starlette Route in it, only the endpoint is known.
    assert (worked.status, worked.route, worked.endpoint) == (200, "/works" if kind is Starlette else None, "works")


def test_middleware_of_the_application_keeps_its_order_when_installed() -> None:
    seen = []

    class Other:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append("asgi_audit" in scope)
            await self.app(scope, receive, send)

    app = Starlette(routes=[Route("/", works)], middleware=[Middleware(Other)])
    install_on(app, lambda inner: Capture(inner, make_settings({}), ListRecorder()))
    app.add_middleware(Other)
    call(app, "/")
    assert seen == [True, True]


def test_install_is_refused_when_it_was_done_before() -> None:
    app = Starlette()

    def wrap(inner: Any) -> Any:
        return Capture(inner, make_settings({}), ListRecorder())

    install_on(app, wrap)
    with pytest.raises(ConfigError, match="twice"):
        install_on(app, wrap)


@pytest.mark.parametrize("thing", [object(), None, "shop:app", Starlette])
def test_install_names_what_it_accepts_when_it_is_given_no_application(thing: Any) -> None:
    with pytest.raises(ConfigError, match="accepted: an ASGI application"):
        asgi_audit.install(thing)


def test_any_other_application_is_wrapped_when_installed() -> None:
    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = asgi_audit.install(plain, transport="memory://")
    assert isinstance(app, asgi_audit.AuditMiddleware)
    server = call(app, "/")
    assert (server.status, b"x-request-id" in dict(server.headers)) == (204, True)
    with pytest.raises(ConfigError, match="has an AuditMiddleware already"):
        asgi_audit.install(app, transport="memory://")


def test_install_refuses_a_wrong_setting_at_once_when_it_is_called() -> None:
    app = Starlette()
    with pytest.raises(ConfigError, match="detail"):
        asgi_audit.install(app, detail="everything")
    assert asgi_audit.install(app, enabled=False) is app
    assert call(app, "/nowhere").status == 404
