"""Queries to a large index over HTTP while records arrive: pages at the beginning and far behind, totals, histograms.

The records of `mixture`, evenly over seven days up to now, are indexed first, or reused from an earlier run. Then an
indexer in a process of its own adds new ones, `asgi-audit serve` serves in another one, and one client sends one query
after the other. A POST of usage or trail waits for earlier requests; only the pages that it starts are timed.

The records that arrive are made in advance: making them takes as much CPU as indexing them.

On two processors p99 shows mostly how long threads wait for a processor. A thread that is woken may wait for the
kernel's next tick (4 ms at 250 Hz), and each answer wakes the client, the server's event loop and a reader's thread. So
run it alone. Where the kernel groups processes by session (`/proc/sys/kernel/sched_autogroup_enabled` is 1), `nice`
counts only within a session; `echo -20 >/proc/self/autogroup` in the shell prefers its session to all others.
"""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from asgi_audit.control import Control
from asgi_audit.control.exports import ExportRequest, State
from asgi_audit.errors import QueryError
from asgi_audit.query.model import Grant
from asgi_audit.record.codec import decode
from asgi_audit.store.base import Batch, Query
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter
from asgi_audit.store.state import ReadUntil
from asgi_audit.transport.base import Position
from tests.support.ports import free_port

from .load import percentile
from .mixture import ACCOUNTS, INSTANCE, SERVICES, Mixture
from .serving import wait_for

DAYS = 7
_DAY_MS = 86_400_000
_BATCH = 4_000
_EACH = 100  # rows of a page
_EXPORTS = 100
_DEEP = 1_000  # the page that is far behind


class Size(NamedTuple):
    """`repeats`: of each query. `per_second`: records that arrive; `ready`: how many of them are made in advance."""

    records: int
    repeats: int
    per_second: int
    ready: int = 0


class Took(NamedTuple):
    """In ms. `cpu`: mean CPU of the serving process; it is the most meaningful value when other programs run. `bound`:
    upper bound for p99 on an otherwise idle machine."""

    p50: float
    p99: float
    cpu: float
    bound: float


class Figures(NamedTuple):
    records: int
    rows: dict[str, int]  # of the rollup, per table
    bytes_of_raw: float  # 0.0 when the index existed already
    indexed_per_second_and_core: float
    took: dict[str, Took]


def measure(size: Size, seed: int, kept: str | None = None) -> Figures:
    """`kept`: the directory of an index that is created when it is missing, and stays."""
    with tempfile.TemporaryDirectory() as home:
        index = Path(kept or f"{home}/index")
        ratio, rate = (0.0, 0.0) if (index / "main.db").exists() else build(index, size.records, seed)
        with _arriving(index, size), _serving(Path(home), index) as ask:
            took = _pages(ask, size.repeats) | _totals(index, size.repeats)
        reader = SqliteReader(index)
        try:
            return Figures(reader.records(), _rollup(index), ratio, rate, took)
        finally:
            reader.close()


def build(index: Path, number: int, seed: int) -> tuple[float, float]:
    """(stored bytes for each byte of the raw JSON, records per second and core)."""
    end = int(time.time() * 1000) - 60_000
    step = DAYS * _DAY_MS / number
    made = Mixture(seed).records(int(end - DAYS * _DAY_MS + n * step) for n in range(number))
    writer = SqliteWriter(index)
    cpu = raw = taken = 0.0
    while batch := [record for record, _ in zip(made, range(_BATCH), strict=False)]:
        raw += sum(map(len, batch))
        taken += len(batch)
        begun = time.process_time()
        records = [decode(record) for record in batch]
        writer.write(Batch(source="bench", records=records, positions={"p": Position(int(taken), b"")}))
        cpu += time.process_time() - begun
    writer.close()
    return sum(p.stat().st_size for p in index.glob("day-*.db")) / raw, taken / cpu


