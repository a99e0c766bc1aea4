"""A wrong setting stops the server's start, however the middleware is added.

Goal: no request is served unrecorded, and the server stops in its usual way with one line that gives the reason.
Method: the frameworks themselves, driven as a server drives them; tests with real servers are in `tests/compat`."""

from __future__ import annotations

import asyncio
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from tests.support.asgi import Server

import asgi_audit
from asgi_audit import AuditMiddleware, ConfigError
from asgi_audit.capture.refused import is_in_a_call

with warnings.catch_warnings():  # Starlette's warning about the version of httpx
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

WRONG = "setting detail is 'everything'; accepted: one of none, metadata, headers, bodies"


async def works(request: Any) -> PlainTextResponse:
    return PlainTextResponse("ok")


def added(kind: Any) -> Any:
    app = kind(routes=[Route("/", works)])
    app.add_middleware(AuditMiddleware, detail="everything")
    return app


LATE: dict[str, Callable[[], Any]] = {
    "starlette": lambda: added(Starlette),
    "fastapi": lambda: added(FastAPI),
    "list": lambda: Starlette(
        routes=[Route("/", works)],
        middleware=[Middleware(AuditMiddleware, detail="everything")],  # type: ignore[arg-type]
    ),
    "in-a-mount": lambda: Starlette(routes=[Mount("/", added(Starlette))]),
}


async def lifespan(app: Any) -> tuple[list[Any], BaseException | None]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup" if not sent else "lifespan.shutdown"}

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    except Exception as e:
        return sent, e
    return sent, None


@pytest.mark.parametrize("how", ["starlette", "fastapi", "list"])
def test_startup_fails_with_one_line_when_a_late_layer_has_a_wrong_setting(how: str) -> None:
    sent, raised = asyncio.run(lifespan(LATE[how]()))
    assert sent == [{"type": "lifespan.startup.failed", "message": f"asgi-audit: {WRONG}"}]
    assert isinstance(raised, ConfigError)


@pytest.mark.parametrize("how", LATE)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_every_request_raises_when_no_lifespan_came_before(how: str, kind: str) -> None:
    app = LATE[how]()
    sizes = []
    for _ in range(3):
        server = Server()
        with pytest.raises(ConfigError) as caught:
            asyncio.run(app({**server.scope, "type": kind}, server.receive, server.send))
        assert str(caught.value) == WRONG
        assert {m.get("status", 500) for m in server.sent if kind == "http"} <= {500}
        sizes.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert sizes[1] == sizes[2]  # the frames of one request, without those of earlier ones


@pytest.mark.parametrize("how", ["starlette", "fastapi", "list"])
def test_test_client_raises_at_its_start_when_a_late_layer_has_a_wrong_setting(how: str) -> None:
    with pytest.raises(ConfigError, match="'everything'"), TestClient(LATE[how]()):
        pass


def test_hint_is_in_the_startup_message_and_in_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    for name in [name for name in sys.modules if name.startswith("asgi_audit.transport.kafka")]:
        monkeypatch.delitem(sys.modules, name)
    app = Starlette()
    app.add_middleware(AuditMiddleware, transport="kafka://broker:9092/of-this-test")
    sent, raised = asyncio.run(lifespan(app))
    said = "the package aiokafka is not installed"
    assert sent[0]["message"] == f"asgi-audit: {said}; pip install 'asgi-audit[kafka]'"
    assert raised is not None
    assert traceback.format_exception(raised)[-2:] == [
        f"asgi_audit.errors.ConfigError: {said}\n",
        "pip install 'asgi-audit[kafka]'\n",
    ]


def test_start_is_refused_when_two_layers_over_one_journal_disagree(tmp_path: Any) -> None:
    app = Starlette()
    app.add_middleware(AuditMiddleware, home=tmp_path, journal_bytes_max=1 << 20)
    app.add_middleware(AuditMiddleware, home=tmp_path)
    sent, _ = asyncio.run(lifespan(app))
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "journal_bytes_max" in sent[0]["message"]
    assert str(tmp_path) in sent[0]["message"]


