"""What an exchange keeps of the two streams; the application's messages are not changed."""

from __future__ import annotations

import asyncio
import gc
import sys
from http import HTTPStatus
from typing import Any

import pytest
from tests.support.asgi import ListRecorder, Server, make_capture, serve_once

from asgi_audit.capture.handle import leave_out
from asgi_audit.exchange.sealed import Exchange

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def answers(*messages: dict[str, Any], reads: bool = True) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if reads:
            while (await receive()).get("more_body"):
                pass
        for message in messages:
            await send(message)

    return app


def body(data: Any, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def test_exchange_holds_the_raw_parts_when_a_request_completes() -> None:
    server, exchange, recorder = serve_once(
        answers(START, body(b"one", True), body(b"two")),
        body=(b"ab", b"", b"cd"),
        method="POST",
        path="/a b",
        raw_path=b"/a%20b",
        query_string=b"q=1",
        root_path="/r",
        scheme="https",
        http_version="2",
        headers=[(b"host", b"h"), (b"x", b"1"), (b"x", b"2")],
    )
    assert server.body == b"onetwo"
    assert (exchange.method, exchange.path, exchange.raw_path, exchange.query_string) == (
        "POST",
        "/a b",
        b"/a%20b",
        b"q=1",
    )
    assert (exchange.root_path, exchange.scheme, exchange.http_version, exchange.client) == (
        "/r",
        "https",
        "2",
        "127.0.0.1",
    )
    assert exchange.request_headers == [(b"host", b"h"), (b"x", b"1"), (b"x", b"2")]
    assert exchange.request_body.data() == b"abcd"
    assert exchange.request_body.complete
    assert exchange.response_body.data() == b"onetwo"
    assert (exchange.response_body.total, exchange.response_body.complete) == (6, True)
    assert (exchange.status, exchange.outcome) == (200, "completed")
    assert exchange.response_headers == START["headers"]
    assert recorder.held == [10]


def test_path_is_that_of_the_entry_when_the_application_mounts_and_rewrites() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path"], scope["root_path"], scope["method"] = "/other", "/m", "PATCH"
        scope["headers"].append((b"added", b"1"))
        await send(START)
        await send(body(b""))

    _, exchange, _ = serve_once(app, path="/m/x")
    assert (exchange.path, exchange.root_path, exchange.method) == ("/m/x", "", "GET")
    assert exchange.request_headers == [(b"host", b"testserver")]


def test_body_is_unread_when_the_application_never_receives() -> None:
    _, exchange, _ = serve_once(answers(START, body(b""), reads=False), body=(b"secret",), method="POST")
    assert (exchange.request_body.total, exchange.request_body.complete) == (0, False)


@pytest.mark.parametrize("chunk", [1, 7, 999, 1000, 1001, 5000])
def test_body_is_cut_at_the_limit_when_it_is_longer(chunk: int) -> None:
    data = bytes(i % 251 for i in range(5000))
    chunks = [data[i : i + chunk] for i in range(0, 5000, chunk)]
    messages = [body(c, True) for c in chunks]
    server, exchange, recorder = serve_once(
        answers(START, *messages, body(b"")), body=chunks, settings={"body_bytes_max": 1000}, method="POST"
    )
    assert server.body == data
    for kept in (exchange.request_body, exchange.response_body):
        assert kept.data() == data[:1000]
        assert (kept.kept, kept.total) == (1000, 5000)
    assert recorder.held == [2000] == [(1 << 30) - recorder.budget]


def test_small_chunks_are_joined_when_there_are_thousands() -> None:
    _, exchange, _ = serve_once(answers(START, *[body(b"xy", True)] * 30_000, body(b"")))
    assert exchange.response_body.data() == b"xy" * 30_000
    assert len(exchange.response_body.chunks) < 150
    assert sum(sys.getsizeof(c) for c in exchange.response_body.chunks) < 70_000


@pytest.mark.parametrize("kind", [bytearray, memoryview, "bytes subclass", "wide memoryview"])
def test_body_is_copied_when_its_buffer_may_be_used_again(kind: Any) -> None:
    class Mine(bytes):
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        buffer = bytearray(b"AAAA")
        if kind == "bytes subclass":
            await send(body(Mine(buffer)))
        elif kind == "wide memoryview":
            await send(body(memoryview(buffer).cast("I")))
        else:
            await send(body(buffer if kind is bytearray else memoryview(buffer)))
        buffer[:] = b"ZZZZ"

    capture, recorder = make_capture(app)

    async def run() -> None:
        server = Server()
        await capture(server.scope, server.receive, server.send)

    asyncio.run(run())
    (exchange,) = recorder.sealed
    assert exchange.response_body.data() == b"AAAA"
    assert all(type(c) is bytes for c in exchange.response_body.chunks)
    assert exchange.response_body.total == 4
    assert recorder.counts == {}


def test_large_chunk_is_not_pinned_when_its_beginning_is_kept() -> None:
    large = b"x" * 10_000_000
    before = sys.getrefcount(large)
    _, exchange, _ = serve_once(answers(START, body(large)))
    gc.collect()
    assert exchange.response_body.kept == 65_536
    # `answers` still holds its message in a closure; the exchange itself must not hold the chunk.
    assert not any(c is large for c in exchange.response_body.chunks)
    assert sys.getrefcount(large) <= before + 1


def test_body_is_dropped_for_pressure_when_the_budget_is_spent() -> None:
    recorder = ListRecorder(budget=5)
    server, exchange, _ = serve_once(
        answers(START, body(b"four", True), body(b"more", True), body(b"x")), recorder=recorder
    )
    assert server.body == b"fourmorex"
    # After a refusal nothing more is kept: a body with a gap would be wrong.
    assert (exchange.response_body.data(), exchange.response_body.pressure) == (b"four", True)
    assert exchange.response_body.total == 9
    assert recorder.held == [4]


@pytest.mark.parametrize("detail", ["metadata", "headers"])
def test_bodies_are_counted_and_not_kept_when_detail_is_below_bodies(detail: str) -> None:
    _, exchange, recorder = serve_once(
        answers(START, body(b"abc")), body=(b"12345",), method="POST", settings={"detail": detail}
    )
    assert (exchange.request_body.total, exchange.request_body.kept) == (5, 0)
    assert (exchange.response_body.total, exchange.response_body.kept) == (3, 0)
    assert (exchange.detail_request, exchange.detail_response, recorder.held) == (detail, detail, [0])


def test_exchange_is_excluded_when_detail_is_none() -> None:
    capture, recorder = make_capture(answers(START, body(b"abc")), detail="none", delivery="durable")

    async def run() -> None:
        server = Server()
        await capture(server.scope, server.receive, server.send)
        assert server.body == b"abc"

    asyncio.run(run())
    assert recorder.counts == {"excluded": 1}
    assert not recorder.sealed
    assert not recorder.waiting
    assert not recorder.open_now


@pytest.mark.parametrize("delivery", ["buffered", "durable"])
def test_exchange_without_a_record_is_over_when_its_response_begins(delivery: str) -> None:
    """Otherwise a client that reads slowly would hold back the watermark."""
    open_at: list[set[int]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        open_at.append(set(recorder.open_now))
        leave_out(scope)
        await send(START)
        open_at.append(set(recorder.open_now))
        await send(body(b"abc", more=True))
        await send(body(b"d"))

    capture, recorder = make_capture(app, delivery=delivery)

    async def run() -> None:
        server = Server()
        await capture(server.scope, server.receive, server.send)
        assert server.body == b"abcd"
        assert any(name == b"x-request-id" for name, _ in server.headers)

    asyncio.run(run())
    assert open_at == [{1}, set()]
    assert (recorder.counts, recorder.sealed) == ({"excluded": 1}, [])


def test_request_id_is_new_when_none_came() -> None:
    server, exchange, _ = serve_once(answers(START, body(b"")))
    assert len(exchange.request_id) == 32
    assert server.headers == [*START["headers"], (b"x-request-id", exchange.request_id.encode())]
    assert exchange.response_headers == START["headers"]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (b"abc-1_2.3:4", True),
        (b"x" * 128, True),
        (b"x" * 129, False),
        (b"", False),
        (b"a b", False),
        (b"a\n", False),
        ("é".encode(), False),
        (b"<script>", False),
    ],
)
def test_request_id_is_taken_only_when_it_is_harmless(given: bytes, taken: bool) -> None:
    server, exchange, _ = serve_once(answers(START, body(b"")), headers=[(b"x-request-id", given)])
    assert (exchange.request_id == given.decode("latin-1")) is taken
    assert dict(server.headers)[b"x-request-id"] == exchange.request_id.encode()


