"""Headers, and the peer's address, in every form that ASGI allows or careless code sends: their reader gets the same
values as without the middleware, and the record has them too."""

from __future__ import annotations

import asyncio
import copy
import itertools
import pickle
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from tests.support.asgi import ListRecorder, Server, make_capture
from tests.support.exchanges import make_builder

from asgi_audit.capture.reading import HEADERS_MAX, ReadHeaders, Reading

PAIRS = [(b"accept", b"*/*"), (b"x-request-id", b"given-id"), (b"x-b", b"2")]


class Lazy:
    """Iterable any number of times, without a length, with a method of its own."""

    def __init__(self, pairs: Iterable[Any] = PAIRS) -> None:
        self.pairs = list(pairs)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.pairs)

    def first(self) -> Any:
        return self.pairs[0]


class Once(Lazy):
    """An iterable that is not an iterator and can be read only once."""

    def __init__(self) -> None:
        self.iterator = iter(PAIRS)

    def __iter__(self) -> Iterator[Any]:
        return self.iterator


class Failing:
    """An iterator that raises once in its middle, and continues after that."""

    def __init__(self) -> None:
        self.rest = iter(PAIRS)
        self.count = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.count += 1
        if self.count == 2:
            raise ValueError("no such header")
        return next(self.rest)


class Unreadable:
    def __iter__(self) -> Iterator[Any]:
        raise LookupError("not today")


def generator() -> Iterator[Any]:
    yield from PAIRS


def failing_generator() -> Iterator[Any]:
    yield PAIRS[0]
    raise ValueError("no such header")


def failing_pair() -> Iterator[Any]:
    yield b"x-a"
    raise KeyError("value")


KINDS: dict[str, Callable[[], Any]] = {
    "list of tuples": lambda: list(PAIRS),
    "list of lists": lambda: [list(pair) for pair in PAIRS],
    "tuple of tuples": lambda: tuple(PAIRS),
    "deque": lambda: deque(PAIRS),
    "view of a dict": lambda: dict(PAIRS).items(),
    "iterator": lambda: iter(PAIRS),
    "generator": generator,
    "map": lambda: map(tuple, PAIRS),
    "list of iterators": lambda: [iter(pair) for pair in PAIRS],
    "tuple of iterators": lambda: tuple(iter(pair) for pair in PAIRS),
    "deque of iterators": lambda: deque(iter(pair) for pair in PAIRS),
    "iterator of iterators": lambda: iter([iter(pair) for pair in PAIRS]),
    "generator of generators": lambda: ((part for part in pair) for pair in PAIRS),
    "lazy": Lazy,
    "lazy of iterators": lambda: Lazy([iter(pair) for pair in PAIRS]),
    "once": Once,
    "failing iterator": Failing,
    "failing generator": failing_generator,
    "failing pair": lambda: [PAIRS[0], failing_pair(), PAIRS[2]],
    "failing pair of an iterator": lambda: iter([PAIRS[0], failing_pair(), PAIRS[2]]),
    "unreadable": Unreadable,
    "endless": lambda: itertools.cycle(PAIRS),
    "endless pair": lambda: [PAIRS[0], itertools.repeat(b"x")],
    "text": lambda: [("accept", "*/*"), ("x-request-id", "given-id")],
    "buffers": lambda: [(bytearray(b"accept"), memoryview(b"*/*"))],
    "pairs of wrong length": lambda: [(b"a", b"b", b"c"), (b"a",), (), (b"d", b"e")],
    "iterators of wrong length": lambda: [iter([b"a", b"b", b"c"]), iter([b"a"]), iter(())],
    "no pairs": lambda: [5, None, (b"a", b"b"), b"ab", "cd"],
    "dict": lambda: {"accept": "*/*"},
    "string": lambda: "abc",
    "number": lambda: 5,
    "none": lambda: None,
    "nothing": list,
    "many": lambda: (pair for _ in range(2 * HEADERS_MAX) for pair in PAIRS),
}


def seen(headers: Any, *, times: int = 1) -> list[Any]:
    """Everything that a reader can observe: each item, the contents of its pairs, each error; at most a few thousand
    items."""
    found: list[Any] = []
    for _ in range(times):
        try:
            iterator = iter(headers)
        except Exception as error:
            found.append(repr(error))
            continue
        for _ in range(3000):
            try:
                pair = next(iterator)
            except StopIteration:
                break
            except Exception as error:
                found.append(repr(error))
                continue
            try:
                found.append(list(itertools.islice(pair, 5)))
            except Exception as error:
                found.append(repr(error))
    return found


