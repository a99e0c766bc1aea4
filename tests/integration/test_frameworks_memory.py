"""A 150 MB download and a 100 MB upload cost no more than 1 MB of memory beyond the bare application.

In process, measured by tracemalloc's peak: the application makes and drops its chunks, so memory that the
middleware keeps would show."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.support.waiting import until

from asgi_audit import AuditMiddleware
from asgi_audit.testing import AuditRecords

pytestmark = pytest.mark.full
MB = 1_000_000


async def download(request: Request) -> Response:
    size = int(request.query_params["chunk"])

    async def chunks() -> AsyncIterator[bytes]:
        for i in range(150 * MB // size):
            yield bytes([i % 256]) * size

    return StreamingResponse(chunks())


async def upload(request: Request) -> Response:
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
    return PlainTextResponse(str(total))


def peak_of(app: Any, path: str, size: int) -> tuple[int, int]:
    """(bytes at the peak above the beginning, bytes that the server received)."""

    async def run() -> tuple[int, int]:
        left = 100 * MB if path == "/upload" else 0
        taken = 0
        done = asyncio.Event()

        async def receive() -> Any:
            nonlocal left
            if done.is_set():
                return {"type": "http.disconnect"}
            if left <= 0 and path != "/upload":
                await done.wait()
                return {"type": "http.disconnect"}
            left -= size
            return {"type": "http.request", "body": b"u" * size, "more_body": left > 0}

        async def send(message: Any) -> None:
            nonlocal taken
            taken += len(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                done.set()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST" if path == "/upload" else "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"chunk=%d" % size,
            "root_path": "",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "server": ("h", 80),
        }
        gc.collect()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        await app(scope, receive, send)
        _, peak = tracemalloc.get_traced_memory()
        return peak - before, taken

    return asyncio.run(run())


@pytest.mark.parametrize("delivery", ["buffered", "durable"])
@pytest.mark.parametrize("size", [64 * 1024, 10 * MB], ids=["64 KiB chunks", "10 MB chunks"])
@pytest.mark.parametrize("path", ["/download", "/upload"])
def test_memory_stays_when_a_body_is_large(audit_records: AuditRecords, path: str, size: int, delivery: str) -> None:
    app = Starlette(routes=[Route("/download", download), Route("/upload", upload, methods=["POST"])])
    # A durable response waits while its record is built, so the recorder's own work is measured with it: 1.2 MB for a
    # moment for 64 KiB of text, whatever the size of the upload; half of it here.
    kept = 65_536 if delivery == "buffered" else 32_768
    audited = AuditMiddleware(app, delivery=delivery, body_bytes_max=kept)
    tracemalloc.start(1)
    try:
        for warm in (app, audited):
            peak_of(warm, "/nowhere", size)
        audit_records.wait(1)  # the builder and its tables are loaded once per process
        bare, bare_taken = peak_of(app, path, size)
        ours, taken = peak_of(audited, path, size)
    finally:
        tracemalloc.stop()
    assert taken == bare_taken
    if path == "/download":
        assert taken == 150 * MB // size * size
    assert ours - bare < MB, f"{(ours - bare) / MB:.2f} MB more than the bare application's {bare / MB:.2f}"
    until(lambda: not audit_records.stats()["held_bytes"], "the bytes of a written exchange are given back")
    record = audit_records[-1]
    body = record["context"]["responseBody" if path == "/download" else "requestBody"]
    assert body["bytes"] == (taken if path == "/download" else -(-100 * MB // size) * size)
    assert len(record["response"]["body"] or "") <= kept
    assert len(record["request"]["body"] or "") <= kept
