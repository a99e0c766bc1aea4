"""`serve`, with its indexer, under hostile clients: `python -m tests.bench.hostile [--pinned] [KIND …]`.

Each kind of client runs in a process of its own against one `serve` over a real socket, while two good clients send
requests: one with another key for its page of 100, one for `/health/live`. The output shows their waiting times, the
largest resident memory of the server's process, and how long SIGTERM takes while the clients are still there.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import http.client
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.waiting import until

KINDS = ("greedy", "deaf", "leaving", "unknown", "silent", "endless-body")
WINDOW = json.dumps({"from": "2026-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"})
PAGE_RECORDS = 1_000
_COMMAND = Path(sys.executable).with_name("asgi-audit")
_LINE = re.compile(r"listens on http://127\.0\.0\.1:(\d+),")
_TIMEOUT = 60.0  # a good client gives up after this time; its waiting time is measured


@dataclass
class Figures:
    """Seconds; `failed`: requests of good clients without a response."""

    kind: str
    page: list[float] = field(default_factory=list)
    live: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    rss: int = 0
    ended: float = math.inf  # after SIGTERM; infinite when it did not end within two minutes
    log_lines: int = 0
    open: int = 0  # connections of the server when the clients had been there for the whole time


@dataclass
class Target:
    port: int
    bad: str  # key
    good: str
    bad_execution: str
    good_execution: str


def fill(home: Path) -> None:
    """Account `bad`: 1,000 records of 9 KB that do not compress. Account `good`: 100 small ones."""
    from asgi_audit.store.base import Batch
    from asgi_audit.store.sqlite.writer import SqliteWriter
    from asgi_audit.transport.base import Position
    from tests.support.records import foreign, read_until

    now = int(time.time() * 1000) - 3_600_000
    records = [
        foreign(now + n, account="bad", name=f"b{n}", body=base64.b64encode(os.urandom(6_600)).decode())
        for n in range(PAGE_RECORDS)
    ]
    records += [foreign(now + n, account="good", name=f"g{n}") for n in range(100)]
    writer = SqliteWriter(home / "index")
    writer.write(Batch(source="t", records=records, positions={"p": Position(1, b"")}))
    writer.read_until(read_until(time.time()))
    writer.close()


@contextlib.contextmanager
def serving(home: Path, descriptors: int | None) -> Iterator[tuple[subprocess.Popen[str], Target, Path]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ASGI_AUDIT_")}
    environment |= {"ASGI_AUDIT_HOME": str(home), "PYTHONUNBUFFERED": "1"}

    def create(account: str) -> str:
        arguments = [str(_COMMAND), "keys", "create", "--role", "reader", "--account", account]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    fill(home)
    bad, good = create("bad"), create("good")
    log = home / "serve.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [str(_COMMAND), "serve", "--port", "0"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            preexec_fn=lambda: _limit(descriptors),
        )
    try:
        assert server.stdout is not None
        found = _LINE.search(server.stdout.readline())
        assert found is not None, log.read_text()
        port = int(found[1])
        target = Target(port, bad, good, "", "")
        until(lambda: ask(target, "GET", "/health/live")[0] == 200, "the server answers")
        for key, name in ((bad, "bad_execution"), (good, "good_execution")):
            status, body = ask(target, "POST", "/trail", key, WINDOW)
            assert status == 200, body
            setattr(target, name, json.loads(body)["queryExecutionId"])
        yield server, target, log
    finally:
        server.kill()
        server.communicate()


def _limit(descriptors: int | None) -> None:
    if descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


def ask(target: Target, method: str, path: str, key: str = "", body: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=_TIMEOUT)
    try:
        connection.request(method, path, body, {"authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as e:
        return 0, type(e).__name__.encode()
    finally:
        connection.close()


def measure(
    kind: str, connections: int, seconds: float, descriptors: int | None = None, *, pinned: bool = False
) -> Figures:
    """Runs for `seconds`; `silent-once` at most that long, until the server has closed all of them. `pinned`: the
    server alone on one processor, the clients, good and bad, on the others, because remote attackers take no processor
    time from the server."""
    figures = Figures(kind)
    cores = sorted(os.sched_getaffinity(0)) if pinned else []
    with tempfile.TemporaryDirectory() as directory, serving(Path(directory), descriptors) as (server, target, log):
        process = psutil.Process(server.pid)
        if len(cores) > 1:
            _pin(server.pid, cores[-1:])
            _pin(os.getpid(), cores[:-1])  # the attackers inherit it
        attack = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.hostile", "--attack", kind, "--connections", str(connections),
             "--target", json.dumps(target.__dict__)],
            cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert attack.stdout is not None
            assert attack.stdout.readline() == "begun\n"
            stop, is_over = time.monotonic() + seconds, threading.Event()
            watching = threading.Thread(target=_watch, args=(process, figures, is_over))
            watching.start()
            while time.monotonic() < stop and not (kind == "silent-once" and not _open(process)):
                _good(target, figures, stop)
            is_over.set()
            watching.join()
            figures.open = _open(process)
            began = time.monotonic()
            server.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(120)
                figures.ended = time.monotonic() - began
        finally:
            attack.kill()
            attack.communicate()  # closes its pipe
            if len(cores) > 1:
                _pin(os.getpid(), cores)
        figures.log_lines = len(log.read_text().splitlines())
    return figures


def _open(process: psutil.Process) -> int:
    return len([c for c in process.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED])


def _pin(pid: int, cores: list[int]) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)


def _watch(process: psutil.Process, figures: Figures, is_over: threading.Event) -> None:
    while not is_over.wait(0.05):
        figures.rss = max(figures.rss, process.memory_info().rss)


def _good(target: Target, figures: Figures, stop: float) -> None:
    page = f"/trail/query-result/{target.good_execution}?limit=100"
    for path, key, waits in ((page, target.good, figures.page), ("/health/live", "", figures.live)):
        began = time.monotonic()
        status, body = ask(target, "GET", path, key)
        waits.append(time.monotonic() - began)
        if status != 200 or (key and len(json.loads(body)["data"]) != 100):
            figures.failed.append(f"{path[:13]} {status} {body[:60]!r}")
    time.sleep(min(0.1, max(0.0, stop - time.monotonic())))


# -- the hostile clients


async def attack(kind: str, connections: int, target: Target) -> None:
    clients = [asyncio.create_task(_client(kind, target)) for _ in range(connections)]
    await asyncio.sleep(1.0)
    print("begun", flush=True)
    await asyncio.gather(*clients)


async def _client(kind: str, target: Target) -> None:
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=4096)
            try:
                await _harm(kind, target, reader, writer)
            finally:
                writer.transport.abort()
        await asyncio.sleep(0.05)


async def _harm(kind: str, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    page = f"GET /trail/query-result/{target.bad_execution}?limit=1000 HTTP/1.1\r\nHost: x\r\n"
    page += f"Authorization: Bearer {target.bad}\r\n\r\n"
    if kind == "silent":
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX: ")
        await reader.read(1)  # until it is closed
        return
    if kind == "silent-once":
        await reader.read(1)
        await asyncio.sleep(3600)
    if kind == "endless-body":
        head = f"POST /trail HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {target.bad}\r\nContent-Length: 60000\r\n\r\n"
        writer.write(head.encode())
        while not reader.at_eof():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.5)
        return
    if kind == "unknown":
        key = f"aa_{'0' * 12}_{'x' * 43}"
        request = f"POST /trail HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 2\r\n\r\n{{}}"
        while not reader.at_eof():
            writer.write(request.encode())
            await _read(reader)
        return
    writer.write(page.encode())
    if kind == "leaving":
        await writer.drain()
        await asyncio.sleep(0.02)
    elif kind == "deaf":
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await writer.wait_closed()
    else:
        await _read(reader)


async def _read(reader: asyncio.StreamReader) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = await reader.read(4096)
        if not piece:
            return
        head += piece
    head, _, body = head.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head.lower())
    left = int(found[1]) - len(body) if found else 0
    while left > 0:
        piece = await reader.read(65_536)
        if not piece:
            return
        left -= len(piece)


HEADING = (
    "              page of 100      /health/live    failed         RSS   open  SIGTERM    log",
    "kind            p50 s   max s    p50 s   max s                MiB                s  lines",
)


def report(taken: list[Figures]) -> list[str]:
    return [*HEADING, *map(line, taken)]


def line(figures: Figures) -> str:
    def waits(taken: list[float]) -> str:
        ordered = sorted(taken)
        return f"{ordered[len(ordered) // 2]:6.2f} {ordered[-1]:7.2f}" if ordered else "     -       -"

    return (
        f"{figures.kind:<13} {waits(figures.page)}   {waits(figures.live)}  {len(figures.failed):>4}"
        f" of {len(figures.page) + len(figures.live):<4} {figures.rss / (1 << 20):>7.0f} {figures.open:>6}"
        f" {figures.ended:>8.1f} {figures.log_lines:>6}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hostile", description=__doc__)
    parser.add_argument("kinds", nargs="*", default=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--connections", type=int, default=280)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--descriptors", type=int, help="limit of open files of the server")
    parser.add_argument(
        "--pinned", action="store_true", help="the server alone on one processor, clients on the others"
    )
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        asyncio.run(attack(options.attack, options.connections, Target(**json.loads(options.target))))
        return
    print(
        f"{options.connections} clients for {options.seconds:g} s, descriptors {options.descriptors or 'as they are'}"
    )
    print(*HEADING, sep="\n")
    for kind in options.kinds:
        figures = measure(kind, options.connections, options.seconds, options.descriptors, pinned=options.pinned)
        print(line(figures), flush=True)


if __name__ == "__main__":
    main()
