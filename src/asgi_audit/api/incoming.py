"""Reads from the client during a request: its body, and its disconnect.

When a client disconnects, work on its response should stop. A handler that does not call `receive()` would not notice
and would continue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.types import Message, Receive

__all__ = ["Incoming"]

T = TypeVar("T")


class Incoming:
    """Wraps `receive` of one request and notes the end of the body."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._body_ended = asyncio.Event()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            self._body_ended.set()
        return message

    async def unless_left(self, answer: Coroutine[None, None, T], *, has_body: bool) -> T | None:
        """The result of `answer`; None when the client left first: then `answer` is cancelled. `has_body`: `answer`
        receives the body itself, and notices a disconnect before its end."""
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(answer)
            leaving = tasks.create_task(self._left(answering, has_body))
            answering.add_done_callback(lambda _: leaving.cancel())
        return None if answering.cancelled() else answering.result()

    async def _left(self, answering: asyncio.Task[T], has_body: bool) -> None:
        if has_body:
            await self._body_ended.wait()
        else:
            while (message := await self._receive())["type"] == "http.request" and message.get("more_body"):
                pass  # discard a body that the handler does not read
            if message["type"] == "http.disconnect":
                answering.cancel()
                return
        # Some servers return empty messages repeatedly instead of waiting: then a disconnect cannot be detected.
        if (await self._receive())["type"] == "http.disconnect":
            answering.cancel()
