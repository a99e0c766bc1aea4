"""Servers and test clients that violate details of ASGI, and loops that cannot wait: the application is served, and
every exchange that begins is sealed."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest
from tests.support.asgi import ListRecorder, Server, exchange_refused, make_capture, serve_once
from tests.support.exchanges import make_builder

START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"served"}


async def application(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(START)
    await send(END)


@pytest.mark.parametrize(
    "given",
    [
        {"client": 5}, {"client": {"host": "x"}}, {"client": (None, 1)}, {"client": ()}, {"http_version": None},
        {"http_version": 1.1}, {"path": b"/x"}, {"root_path": b"/x"}, {"method": ["GET"]}, {"scheme": None},
        {"headers": [(b"a", b"b", b"c")]}, {"headers": [5, (b"a", b"b")]}, {"headers": ["ab"]}, {"headers": ()},
    ],
    ids=str,
)  # fmt: skip
def test_request_becomes_a_record_when_its_scope_is_odd(given: dict[str, Any]) -> None:
    server, exchange, _ = serve_once(application, **given)
    assert server.body == b"served"
    assert b'"statusCode":200' in make_builder().build(exchange)


def test_request_becomes_a_record_when_its_scope_has_no_headers() -> None:
    capture, recorder = make_capture(application)

    async def run() -> None:
        server = Server()
        del server.scope["headers"]
        await capture(server.scope, server.receive, server.send)

    asyncio.run(run())
    assert [e.status for e in recorder.sealed] == [200]


def test_nothing_is_begun_when_the_scope_cannot_be_written_to() -> None:
    """An exchange that begins and is never sealed would hold back T."""

    class Closed(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            raise TypeError

    capture, recorder = make_capture(application)

    async def run() -> list[Any]:
        server = Server()
        await capture(Closed(server.scope), server.receive, server.send)
        return server.sent

    assert asyncio.run(run()) == [START, END]
    assert (recorder.begun, recorder.counts) == (0, {"internal_errors": 1})


def test_application_is_served_when_the_loop_cannot_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise NotImplementedError

    capture, recorder = make_capture(application)

    async def run() -> list[Any]:
        server = Server()
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", refuse)
        await capture(server.scope, server.receive, server.send)
        return server.sent

    assert [m["type"] for m in asyncio.run(run())] == ["http.response.start", "http.response.body"]
    assert len(recorder.sealed) == 1


def test_small_bodies_are_reserved_when_many_exchanges_are_open() -> None:
    """Method: a recorder that reports many open exchanges, with room for the request's body only."""
    recorder = ListRecorder(budget=4)
    recorder.is_crowded = True
    server, exchange, _ = serve_once(application, recorder=recorder, body=(b"four",))
    assert server.body == b"served"
    assert (exchange.request_body.data(), exchange.request_body.complete) == (b"four", True)
    assert (exchange.response_body.pressure, exchange.response_body.total) == (True, 6)
    assert (exchange.outcome, recorder.held) == ("completed", [4])


def test_draft_is_let_go_when_a_slow_client_takes_the_last_message_of_durable_delivery() -> None:
    """By then its bodies' share of the budget has been returned."""
    capture, recorder = make_capture(application, ListRecorder(wakes=True), delivery="durable")

    data = b"x" * 10_000
    references: list[int] = []

    async def run() -> None:
        server = Server([data])
        references.append(sys.getrefcount(data) - 1)  # the server's own exception

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                recorder.sealed.clear()
                references.append(sys.getrefcount(data))
            await server.send(message)

        await capture(server.scope, server.receive, send)

    asyncio.run(run())
    assert references[1] == references[0]


class Telling(dict[str, Any]):
    """A message of the application whose own code raises, with a value in the error's text, cause and source."""

    def get(self, *_: Any) -> Any:
        try:
            raise LookupError("hunter2")
        except LookupError as e:
            raise ValueError("the password hunter2 is wrong") from e


def test_log_names_types_and_places_and_no_text_when_an_object_of_the_application_raises(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_audit.capture.config._logged", [])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(Telling(END))

    sent: list[Any] = []
    capture, recorder = make_capture(app)

    async def run() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        server = Server()
        await capture(server.scope, server.receive, send)

    asyncio.run(run())
    assert len(sent) == 2
    assert recorder.counts["internal_errors"] == 1
    [line] = [logging.Formatter().format(record) for record in caplog.records]
    assert "hunter2" not in line
    assert "failed at 'send' (ValueError from LookupError at test_careless.py:" in line
    assert " get < http.py:" in line


@pytest.mark.parametrize("delivery", ["buffered", "durable"])
@pytest.mark.parametrize("wrong", [None, 5, "http.response.start", [], {}, {"type": None}, {"type": ["x"]}])
def test_wrong_message_is_refused_by_the_server_alone(wrong: Any, delivery: str) -> None:
    """It is the application's error: no internal error of ours is counted or logged."""
    seen, recorder = exchange_refused(wrong, Server().scope, delivery=delivery)
    assert [message is wrong for message in seen] == [True, True]
    assert recorder.counts == {}
    assert [(e.status, e.outcome) for e in recorder.sealed] == [(500, "failed")]
