"""Each server, with keep-alive, streams, clients that leave, responses without a body, large bodies, failures and
SIGTERM: clients receive what the application sends, and each exchange is one record with what the client saw.

uvicorn is installed for development; the others are tested where they are installed (`pip install hypercorn granian
daphne`)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from tests.e2e.commands import Running, running
from tests.support.ports import free_port
from tests.support.schema import checked
from tests.support.waiting import until

from asgi_audit.transport.base import Kind
from asgi_audit.wiring.environment import settings_from
from asgi_audit.wiring.operations import follow_journal

APPLICATION = Path(__file__).with_name("served_app.py")
UPLOAD = bytes(range(256)) * 8192  # 2 MiB
DIGEST = hashlib.sha256(UPLOAD).hexdigest()
DOWNLOAD_BYTES = 4 << 20
LEFT = ("disconnected", "cancelled")

SERVERS = {
    "uvicorn-h11": "uvicorn served_app:app --http h11 --port {port}",
    "uvicorn-httptools": "uvicorn served_app:app --http httptools --port {port}",
    "uvicorn-without-lifespan": "uvicorn served_app:app --lifespan off --port {port}",
    "uvicorn-workers": "uvicorn served_app:app --workers 2 --port {port}",
    "hypercorn": "hypercorn served_app:app -b 127.0.0.1:{port}",
    "hypercorn-trio": "hypercorn served_app:app -k trio -b 127.0.0.1:{port}",
    "granian": "granian --interface asgi served_app:app --port {port}",
    "daphne": "daphne served_app:app -b 127.0.0.1 -p {port}",
}
QUICK = ("uvicorn-httptools", "hypercorn")  # those of `make test`
# Cuts off the current request at SIGTERM, with or without the middleware; the exchange is stated as open.
HASTY = ("daphne",)
# Raises the signal again and dies of it, without a shutdown event before: the process that adopts the journal states
# it.
UNCLOSED = ("uvicorn-without-lifespan",)
# Calls the application only when the whole request has arrived: no exchange when the client leaves before.
READS_FIRST = ("daphne",)


@dataclass(frozen=True)
class Expected:
    path: str
    status: int
    outcomes: tuple[str, ...] = ("completed",)
    size: int | None = None  # of the response's body


class Clients:
    """Sends requests, and notes what the record of each one must contain."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.expected: dict[str, Expected] = {}

    def expect(self, path: str, status: int, **more: Any) -> dict[str, str]:
        """The header that identifies the request."""
        request_id = f"r-{len(self.expected)}"
        self.expected[request_id] = Expected(path, status, **more)
        return {"x-request-id": request_id}

    @contextlib.asynccontextmanager
    async def connected(self) -> Any:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False) as client:
            yield client

    async def ask(self, client: httpx.AsyncClient, method: str, path: str, status: int = 200, **more: Any) -> bytes:
        headers = self.expect(path, status)
        response = await client.request(method, path, headers=headers, **more)
        assert (response.status_code, response.headers["x-request-id"]) == (status, headers["x-request-id"])
        known = self.expected[headers["x-request-id"]]
        size = len(response.content)
        self.expected[headers["x-request-id"]] = Expected(known.path, status, known.outcomes, size)
        return response.content

    async def usual(self) -> None:
        async with self.connected() as client:
            for _ in range(5):
                assert await self.ask(client, "GET", "/hello") == b"hello"
            assert await self.ask(client, "HEAD", "/hello") == b""
            assert await self.ask(client, "GET", "/204", 204) == await self.ask(client, "GET", "/304", 304) == b""
            assert await self.ask(client, "GET", "/chunks") == b"".join(b"%05d" % i for i in range(20))
            uploaded = f"{len(UPLOAD)} {DIGEST}".encode()
            assert await self.ask(client, "POST", "/upload", content=UPLOAD) == uploaded
            assert await self.ask(client, "POST", "/upload", content=_in_parts(UPLOAD)) == uploaded
            assert len(await self.ask(client, "GET", "/download")) == DOWNLOAD_BYTES
            await asyncio.gather(*(self.ask(client, "GET", "/chunks") for _ in range(10)))
            response = await client.get("/fails", headers=self.expect("/fails", 500, outcomes=("failed",)))
            assert response.status_code == 500

    async def leaving(self) -> None:
        async with self.connected() as client:
            headers = self.expect("/events", 200, outcomes=LEFT)
            async with client.stream("GET", "/events", headers=headers) as response:
                async for _ in response.aiter_bytes():
                    break

    async def leaving_while_sending(self, server: Running) -> None:
        (request_id,) = self.expect("/upload", 499, outcomes=(*LEFT, "failed")).values()
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST /upload HTTP/1.1\r\nhost: h\r\nx-request-id: {request_id}\r\ncontent-length: 9999\r\n\r\n"
        writer.write(head.encode() + b"x" * 50)
        await writer.drain()
        # Two earlier uploads were complete.
        await asyncio.to_thread(until, lambda: server.said.count("called: uploading") == 3, "it is called")
        writer.close()

    async def asking_while_it_ends(self, server: Running) -> None:
        async with self.connected() as client:
            asked = asyncio.create_task(client.get("/slow", headers=self.expect("/slow", 200)))
            await asyncio.to_thread(server.wait_for, "called: slow")
            server.process.send_signal(signal.SIGTERM)
            assert (await asked).text == "slow"


