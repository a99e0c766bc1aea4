"""The application and its server see the same with and without the middleware, for a table of applications; and the
proof detects middleware that is not transparent."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_audit import AuditMiddleware
from asgi_audit.testing import ClientRequest, assert_transparent

GET = ClientRequest()
HEAD = ClientRequest(method="HEAD")
POST = ClientRequest(method="POST", body=(b'{"a":', b"1}"), headers=((b"content-length", b"7"), (b"host", b"h")))
LEAVES = (ClientRequest(leaves_after=0), ClientRequest(leaves_after=1), ClientRequest(leaves_after=3))


def start(status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(data: Any = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _read(receive: Any) -> bytes:
    data = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client left")
        data += message.get("body", b"")
        if not message.get("more_body"):
            return data


async def plain(scope: Any, receive: Any, send: Any) -> None:
    data = await _read(receive)
    await send(
        start(200, (b"content-length", str(len(data)).encode()), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"))
    )
    await send(body(data))


async def never_reads(scope: Any, receive: Any, send: Any) -> None:
    await send(start())
    await send(body(b"unread"))


async def streams(scope: Any, receive: Any, send: Any) -> None:
    await send(start(200, (b"content-type", b"text/plain")))
    for i in range(5):
        await asyncio.sleep(0)
        await send(body(b"%d" % i * 30_000, True))
    await send(body())


async def server_sent_events(scope: Any, receive: Any, send: Any) -> None:
    """Sends until the client leaves, which another task waits for."""
    await send(start(200, (b"content-type", b"text/event-stream")))

    async def events() -> None:
        i = 0
        while True:
            await send(body(b"data: %d\n\n" % i, True))
            i += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(events())
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        task.cancel()


async def echoes_while_reading(scope: Any, receive: Any, send: Any) -> None:
    await send(start())
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send(body(message.get("body", b""), more))


async def raises_before(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("before the start")


async def raises_after(scope: Any, receive: Any, send: Any) -> None:
    await send(start())
    await send(body(b"x", True))
    raise KeyError("after the start") from ValueError("cause")


async def raises_a_group(scope: Any, receive: Any, send: Any) -> None:
    raise ExceptionGroup("two", [ValueError("a"), KeyError("b")])


async def raises_no_exception(scope: Any, receive: Any, send: Any) -> None:
    raise asyncio.CancelledError("of its own")


async def returns_early(scope: Any, receive: Any, send: Any) -> None:
    await send(start(200, (b"content-length", b"10")))


async def silent(scope: Any, receive: Any, send: Any) -> None:
    return


async def works_after_the_answer(scope: Any, receive: Any, send: Any) -> None:
    await send(start())
    await send(body(b"x"))
    await asyncio.sleep(0.01)  # its work
    await receive()


async def no_content(scope: Any, receive: Any, send: Any) -> None:
    await send(start(204))
    await send(body())


async def not_modified(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 304})
    await send({"type": "http.response.body"})


async def trailers(scope: Any, receive: Any, send: Any) -> None:
    await send(start(200, trailers=True))
    await send(body(b"x"))
    await send({"type": "http.response.trailers", "headers": [(b"t", b"1")], "more_trailers": False})


async def sends_a_path(scope: Any, receive: Any, send: Any) -> None:
    await send(start(200, (b"content-length", b"3")))
    await send({"type": "http.response.pathsend", "path": "/x"})


async def sends_buffers(scope: Any, receive: Any, send: Any) -> None:
    buffer = bytearray(b"abc")
    await send(start())
    await send(body(buffer, True))
    await send(body(memoryview(bytes(buffer))))


async def returns_a_value(scope: Any, receive: Any, send: Any) -> int:
    """A server reports an error for it, by closing the connection."""
    if scope["type"] == "http":
        await never_reads(scope, receive, send)
    return 123


async def with_own_request_id(scope: Any, receive: Any, send: Any) -> None:
    await send(start(200, (b"X-Request-Id", b"mine")))
    await send(body(b"x"))


async def changes_the_scope(scope: Any, receive: Any, send: Any) -> None:
    scope.update(path="/x", root_path="/m", user=None, route=None)
    scope["state"]["seen"] = True
    await send(start())
    await send(body(b"x"))


async def with_lifespan(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        return await never_reads(scope, receive, send)
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["db"] = 1
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await send({"type": "lifespan.shutdown.complete"})
    return None


async def lifespan_fails(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        return await never_reads(scope, receive, send)
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
    return None


async def only_http(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await never_reads(scope, receive, send)


PLAIN_APPS: dict[str, tuple[Any, tuple[ClientRequest, ...]]] = {
    app.__name__: (app, requests)
    for app, requests in [
        (plain, (GET, POST, HEAD, ClientRequest(leaves_after=0))),
        (never_reads, (GET, POST, HEAD, *LEAVES)),
        (streams, (GET, HEAD)),
        (server_sent_events, (LEAVES[1],)),
        (echoes_while_reading, (POST, ClientRequest(method="POST", body=[b"x" * 50_000] * 6))),
        (raises_before, (GET, POST)),
        (raises_after, (GET,)),
        (raises_a_group, (GET,)),
        (raises_no_exception, (GET,)),
        (returns_early, (GET,)),
        (silent, (GET,)),
        (works_after_the_answer, (GET,)),
        (no_content, (GET, HEAD)),
        (not_modified, (GET,)),
        (trailers, (GET,)),
        (sends_a_path, (GET, HEAD)),
        (sends_buffers, (GET,)),
        (returns_a_value, (GET,)),
        (with_own_request_id, (GET,)),
        (changes_the_scope, (GET,)),
        (with_lifespan, (GET,)),
        (lifespan_fails, (GET,)),
        (only_http, (GET,)),
    ]
}


async def _json(request: Request) -> Response:
    return JSONResponse({"got": len(await request.body())}, background=BackgroundTask(asyncio.sleep, 0.01))


async def _stream(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"chunk"
            await asyncio.sleep(0)

    return StreamingResponse(chunks())


async def _file(request: Request) -> Response:
    return FileResponse(pathlib.Path(__file__))


async def _fails(request: Request) -> Response:
    raise RuntimeError("handler")


async def _disconnect(request: Request) -> Response:
    try:
        await request.body()
    except ClientDisconnect:
        return PlainTextResponse("left", 499)
    return PlainTextResponse("stayed")


async def _forward(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


ROUTES = [
    Route("/json", _json, methods=["GET", "POST"]),
    Route("/stream", _stream),
    Route("/file", _file),
    Route("/fails", _fails),
    Route("/left", _disconnect, methods=["POST"]),
]
FRAMEWORK_REQUESTS = (
    ClientRequest(path="/json"),
    ClientRequest(path="/json", method="POST", body=(b"x" * 100_000, b"y")),
    ClientRequest(path="/stream"),
    ClientRequest(path="/file"),
    ClientRequest(path="/file", method="HEAD"),
    ClientRequest(path="/fails"),
    ClientRequest(path="/nowhere"),
    ClientRequest(path="/left", method="POST", body=(), leaves_after=0),
    ClientRequest(path="/json", method="DELETE"),
)


@pytest.mark.usefixtures("audit_records")
@pytest.mark.parametrize("header", ["x-request-id", None])
@pytest.mark.parametrize("name", PLAIN_APPS)
def test_streams_are_equal_when_delivery_is_buffered(name: str, header: str | None) -> None:
    app, requests = PLAIN_APPS[name]
    # Another task sends until the client leaves: the number of messages depends on scheduling.
    endless = name == "server_sent_events"
    assert_transparent(app, requests, request_id_header=header, interleaving=not endless, lifespan=not endless)


@pytest.mark.usefixtures("audit_records")
@pytest.mark.parametrize("name", sorted(set(PLAIN_APPS) - {"server_sent_events"}))
def test_streams_are_equal_when_delivery_is_durable(name: str) -> None:
    app, requests = PLAIN_APPS[name]
    assert_transparent(
        app,
        requests,
        wrap=lambda inner: AuditMiddleware(inner, transport="memory://", delivery="durable"),
        interleaving=False,
    )


@pytest.mark.usefixtures("audit_records")
@pytest.mark.parametrize("delivery", ["buffered", "durable"])
@pytest.mark.parametrize("below", [0, 1, 2], ids=lambda n: f"{n} BaseHTTPMiddleware")
def test_streams_of_starlette_are_equal_when_it_is_wrapped(delivery: str, below: int) -> None:
    app = Starlette(routes=ROUTES, middleware=[Middleware(BaseHTTPMiddleware, dispatch=_forward)] * below)
    assert_transparent(
        app,
        FRAMEWORK_REQUESTS,
        wrap=lambda inner: AuditMiddleware(inner, transport="memory://", delivery=delivery),
        interleaving=delivery == "buffered" and not below,
    )


def test_default_table_is_enough_when_no_requests_are_given(audit_records: Any) -> None:
    assert_transparent(plain)
    assert len(audit_records) == 6
    assert {r["request"]["method"] for r in audit_records} == {"GET", "HEAD", "POST"}


def test_proof_works_when_a_loop_runs_already(audit_records: Any) -> None:
    async def main() -> None:
        assert_transparent(plain, (GET,))

    asyncio.run(main())
    assert len(audit_records) == 1


class Wrong:
    """Middleware with one fault each."""

    def __init__(self, app: Any, fault: str) -> None:
        self.app = app
        self.fault = fault

    async def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        fault = self.fault

        async def faulty_receive() -> Any:
            message = await receive()
            if fault == "cuts the request" and message.get("body"):
                return {**message, "body": message["body"][:1]}
            return message

        async def faulty_send(message: Any) -> None:
            kind = message["type"]
            if kind == "http.response.start":
                if fault == "changes the message":
                    message["status"] = 201
                if fault == "appends to the list":
                    message["headers"].append((b"x-request-id", b"1"))
                if fault == "loses repeated headers":
                    message = {**message, "headers": list(dict(message["headers"]).items())}
                if fault == "adds another header":
                    message = {**message, "headers": [*message["headers"], (b"via", b"1")]}
            elif kind == "http.response.body":
                if fault == "copies the body":
                    message = {**message, "body": bytes(bytearray(message["body"]))}
                if fault == "sends one more":
                    await send({**message, "more_body": True, "body": b""})
                if fault == "swallows the end":
                    return
            await send(message)

        if fault == "reads the body first":
            read = [await receive()]

            async def again() -> Any:
                return read.pop() if read else await receive()

            return await self.app(scope, again, faulty_send)
        if fault == "copies the scope":
            scope = dict(scope)
        if fault == "changes the scope":
            scope["path"] = "/changed"
        try:
            answer = await self.app(scope, faulty_receive, faulty_send)
        except Exception as error:
            if fault == "swallows":
                return None
            if fault == "wraps":
                raise RuntimeError(str(error)) from error
            raise
        return None if fault == "swallows the answer" else answer


@pytest.mark.parametrize(
    ("fault", "app"),
    [
        ("cuts the request", plain),
        ("changes the message", plain),
        ("appends to the list", plain),
        ("loses repeated headers", plain),
        ("adds another header", plain),
        ("copies the body", plain),
        ("sends one more", plain),
        ("swallows the end", plain),
        ("reads the body first", plain),
        ("copies the scope", changes_the_scope),
        ("changes the scope", plain),
        ("swallows", raises_before),
        ("wraps", raises_before),
        ("swallows the answer", returns_a_value),
    ],
)
def test_proof_fails_when_middleware_has_a_fault(fault: str, app: Any) -> None:
    with pytest.raises(AssertionError, match="auditing shows in"):
        assert_transparent(app, (POST,), wrap=lambda inner: Wrong(inner, fault), lifespan=False)


def test_proof_says_what_to_do_when_the_application_never_ends() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="leaves_after"):
        assert_transparent(endless, (GET,), lifespan=False, timeout_seconds=0.1)
