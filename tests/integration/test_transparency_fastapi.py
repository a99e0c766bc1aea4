"""`assert_transparent` holds for every FastAPI application, although the framework puts objects into the scope that are
new for each request; and the comparison by value still detects a change."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from asgi_audit import AuditMiddleware, install
from asgi_audit.testing import ClientRequest, assert_transparent

MEMORY: Any = {"transport": "memory://"}
POST = ClientRequest(method="POST", body=(b"{}",))


def with_dependencies() -> FastAPI:
    app = FastAPI()

    async def asynchronous() -> AsyncIterator[object]:
        yield object()

    def synchronous() -> Iterator[object]:
        yield object()

    @app.get("/")
    async def index(
        request: Request,
        tasks: BackgroundTasks,
        a: object = Depends(asynchronous),
        b: object = Depends(synchronous),
    ) -> dict[str, int]:
        request.state.made = {"for": [object()], "this": request}
        tasks.add_task(print, end="")
        return {"answer": 42}

    return app


def with_state_and_mounts() -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {"database": object(), "limits": {1.5, 2.5}}

    app = FastAPI(lifespan=lifespan)
    inner = FastAPI()
    router = APIRouter(prefix="/inside")

    @inner.post("/")
    async def upload(request: Request) -> int:
        return len(await request.body())

    @router.get("/stream")
    def stream() -> StreamingResponse:
        return StreamingResponse(iter([b"a", b"b"]))

    app.mount("/upload", inner)
    app.include_router(router)
    return app


def with_middleware() -> FastAPI:
    app = with_dependencies()

    async def forward(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=forward)
    return app


class User(NamedTuple):
    name: str
    session: object


def with_user() -> FastAPI:
    class Login:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope["user"] = User("alice", object())
            scope["auth"] = {User: [object(), bytearray(b"x"), float("nan")]}
            scope["parent"] = scope
            await self.app(scope, receive, send)

    app = with_dependencies()
    app.add_middleware(Login)
    return app


def with_errors(*, debug: bool = False) -> FastAPI:
    app = FastAPI(debug=debug)

    @app.get("/")
    async def index() -> None:
        raise ValueError("no answer" if debug else f"no answer from {object()}")

    @app.post("/upload")
    async def upload() -> None:
        raise HTTPException(403)

    return app


def installed() -> Any:
    return install(with_dependencies(), **MEMORY)


def audited_inside() -> FastAPI:
    app = with_dependencies()
    app.add_middleware(AuditMiddleware, **MEMORY)
    return app


def wrapped() -> Any:
    return AuditMiddleware(with_dependencies(), **MEMORY)


APPS: list[Callable[[], Any]] = [
    with_dependencies, with_state_and_mounts, with_middleware, with_user, with_errors, lambda: with_errors(debug=True),
    installed, audited_inside, wrapped,
]  # fmt: skip
REQUESTS = (None, (ClientRequest(path="/inside/stream"), ClientRequest(path="/openapi.json"), POST))


@pytest.mark.usefixtures("audit_records")
@pytest.mark.parametrize("header", ["x-request-id", None])
@pytest.mark.parametrize("requests", REQUESTS, ids=["table", "more"])
@pytest.mark.parametrize("make_app", APPS, ids=lambda f: f.__name__)
def test_streams_are_equal_when_fastapi_is_wrapped(make_app: Any, requests: Any, header: str | None) -> None:
    assert_transparent(make_app(), requests, request_id_header=header)


@pytest.mark.usefixtures("audit_records")
@pytest.mark.parametrize("header", ["x-request-id", None])
def test_streams_are_equal_when_headers_can_be_read_once(header: str | None) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        pairs = (iter(pair) for pair in [(b"content-type", b"text/plain"), (b"x-a", b"1")])
        await send({"type": "http.response.start", "status": 200, "headers": pairs})
        await send({"type": "http.response.body", "body": b"x"})

    assert_transparent(app, lifespan=False, request_id_header=header)


class Faulty:
    """Middleware that changes values that frameworks put into the scope."""

    def __init__(self, app: Any, fault: str) -> None:
        self.app = app
        self.fault = fault

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def faulty_send(message: Any) -> None:
            if self.fault == "header of its own" and message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"via", b"1")]}
            await send(message)

        if self.fault == "another state":
            scope["state"] = {**scope["state"], "of": "its own"}
        if self.fault == "another client":
            scope["client"] = list(scope["client"])
        await self.app(scope, receive, faulty_send)
        if self.fault == "removes the route":
            del scope["route"]
        if self.fault == "another endpoint":
            scope["endpoint"] = "text"


@pytest.mark.parametrize(
    "fault", ["header of its own", "another state", "another client", "removes the route", "another endpoint"]
)
def test_proof_fails_when_middleware_changes_what_a_framework_keeps(fault: str) -> None:
    with pytest.raises(AssertionError, match="auditing shows in"):
        assert_transparent(
            with_dependencies(), (ClientRequest(),), wrap=lambda inner: Faulty(inner, fault), lifespan=False
        )


def test_proof_fails_when_the_id_of_an_audited_application_is_not_the_only_difference() -> None:
    with pytest.raises(AssertionError, match="auditing shows in"):
        assert_transparent(
            installed(), (ClientRequest(),), wrap=lambda inner: Faulty(inner, "header of its own"), lifespan=False
        )
