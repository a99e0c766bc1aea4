"""With a real Kafka: time until a request is in the index, indexing rate, and cost of forwarding.

Each process is separate, as in production: uvicorn with the middleware, the load (open loop), broker, sidecar; the
bench only reads the index. The broker is that of the tests (support/kafka.py); without any, the output says so in one
line.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from asgi_audit.encoding.builder import Builder
from asgi_audit.settings import Settings, make_settings
from asgi_audit.store.base import Query
from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.journal.writer import JournalWriter
from tests.support.kafka import HOW_TO_GET_ONE, any_broker
from tests.support.ports import free_port
from tests.support.waiting import until

from .indexing import exchanges
from .load import BODY, percentile
from .serving import wait_for

PROBES_PER_SECOND = 20  # requests whose appearance in the index is noted
ROOT = Path(__file__).parents[2]


class Way(NamedTuple):
    """From the end of a request, as its client sees it, until the index returns it; ms."""

    rate: int
    probes: int
    p50: float
    p99: float


class Forwarding(NamedTuple):
    """CPU µs of the forwarder's thread for a record, everything included: reading the journal, compression, sockets.
    `rate` 0: a backlog, at full speed."""

    rate: int
    records: int
    record_bytes: int
    per_batch: float
    cpu: float


class Figures(NamedTuple):
    ways: list[Way]
    forwarding: list[Forwarding]
    indexed: int
    indexed_per_second_and_core: float


def measure(seconds: float, records: int, rates: tuple[int, ...], seed: int) -> Figures | str:
    """`seconds` at each of `rates`, then `records` at once. Returns a text when there is no broker: how to get one."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-kafka-")))
        address = stack.enter_context(any_broker(directory / "broker"))
        if address is None:
            return HOW_TO_GET_ONE
        ways = [_way(address, rate, seconds, directory / f"way-{rate}") for rate in rates]
        forwarding = [
            _forward(address, rate, int(rate * seconds), seed, directory / f"forward-{rate}") for rate in rates
        ]
        transport = _topic(address, 6)
        forwarding.append(_forward(address, 0, records, seed, directory / "backlog", transport))
        rate = _index(transport, records, directory / "index")
        return Figures(ways, forwarding, records, rate)


def _topic(address: str, partitions: int) -> str:
    from asgi_audit.wiring.kafka import open_topic

    url = f"kafka://{address}/bench-{uuid.uuid4().hex[:10]}"
    topic = open_topic(make_settings({}), url)
    topic.create(topic.wanted(partitions=partitions))
    return url


# From a request to the index


def serve(port: int, transport: str, home: str) -> None:
    """Runs the application's process."""
    import uvicorn

    from asgi_audit import AuditMiddleware

    from .load import make_app

    app = AuditMiddleware(make_app(), transport=transport, home=home)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


def load(port: int, rate: int, seconds: float, name: str) -> None:
    """Runs the load's process: requests at fixed times, over 16 connections. Prints when each probe got its response,
    by the clock that all processes of a machine share."""
    print(json.dumps(asyncio.run(_load(port, rate, seconds, name))), flush=True)