def test_start_is_refused_whatever_a_late_layer_raises(tmp_path: Any) -> None:
    registry: Any = object()
    app = Starlette()
    app.add_middleware(AuditMiddleware, home=tmp_path, metrics=registry)
    sent, raised = asyncio.run(lifespan(app))
    assert sent[0]["message"].startswith("asgi-audit: it could not start: AttributeError: ")
    assert isinstance(raised, ConfigError)
    assert isinstance(raised.__cause__, AttributeError)
    with pytest.raises(AttributeError, match="register"):
        AuditMiddleware(Starlette(), home=tmp_path, metrics=registry)


def test_wrong_setting_raises_at_once_when_the_layer_is_made_directly() -> None:
    async def within_a_loop() -> None:  # where uvicorn imports the application
        with pytest.raises(ConfigError, match="'everything'"):
            AuditMiddleware(Starlette(), detail="everything")

    asyncio.run(within_a_loop())
    scope = {"type": "http"}  # a test may hold one
    with pytest.raises(ConfigError, match="'everything'"):
        AuditMiddleware(Starlette(), detail="everything")
    assert scope
    with pytest.raises(ConfigError, match="'everything'"):
        asgi_audit.install(Starlette(), detail="everything")
    with pytest.raises(ConfigError, match="'everything'"):
        Route("/", works, middleware=[Middleware(AuditMiddleware, detail="everything")])


def test_call_is_noticed_whatever_its_parameters_are_called() -> None:
    def application(environment: Any, take: Any, give: Any) -> bool:
        return is_in_a_call()

    for kind in ("lifespan", "http", "websocket"):
        assert application({"type": kind}, None, None)
    assert not application({"type": "other"}, None, None)
    assert not application({}, None, None)
    assert not is_in_a_call()


@pytest.mark.parametrize("wrong", [{"detail": "everything"}, {"servce": "shop"}, {"retention_days": "x"}])
def test_enabled_0_is_the_way_out_whatever_else_is_wrong(
    wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASGI_AUDIT_ENABLED", "0")
    monkeypatch.setenv("ASGI_AUDIT_DELIVERY", "durabel")
    late = Starlette(routes=[Route("/", works)])
    late.add_middleware(AuditMiddleware, **wrong)
    direct: Any = AuditMiddleware(Starlette(routes=[Route("/", works)]), **wrong)
    installed = asgi_audit.install(Starlette(routes=[Route("/", works)]), **wrong)
    for app in (late, direct, installed):
        with TestClient(app) as client:
            assert client.get("/").text == "ok"


def test_switch_itself_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_AUDIT_ENABLED", "flase")
    with pytest.raises(ConfigError, match=r"ASGI_AUDIT_ENABLED is 'flase'.*did you mean false\?"):
        AuditMiddleware(Starlette())


def test_unknown_variable_warns_once_and_does_not_stop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    monkeypatch.setenv("ASGI_AUDIT_DELIVRY_OF_THIS_TEST", "durable")
    for _ in range(3):
        app = Starlette(routes=[Route("/", works)])
        app.add_middleware(AuditMiddleware, home=tmp_path)
        with TestClient(app) as client:
            assert client.get("/").text == "ok"
    said = [r.getMessage() for r in caplog.records if "ASGI_AUDIT_DELIVRY_OF_THIS_TEST" in r.getMessage()]
    assert len(said) == 1


def test_layer_made_by_litestar_refuses_at_once() -> None:
    litestar = pytest.importorskip("litestar", reason="pip install litestar")
    from litestar.middleware import DefineMiddleware

    with pytest.raises(ConfigError, match="'everything'"):
        litestar.Litestar([], middleware=[DefineMiddleware(AuditMiddleware, detail="everything")])


def test_layer_around_quart_refuses_at_once() -> None:
    quart = pytest.importorskip("quart", reason="pip install quart")
    app = quart.Quart("shop")
    with pytest.raises(ConfigError, match="'everything'"):
        app.asgi_app = AuditMiddleware(app.asgi_app, detail="everything")