def arrive(directory: str, per_second: int, seed: int, ready: int) -> None:
    """Index new records, some batches a second, until killed. `ready`: how many are made before."""
    mixture = Mixture(seed)
    begun = int(time.time() * 1000)
    made = deque(mixture.records(begun + n * 1000 // per_second for n in range(ready)))
    writer = SqliteWriter(Path(directory))
    gc.collect()
    gc.freeze()  # a collection of what is made would stop the indexer
    print("arriving", flush=True)
    number = max(1, per_second // 20)
    position, due = 0, time.monotonic()
    while True:
        now = int(time.time() * 1000)
        taken = [made.popleft() for _ in range(min(number, len(made)))]
        taken += mixture.records(iter([now] * (number - len(taken))))
        records = [decode(record) for record in taken]
        position += number
        mark = ReadUntil(now, now, 0, "", 0)
        at = {"p": Position(position, b"")}
        writer.write(Batch(source="arriving", records=records, positions=at, read_until=mark))
        due += number / per_second
        time.sleep(max(0.0, due - time.monotonic()))


@contextmanager
def _arriving(index: Path, size: Size) -> Iterator[None]:
    asked = f"{str(index)!r}, {size.per_second}, {time.time_ns() % 10**6}, {size.ready}"
    code = f"from tests.bench.query import arrive; arrive({asked})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"arriving\n":
            raise RuntimeError("the indexer beside us did not start")
        yield
        if process.poll() is not None:
            raise RuntimeError("the indexer beside us ended")
    finally:
        process.kill()
        process.communicate()


class _Ask:
    """One connection to the server."""

    def __init__(self, port: int, key: str, pid: int) -> None:
        self._stat = Path(f"/proc/{pid}/stat")
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __call__(self, path: str, body: Any = None, **query: Any) -> tuple[float, Any]:
        """(ms until the last byte, the response)."""
        if query:
            path += "?" + urlencode(query)
        data = None if body is None else json.dumps(body)
        begun = time.perf_counter()
        self._connection.request("GET" if body is None else "POST", path, data, self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        took = (time.perf_counter() - begun) * 1e3
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {answer[:300]!r}")
        return took, json.loads(answer)

    def close(self) -> None:
        self._connection.close()

    def cpu_ms(self) -> float:
        """CPU of the server since it began."""
        user, system = self._stat.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) * 1e3 / os.sysconf("SC_CLK_TCK")


@contextmanager
def _serving(home: Path, index: Path) -> Iterator[_Ask]:
    control = Control(home / "control.db")
    _, key = control.create_key("auditor", "*")
    said = {"region_group": "classic", "time_start": "2024-01-01T00:00:00Z", "time_end": "2024-01-01T00:00:01Z"}
    ended = ExportRequest(Query(accounts=None, start=0, end=1), said, "classic", state=State.DOES_NOT_EXIST)
    for _ in range(_EXPORTS):
        control.exports.request(Grant(key_id="bench", role="auditor", accounts=None), ended)
    control.close()
    port = free_port()
    command = [sys.executable, "-m", "asgi_audit", "serve", "--no-index", "--port", str(port), "--home", str(home)]
    server = subprocess.Popen(
        [*command, "--store", f"sqlite:///{index}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        wait_for(port, server)
        with closing(_Ask(port, key, server.pid)) as ask:
            yield ask
    finally:
        server.terminate()
        server.wait(20)


def _pages(ask: _Ask, repeats: int) -> dict[str, Took]:
    end = time.gmtime(time.time() + 86_400)
    window = {
        "from": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - (DAYS + 1) * 86_400)),
        "to": time.strftime("%Y-%m-%dT%H:%M:%SZ", end),
    }
    took: dict[str, Took] = {}

    def timed(name: str, question: Callable[[], tuple[float, Any]], bound: float = 10.0) -> None:
        question()
        cpu = ask.cpu_ms()
        times = [question()[0] for _ in range(repeats)]
        took[name] = _took(times, ask.cpu_ms() - cpu, bound)

    def walked(name: str, page: Callable[..., tuple[float, Any]], cursor_of: Callable[[Any], str | None]) -> None:
        """The first page, and those from the thousandth row on. Pages of a thousand lead there."""
        timed(f"{name}, first page", lambda: page(limit=_EACH))
        at = cursor_of(page(limit=1_000)[1])
        for _ in range((_DEEP - 1) * _EACH // 1_000 - 1):
            following = cursor_of(page(limit=1_000, cursor=at)[1]) if at else None
            if following is None:
                break
            at = following
        times: list[float] = []
        cpu = ask.cpu_ms()
        while at and len(times) < repeats:
            ms, found = page(limit=_EACH, cursor=at)
            times.append(ms)
            at = cursor_of(found)
        if times:
            took[f"{name}, page {_DEEP:,} and on"] = _took(times, ask.cpu_ms() - cpu, 10.0)

    for name, path in (("usage", f"/usage/{SERVICES[0]}/{INSTANCE}"), ("trail", "/trail")):
        execution = f"{path}/query-result/" + ask(path, window)[1]["queryExecutionId"]

        def result(limit: int, cursor: str | None = None, execution: str = execution) -> tuple[float, Any]:
            return ask(execution, limit=limit, **({"nextToken": cursor} if cursor else {}))

        walked(name, result, lambda found: found.get("nextToken"))
    walked("logs", lambda **q: ask("/logs", **q), lambda found: found["data"]["pagination"]["cursor"])
    walked("records", lambda **q: ask("/records", **q), lambda found: found["cursor"])
    walked("feed", lambda limit, cursor=None: ask("/feed", limit=limit, **({"after": cursor} if cursor else {})),
           lambda found: found["cursor"] if found["more"] else None)  # fmt: skip
    # A window that ends before now: otherwise it would wait for earlier requests.
    listed: dict[str, Any] = {"service": SERVICES[0], "showAll": True, "start": window["from"]}
    listed["end"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 600))
    for rows, bound in ((_EACH, 10.0), (2_000, 100.0)):
        command = {"1": {"command": "usage.api.list", "params": listed | {"limit": rows}}}
        timed(f"usage.api.list, {rows:,} rows", lambda command=command: ask("/api", command), bound)
    timed(f"exports, a list of {_EXPORTS}", lambda: ask("/api/v1/logs/_list?type=query", {}))
    there = ask("/logs", limit=1)[1]["data"]["pagination"]["total"]
    offset = min(100_000, there // 2)
    timed("logs, of one level, first page", lambda: ask("/logs", limit=_EACH, level="ERROR"))
    timed(f"logs, offset {offset:,}", lambda: ask("/logs", limit=_EACH, offset=offset), 100.0)
    return took


def _totals(index: Path, repeats: int) -> dict[str, Took]:
    """Reads the store itself. The window begins and ends within a minute, so both ends are counted row by row."""
    now = int(time.time() * 1000)
    start, end = now - DAYS * _DAY_MS + 12_345, now
    minute = now - now % 60_000
    reader = SqliteReader(index)
    took: dict[str, Took] = {}

    def timed(
        name: str, ask: Callable[[SqliteReader, int], Any], bound: float, readers: Callable[[], SqliteReader]
    ) -> None:
        times = []
        cpu = 0.0
        for _ in range(repeats):
            asked = readers()
            published = asked.snapshot().published
            begun, used = time.perf_counter(), time.process_time()
            with contextlib.suppress(QueryError):  # not counted within 2 s: the query would fail
                ask(asked, published)
            cpu += (time.process_time() - used) * 1e3
            times.append((time.perf_counter() - begun) * 1e3)
            if asked is not reader:
                asked.close()
        took[name] = _took(times, cpu, bound)

    def another() -> SqliteReader:
        """A reader without remembered counts, with all files open."""
        found = SqliteReader(index)
        found.records()
        return found

    def counted(name: str, bound: float, **filters: Any) -> None:
        query = Query(**{"accounts": None, "start": start, "end": end, **filters})
        timed(f"total, {name}", lambda r, published: r.count(query, published=published), bound, another)
        timed(f"total, {name}, again", lambda r, published: r.count(query, published=published), bound, lambda: reader)

    one = frozenset({ACCOUNTS[3]})
    try:
        counted("everything", 50.0)
        counted("one account", 50.0, accounts=one)
        counted("errors of one service", 50.0, service=SERVICES[1], levels=frozenset({"ERROR"}))
        whole = Query(accounts=None, start=minute - DAYS * _DAY_MS, end=minute)
        for minutes in (7, 60):
            timed(
                f"histogram by level, {DAYS * 1_440 // minutes:,} buckets of {minutes} minutes",
                lambda r, published, m=minutes: r.histogram(whole, published=published, by="level", minutes=m),
                50.0,
                lambda: reader,
            )
        counted("a search for a frequent word", 2_000.0, text="unauthorized")
        counted("a search for a phrase, one account", 2_000.0, accounts=one, text='"404 not found"')
    finally:
        reader.close()
    return took


def _took(times: list[float], cpu: float, bound: float) -> Took:
    """`cpu`: of all of them."""
    return Took(percentile(times, 0.5), percentile(times, 0.99), cpu / len(times), bound)


def _rollup(index: Path) -> dict[str, int]:
    import apsw

    rows: dict[str, int] = {}
    for path in index.glob("day-*.db"):
        day = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        for table in ("minutes", "hours", "kind"):
            rows[table] = rows.get(table, 0) + int(day.execute(f"SELECT count(*) FROM {table}").get)
        day.close()
    return rows


def report(figures: Figures) -> list[str]:
    lines = [
        f"{figures.records:,} records; rows of the rollup: {', '.join(f'{n:,} {t}' for t, n in figures.rows.items())}"
    ]
    if figures.bytes_of_raw:
        lines.append(
            f"{figures.bytes_of_raw:.3f} bytes stored for each of the raw JSON; "
            f"{figures.indexed_per_second_and_core:,.0f} indexed a second and core"
        )
    lines.append(f"{'question':<52}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}{'bound':>8}")
    lines += [f"{what:<52}{t.p50:>9.2f}{t.p99:>9.2f}{t.cpu:>9.2f}{t.bound:>8.0f}" for what, t in figures.took.items()]
    return lines
