"""Starlette and FastAPI under a real uvicorn: records of requests, of clients that leave, of background work; and the
pytest fixture of the package."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import uvicorn
from fastapi import APIRouter, Depends, FastAPI
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, SimpleUser
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from tests.support.waiting import until

import asgi_audit
from asgi_audit import AuditMiddleware
from asgi_audit.testing import AuditRecords

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette 1.x recommends httpx2 instead of httpx
    from starlette.testclient import TestClient


SIGNED_IN = {"x-user": "alice", "X-Request-ID": "r-1"}


@contextlib.contextmanager
def serving(app: Any, **config: Any) -> Iterator[int]:
    """uvicorn in a thread on an ephemeral port; yields the port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", **config))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive(), "uvicorn starts")
    assert server.started
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(60)
        listener.close()


def ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


class Backend:
    async def authenticate(self, connection: HTTPConnection) -> Any:
        name = connection.headers.get("x-user")
        return (AuthCredentials(["user"]), SimpleUser(name)) if name else None


async def item(request: Request) -> Response:
    return JSONResponse({"id": request.path_params["id"], "got": (await request.body()).decode()})


def sync_handler(request: Request) -> Response:
    assert asgi_audit.annotate(principal="from a thread", step=1)
    return PlainTextResponse("sync")


async def fails(request: Request) -> Response:
    raise ValueError("inside")


async def background(request: Request) -> Response:
    def work() -> None:
        request.app.state.late = asgi_audit.annotate(late=True)
        request.app.state.done.set()

    return PlainTextResponse("ok", background=BackgroundTask(work))