def test_request_id_of_the_application_stays_when_it_set_one() -> None:
    start = {**START, "headers": [(b"X-Request-ID", b"mine")]}
    server, _, _ = serve_once(answers(start, body(b"")))
    assert server.sent[0] is start
    assert server.headers == [(b"X-Request-ID", b"mine")]


def test_start_is_the_same_object_when_the_header_is_turned_off() -> None:
    server, exchange, _ = serve_once(
        answers(START, body(b"")), settings={"request_id_header": None}, headers=[(b"x-request-id", b"given")]
    )
    assert server.sent[0] is START
    assert exchange.request_id == "given"


def test_request_id_uses_the_header_of_the_settings_when_one_is_named() -> None:
    server, exchange, _ = serve_once(
        answers(START, body(b"")),
        settings={"request_id_header": "X-Correlation-ID"},
        headers=[(b"x-request-id", b"no"), (b"x-correlation-id", b"yes")],
    )
    assert exchange.request_id == "yes"
    assert server.headers[-1] == (b"x-correlation-id", b"yes")


def test_header_list_does_not_grow_when_the_application_uses_it_again() -> None:
    """Starlette passes the response's own list; appending in place would make it grow with every call."""
    headers = [(b"a", b"1"), (b"set-cookie", b"x"), (b"set-cookie", b"y")]
    message = {"type": "http.response.start", "status": 200, "headers": headers}
    for _ in range(3):
        server, _, _ = serve_once(answers(message, body(b"")))
        assert server.headers[:3] == headers
        assert len(server.headers) == 4
    assert headers == [(b"a", b"1"), (b"set-cookie", b"x"), (b"set-cookie", b"y")]
    assert message == {"type": "http.response.start", "status": 200, "headers": headers}


