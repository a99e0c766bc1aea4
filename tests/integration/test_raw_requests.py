"""Goal: whatever bytes a client sends, it can read the error of the dialect at its path, and no connection or task
remains.

Method: the server of `serve` in a thread over a listening TCP socket, because only TCP resets a connection.
Requests are sent as the exact bytes in this file; a read returns a whole response, or everything until the server
closes."""

from __future__ import annotations

import gzip
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.support.api import Api
from tests.support.operations import PATHS, TABLE, Asker
from tests.support.process import process_restored
from tests.support.waiting import until

from asgi_audit.api.operation import Dialect
from asgi_audit.api.server import Server

DEADLINE = 60.0
DIALECTS = {operation.dialect.name: operation.dialect for operation in TABLE}


class Answer(NamedTuple):
    """`rest`: the bytes after it. `is_closed`: by the server, after it."""

    status: int
    headers: dict[str, str]
    body: bytes
    rest: bytes
    is_closed: bool


class Served:
    def __init__(self, directory: Path) -> None:
        self.api = Api(directory)
        Asker(self.api).seed("acme")
        self.key = self.api.control.create_key("auditor", ["acme"])[1]
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.server = Server(self.api.app)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listening]})
        self.thread.start()
        until(lambda: self.server.started)

    def head(self, line: str, *more: str, host: str = "x") -> bytes:
        lines = [line, f"Host: {host}", f"Authorization: Bearer {self.key}", *more, "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def send(self, *parts: bytes, closes: bool = False) -> Answer:
        """`closes`: read until the server has closed its side; a reset fails."""
        with socket.create_connection(self.listening.getsockname(), timeout=DEADLINE) as client:
            for part in parts:
                client.sendall(part)
            got = b""
            while closes or not _is_whole(got):
                more = client.recv(65_536)
                if not more:
                    return _answer_of(got, is_closed=True)
                got += more
            return _answer_of(got, is_closed=False)

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(DEADLINE)
        self.listening.close()
        self.api.close()


def _split(got: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, rest = got.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split(" ")[1]), headers, rest


def _is_whole(got: bytes) -> bool:
    if b"\r\n\r\n" not in got:
        return False
    _, headers, rest = _split(got)
    return len(rest) >= int(headers["content-length"])


def _answer_of(got: bytes, *, is_closed: bool) -> Answer:
    assert _is_whole(got), f"no whole response: {got[:200]!r}"
    status, headers, rest = _split(got)
    length = int(headers["content-length"])
    return Answer(status, headers, rest[:length], rest[length:], is_closed)


def says(answer: Answer, dialect: Dialect, status: int) -> bool:
    assert answer.status == dialect.sent_status(status), answer
    assert answer.headers["content-type"] == dialect.content_type
    assert answer.headers["cache-control"] == "no-store"
    dialect.error.model_validate_json(answer.body)
    return True


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with process_restored():
        made = Served(tmp_path_factory.mktemp("api"))
        yield made
        made.close()


@pytest.fixture(autouse=True)
def nothing_stays(served: Served, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No connection, no task, and no log line above a warning."""
    yield
    state = served.server.server_state
    until(lambda: not (state.connections or state.tasks))
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


FIRST = {dialect.name: next(path for o, path in PATHS if o.dialect is dialect) for dialect in DIALECTS.values()}


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("size", [40_000, 65_536, 1_000_000])
def test_head_that_is_too_long_is_400_in_the_words_of_its_path(served: Served, name: str, size: int) -> None:
    line = f"GET {FIRST[name].replace('{', '').replace('}', '')} HTTP/1.1"
    long_value = served.head(line, "X-More: " + "a" * size)
    many = served.head(line, *[f"X-{n}: 1" for n in range(size // 8)])
    for sent in (long_value, many):
        answer = served.send(sent, closes=True)
        assert says(answer, DIALECTS[name], 400)
        assert b"longer than 16 KiB" in answer.body
        assert (answer.headers["connection"], answer.is_closed) == ("close", True)


def test_target_that_is_too_long_is_refused_and_a_long_one_is_read(served: Served) -> None:
    assert says(
        served.send(served.head(f"GET /logs?search={'a' * 65_536} HTTP/1.1"), closes=True), DIALECTS["logs"], 400
    )
    assert says(served.send(served.head(f"GET /logs?search={'a' * 9_000} HTTP/1.1")), DIALECTS["logs"], 400)


def test_head_without_an_end_is_refused_before_more_is_read(served: Served) -> None:
    """It arrives in small pieces, and does not end."""
    line = b"GET /trail/query-result/x HTTP/1.1\r\nHost: x\r\n"
    assert says(
        served.send(line, *[b"X-%d: %s\r\n" % (n, b"a" * 1_000) for n in range(40)], closes=True),
        DIALECTS["trail"],
        400,
    )


CHUNKED = b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_HTTP = {
    "first line": (b"hello world\r\n\r\n", "usage"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "usage"),
    "zeros": (bytes(64), "usage"),
    "space in target": (b"GET /lo gs HTTP/1.1\r\nHost: x\r\n\r\n", "usage"),
    "bytes in target": (b"GET /l\xc3\xb6gs HTTP/1.1\r\nHost: x\r\n\r\n", "usage"),
    "HTTP/0.9": (b"GET /logs\r\n\r\n", "logs"),
    "no host": (b"GET /logs HTTP/1.1\r\n\r\n", "logs"),
    "two hosts": (b"GET /records HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "records"),
    "header name": (b"GET /trail/query-result/x HTTP/1.1\r\nHost: x\r\na b: c\r\n\r\n", "trail"),
    "header value": (b"GET /feed HTTP/1.1\r\nHost: x\r\na: \x00\r\n\r\n", "records"),
    "folded header": (b"GET /feed HTTP/1.1\r\n Host: x\r\n\r\n", "records"),
    "length -1": (b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "tr50"),
    "length +1": (b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", "tr50"),
    "length of 400 digits": (b"POST /trail HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n" % (b"9" * 400), "trail"),
    "two lengths": (b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", "tr50"),
    "length of a word": (b"POST /api/v1/logs HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", "exports"),
    "transfer coding": (b"POST /trail HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "trail"),
    "chunk size": (b"POST /trail" + CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", "trail"),
    "chunk of a GET": (b"GET /logs" + CHUNKED + b"zz\r\n", "logs"),
    "absolute target": (b"GET http://x/logs HTTP/1.1\r\na b: c\r\n\r\n", "logs"),
    "health": (b"GET /health/live HTTP/1.1\r\n\r\n", "health"),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "name"), NO_HTTP.values(), ids=list(NO_HTTP))
def test_what_is_no_http_is_400_in_the_words_of_its_path(served: Served, sent: bytes, name: str) -> None:
    answer = served.send(sent, closes=True)
    assert says(answer, DIALECTS[name], 400)
    assert b"the request is not HTTP/1.1" in answer.body
    assert answer.rest == b""


def test_request_before_one_that_is_no_http_is_answered(served: Served) -> None:
    good = served.head("GET /health/live HTTP/1.1")
    answer = served.send(good * 3 + b"GET /logs HTTP/1.1\r\n\r\n", closes=True)
    assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
    for _ in range(2):
        answer = _answer_of(answer.rest, is_closed=True)
        assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
    answer = _answer_of(answer.rest, is_closed=True)
    assert says(answer, DIALECTS["logs"], 400)
    assert answer.rest == b""


@pytest.mark.parametrize("target", ["http://x{}", "HTTP://X:1{}", "https://user@x{}"])
@pytest.mark.parametrize(
    "path", ["/logs?startDate=2024-01-01&limit=10", "/health/live", "/trail/query-result/x", "/records?limit=0"]
)
def test_absolute_target_means_its_path(served: Served, target: str, path: str) -> None:
    expected = served.send(served.head(f"GET {path} HTTP/1.1"))
    found = served.send(served.head(f"GET {target.format(path)} HTTP/1.1"))
    assert (found.status, found.body) == (expected.status, expected.body)


def test_absolute_target_without_a_path_means_the_root(served: Served) -> None:
    expected = served.send(served.head("GET / HTTP/1.1"))
    for target in ("http://x", "http://x?", "http://x/"):
        found = served.send(served.head(f"GET {target} HTTP/1.1"))
        assert (found.status, found.body) == (expected.status, expected.body) == (405, found.body)


@pytest.mark.parametrize(
    ("path", "name"),
    [("/trail", "trail"), ("/usage/gw/i", "usage"), ("/api/v1/logs?type=query", "exports"), ("/api", "tr50")],
)
def test_body_that_is_declared_too_long_is_413_before_it_is_sent(served: Served, path: str, name: str) -> None:
    for length in (65_537, 10**15, 10**19):
        for more in ([], ["Expect: 100-continue"]):
            answer = served.send(served.head(f"POST {path} HTTP/1.1", f"Content-Length: {length}", *more))
            assert says(answer, DIALECTS[name], 413)


@pytest.mark.parametrize("more", [[], ["Connection: close"]])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_answer_to_a_body_that_is_too_long_can_be_read_when_all_of_it_is_sent(
    served: Served, more: list[str], is_chunked: bool
) -> None:
    body = b"a" * 2_000_000
    if is_chunked:
        head, sent = [*more, "Transfer-Encoding: chunked"], b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        head, sent = [*more, f"Content-Length: {len(body)}"], body
    answer = served.send(served.head("POST /trail HTTP/1.1", *head), sent, closes=bool(more))
    assert says(answer, DIALECTS["trail"], 413)


@pytest.mark.parametrize("path", ["/trail", "/usage/gateway/acme-eu", "/api/v1/logs/_list?type=query", "/api"])
def test_compressed_body_is_refused_by_the_name_of_its_coding(served: Served, path: str) -> None:
    body = gzip.compress(b"{}")
    head = served.head(f"POST {path} HTTP/1.1", "Content-Encoding: gzip", f"Content-Length: {len(body)}")
    answer = served.send(head + body)
    assert answer.status == (200 if path == "/api" else 400)
    assert b'Content-Encoding: it is \\"gzip\\"; accepted: identity' in answer.body


def test_bytes_that_come_one_by_one_are_a_request(served: Served) -> None:
    answer = served.send(*[bytes([byte]) for byte in served.head("GET /health/live HTTP/1.1")])
    assert answer.body == b'{"status":"ok"}'


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"GET /logs HTTP/1.1\r\nHost: x\r\n",
        b"POST /trail HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
    ],
)
def test_client_that_leaves_in_the_middle_leaves_nothing(served: Served, sent: bytes) -> None:
    """Half of them reset the connection; `nothing_stays` checks the rest."""
    for n in range(40):
        with socket.create_connection(served.listening.getsockname(), timeout=DEADLINE) as client:
            if n % 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            client.sendall(sent)


def test_refused_heads_leave_room_for_others(served: Served) -> None:
    """Clients that send a head without an end and do not read the response."""
    clients = [socket.create_connection(served.listening.getsockname(), timeout=DEADLINE) for _ in range(40)]
    try:
        for client in clients:
            client.sendall(b"GET /logs HTTP/1.1\r\nX: " + b"a" * 100_000)
        for _ in range(5):
            assert served.send(served.head("GET /health/live HTTP/1.1")).body == b'{"status":"ok"}'
    finally:
        for client in clients:
            client.close()
