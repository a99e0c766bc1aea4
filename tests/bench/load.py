"""The applications, requests and small tools that the benchmarks share."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

DOCUMENT = {
    "order": 918273,
    "customer": "c-4711",
    "currency": "EUR",
    "lines": [
        {"article": f"a-{i:04d}", "quantity": i, "price": 19.9 + i, "note": "a line of an order as shops have them"}
        for i in range(9)
    ],
}
BODY = json.dumps(DOCUMENT).encode()
LOGIN = json.dumps({"user": "mira", "password": "correct horse battery staple", **DOCUMENT}).encode()
HEADERS = [
    (b"host", b"shop.example:8000"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"application/json, text/plain, */*"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"accept-language", b"en-GB,en;q=0.7"),
    (b"authorization", b"Bearer 0123456789abcdef0123456789abcdef"),
    (b"content-type", b"application/json"),
    (b"content-length", str(len(BODY)).encode()),
]


def make_app() -> Starlette:
    """One kB of JSON each way."""

    async def post(request: Request) -> JSONResponse:
        return JSONResponse(await request.json())

    async def get(request: Request) -> JSONResponse:
        return JSONResponse(DOCUMENT)

    return Starlette(routes=[Route("/orders", post, methods=["POST"]), Route("/orders/{order}", get)])


def scope_of(method: str, path: str, query: bytes = b"") -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": list(HEADERS),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


async def call(app: App, method: str, path: str, body: bytes = b"") -> None:
    """One request directly into the application, as a server would make it."""
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            await asyncio.sleep(3600)
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        pass

    await app(scope_of(method, path), receive, send)


async def timed_calls(app: App, method: str, path: str, body: bytes, times: int) -> list[float]:
    """Seconds of each call. The loop gets a turn between calls, as between requests of a server."""
    out = []
    for _ in range(times):
        begun = time.perf_counter()
        await call(app, method, path, body)
        out.append(time.perf_counter() - begun)
        await asyncio.sleep(0)
    return out


def percentile(values: list[float], share: float) -> float:
    """By the nearest rank; `values` must not be empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: list[float]) -> float:
    return statistics.median(values)