async def _load(port: int, rate: int, seconds: float, name: str) -> dict[str, float]:
    connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(16):
        connections.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    head = "POST /orders HTTP/1.1\r\nhost: shop.example\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    ended: dict[str, float] = {}
    every = max(1, rate // PROBES_PER_SECOND)

    async def one(number: int) -> None:
        request_id = f"{name}-{number}"
        reader, writer = await connections.get()
        writer.write((head % len(BODY) + f"x-request-id: {request_id}\r\n\r\n").encode() + BODY)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the application answered {answer[:60]!r}")
        await reader.readexactly(int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        if number % every == 0:
            ended[request_id] = time.monotonic()
        connections.put_nowait((reader, writer))

    begun = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
            tasks.create_task(one(number))
    while not connections.empty():
        connections.get_nowait()[1].close()
    return ended


def _way(address: str, rate: int, seconds: float, directory: Path) -> Way:
    transport = _topic(address, 6)
    port = free_port()
    server = _python("serve", port, transport, str(directory / "home"))
    command = [sys.executable, "-m", "asgi_audit", "index", "--from", transport, "--to", f"sqlite:///{directory}/index"]
    command += ["--home", str(directory / "sidecar")]
    sidecar = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, server)
        _watched(directory / "index", port, rate, min(2.0, seconds))  # warm: the first waits for the sidecar
        took = _watched(directory / "index", port, rate, seconds)
    finally:
        for process in (server, sidecar):
            process.terminate()
        for process in (server, sidecar):
            process.wait(20)
    return Way(rate, len(took), percentile(took, 0.5) * 1e3, percentile(took, 0.99) * 1e3)


def _watched(index: Path, port: int, rate: int, seconds: float) -> list[float]:
    """Seconds of each probe from its response to the first read of the index (one every 2 ms) that finds it."""
    name = f"probe-{uuid.uuid4().hex[:8]}"
    every = max(1, rate // PROBES_PER_SECOND)
    waiting = [f"{name}-{number}" for number in range(0, int(rate * seconds), every)]
    now = int(time.time() * 1000)
    asking = _python("load", port, rate, seconds, name, stdout=subprocess.PIPE)
    seen: dict[str, float] = {}
    published, found = 0, [""]
    deadline = time.monotonic() + seconds + 60
    with _reader(index) as reader:
        while waiting:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(waiting)} requests were not queryable within a minute, {waiting[0]} first")
            if asking.poll():
                raise RuntimeError(f"the load ended with code {asking.returncode}")
            snapshot = reader.snapshot().published
            if not found and snapshot == published:
                time.sleep(0.002)
                continue
            published = snapshot
            # They arrive in order, except for those served concurrently.
            found = [i for i in waiting[:8] if _is_there(reader, i, now, published)]
            seen |= dict.fromkeys(found, time.monotonic())
            waiting = [i for i in waiting if i not in found]
    told = asking.communicate(timeout=60)[0]
    if asking.returncode:
        raise RuntimeError(f"the load ended with code {asking.returncode}")
    ended: dict[str, float] = json.loads(told)
    # A response's last byte may reach the client after the record is in the index.
    return [max(0.0, seen[i] - at) for i, at in ended.items()]


def _is_there(reader: Any, request_id: str, now: int, published: int) -> bool:
    query = Query(accounts=None, start=now - 60_000, end=now + 3_600_000, request_id=request_id)
    rows, _ = reader.page(query, published=published, before=None, limit=1, bytes_max=1 << 20)
    return bool(rows)


@contextlib.contextmanager
def _reader(index: Path) -> Iterator[Any]:
    from asgi_audit.store.sqlite import SqliteReader

    reader = SqliteReader(index)
    try:
        yield reader
    finally:
        reader.close()


def _python(function: str, *arguments: object, stdout: int | None = None) -> subprocess.Popen[bytes]:
    code = f"from tests.bench.kafka import {function}; {function}{arguments!r}"
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=stdout)


# Cost of forwarding


