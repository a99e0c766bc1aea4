"""An ASGI 2 application works in the middleware; every other callable is called unchanged."""

from __future__ import annotations

import functools
import inspect
from typing import Any
from unittest.mock import MagicMock

import pytest
from tests.support.asgi import serve_once

from asgi_audit.capture.asgi import as_asgi3

START = {"type": "http.response.start", "status": 201, "headers": []}


async def three(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send({"type": "http.response.body", "body": b"x"})


def two(scope: Any) -> Any:
    async def instance(receive: Any, send: Any) -> None:
        await three(scope, receive, send)

    return instance


class Two:
    def __call__(self, scope: Any) -> Any:
        return two(scope)


class TwoSteps:
    def __init__(self, scope: Any) -> None:
        self.scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        await three(self.scope, receive, send)


class ThreeSteps:
    """A response that is awaited, like starlette's endpoints."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...

    def __await__(self) -> Any: ...


class Three:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await three(scope, receive, send)


def decorated(*args: Any, **kwargs: Any) -> Any:
    return three(*args, **kwargs)


def endpoint(request: Any) -> Any: ...


@functools.wraps(endpoint)
async def wrapping(scope: Any, receive: Any, send: Any) -> None:
    await three(scope, receive, send)


@functools.wraps(endpoint)
def wrapping_later(scope: Any, receive: Any, send: Any) -> Any:
    return three(scope, receive, send)


class Wrapping:
    def __init__(self) -> None:
        functools.update_wrapper(self, endpoint)

    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        return three(scope, receive, send)


class SaysOther:
    """A callable with the signature of the function that it wraps."""

    __signature__ = inspect.signature(endpoint)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Unreadable:
    @property
    def __signature__(self) -> Any:
        raise RuntimeError("no signature")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    "app", [two, Two(), functools.partial(two), TwoSteps], ids=["function", "object", "partial", "class"]
)
def test_application_of_asgi_2_is_recorded(app: Any) -> None:
    server, exchange, _ = serve_once(app)
    assert (server.status, server.body) == (201, b"x")
    assert exchange.status == 201


@pytest.mark.parametrize(
    "app",
    [
        three,
        Three(),
        functools.partial(three),
        decorated,
        wrapping,
        wrapping_later,
        functools.partial(wrapping),
        Wrapping(),
        SaysOther(),
        MagicMock(),
        Unreadable(),
        Three,
        ThreeSteps,
        None,
        print,
        3,
    ],
)
def test_all_else_is_left_as_it_is(app: Any) -> None:
    assert as_asgi3(app) is app
