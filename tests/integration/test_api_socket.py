"""The API behind a real server and over a real socket, reading a real SQLite index that is being written."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from tests.support.exports import exports_of
from tests.support.records import foreign, read_until
from tests.support.waiting import until

from asgi_audit.api.app import create_app
from asgi_audit.control import Control
from asgi_audit.query.service import QueryService
from asgi_audit.settings import Settings
from asgi_audit.store.base import Batch, Snapshot
from asgi_audit.store.sqlite.reader import SqliteReader
from asgi_audit.store.sqlite.writer import SqliteWriter
from asgi_audit.transport.base import Position

DEADLINE = 60.0


class Served:
    """A server, and an indexer that the test simulates."""

    def __init__(self, directory: Path, http: str) -> None:
        self.index = directory / "index"
        self.control = Control(directory / "control.db")
        _, self.key = self.control.create_key("reader", ["acme"])
        self.asked = threading.Event()  # a query checks how far the index is
        self.service = QueryService(self._reader, self.control.secret(), wait_seconds=DEADLINE)
        app = create_app(self.service, self.control, Settings(), exports_of(self.control))
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(app, http=http, ws="none", log_level="critical"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        self.client = httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {self.key}"}, timeout=DEADLINE)
        until(lambda: self.server.started)

    def _reader(self) -> SqliteReader:
        asked = self.asked

        class Reader(SqliteReader):
            def snapshot(self) -> Snapshot:
                asked.set()
                return super().snapshot()

        return Reader(self.index)

    def close(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(DEADLINE)
        self.socket.close()
        self.service.close()
        self.control.close()


@pytest.fixture(params=["h11", "httptools"])
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    made = Served(tmp_path, request.param)
    yield made
    made.close()


def test_request_made_before_the_query_is_in_its_answer_when_indexed_during_the_wait(served: Served) -> None:
    assert served.client.get("/health/live").json() == {"status": "ok"}
    writer = SqliteWriter(served.index)
    now = int(time.time() * 1000)

    def index() -> None:
        assert served.asked.wait(DEADLINE)  # a slow indexer: the record arrives while the POST waits
        writer.write(Batch(source="t", records=[foreign(now, instance="a b")], positions={"p": Position(1, b"")}))
        writer.read_until(read_until(time.time()))

    indexer = threading.Thread(target=index)
    indexer.start()
    body = {"from": "2024-01-01T00:00:00Z", "to": "2200-01-01T00:00:00Z"}
    started = served.client.post("/usage/gateway/a%20b/", json=body)
    indexer.join()
    writer.close()
    assert started.status_code == 200, started.text
    execution = started.json()["queryExecutionId"]
    answer = served.client.get(f"/usage/gateway/a%20b/query-result/{execution}")
    assert [r["timestamp"] for r in answer.json()["data"]] == [now]
    head = served.client.head(f"/usage/gateway/a%20b/query-result/{execution}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))


def test_errors_have_their_shape_over_the_wire(served: Served) -> None:
    SqliteWriter(served.index).close()
    for method, path, key, content, status in [
        ("POST", "/trail", None, b"{}", 401),
        ("POST", "/trail", served.key, b"{}", 400),
        ("POST", "/trail", served.key, b" " * 1_000_000, 413),
        ("POST", "/nowhere/a/b", served.key, b"", 404),
        ("PUT", "/trail", served.key, b"", 405),
        ("GET", "/trail/query-result/x", served.key, b"", 404),
    ]:
        # A connection each: the server may close it after a response to a body that it did not read.
        headers = {"x-api-key": key} if key else {}
        answer = httpx.request(method, served.url + path, headers=headers, content=content, timeout=DEADLINE)
        assert answer.status_code == status, answer.text
        assert set(answer.json()) <= {"type", "message", "action"}
    assert served.client.get("/health/ready").status_code == 200


def test_pages_stay_on_their_snapshot_when_many_ask_while_records_come(served: Served) -> None:
    """Several threads read small pages from one server, while an indexer writes."""
    writer = SqliteWriter(served.index)
    base = int(time.time() * 1000) - 3_600_000
    count = 0

    def write(n: int) -> None:
        nonlocal count
        records = [foreign(base + (7 * i) % 50, name=f"{i:05d}") for i in range(count, count + n)]
        count += n
        writer.write(Batch(source="t", records=records, positions={"p": Position(count, b"")}))

    write(200)
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(base / 1000 + 1800))
    failures: list[str] = []

    def walk() -> None:
        low = count
        with httpx.Client(base_url=served.url, headers={"x-api-key": served.key}, timeout=DEADLINE) as client:
            started = client.post("/trail", json={"from": "2024-01-01T00:00:00Z", "to": until})
            high = count
            path = f"/trail/query-result/{started.json()['queryExecutionId']}"
            found: list[tuple[int, str]] = []
            token: dict[str, str] = {}
            while True:
                page = client.get(path, params={"limit": "37", **token}).json()
                found += [(r["timestamp"], r["metadata"]["id"]) for r in page["data"]]
                if "nextToken" not in page:
                    break
                token = {"nextToken": page["nextToken"]}
        total = len(found)
        if not low <= total <= high + 20 or {name for _, name in found} != {f"{i:05d}" for i in range(total)}:
            failures.append(f"{total} found, {low} to {high} expected")
        if [at for at, _ in found] != sorted((at for at, _ in found), reverse=True):
            failures.append("not newest first")

    walkers = [threading.Thread(target=walk) for _ in range(6)]
    for w in walkers:
        w.start()
    while any(w.is_alive() for w in walkers):
        write(20)
    writer.close()
    assert failures == []
    assert count > 200
