"""How a test waits: for another thread or process, for a server, or for an event in its own event loop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["listens", "until", "until_in_loop"]

T = TypeVar("T")


def until(condition: Callable[[], T], what: str | Callable[[], str] = "", seconds: float = 60.0) -> T:
    """Polls, every 2 ms at first and every 50 ms later, until `condition` holds; returns its value.

    `seconds` is when a test that will never pass is given up. It does not limit how long the event may take, so it
    is long: a busy machine takes many times longer than an idle one. `what` names, in the failure, what was waited
    for."""
    deadline, pause = time.monotonic() + seconds, 0.002
    while not (value := condition()):
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {seconds:g} s" + (f": {text}" if text else ""))
        time.sleep(pause)
        pause = min(1.5 * pause, 0.05)
    return value


def listens(port: int) -> bool:
    """Whether a server accepts connections at this port of the loopback address."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


async def until_in_loop(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits until `condition` holds, in the event loop in which it becomes true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)