async def _in_parts(data: bytes) -> Any:
    for at in range(0, len(data), 100_000):
        yield data[at : at + 100_000]


@pytest.fixture
def port() -> int:
    return free_port()


@contextlib.contextmanager
def serving(name: str, port: int, tmp_path: Path, delivery: str) -> Iterator[Running]:
    module, *arguments = SERVERS[name].format(port=port).split()
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install {module}")
    shutil.copy(APPLICATION, tmp_path)
    home = {"ASGI_AUDIT_HOME": str(tmp_path / "home"), "ASGI_AUDIT_DELIVERY": delivery}
    with running(sys.executable, "-m", module, *arguments, cwd=tmp_path, **home) as server:
        try:
            until(lambda: _answers(port) or server.process.poll() is not None, "it serves")
            assert server.process.poll() is None, server.said
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.process.pid, signal.SIGKILL)  # workers too


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def read_journal(home: Path) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Records by request id, each once, and the last statement of each process."""
    records: dict[str, dict[str, Any]] = {}
    statements: dict[str, dict[str, Any]] = {}
    for message in follow_journal(settings_from(home=home), from_beginning=True, stop=lambda: True):
        if message.kind == Kind.RECORD:
            record = checked(bytes(message.payload))
            request_id = record["metadata"]["requestId"]
            assert request_id not in records
            records[request_id] = record
        elif message.kind == Kind.STATEMENT:
            statement = orjson.loads(message.payload)
            statements[statement["process"]] = statement
    return records, statements


@pytest.mark.parametrize("delivery", [pytest.param("buffered", marks=pytest.mark.full), "durable"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] * (name not in QUICK)) for name in SERVERS]
)
def test_every_exchange_is_one_record_that_says_what_the_client_saw(
    name: str, delivery: str, port: int, tmp_path: Path
) -> None:
    clients = Clients(port)
    pids: set[bytes] = set()

    def records() -> dict[str, dict[str, Any]]:
        return read_journal(tmp_path / "home")[0]

    async def ask_all(server: Running) -> None:
        await clients.usual()
        await clients.leaving()
        if name not in READS_FIRST:
            await clients.leaving_while_sending(server)
        if "workers" in name:
            while len(pids) < 2:
                async with clients.connected() as client:
                    pids.add(await clients.ask(client, "GET", "/pid"))
        if name in HASTY:
            await asyncio.to_thread(until, lambda: clients.expected.keys() == records().keys(), "who left is noticed")
            server.process.send_signal(signal.SIGTERM)
        else:
            await clients.asking_while_it_ends(server)

    with serving(name, port, tmp_path, delivery) as server:
        asyncio.run(ask_all(server))
        server.process.wait(60)
        found, statements = read_journal(tmp_path / "home")

    if name in UNCLOSED and delivery == "buffered":
        # Exchanges sealed in the last 20 ms before the signal are not written; the next process states them as lost.
        for request_id in [r for r, e in clients.expected.items() if e.path == "/slow" and r not in found]:
            del clients.expected[request_id]
    for request_id, expected in clients.expected.items():
        assert request_id in found, expected
        record = found[request_id]
        context = record["context"]
        assert (record["request"]["path"], record["response"]["statusCode"]) == (expected.path, expected.status)
        assert context["outcome"] in expected.outcomes, expected
        if expected.size is not None and record["request"]["method"] != "HEAD":
            assert context["responseBody"]["bytes"] == expected.size, expected
    assert found.keys() == clients.expected.keys()
    assert len(statements) == (2 if "workers" in name else 1)
    assert all(s.get("lost") == [] for s in statements.values()), statements
    if name not in UNCLOSED:
        assert sum(s["last"] for s in statements.values()) == len(found), statements
        assert all(s.get("open_count") == 0 for s in statements.values()), statements
        assert {s["closed"] for s in statements.values()} <= {"provisional", "final"}, statements
