"""The effect of five hostile POSTs of 64 KiB per second on others: their median wait, and the longest stall of the
event loop.

One process, its event loop, the real middleware and journal. A normal client sends a small request every 2 ms and
measures how long each takes beyond its own work; another task repeatedly sleeps 1 ms, and the time beyond that is a
stall of the loop. Run: `python -m tests.bench.stall [--seconds 10] [--delivery durable]`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from typing import Any

from asgi_audit import AuditMiddleware

K64 = 65_000
UNITS = {
    "nobody": "", "plain words": "lorem ipsum dolor sit amet, ", "quoted words": '"aa",', "quoted, bars": '"aa"]',
    "short words": "pin\n", "escapes": '"\\n\\', "links": "://:&/\\:.@",
}  # fmt: skip


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def one(layer: Any, body: bytes) -> float:
    """Milliseconds from the request to its response's last byte."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        return None

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"",
        "scheme": "http", "headers": [(b"content-type", b"text/plain")], "client": None, "server": None,
    }  # fmt: skip
    begun = time.perf_counter()
    await layer(scope, receive, send)
    return (time.perf_counter() - begun) * 1e3


async def measured(layer: Any, body: bytes, seconds: float) -> tuple[float, float, float]:
    """(median, 99th percentile of others' waits, longest stall), milliseconds."""
    waits: list[float] = []
    stall = 0.0
    end = time.perf_counter() + seconds

    async def others() -> None:
        while time.perf_counter() < end:
            due = time.perf_counter() + 0.002
            await asyncio.sleep(0.002)
            late = (time.perf_counter() - due) * 1e3
            waits.append(late + await one(layer, b'{"n":1}'))

    async def watch() -> None:
        nonlocal stall
        while time.perf_counter() < end:
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            stall = max(stall, (time.perf_counter() - begun) * 1e3 - 1)

    async def hostile() -> None:
        while body and time.perf_counter() < end:
            await one(layer, body)
            await asyncio.sleep(0.2)

    await one(layer, b"{}")
    await asyncio.gather(others(), watch(), hostile())
    return statistics.median(waits), statistics.quantiles(waits, n=100)[98], stall


async def run(delivery: str, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as home:
        layer = AuditMiddleware(app, home=home, delivery=delivery)
        for name, unit in UNITS.items():
            body = ("password: x\n" + unit * 20_000)[:K64].encode() if unit else b""
            p50, p99, stall = await measured(layer, body, seconds)
            print(f"{delivery:8} {name:12} others p50 {p50:7.2f} ms, p99 {p99:7.2f} ms, longest stall {stall:7.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stall", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kind of post")
    parser.add_argument("--delivery", choices=("buffered", "durable"), action="append")
    options = parser.parse_args()
    for delivery in options.delivery or ("buffered", "durable"):
        asyncio.run(run(delivery, options.seconds))


if __name__ == "__main__":
    main()