def drive(capture: Any, server: Server) -> BaseException | None:
    async def run() -> None:
        await capture(server.scope, server.receive, server.send)

    try:
        asyncio.run(run())
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("times", [1, 2])
def test_application_reads_its_request_headers_whole(kind: str, times: int) -> None:
    read: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        read.append(seen(scope["headers"], times=times))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    capture, recorder = make_capture(app)
    for asgi in (app, capture):
        server = Server(headers=KINDS[kind]())
        assert drive(asgi, server) is None
    assert read[0] == read[1]
    (exchange,) = recorder.sealed
    assert not recorder.counts
    assert make_builder().build(exchange)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("header", ["x-request-id", "x-other", None])
def test_server_reads_response_headers_whole(kind: str, header: str | None) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": KINDS[kind]()})
        await send({"type": "http.response.body"})

    capture, recorder = make_capture(app, request_id_header=header)
    bare, audited = Server(), Server()
    assert repr(drive(app, bare)) == repr(drive(capture, audited))
    expected, found = seen(bare.sent[0]["headers"]), seen(audited.sent[0]["headers"])
    (exchange,) = recorder.sealed
    if found and header and found[-1] == [header.encode(), exchange.request_id.encode()]:
        found.pop()
        assert header != "x-request-id" or kind not in ("generator", "list of iterators", "text", "many")
    assert found == expected
    assert not recorder.counts
    assert make_builder().build(exchange)


WHOLE = [kind for kind in KINDS if "iterator" in kind or "list" in kind or kind in ("generator", "lazy", "once", "map")]
WHOLE = [kind for kind in WHOLE if "failing" not in kind and "wrong" not in kind]