@pytest.mark.parametrize("header", ["x-request-id", None])
def test_headers_reach_the_server_when_they_are_an_iterator(header: str | None) -> None:
    start = {"type": "http.response.start", "status": 200, "headers": iter([(b"a", b"1"), (b"b", b"2")])}
    server, exchange, _ = serve_once(answers(start, body(b"")), settings={"request_id_header": header})
    assert server.headers[:2] == [(b"a", b"1"), (b"b", b"2")]
    assert exchange.response_headers == [(b"a", b"1"), (b"b", b"2")]


def test_start_without_headers_is_served_when_the_application_leaves_them_out() -> None:
    start = {"type": "http.response.start", "status": HTTPStatus.ACCEPTED}
    server, exchange, _ = serve_once(answers(start, {"type": "http.response.body"}))
    assert (type(exchange.status), exchange.status) == (int, 202)
    assert server.headers == [(b"x-request-id", exchange.request_id.encode())]
    assert start == {"type": "http.response.start", "status": HTTPStatus.ACCEPTED}


def test_body_of_a_head_answer_is_not_kept_when_the_application_sends_one() -> None:
    _, exchange, _ = serve_once(answers(START, body(b"dropped by the server")), method="HEAD")
    assert (exchange.response_body.total, exchange.response_body.complete) == (0, True)


def test_seal_comes_after_the_last_trailer_when_trailers_are_announced() -> None:
    recorder = ListRecorder()
    trailer = {"type": "http.response.trailers", "headers": [(b"t", b"1")], "more_trailers": True}
    serve_once(
        answers({**START, "trailers": True}, body(b"x"), trailer, {**trailer, "more_trailers": False}),
        recorder=recorder,
    )
    assert recorder.log == ["start", "body", "trailers", "trailers", "sealed"]


def test_seal_comes_with_pathsend_when_the_server_sends_the_file() -> None:
    recorder = ListRecorder()
    start = {**START, "headers": [(b"content-length", b"123456")]}
    _, exchange, _ = serve_once(answers(start, {"type": "http.response.pathsend", "path": "/x"}), recorder=recorder)
    assert recorder.log == ["start", "pathsend", "sealed"]
    assert (exchange.response_body.total, exchange.response_body.kept) == (123_456, 0)


def test_bytes_are_counted_when_they_are_sent_by_zerocopysend() -> None:
    zero = {"type": "http.response.zerocopysend", "file": 3, "count": 10}
    _, exchange, _ = serve_once(answers(START, {**zero, "more_body": True}, zero))
    assert (exchange.response_body.total, exchange.outcome) == (20, "completed")


