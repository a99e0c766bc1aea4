"""No input costs more than its length: all input is parsed in the event loop that serves all clients.

Method: inputs of the largest accepted size, each built against one parser, measured in CPU time of the thread (other
processes do not count). The bound is about ten times the slowest one; quadratic time is far above it (a body of one
name, repeated at its end, took 6.9 s).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import Field
from starlette.requests import Request
from tests.support.machine import processor_time, within

from asgi_audit.api import params
from asgi_audit.api.auth import key_of
from asgi_audit.api.dialects.executions import PageOf, Start
from asgi_audit.api.dialects.tr50.envelope import envelope_of
from asgi_audit.api.dialects.tr50.requests import Asked
from asgi_audit.api.dialects.usage import USAGE
from asgi_audit.api.fields import whole
from asgi_audit.api.models import Model, read_body, read_fields, read_parameters
from asgi_audit.api.operation import Operation
from asgi_audit.api.routing import Path, Resource
from asgi_audit.errors import QueryError
from asgi_audit.query.tokens import Sealer, TokenKind

CPU_SECONDS_MAX = 0.1
SIZE = params.BODY_BYTES_MAX


def is_in_time(work: Callable[[], object], seconds: float = CPU_SECONDS_MAX) -> bool:
    """Whether it takes at most this much processor time."""
    return within(lambda: processor_time(work), seconds) <= seconds


def read(data: bytes, model: type[Model]) -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": data}

    async def reading() -> None:
        with contextlib.suppress(QueryError):
            await read_body(Request({"type": "http", "headers": []}, receive), model)

    asyncio.run(reading())


def request(**scope: Any) -> Request:
    return Request({"type": "http", "query_string": b"", "headers": [], **scope})


ALPHABET = [chr(c) for c in range(33, 127) if chr(c) not in '"\\']
NAMES = [f"{a}{b}" for a in ALPHABET for b in ALPHABET][:7_000]
BODIES = {
    "one name": "{" + ",".join(['"a":1'] * (SIZE // 6)) + "}",
    "a name repeated at the end": "{" + ",".join(f'"{n}":1' for n in [*NAMES, "zz", "zz"]) + "}",
    "names repeated in pairs": "{" + ",".join(f'"{n}":1' for n in [*NAMES[:4000], *reversed(NAMES[:4000])]) + "}",
    "deep arrays": "[" * SIZE,
    "deep objects": '{"a":' * (SIZE // 5),
    "many objects": '{"from":[' + "{}," * (SIZE // 3 - 10) + "{}]}",
    "digits": '{"from":' + "9" * (SIZE - 10) + "}",
    "numbers of many digits": '{"from":[' + ",".join(["9" * 4_300] * 15) + "]}",
    "a long fraction": '{"from":0.' + "1" * (SIZE - 20) + "}",
    "escapes": '{"from":"' + "\\u0041" * (SIZE // 6 - 10) + '"}',
    "a long date": '{"from":"' + "2024-01-01T00:00:00.1" + "1" * (SIZE - 60) + '"}',
    "blanks": " " * SIZE,
}


def _spelled(number: int) -> str:
    """`command` in one of its 128 spellings; for larger numbers, another word."""
    return "".join(c.upper() if number >> i & 1 else c for i, c in enumerate("command-xyzw"))


class Item(Model):
    a: Annotated[int, whole(1, 9)]


class Lists(Model):
    """Field types that a model may have beside single values."""

    items: list[Item] = Field([], alias="from", fail_fast=True)
    more: dict[str, Item] = Field({}, alias="to")


BODIES |= {
    "many wrong items": '{"from":[' + "1," * (SIZE // 2 - 10) + "1]}",
    "many right items": '{"from":[' + '{"a":1},' * (SIZE // 8 - 10) + '{"a":1}]}',
    "many unknown names": "{" + ",".join(f'"{n}":1' for n in NAMES) + "}",
    "many wrong values": '{"to":{' + ",".join(f'"{n}":1' for n in NAMES) + "}}",
    "many unknown names inside": '{"to":{"a":{' + ",".join(f'"{n}":1' for n in NAMES) + "}}}",
    "a long name": '{"' + "n" * (SIZE - 10) + '":1}',
    "a long name inside": '{"to":{"' + "n" * (SIZE - 20) + '":1}}',
}


@pytest.mark.parametrize("model", [Start, Lists])
@pytest.mark.parametrize("name", BODIES)
def test_body_is_read_in_time_of_its_length(name: str, model: type[Model]) -> None:
    data = BODIES[name].encode()[:SIZE]
    assert is_in_time(lambda: read(data, model))


COMMANDS = {
    **BODIES,
    "many commands": "{" + ",".join(f'"{n}":{{"command":"diag.ping"}}' for n in NAMES) + "}",
    "many names of one envelope": '{"1":{"command":"diag.ping",' + ",".join(f'"{n}":1' for n in NAMES) + "}}",
    "many unknown parameters": '{"1":{"params":{' + ",".join(f'"{n}":1' for n in NAMES) + "}}}",
    "a long duration": '{"1":{"params":{"last":"' + "1h" * (SIZE // 2 - 20) + '"}}}',
    "twenty long durations": "{" + ",".join(f'"{n}":{{"params":{{"last":"{"9" * 3_200}h"}}}}' for n in range(20)) + "}",
    "a long session": '{"1":{"sessionId":"' + "s" * (SIZE - 30) + '"}}',
    "many spellings": '{"1":{' + ",".join(f'"{_spelled(n)}":1' for n in range(4_000)) + "}}",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_envelope_of_commands_is_read_in_time_of_its_length(name: str) -> None:
    async def reading() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": COMMANDS[name].encode()[:SIZE]}

        with contextlib.suppress(QueryError):
            envelope = envelope_of(await params.json_object(Request({"type": "http", "headers": []}, receive)))
            for command in envelope.commands:
                with contextlib.suppress(QueryError):
                    read_fields(Asked, command.params, "parameter")

    assert is_in_time(lambda: asyncio.run(reading()))


@pytest.mark.parametrize("query", ["limit&" * 50_000, "limit=1&" * 50_000, "%41" * 100_000, "limit=" + "1" * 250_000])
def test_query_string_is_read_in_time_of_its_bound_when_longer(query: str) -> None:
    def read() -> None:
        with pytest.raises(QueryError):
            read_parameters(request(query_string=query.encode()), PageOf)

    assert is_in_time(read, CPU_SECONDS_MAX / 10)


@pytest.mark.parametrize("query", ["limit=&" * 1_000, "limit&" * 1_300, "%41" * 2_000, "limit=" + "%41" * 2_000])
def test_parameters_of_the_longest_query_string_are_read_in_time(query: str) -> None:
    def read() -> None:
        with contextlib.suppress(QueryError):
            read_parameters(request(query_string=query.encode()), PageOf)

    assert len(query) < params.QUERY_BYTES_MAX
    assert is_in_time(read)


@pytest.mark.parametrize("path", ["/a" * 100_000, "/" * 200_000, "/%2f" * 60_000, "/usage/a/" + "%41" * 80_000])
def test_path_is_matched_in_time_of_its_bound_when_longer(path: str) -> None:
    row = Operation(
        id="usage.start",
        method="POST",
        path="/usage/{service}/{instance}",
        dialect=USAGE,
        roles=frozenset(),
        is_recorded=True,
        handle=lambda *_: None,  # type: ignore[arg-type, return-value]
    )
    resource = Resource([row], None)  # type: ignore[arg-type]
    routes = [Path(row.path, resource) for _ in range(50)]

    def match() -> None:
        scope: dict[str, Any] = {"type": "http", "path": path, "raw_path": path.encode()}
        assert all(route.matches(scope)[0].value == 0 for route in routes)

    assert is_in_time(match, CPU_SECONDS_MAX / 10)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + b"x" * 250_000)],
        [(b"authorization", b"Bearer " + b" " * 250_000)],
        [(b"authorization", b" " * 250_000)],
        [(b"x-api-key", b"aa_%d" % n) for n in range(10_000)],
        [(b"authorization", b"Bearer aa_%d" % n) for n in range(10_000)],
    ],
)
def test_key_is_found_in_time_of_its_length(headers: list[tuple[bytes, bytes]]) -> None:
    assert is_in_time(lambda: key_of(request(headers=headers).headers))


@pytest.mark.parametrize("text", ["A" * 250_000, "A" * 4_096, "=" * 4_096, "é" * 4_096, "AQE" + "A" * 4_000])
def test_token_is_refused_in_time_of_its_bound(text: str) -> None:
    sealer = Sealer(bytes(32))

    def refuse() -> None:
        with pytest.raises(QueryError):
            sealer.open(text, TokenKind.PAGE, "trail", None, 0.0)

    assert is_in_time(refuse, CPU_SECONDS_MAX / 10)
