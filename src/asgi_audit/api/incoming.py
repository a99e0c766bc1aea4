"""What a client sends while it is answered: its body, and that it left.

A client that leaves while its answer is made wants it no more. Nobody else looks for that: a handler that does not
`receive()` never learns of it, and would go on making an answer for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.types import Message, Receive

__all__ = ["Incoming"]

T = TypeVar("T")


class Incoming:
    """`receive` of one request, which notes when the body has ended."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._body_ended = asyncio.Event()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            self._body_ended.set()
        return message

    async def unless_left(self, answer: Coroutine[None, None, T], *, has_body: bool) -> T | None:
        """What `answer` returns; None when the client left first: then `answer` is cancelled, wherever it is.
        `has_body`: `answer` receives the body itself, and sees if the client leaves before its end."""
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
                pass  # a body that nobody asked for
            if message["type"] == "http.disconnect":
                answering.cancel()
                return
        # Some servers return an empty request again and again in place of waiting: then nothing is known.
        if (await self._receive())["type"] == "http.disconnect":
            answering.cancel()
