"""p99 of a real uvicorn at a fixed rate of requests, bare and audited in turn, measured from another process.

Open loop: a request is due at its time whether or not earlier ones got their responses, and its latency counts from
that time.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.ports import free_port
from tests.support.waiting import listens, until

from .load import BODY, median, percentile

VARIANTS = ("bare", "buffered", "durable")


def app_of(variant: str, journal: str):  # type: ignore[no-untyped-def]
    from asgi_audit import AuditMiddleware

    from .load import make_app

    if variant == "bare":
        return make_app()
    return AuditMiddleware(make_app(), transport=f"journal:///{journal}", delivery=variant)


def serve(variant: str, port: int, journal: str) -> None:
    import uvicorn

    uvicorn.run(app_of(variant, journal), host="127.0.0.1", port=port, log_level="error", access_log=False)


def measure(rate: int, seconds: float, rounds: int) -> dict[str, tuple[float, float]]:
    """{variant: (p50 ms, p99 ms)}, each the median of the rounds."""
    seen: dict[str, list[tuple[float, float]]] = {v: [] for v in VARIANTS}
    for _ in range(rounds):
        for variant in VARIANTS:
            with tempfile.TemporaryDirectory() as directory:
                seen[variant].append(_one(variant, rate, seconds, directory))
    return {v: (median([p[0] for p in ps]), median([p[1] for p in ps])) for v, ps in seen.items()}


def _one(variant: str, rate: int, seconds: float, directory: str) -> tuple[float, float]:
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-c", f"from tests.bench.serving import serve; serve({variant!r}, {port}, {directory!r})"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        wait_for(port, server)
        asyncio.run(_load(port, rate, min(1.0, seconds)))  # warm
        took = asyncio.run(_load(port, rate, seconds))
    finally:
        server.terminate()
        server.wait(20)
    return percentile(took, 0.5) * 1e3, percentile(took, 0.99) * 1e3


async def _load(port: int, rate: int, seconds: float) -> list[float]:
    connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(16):
        connections.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    head = (
        b"POST /orders HTTP/1.1\r\nhost: shop.example\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    request = head % len(BODY) + BODY
    took: list[float] = []

    async def one(due: float) -> None:
        reader, writer = await connections.get()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the application answered {answer[:60]!r}")
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        took.append(time.perf_counter() - due)
        connections.put_nowait((reader, writer))

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for i in range(int(rate * seconds)):
            due = begun + i / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(one(due))
    while not connections.empty():
        _, writer = connections.get_nowait()
        writer.close()
    return took


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until(lambda: process.poll() is not None or listens(port), "the server listens")
    if process.poll() is not None:
        raise RuntimeError(f"the server ended with code {process.returncode}")


def report(table: dict[str, tuple[float, float]]) -> list[str]:
    lines = [f"{'application':<28}{'p50 ms':>9}{'p99 ms':>9}"]
    lines += [f"{variant:<28}{p50:>9.2f}{p99:>9.2f}" for variant, (p50, p99) in table.items()]
    return lines
