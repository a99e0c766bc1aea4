"""Records indexed per second and core, page latency at depth, and time from a request's end until queries find it."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from asgi_audit import AuditMiddleware
from asgi_audit.encoding.builder import Builder
from asgi_audit.exchange.sealed import Exchange
from asgi_audit.indexing.indexer import Indexer
from asgi_audit.recording.recorder import Recorder
from asgi_audit.settings import make_settings
from asgi_audit.store.base import Query
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter
from asgi_audit.transport.base import Kind, Message, Polled, Position, ProcessFacts, SourceIncident, digest_of

from .load import BODY, HEADERS, call, make_app, median, percentile

START = 1_767_225_600_000  # 2026-01-01T00:00:00Z in ms


class Figures(NamedTuple):
    records: int
    record_bytes: int
    indexed_per_second_and_core: float
    pages: dict[str, tuple[float, float]]  # {what: (median ms, p99 ms)}


class _List:
    """A Source over records that were built before the clock starts."""

    name = "bench"

    def __init__(self, messages: Sequence[Message]) -> None:
        self.left = list(messages)

    def open(self, positions: Mapping[str, Position]) -> None:
        pass

    def poll(self, messages_max: int, timeout_seconds: float) -> Polled:
        batch, self.left = self.left[:messages_max], self.left[messages_max:]
        if not batch:
            raise _Done
        last = batch[-1]
        return Polled(batch, {last.partition: Position(last.next, digest_of(last.payload))}, bool(self.left))

    def made_at(self) -> float | None:
        return None

    def take_incidents(self) -> Sequence[SourceIncident]:
        return ()

    def measures(self) -> Mapping[str, float]:
        return {}

    def ignore(self, partitions: Collection[str]) -> None:
        pass

    def commit(self, positions: Mapping[str, Position]) -> Sequence[str]:
        return ()

    def close(self) -> None:
        pass


class _Done(BaseException):
    pass


def exchanges(number: int, seed: int):  # type: ignore[no-untyped-def]
    """Varied exchanges of about 1.2 kB per record, ten of them spread over each second, over five accounts."""
    rng = random.Random(seed)
    paths = [f"/orders/{rng.randrange(10**6)}" for _ in range(500)] + ["/login", "/health", "/users"]
    at = START
    for i in range(number):
        x = Exchange()
        at += rng.randrange(0, 200)
        x.started_ns = at * 1_000_000
        x.duration_ns = rng.randrange(100_000, 90_000_000)
        x.method = rng.choice(("GET", "GET", "GET", "POST", "PUT", "DELETE"))
        x.path = rng.choice(paths)
        x.raw_path = x.path.encode()
        x.request_headers = list(HEADERS)
        x.request_id = uuid.UUID(int=rng.getrandbits(128)).hex
        x.account_id = f"account-{rng.randrange(5)}"
        x.principal = f"user-{rng.randrange(300)}"
        x.route = "/orders/{order}"
        x.status = rng.choice((200, 200, 200, 200, 201, 404, 401, 500))
        x.response_headers = [(b"content-type", b"application/json"), (b"content-length", b"380")]
        x.response_body.chunks = [BODY[: rng.randrange(1, 3) * 120]]
        x.response_body.kept = x.response_body.total = len(x.response_body.chunks[0])
        x.response_body.complete = x.request_body.complete = True
        x.sequence = i + 1
        yield x


def measure(number: int, pages: int, seed: int) -> Figures:
    facts = ProcessFacts(uuid.uuid4(), "bench", "shop", START)
    builder = Builder(make_settings({}, service="shop"), facts)
    messages: list[Message] = []
    for x in exchanges(number, seed):
        payload = builder.build(x)
        messages.append(Message("p", x.sequence, x.sequence + 1, Kind.RECORD, x.sequence, payload))
    size = sum(len(m.payload) for m in messages) // number
    messages = [m._replace(partition=str(facts.process)) for m in messages]
    with tempfile.TemporaryDirectory() as directory:
        writer = SqliteWriter(Path(directory))
        cpu = time.process_time()
        try:
            Indexer(_List(messages), writer).run()
        except _Done:
            pass
        cpu = time.process_time() - cpu
        writer.close()
        return Figures(number, size, number / cpu, _pages(Path(directory), number, pages))


def _pages(directory: Path, number: int, pages: int) -> dict[str, tuple[float, float]]:
    reader = SqliteReader(directory)
    published = reader.snapshot().published
    whole = (START, START + 400 * number)
    one = frozenset({"account-3"})
    asked = {
        "all accounts": Query(accounts=None, start=whole[0], end=whole[1]),
        "one account": Query(accounts=one, start=whole[0], end=whole[1]),
        "one account, DELETE": Query(accounts=one, start=whole[0], end=whole[1], method="DELETE"),
        "one account, a word": Query(accounts=one, start=whole[0], end=whole[1], text="unauthorized"),
    }
    out: dict[str, tuple[float, float]] = {}
    for name, query in asked.items():
        rows, before = 0, None
        took: list[float] = []
        while True:
            begun = time.perf_counter()
            page, more = reader.page(query, published=published, before=before, limit=100, bytes_max=8 << 20)
            took.append(time.perf_counter() - begun)
            rows += len(page)
            if not more or len(took) >= pages:
                break
            before = page[-1].id
        if not rows:
            raise RuntimeError(f"the index answered nothing for {name}")
        deep = took[len(took) // 2 :]
        out[f"{name}, pages {len(took) // 2 + 1}–{len(took)}"] = (median(deep) * 1e3, percentile(deep, 0.99) * 1e3)
    reader.close()
    return out


def queryable(requests: int, per_second: float) -> tuple[float, float]:
    """(p50, p99) in ms from the end of a request to the first response that contains it; requests at random times."""
    with tempfile.TemporaryDirectory() as home:
        sidecar = subprocess.Popen(
            [sys.executable, "-m", "asgi_audit", "index", "--home", home],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            took = asyncio.run(_queryable(Path(home), requests, per_second))
        finally:
            sidecar.terminate()
            sidecar.wait(20)
    return percentile(took, 0.5) * 1e3, percentile(took, 0.99) * 1e3


async def _queryable(home: Path, requests: int, per_second: float) -> list[float]:
    app = AuditMiddleware(make_app(), home=home)
    assert isinstance(app.recorder, Recorder)
    reader = SqliteReader(home / "index")
    try:
        return await _queried(app, reader, requests, per_second)
    finally:
        reader.close()
        app.recorder.stop()  # else it writes into a directory that is being removed


async def _queried(app: AuditMiddleware, reader: SqliteReader, requests: int, per_second: float) -> list[float]:
    rng = random.Random(7)
    took: list[float] = []
    for i in range(requests + 1):
        await call(app, "GET", f"/orders/{i}")
        ended = time.perf_counter()
        now = int(time.time() * 1000)
        query = Query(accounts=None, start=now - 60_000, end=now + 60_000)
        while True:
            rows, _ = reader.page(query, published=reader.snapshot().published, before=None, limit=1, bytes_max=1 << 20)
            if rows and f"/orders/{i}".encode() in rows[0].record:
                break
            if time.perf_counter() - ended > 30:
                raise RuntimeError(f"request {i} was not queryable within 30 s")
            await asyncio.sleep(0.002)
        if i:  # the first waits for the sidecar to start
            took.append(time.perf_counter() - ended)
        await asyncio.sleep(rng.expovariate(per_second))
    return took


def report(figures: Figures) -> list[str]:
    lines = [
        f"{figures.records:,} records of {figures.record_bytes:,} bytes: "
        f"{figures.indexed_per_second_and_core:,.0f} indexed a second and core",
        f"{'page of 100':<44}{'median ms':>10}{'p99 ms':>9}",
    ]
    lines += [f"{what:<44}{p50:>10.2f}{p99:>9.2f}" for what, (p50, p99) in figures.pages.items()]
    return lines