def test_unknown_messages_pass_through_when_an_extension_sends_them() -> None:
    push = {"type": "http.response.push", "path": "/x", "headers": []}
    server, exchange, _ = serve_once(answers(push, START, body(b"x")))
    assert server.sent[0] is push
    assert exchange.outcome == "completed"


def test_exchange_is_sealed_once_when_the_application_goes_on_after_its_answer() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await asyncio.gather(send(body(b"x")), send(body(b"x")), receive(), receive())
        await send(body(b"late"))
        await receive()

    server, exchange, recorder = serve_once(app, body=(b"late request",))
    assert recorder.log.count("sealed") == 1
    assert exchange.response_body.data() == b"x"
    assert len(server.sent) == 4


def test_repr_shows_no_content_when_an_exchange_is_logged() -> None:
    exchange = Exchange("POST", "/login?password=hunter2", request_headers=[(b"authorization", b"hunter2")])
    exchange.request_body.chunks.append(b"hunter2")
    assert "hunter2" not in repr(exchange)
    assert exchange == exchange
    assert Exchange() != Exchange()
    assert len({Exchange(), Exchange()}) == 2


def test_application_is_served_when_the_recorder_fails_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ListRecorder):
        def begin(self, exchange: Exchange) -> None:
            raise RuntimeError("begin")

    class BrokenLater(ListRecorder):
        def reserve(self, exchange: Exchange, size: int) -> bool:
            raise RuntimeError("reserve")

        def seal(self, exchange: Exchange, wake: Any = None) -> bool:
            raise RuntimeError("seal")

    for recorder in (Broken(), BrokenLater()):
        for delivery in ("buffered", "durable"):
            capture, _ = make_capture(answers(START, body(b"abc")), recorder, delivery=delivery)

            async def run(capture: Any = capture) -> bytes:
                server = Server((b"request",), method="POST")
                await capture(server.scope, server.receive, server.send)
                return server.body

            assert asyncio.run(run()) == b"abc"
        assert recorder.counts["internal_errors"] >= 2


@pytest.mark.parametrize("kind", ["websocket", "something.new"])
def test_scope_passes_through_when_it_is_no_http(kind: str) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    capture, recorder = make_capture(app)
    scope, receive, send = {"type": kind}, object(), object()
    asyncio.run(capture(scope, receive, send))  # type: ignore[arg-type]
    assert seen == [(scope, receive, send)]
    assert scope == {"type": kind}
    assert recorder.opened == []


def test_inner_middleware_records_nothing_when_the_request_is_audited_already() -> None:
    inner, recorder = make_capture(answers(START, body(b"x")))
    server, exchange, _ = serve_once(inner, recorder=recorder)
    assert len(server.headers) == 2
    assert exchange.outcome == "completed"


def test_both_requests_are_recorded_when_a_scope_is_used_again_after_the_seal() -> None:
    capture, recorder = make_capture(answers(START, body(b"x")))

    async def run() -> None:
        for _ in range(2):
            server.chunks = [b""]
            await capture(server.scope, server.receive, server.send)

    server = Server()
    asyncio.run(run())
    assert len(recorder.sealed) == 2


def test_application_reads_all_headers_when_the_server_gives_an_iterator() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])
        await send(START)
        await send(body(b""))

    _, exchange, _ = serve_once(app, headers=iter([(b"host", b"h"), (b"x", b"1")]))
    assert seen == exchange.request_headers == [(b"host", b"h"), (b"x", b"1")]


@pytest.mark.parametrize(
    ("given", "query", "path"),
    [
        ({"query_string": "a=\xe9", "raw_path": "/\ud800"}, b"a=\xc3\xa9", b"/\xed\xa0\x80"),
        ({"query_string": bytearray(b"a=1"), "raw_path": memoryview(b"/x")}, b"a=1", b"/x"),
        ({"query_string": None, "raw_path": None}, b"", None),
    ],
)
def test_exchange_holds_bytes_when_a_test_client_gives_something_else(
    given: dict[str, Any], query: bytes, path: bytes | None
) -> None:
    """Django's AsyncRequestFactory passes its query string as text; its record could not be built."""
    _, exchange, _ = serve_once(answers(START, body(b"x")), **given)
    assert (exchange.query_string, exchange.raw_path) == (query, path)
