"""Responses in flight over HTTP: 429 in the dialect's format, work whose client has left, pages in pieces."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import DAY, DAY_MS, Api
from tests.support.records import foreign

from asgi_audit.api.incoming import Incoming
from asgi_audit.api.page import PIECE_BYTES
from asgi_audit.api.server import REPEATS_MAX, REPEATS_SECONDS, RepeatFilter
from asgi_audit.api.shared import Shared


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path, in_flight_max=2)  # one for each key
    yield made
    made.close()


async def started(api: Api) -> str:
    async with api.client(api.acme) as client:
        answer = await client.post("/trail", json=DAY)
        return f"/trail/query-result/{answer.json()['queryExecutionId']}"


class Exchange:
    """One request without a client library: the test sees each message of the response and can delay it."""

    def __init__(self, api: Api, path: str, key: str, method: str = "GET") -> None:
        self.sent: list[Any] = []
        self.may_send = asyncio.Event()
        self.is_sending = asyncio.Event()
        self.leaves = asyncio.Event()
        self._begun = False
        self.scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(),
            "query_string": b"limit=1000" if method == "GET" else b"", "headers": [(b"x-api-key", key.encode())],
        }  # fmt: skip
        self.task = asyncio.create_task(api.app(self.scope, self._receive, self._send))

    async def _receive(self) -> Any:
        if not self._begun:
            self._begun = True
            return {"type": "http.request", "body": json.dumps(DAY).encode() if self.scope["method"] == "POST" else b""}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        self.is_sending.set()
        await self.may_send.wait()

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.sent)


@pytest.mark.anyio
async def test_key_with_its_most_answers_in_flight_gets_429_with_retry_after(api: Api) -> None:
    api.add(foreign(DAY_MS))
    path = await started(api)
    reading = Exchange(api, path, api.acme)
    await reading.is_sending.wait()
    async with api.client(api.acme) as client:
        for answer in (await client.get(path), await client.post("/trail", json=DAY)):
            assert answer.status_code == 429
            assert answer.headers["retry-after"] == "1"
            body = answer.json()
            assert body["type"] == "too_many_requests"
            assert body["message"]
            assert "Retry-After" in body["action"]
    async with api.client(api.beta) as client:
        assert (await client.post("/trail", json=DAY)).status_code == 200
    reading.may_send.set()
    await reading.task
    async with api.client(api.acme) as client:
        assert (await client.get(path)).status_code == 200
    assert (api.service.admission.in_flight, api.service.admission.bytes) == (0, 0)


@pytest.mark.anyio
async def test_page_is_sent_in_pieces_and_let_go_with_them(api: Api) -> None:
    api.add(*(foreign(DAY_MS + n, name=f"{n:04}", body="x" * 30_000) for n in range(20)))
    path = await started(api)
    exchange = Exchange(api, path, api.acme)
    await exchange.is_sending.wait()
    held = api.service.admission.bytes
    assert held > 600_000
    async with api.client("") as client:
        assert "asgi_audit_api_in_flight 1.0\n" in (await client.get("/metrics")).text
    exchange.may_send.set()
    await exchange.task
    pieces = [m["body"] for m in exchange.sent[1:]]
    assert len(pieces) >= 8
    assert max(map(len, pieces)) < 2 * PIECE_BYTES
    assert dict(exchange.sent[0]["headers"])[b"content-length"] == b"%d" % len(exchange.body)
    found = [r["metadata"]["id"] for r in json.loads(exchange.body)["data"]]
    assert found == [f"{n:04}" for n in reversed(range(20))]
    assert not exchange.sent[-1].get("more_body")
    head = Exchange(api, path, api.acme, "HEAD")
    head.may_send.set()
    await head.task
    assert head.body == b""
    assert dict(head.sent[0]["headers"])[b"content-length"] == b"%d" % len(exchange.body)
    assert (api.service.admission.in_flight, api.service.admission.bytes) == (0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_answer_is_given_up_when_its_client_leaves_while_it_is_made(
    api: Api, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await started(api)
    asked, given_up = asyncio.Event(), asyncio.Event()

    async def never(*_: Any, **__: Any) -> Any:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    monkeypatch.setattr(api.service._readers, "ask", never)
    exchange = Exchange(api, path if method == "GET" else "/trail", api.acme, method)
    await asked.wait()
    exchange.leaves.set()
    async with asyncio.timeout(20):
        await exchange.task
    assert given_up.is_set()
    assert exchange.sent == []
    assert (api.service.admission.in_flight, api.service.admission.bytes) == (0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("has_body", [True, False])
async def test_answer_is_not_given_up_when_a_server_returns_empty_requests_for_ever(has_body: bool) -> None:
    calls = 0

    async def receive() -> Any:
        nonlocal calls
        calls += 1
        return {"type": "http.request", "body": b"", "more_body": False}

    incoming = Incoming(receive)

    async def answer() -> str:
        if has_body:
            await incoming.receive()
        for _ in range(100):
            await asyncio.sleep(0)
        return "answered"

    assert await incoming.unless_left(answer(), has_body=has_body) == "answered"
    assert calls == 2


@pytest.mark.anyio
async def test_shared_answer_is_computed_once_for_all_who_ask_meanwhile() -> None:
    computed, now = 0, 100.0
    gate = asyncio.Event()

    async def compute() -> int:
        nonlocal computed, now
        computed += 1
        await gate.wait()
        now += 3.0
        return computed

    shared = Shared(compute, rests=True, monotonic=lambda: now)
    asking = [asyncio.create_task(shared.get()) for _ in range(50)]
    await asyncio.sleep(0)
    asking.pop().cancel()  # takes nothing from the others
    gate.set()
    assert set(await asyncio.gather(*asking)) == {1}
    assert await shared.get() == 1  # it took 3 s to compute, so it is valid for 3 s
    now += 3.0
    assert await shared.get() == 2


def test_log_line_that_repeats_is_bounded_and_says_how_many_were_left_out() -> None:
    now = 0.0
    repeats = RepeatFilter(monotonic=lambda: now)

    def line(text: str, *arguments: object) -> str | None:
        made = logging.LogRecord("x", logging.WARNING, "f", 1, text, arguments, None)
        return made.getMessage() if repeats.filter(made) else None

    shown = [line("closed %d", n) for n in range(1_000)]
    assert shown == [f"closed {n}" for n in range(REPEATS_MAX)] + [None] * (1_000 - REPEATS_MAX)
    assert line("another") == "another"
    assert line("closed %d\nprotocol: <at 0x1>", 5) is None  # the first line identifies the text
    now = REPEATS_SECONDS
    assert str(line("closed %d", 7)).startswith("closed 7 (99")
    for n in range(10_000):
        line(f"text {n}")
    assert len(repeats._seen) <= 1_001


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
