"""The warning of a middleware added by `add_middleware` about the layers outside of it, and the request id on their
500s."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from tests.support.asgi import ListRecorder, Server

from asgi_audit.capture.middleware import Capture
from asgi_audit.settings import make_settings


async def fails(request: Any) -> None:
    raise ValueError("inside")


async def works(request: Any) -> PlainTextResponse:
    return PlainTextResponse("ok")


def routes() -> list[Any]:
    return [Route("/fails", fails), Route("/works", works)]


def audit(app: Any, **settings: Any) -> ListRecorder:
    recorder = ListRecorder()
    app.add_middleware(Capture, settings=make_settings({}, **settings), recorder=recorder)
    return recorder


def call(app: Any, path: str, **scope: Any) -> Server:
    server = Server(path=path, **scope)

    async def run() -> None:
        try:
            await app(server.scope, server.receive, server.send)
        except ValueError:
            pass  # ServerErrorMiddleware sends a 500, then raises again

    asyncio.run(run())
    return server


def request_id(server: Server) -> str:
    return dict(server.headers).get(b"x-request-id", b"").decode()


@pytest.mark.parametrize("kind", [Starlette, FastAPI])
def test_layers_outside_are_named_once_when_the_first_request_comes(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = kind(routes=routes())
    recorder = audit(app)
    app.add_middleware(CORSMiddleware, allow_origins=["*"])

    async def timed(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    if kind is FastAPI:
        app.middleware("http")(timed)
    with caplog.at_level(logging.WARNING, "asgi_audit"):
        assert [call(app, "/works").status for _ in range(3)] == [200] * 3
    (message,) = [record.getMessage() for record in caplog.records]
    named = "BaseHTTPMiddleware (timed), CORSMiddleware." if kind is FastAPI else "CORSMiddleware."
    assert f"not recorded: {named}" in message
    assert "asgi_audit.install(app)" in message
    assert "handler of Exception" not in message
    assert recorder.counts == {}


def test_layers_outside_are_named_at_the_start_when_the_server_runs_lifespan(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Starlette(routes=routes())
    audit(app)
    app.add_middleware(CORSMiddleware)
    received = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Any:
        return {"type": next(received)}

    async def send(message: Any) -> None: ...

    asyncio.run(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send))
    assert ["CORSMiddleware" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("what", ["outermost", "wrapped", "mounted", "installed"])
def test_nothing_is_said_when_no_layer_is_outside(what: str, caplog: pytest.LogCaptureFixture) -> None:
    app: Any = Starlette(routes=routes())
    if what == "outermost":
        app.add_middleware(CORSMiddleware)
        audit(app)
    elif what == "wrapped":
        app = Capture(app, make_settings({}), ListRecorder())
    elif what == "mounted":
        inner = Capture(app, make_settings({}), ListRecorder())
        app = Starlette(routes=[Mount("/", inner)])
        app.add_middleware(CORSMiddleware)
    else:
        import asgi_audit

        asgi_audit.install(app, transport="memory://")
        app.add_middleware(CORSMiddleware)
    assert call(app, "/works").status == 200
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("how", ["none", "sync", "async", "partial", "debug"])
def test_a_500_carries_the_request_id_of_its_record_when_the_layer_was_added(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(request: Any, error: Exception, text: str = "sorry") -> PlainTextResponse:
        return PlainTextResponse(text, 500)

    async def answer_async(request: Any, error: Exception, text: str = "sorry") -> PlainTextResponse:
        return answer(request, error, text)

    handlers: dict[str, Any] = {
        "sync": answer,
        "async": answer_async,
        "partial": functools.partial(answer_async, text="sorry"),
    }
    app = Starlette(
        routes=routes(),
        debug=how == "debug",
        exception_handlers={Exception: handlers[how]} if how in handlers else {},
    )
    recorder = audit(app)
    for _ in range(2):
        server = call(app, "/fails")
        assert server.status == 500
        assert request_id(server) == recorder.sealed[-1].request_id != ""
        assert (server.body == b"sorry") is (how in handlers)
    named = [record.getMessage() for record in caplog.records if "handler of Exception" in record.getMessage()]
    assert len(named) == (how in handlers)
    assert recorder.counts == {}


def test_a_limit_of_bodies_is_named_when_the_application_sets_one(caplog: pytest.LogCaptureFixture) -> None:
    app = Starlette(routes=routes(), max_body_size=100)
    audit(app)
    assert call(app, "/works").status == 200
    assert ["RequestBodyLimitMiddleware." in record.getMessage() for record in caplog.records] == [True]


def test_the_request_id_of_a_handler_stays_when_it_set_one() -> None:
    async def answer(request: Any, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("sorry", 500, headers={"x-request-id": "its-own"})

    app = Starlette(routes=routes(), exception_handlers={500: answer})
    audit(app)
    assert request_id(call(app, "/fails")) == "its-own"


def test_no_header_is_added_to_a_500_when_the_setting_turns_it_off() -> None:
    app = Starlette(routes=routes())
    audit(app, request_id_header=None)
    assert request_id(call(app, "/fails")) == ""


def test_a_response_without_headers_is_sent_as_it_is_when_a_handler_returns_one() -> None:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"bare"})

    async def answer(request: Any, error: Exception) -> Any:
        return bare

    app = Starlette(routes=routes(), exception_handlers={Exception: answer})
    audit(app)
    assert call(app, "/fails").body == b"bare"