@pytest.mark.parametrize("kind", WHOLE)
def test_record_has_the_headers_when_they_can_be_read_once(kind: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": KINDS[kind]()})
        await send({"type": "http.response.body"})

    capture, recorder = make_capture(app)
    assert drive(capture, Server(headers=KINDS[kind]())) is None
    (exchange,) = recorder.sealed
    assert exchange.request_headers == exchange.response_headers == PAIRS
    assert exchange.request_id == "given-id"


@pytest.mark.parametrize("given", ["text", "buffers"])
def test_request_id_is_taken_when_it_is_no_bytes(given: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    value: Any = "abc" if given == "text" else memoryview(b"abc")
    capture, recorder = make_capture(app)
    drive(capture, Server(headers=[(b"x-request-id", value)]))
    assert recorder.sealed[0].request_id == "abc"


def test_error_of_the_application_is_raised_when_its_headers_fail_in_the_server() -> None:
    """As the server reads them, inside the application's own `send`: a 500 instead of a 200 without headers."""
    caught: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": failing_generator()})
        except ValueError as error:
            caught.append(error)
            raise

    class Reads(Server):
        async def send(self, message: Any) -> None:
            list(message["headers"])
            await super().send(message)

    capture, recorder = make_capture(app)
    server = Reads()
    error = drive(capture, server)
    assert isinstance(error, ValueError)
    assert error is caught[0]
    assert server.sent == []
    frames = traceback.extract_tb(error.__traceback__)
    assert frames[-1].name == "failing_generator"
    (exchange,) = recorder.sealed
    assert (exchange.outcome, exchange.status, exchange.error_type) == ("failed", 500, "ValueError")


def test_object_is_handed_on_itself_when_reading_takes_nothing_from_it() -> None:
    for given in (list(PAIRS), [list(pair) for pair in PAIRS], tuple(PAIRS), deque(PAIRS), dict(PAIRS).items(), "abc"):
        assert ReadHeaders(given).replacement is given
    for given in (None, 5, Unreadable()):
        assert ReadHeaders(given).replacement is given
        assert not ReadHeaders(given).is_whole


def test_stand_in_is_what_it_stands_for_when_it_is_used_otherwise() -> None:
    iterator = ReadHeaders(iter(PAIRS)).replacement
    assert next(iterator) == PAIRS[0]
    assert copy.deepcopy(ReadHeaders(iter(PAIRS)).replacement) is not None
    assert list(pickle.loads(pickle.dumps(ReadHeaders(iter(PAIRS)).replacement))) == PAIRS
    lazy = ReadHeaders(Lazy()).replacement
    assert lazy.first() == PAIRS[0]
    with pytest.raises(TypeError):
        next(lazy)
    with pytest.raises(AttributeError):
        _ = lazy.missing
    assert list(copy.deepcopy(lazy)) == PAIRS
    tuples = ReadHeaders(tuple(iter(pair) for pair in PAIRS)).replacement
    assert isinstance(tuples, tuple)


def test_endless_headers_are_read_no_further_than_the_bound() -> None:
    read: list[int] = []

    def endless() -> Iterator[Any]:
        for n in itertools.count():
            read.append(n)
            yield PAIRS[0]

    assert len(ReadHeaders(endless()).pairs) == HEADERS_MAX == len(read)
    assert Reading(itertools.repeat(b"x"), 3).items == [b"x"] * 3


def test_pairs_of_the_record_stay_when_the_application_changes_its_own() -> None:
    headers: Any = [[b"x-a", b"1"]]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["headers"][0][1] = b"changed"
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        headers[0][1] = b"changed"
        headers.append([b"x-b", b"2"])
        await send({"type": "http.response.body"})

    capture, recorder = make_capture(app)
    drive(capture, Server(headers=[[b"x-a", b"1"]]))
    (exchange,) = recorder.sealed
    assert exchange.request_headers == exchange.response_headers == [(b"x-a", b"1")]


@pytest.mark.parametrize("kind", [iter, tuple, list, lambda pair: (part for part in pair)])
def test_client_reaches_application_and_record_when_it_is_any_iterable(kind: Any) -> None:
    read: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        read.append(list(scope["client"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    capture, recorder = make_capture(app)
    drive(capture, Server(client=kind(("192.0.2.7", 1))))
    assert read == [["192.0.2.7", 1]]
    assert recorder.sealed[0].client == "192.0.2.7"


def test_other_iterators_of_scope_and_messages_pass_through_unread() -> None:
    given = {name: iter([1, 2]) for name in ("server", "subprotocols", "extensions", "state")}
    messages = [
        {"type": "http.response.push", "path": "/x", "headers": iter(PAIRS)},
        {"type": "http.response.early_hint", "links": iter([b"<x>"])},
        {"type": "http.response.debug", "info": {"context": iter([1])}},
        {"type": "http.response.start", "status": 200, "headers": [], "trailers": True},
        {"type": "http.response.body", "body": b"x"},
        {"type": "http.response.trailers", "headers": iter(PAIRS), "more_trailers": False},
    ]
    read: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        read.extend(list(scope[name]) for name in given)
        for message in messages:
            await send(message)

    capture, recorder = make_capture(app, request_id_header=None)
    server = Server(**given)
    assert drive(capture, server) is None
    assert read == [[1, 2]] * 4
    assert [m is s for m, s in zip(messages, server.sent, strict=True)] == [True] * 6
    assert list(server.sent[0]["headers"]) == list(server.sent[5]["headers"]) == PAIRS
    assert recorder.sealed[0].outcome == "completed"
    assert not recorder.counts


@pytest.mark.parametrize(
    "body",
    ["text", 5, memoryview(b"a-b-c-")[::2], memoryview(bytearray(b"abc")), bytearray(b"abc"), None],
    ids=["text", "number", "view with steps", "view", "bytearray", "none"],
)
def test_body_passes_when_it_is_no_plain_bytes(body: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": "200", "headers": []})
        await send({"type": "http.response.body", "body": body})

    class Takes(Server):
        async def send(self, message: Any) -> None:
            self.sent.append(message)

    capture, recorder = make_capture(app)
    server = Takes()
    assert drive(capture, server) is None
    assert server.sent[1]["body"] is body
    (exchange,) = recorder.sealed
    assert not recorder.counts
    assert (exchange.status, exchange.outcome) == (200, "completed")
    assert exchange.response_body.data() == (b"abc" if isinstance(body, (memoryview, bytearray)) else b"")


def test_scope_without_type_reaches_the_application() -> None:
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.append(scope)

    capture, recorder = make_capture(app)
    for scope in ({}, {"path": "/"}, None, 5):
        asyncio.run(capture(scope, None, None))  # type: ignore[arg-type]
    assert got == [{}, {"path": "/"}, None, 5]
    assert (recorder.begun, recorder.counts) == (0, {})


def test_recorder_is_asked_nothing_when_headers_are_missing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert "headers" not in scope
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    capture, recorder = make_capture(app, ListRecorder())
    server = Server()
    del server.scope["headers"]
    assert drive(capture, server) is None
    assert server.headers == [(b"x-request-id", recorder.sealed[0].request_id.encode())]
