"""The largest responses of `usage.api.list`, several at once: the memory of the process grows by the admitted bytes,
not by the records that are read.

Method: in a process of its own, an index of 36 MB of records, read by six requests at once; the peak of its
resident memory above that after one small request. If all records were kept, they alone would be 216 MB."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil

RECORDS, BODY_BYTES, AT_ONCE = 600, 60_000, 6
PEAK_MIB_MAX = 80  # 36 to 48 were seen
NAME = b'"execTime"'


def test_six_of_the_largest_answers_at_once_take_little_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tests.integration.test_tr50_memory import measure; measure()"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["answers"] == [[200, RECORDS]] * AT_ONCE
    assert seen["peak_mib"] < PEAK_MIB_MAX, seen


def measure() -> None:
    """Prints the figures as JSON. Run in a process of its own."""
    from tests.support.api import DAY_MS, SqliteApi
    from tests.support.records import foreign

    with tempfile.TemporaryDirectory() as directory:
        api = SqliteApi(Path(directory))
        _, key = api.control.create_key("auditor", ["acme"])
        text = "".join(chr(97 + n * n % 26) for n in range(BODY_BYTES))
        for n in range(0, RECORDS, 50):
            api.add(*(foreign(DAY_MS - i, name=f"r{i}", body=f"{i}{text}") for i in range(n, n + 50)))
        peak = [0]
        is_over = threading.Event()
        process = psutil.Process()

        def watch() -> None:
            while not is_over.wait(0.005):
                peak[0] = max(peak[0], process.memory_info().rss)

        async def call(limit: int) -> list[int]:
            body = {"1": {"command": "usage.api.list", "params": {"limit": limit}}}
            messages = iter([{"type": "http.request", "body": json.dumps(body).encode()}])
            status, found, tail = 0, 0, b""

            async def receive() -> Any:
                return next(messages, None) or await asyncio.Event().wait()

            async def send(message: Any) -> None:
                nonlocal status, found, tail
                status = message.get("status", status)
                data = tail + message.get("body", b"")  # the beginning of a name that is cut in two
                found += data.count(NAME)
                tail = data[-len(NAME) + 1 :]
                await asyncio.sleep(0)

            scope = {
                "type": "http", "method": "POST", "path": "/api", "raw_path": b"/api", "query_string": b"",
                "headers": [(b"x-api-key", key.encode())],
            }  # fmt: skip
            await api.app(scope, receive, send)
            return [status, found]

        async def run() -> Any:
            await call(1)
            gc.collect()
            idle = peak[0] = process.memory_info().rss
            watching = threading.Thread(target=watch)
            watching.start()
            answers = await asyncio.gather(*(call(2_000) for _ in range(AT_ONCE)))
            is_over.set()
            watching.join()
            return {"answers": answers, "peak_mib": round((peak[0] - idle) / 2**20)}

        print(json.dumps(asyncio.run(run())))
        api.close()