def _forward(address: str, rate: int, records: int, seed: int, directory: Path, transport: str = "") -> Forwarding:
    """Sends `records` through a journal into Kafka. A thread of this process writes the journal, whose CPU does not
    count, every 20 ms, as the recorder does."""
    from asgi_audit.wiring.kafka import open_forwarder

    settings = make_settings({}, transport=transport or _topic(address, 6), home=directory)
    with contextlib.ExitStack() as stack:
        write = _Journal(settings, seed)
        stack.callback(write.writer.close)
        if not rate:
            write.append(records)
        forwarder = open_forwarder(settings, drain=False)
        forwarder.start()
        stack.callback(forwarder.stop, 10.0)
        until(lambda: forwarder.state.name == "RUNNING", "the forwarder runs")
        if not rate:
            until(lambda: forwarder.stats().acknowledged >= records, "the backlog is sent")
            cpu, batches = _cpu_seconds(), forwarder.stats().batches
        else:
            write.append(rate // 10 or 1)  # the cost of a first batch is left out
            until(lambda: forwarder.stats().acknowledged >= (rate // 10 or 1), "the first batch is sent")
            before = forwarder.stats()
            cpu = _cpu_seconds()
            thread = threading.Thread(target=write.paced, args=(records, rate))
            thread.start()
            thread.join()
            until(lambda: forwarder.stats().acknowledged >= before.acknowledged + records, "all is sent")
            cpu, batches = _cpu_seconds() - cpu, forwarder.stats().batches - before.batches
        return Forwarding(rate, records, write.record_bytes, records / batches, cpu / records * 1e6)


def _cpu_seconds() -> float:
    thread = next(t for t in threading.enumerate() if t.name == "asgi-audit-forwarder")
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


class _Journal:
    def __init__(self, settings: Settings, seed: int) -> None:
        facts = ProcessFacts(uuid.uuid4(), "bench", "shop", int(time.time() * 1000))
        builder = Builder(make_settings({}, service="shop"), facts)
        self._made = exchanges(1 << 30, seed)
        self._build = builder.build
        path = settings.journal_path
        assert path is not None
        self.writer = JournalWriter(path, facts, bytes_max=8 << 30)
        self._records = 0
        self._bytes = 0

    @property
    def record_bytes(self) -> int:
        return self._bytes // self._records

    def _entries(self, count: int) -> list[Entry]:
        entries = [Entry(Kind.RECORD, x.sequence, self._build(x)) for x in itertools.islice(self._made, count)]
        self._records += len(entries)
        self._bytes += sum(len(e.payload) for e in entries)
        return entries

    def append(self, count: int) -> None:
        for start in range(0, count, 1_000):
            self.writer.append(self._entries(min(1_000, count - start)))

    def paced(self, count: int, rate: int) -> None:
        entries = self._entries(count)
        at_once = max(1, rate // 50)
        begun = time.monotonic()
        for start in range(0, count, at_once):
            time.sleep(max(0.0, begun + start / rate - time.monotonic()))
            self.writer.append(entries[start : start + at_once])


# Indexing rate


def _index(transport: str, records: int, directory: Path) -> float:
    """Records per second and core: the CPU of all threads of a process that indexes a topic from its beginning."""
    code = f"from tests.bench.kafka import index; index({transport!r}, {records!r}, {str(directory)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=600)
    return records / float(done.stdout)


def index(transport: str, records: int, directory: str) -> None:
    """Runs the indexer's process; prints the CPU seconds that it took from its first connection on."""
    from asgi_audit.wiring.operations import build_indexer, open_store_writer

    settings = make_settings({}, transport=transport, home=directory, store=f"sqlite:///{directory}/index")
    stop = threading.Event()
    writer = open_store_writer(settings)
    indexer = build_indexer(
        settings, writer, stop=stop, on_progress=lambda p: stop.set() if p.indexed >= records else None
    )
    cpu = time.process_time()
    indexer.run()
    print(time.process_time() - cpu)
    writer.close()


def report(figures: Figures | str) -> list[str]:
    if isinstance(figures, str):
        return [f"skipped: {figures}"]
    lines = [f"{'requests a second':<28}{'probes':>9}{'p50 ms':>9}{'p99 ms':>9}   from the answer to the index"]
    lines += [f"{w.rate:<28}{w.probes:>9}{w.p50:>9.0f}{w.p99:>9.0f}" for w in figures.ways]
    lines.append(f"{'forwarded':<28}{'records':>9}{'bytes':>9}{'a batch':>9}{'CPU µs a record':>18}")
    for f in figures.forwarding:
        what = f"{f.rate} a second" if f.rate else "a backlog"
        lines.append(f"{what:<28}{f.records:>9}{f.record_bytes:>9}{f.per_batch:>9.0f}{f.cpu:>18.1f}")
    lines.append(
        f"{figures.indexed:,} records from Kafka: {figures.indexed_per_second_and_core:,.0f} indexed a second and core"
    )
    return lines
