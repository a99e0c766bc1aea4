"""The application that the servers serve: plain ASGI, so that differences come from the server. Runs on asyncio and on
trio."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from asgi_audit import AuditMiddleware

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MIB = 1 << 20


async def _answer(send: Send, status: int, body: bytes = b"", *, length: bool = True) -> None:
    headers = [(b"content-type", b"text/plain")]
    if length:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(scope: Any, receive: Receive, send: Send) -> None:
    if scope["method"] == "HEAD":  # granian sends it unchanged, over HTTP/2 too
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body"})
    else:
        await _answer(send, 200, b"hello")


async def empty(scope: Any, receive: Receive, send: Send) -> None:
    await _answer(send, int(scope["path"][1:]), length=False)


async def chunks(scope: Any, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for i in range(20):
        await send({"type": "http.response.body", "body": b"%05d" % i, "more_body": True})
        await anyio.sleep(0.002)
    await send({"type": "http.response.body"})


async def events(scope: Any, receive: Receive, send: Send) -> None:
    """Sends until the client leaves."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})

    async def tick() -> None:
        while True:
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        while (await receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()


async def upload(scope: Any, receive: Receive, send: Send) -> None:
    _say("uploading")
    digest, size, more = hashlib.sha256(), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        digest.update(message.get("body", b""))
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await _answer(send, 200, b"%d %s" % (size, digest.hexdigest().encode()))


async def download(scope: Any, receive: Receive, send: Send) -> None:
    length = b"%d" % (4 * MIB)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    for i in range(4):
        await send({"type": "http.response.body", "body": bytes([i]) * MIB, "more_body": i < 3})


async def fails(scope: Any, receive: Receive, send: Send) -> None:
    raise ValueError("of the application")


async def slow(scope: Any, receive: Receive, send: Send) -> None:
    _say("slow")
    await anyio.sleep(1.0)
    await _answer(send, 200, b"slow")


async def pid(scope: Any, receive: Receive, send: Send) -> None:
    await _answer(send, 200, b"%d" % os.getpid())


def _say(word: str) -> None:
    """Reports to the test, which waits until the application has been called."""
    print(f"called: {word}", flush=True)


ROUTES = {
    "/hello": hello,
    "/204": empty,
    "/304": empty,
    "/chunks": chunks,
    "/events": events,
    "/upload": upload,
    "/download": download,
    "/fails": fails,
    "/slow": slow,
    "/pid": pid,
}


async def application(scope: Any, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    assert scope["type"] == "http", sys.version
    await ROUTES[scope["path"]](scope, receive, send)


app = AuditMiddleware(application)
