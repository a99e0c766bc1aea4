"""`durable`: the message that completes the response for the client waits for the record, and no other does."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.support.asgi import ListRecorder, Server, make_capture, serve_once

DURABLE: dict[str, Any] = {"delivery": "durable", "durable_wait_seconds": 5}


def start(status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def length(n: int) -> tuple[bytes, bytes]:
    return (b"Content-Length", str(n).encode())


TRAILERS = {"type": "http.response.trailers", "headers": []}
PATHSEND = {"type": "http.response.pathsend", "path": "/x"}
WAIT = ["sealed", "durable"]


@pytest.mark.parametrize(
    ("name", "method", "messages", "order"),
    [
        ("plain", "GET", [start(), body(b"x")], ["start", *WAIT, "body"]),
        ("declared", "GET", [start(200, length(1)), body(b"x")], ["start", *WAIT, "body"]),
        (
            "stream",
            "GET",
            [start(), body(b"x", True), body(b"y", True), body()],
            ["start", "body", "body", *WAIT, "body"],
        ),
        # Below a BaseHTTPMiddleware the final message is too late to be held back.
        (
            "declared, empty final",
            "GET",
            [start(200, length(2)), body(b"xy", True), body()],
            ["start", *WAIT, "body", "body"],
        ),
        (
            "declared, in pieces",
            "GET",
            [start(200, length(3)), body(b"x", True), body(b"yz", True), body()],
            ["start", "body", *WAIT, "body", "body"],
        ),
        ("head", "HEAD", [start(200, length(9)), body()], [*WAIT, "start", "body"]),
        ("no content", "DELETE", [start(204), body()], [*WAIT, "start", "body"]),
        ("not modified", "GET", [start(304), body()], [*WAIT, "start", "body"]),
        ("empty", "GET", [start(200, length(0)), body(b"", True), body()], [*WAIT, "start", "body", "body"]),
        ("bad length", "GET", [start(200, (b"content-length", b"x")), body(b"x")], ["start", *WAIT, "body"]),
        ("pathsend", "GET", [start(200, length(9)), PATHSEND], ["start", *WAIT, "pathsend"]),
        ("trailers", "GET", [start(200, trailers=True), body(b"x"), TRAILERS], ["start", "body", *WAIT, "trailers"]),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_last_bytes_wait_for_the_record_when_delivery_is_durable(
    name: str, method: str, messages: list[Any], order: list[str]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    recorder = ListRecorder()
    _, exchange, _ = serve_once(app, recorder=recorder, method=method, settings=DURABLE)
    assert recorder.log == order
    assert (exchange.outcome, exchange.response_body.complete) == ("completed", True)
    assert recorder.unwaited_count == 0


ZEROCOPY = {"type": "http.response.zerocopysend", "file": 0, "count": 1}


@pytest.mark.parametrize("delivery", ["buffered", "durable"])
@pytest.mark.parametrize("early", [body(b"early"), body(b"early", True), PATHSEND, ZEROCOPY, TRAILERS, {"type": "x"}])
@pytest.mark.parametrize("refused", [True, False])  # uvicorn ignores it when the client has left
def test_nothing_is_final_before_the_start_message(early: Any, delivery: Any, refused: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(early)
        except RuntimeError:
            recorder.log.append("refused")
        await send(start())
        await send(body(b"x"))

    recorder = ListRecorder()
    server = Server(send_raises=(0, RuntimeError("no start message")) if refused else None, log=recorder.log)
    taken = server.send

    async def send(message: Any) -> None:
        try:
            await taken(message)
        except RuntimeError:
            server.send_raises = None
            raise

    capture, _ = make_capture(app, recorder, delivery=delivery)
    asyncio.run(capture(server.scope, server.receive, send))  # type: ignore[arg-type]
    first = "refused" if refused else early["type"].removeprefix("http.response.")
    sealing = [*WAIT, "body"] if delivery == "durable" else ["body", "sealed"]
    assert recorder.log == [first, "start", *sealing]
    (exchange,) = recorder.sealed
    assert (exchange.status, exchange.outcome) == (200, "completed")
    assert (bytes(b"".join(exchange.response_body.chunks)), exchange.response_body.total) == (b"x", 1)


async def plain(scope: Any, receive: Any, send: Any) -> None:
    await send(start())
    await send(body(b"x"))


async def broken(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError


async def silent(scope: Any, receive: Any, send: Any) -> None:
    return


@pytest.mark.parametrize("app", [plain, silent])
@pytest.mark.parametrize("wakes", [None, False])
def test_answer_is_served_and_counted_when_the_record_does_not_become_durable(app: Any, wakes: bool | None) -> None:
    recorder = ListRecorder(wakes=wakes)
    seconds = 0.1 if wakes is None else 60
    began = time.monotonic()
    server, _, _ = serve_once(app, recorder=recorder, settings={**DURABLE, "durable_wait_seconds": seconds})
    assert wakes is False or time.monotonic() - began >= 0.1
    assert recorder.unwaited_count == 1
    assert len(server.sent) == (2 if app is plain else 0)
    for wake in recorder.waiting:  # the recorder may call late, when the loop is closed already
        wake(True)


def test_exception_waits_for_its_record_when_the_server_will_answer_500() -> None:
    recorder = ListRecorder()
    _, exchange, _ = serve_once(broken, recorder=recorder, settings=DURABLE, raises=ValueError)
    assert recorder.log == ["sealed", "durable"]
    assert (exchange.status, exchange.outcome) == (500, "failed")


def test_nothing_waits_when_the_record_is_lost_at_the_seal() -> None:
    recorder = ListRecorder(enqueues=False, wakes=None)
    serve_once(plain, recorder=recorder, settings=DURABLE)
    assert recorder.log == ["start", "sealed", "body"]
    assert recorder.unwaited_count == 0  # already stated as lost


@pytest.mark.parametrize("first", [start(204), body(b"x")], ids=["start", "body"])
def test_messages_keep_their_order_when_another_task_sends_while_the_last_one_waits(first: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if first["type"] != "http.response.start":
            await send(start())
        await asyncio.gather(*(send(m) for m in (first, body(b"1"), body(b"2"))))

    server, _, _ = serve_once(app, settings=DURABLE)
    assert [m.get("body") for m in server.sent[-3:]] == [first.get("body"), b"1", b"2"]


def test_loop_goes_on_when_a_request_waits() -> None:
    recorder = ListRecorder(wakes=None)
    capture, _ = make_capture(plain, recorder, **DURABLE)

    async def run() -> None:
        servers = [Server() for _ in range(20)]
        tasks = [asyncio.create_task(capture(s.scope, s.receive, s.send)) for s in servers]  # type: ignore[arg-type]
        while len(recorder.waiting) < 20:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for wake in recorder.waiting:
            wake(True)
        await asyncio.gather(*tasks)
        assert all(s.body == b"x" for s in servers)

    asyncio.run(run())
    assert recorder.unwaited_count == 0


def test_answer_is_served_when_no_event_loop_is_known() -> None:
    """A driver that is neither asyncio nor trio: no message is held back, and this is counted."""
    recorder = ListRecorder(wakes=None)
    capture, _ = make_capture(plain, recorder, **DURABLE)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    loop = asyncio.new_event_loop()
    scope = loop.run_until_complete(_scope())
    loop.close()
    with pytest.raises(StopIteration):
        capture(scope, receive, send).send(None)
    assert len(sent) == 2
    assert recorder.unwaited_count == 1


async def _scope() -> dict[str, Any]:
    return Server().scope