async def slow_stream(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        while True:  # until the client leaves: if the stream were held back, nothing would ever arrive
            yield b"data: x\n\n"
            await asyncio.sleep(0.02)  # the pace of the stream

    return StreamingResponse(chunks(), media_type="text/event-stream")


async def slow_start(request: Request) -> Response:
    while not await request.is_disconnected():  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # Starlette has no event for it
    return PlainTextResponse("nobody hears this")


async def cookies(request: Request) -> Response:
    response = PlainTextResponse("ok")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


def make_starlette(*, base: bool = True, **audit: Any) -> Starlette:
    async def forward(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response

    routes = [
        Route("/items/{id}", item, methods=["GET", "POST"], name="one_item"),
        Route("/sync", sync_handler),
        Route("/fails", fails),
        Route("/background", background),
        Route("/stream", slow_stream),
        Route("/slow", slow_start),
        Route("/cookies", cookies),
        Mount("/m", routes=[Route("/items/{id}", item)]),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(AuditMiddleware, **audit),
            Middleware(AuthenticationMiddleware, backend=Backend()),
            *([Middleware(BaseHTTPMiddleware, dispatch=forward)] if base else []),
        ],
    )
    app.state.done = threading.Event()
    return app


@pytest.fixture(params=["buffered", "durable"])
def delivery(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("http_server", ["h11", "httptools"])
def test_starlette_is_recorded_when_uvicorn_serves_it(
    audit_records: AuditRecords, delivery: str, http_server: str
) -> None:
    app = make_starlette(service="shop", delivery=delivery)
    with serving(app, http=http_server) as port:
        status, headers, body = ask(
            port, "POST", "/items/7?a=1&a=2", b"text", {"x-user": "alice", "X-Request-ID": "r-1"}
        )
        assert (status, json.loads(body)) == (200, {"id": "7", "got": "text"})
        assert headers["x-request-id"] == "r-1"
        assert ask(port, "GET", "/sync")[2] == b"sync"
        assert ask(port, "GET", "/m/items/9")[0] == 200
        assert ask(port, "GET", "/fails")[0] == 500
        assert ask(port, "HEAD", "/cookies")[1].get_all("set-cookie") is not None
        assert len(ask(port, "GET", "/cookies")[1].get_all("set-cookie")) == 2
        assert ask(port, "GET", "/nowhere")[0] == 404
        assert ask(port, "DELETE", "/items/7")[0] == 405
    records = audit_records.wait(8)
    seen = [(r["request"]["method"], r["request"]["path"], r["response"]["statusCode"]) for r in records]
    assert seen == [
        ("POST", "/items/7", 200),
        ("GET", "/sync", 200),
        ("GET", "/m/items/9", 200),
        ("GET", "/fails", 500),
        ("HEAD", "/cookies", 200),
        ("GET", "/cookies", 200),
        ("GET", "/nowhere", 404),
        ("DELETE", "/items/7", 405),
    ]
    posted, synced, mounted, failed = (r["context"] for r in records[:4])
    assert records[0]["metadata"]["requestId"] == "r-1"
    assert records[0]["service"] == "shop"
    assert (posted["route"], posted["principal"], posted["outcome"]) == ("/items/{id}", "alice", "completed")
    assert (synced["principal"], synced["annotations"]) == ("from a thread", {"step": 1})
    assert mounted["route"] == "/items/{id}"
    # add_middleware puts the layer inside ServerErrorMiddleware: the exception passes it before the 500 is made.
    assert (failed["outcome"], failed["error"]["type"]) == ("failed", "ValueError")
    stats = audit_records.stats()
    assert stats["internal_errors"] == stats["unwaited"] == stats["open"] == 0
    assert stats["begun"] == 8


def test_background_task_runs_and_does_not_hold_the_record(audit_records: AuditRecords, delivery: str) -> None:
    """starlette #1438 and #919: background work is neither cancelled nor waited for; its annotations are late."""
    app = make_starlette(delivery=delivery)
    with serving(app) as port:
        assert ask(port, "GET", "/background")[2] == b"ok"
        assert app.state.done.wait(60)
    assert app.state.late is False
    (record,) = audit_records.wait(1)
    assert "late" not in str(record["context"].get("annotations"))
    assert audit_records.stats()["annotate_late"] == 1


@pytest.mark.parametrize("path", ["/stream", "/slow"])
def test_request_is_recorded_as_disconnected_when_the_client_leaves(audit_records: AuditRecords, path: str) -> None:
    # Below a BaseHTTPMiddleware `is_disconnected` never becomes true, with or without the middleware.
    with serving(make_starlette(base=path == "/stream")) as port:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        if path == "/stream":
            client.settimeout(60)
            assert client.recv(10).startswith(b"HTTP/1.1 2")
        else:
            until(lambda: audit_records.stats()["open"])
        client.close()
        (record,) = audit_records.wait(1)
    assert record["context"]["outcome"] == "disconnected"
    # The response is in the record, although no client received it: the application did its work.
    assert record["response"]["statusCode"] == 200


def test_fastapi_is_recorded_when_it_is_installed(audit_records: AuditRecords, delivery: str) -> None:
    app = FastAPI()
    router = APIRouter(prefix="/v1")

    async def user() -> str:
        asgi_audit.annotate(principal="by dependency")
        return "u"

    @router.get("/orders/{order_id}", name="read_order")
    async def read_order(order_id: int, who: str = Depends(user)) -> dict[str, Any]:
        return {"order": order_id}

    @router.post("/orders")
    def create_order(order: dict[str, Any]) -> dict[str, Any]:
        asgi_audit.annotate(account_id="acme", operation="order.create")
        return order

    @app.get("/fails")
    async def fails_too() -> None:
        raise RuntimeError("inside")

    app.include_router(router)
    sub = FastAPI()

    @sub.get("/things/{thing}")
    async def thing(thing: str) -> str:
        return thing

    app.mount("/sub", sub)
    assert asgi_audit.install(app, service="orders", delivery=delivery) is app
    with serving(app) as port:
        assert ask(port, "GET", "/v1/orders/5")[0] == 200
        json_type = {"content-type": "application/json"}
        assert ask(port, "POST", "/v1/orders", b'{"n": 12345678901234567890123}', json_type)[0] == 200
        assert ask(port, "GET", "/v1/orders/x")[0] == 422
        assert ask(port, "GET", "/fails")[2] == b"Internal Server Error"
        assert ask(port, "GET", "/sub/things/a")[2] == b'"a"'
    records = audit_records.wait(5)
    got, created, refused, failed, below = records
    assert (got["context"]["route"], got["context"]["operation"]) == ("/v1/orders/{order_id}", "read_order")
    assert got["context"]["principal"] == "by dependency"
    assert (created["account_id"], created["context"]["operation"]) == ("acme", "order.create")
    assert refused["response"]["statusCode"] == 422
    # Installed outside of ServerErrorMiddleware: the record has the 500 that the client saw, with its body.
    assert (failed["response"]["statusCode"], failed["response"]["body"]) == (500, "Internal Server Error")
    assert below["context"]["route"] == "/things/{thing}"
    assert audit_records.stats()["internal_errors"] == 0


def test_lifespan_of_the_application_runs_when_it_is_audited(audit_records: AuditRecords) -> None:
    events = []

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
        events.append("up")
        yield {"db": "open"}
        events.append("down")

    async def handler(request: Request) -> Response:
        return PlainTextResponse(request.state.db)

    app = AuditMiddleware(Starlette(routes=[Route("/", handler)], lifespan=lifespan))
    with serving(app, lifespan="on") as port:
        assert ask(port, "GET", "/")[2] == b"open"
    assert events == ["up", "down"]
    assert len(audit_records) == 1


def test_every_request_is_recorded_when_a_test_client_makes_a_loop_for_each(audit_records: AuditRecords) -> None:
    client = TestClient(make_starlette(delivery="durable"), raise_server_exceptions=False)
    for i in range(5):
        assert client.get(f"/items/{i}").status_code == 200
    assert client.get("/fails").status_code == 500
    assert [r["request"]["path"] for r in audit_records] == [*(f"/items/{i}" for i in range(5)), "/fails"]
    assert audit_records.stats()["unwaited"] == 0


BEFORE = AuditMiddleware(Starlette(routes=[Route("/", cookies)]), transport="journal:////nonexistent/journal")


@pytest.mark.parametrize("turn", [1, 2])
def test_records_are_this_tests_own_when_the_application_is_older(audit_records: AuditRecords, turn: int) -> None:
    assert len(audit_records) == 0
    TestClient(BEFORE).get("/", headers={"x-request-id": f"turn-{turn}"})
    (record,) = audit_records
    assert record["metadata"]["requestId"] == f"turn-{turn}"
    audit_records.clear()
    assert list(audit_records) == []
    with pytest.raises(AssertionError, match=r"1 audit records were expected within 0\.05 s, there are 0"):
        audit_records.wait(1, timeout=0.05)


def test_recorder_is_the_former_one_when_the_fixture_is_over() -> None:
    former = BEFORE.recorder
    with AuditRecords().capturing() as records:
        assert BEFORE.recorder is not former
        made = AuditMiddleware(cookies)
        inside = made.recorder
        assert records.stats()["begun"] == 0
    assert BEFORE.recorder is former
    assert made.recorder is not inside
