"""Waiting for another thread from inside a request or a lifespan: on any asyncio loop, or under trio, never without a
bound.

The recorder's thread and the application share no asyncio object: a waiter belongs to the loop that made it, and `wake`
hands the answer over thread-safely. A loop that was closed meanwhile (a test client makes one per request) is no error.
Under any other event loop there is no waiter, so nothing is held back there.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Waiter", "new_waiter", "off_loop"]


class Waiter(Protocol):
    def wake(self, answer: bool) -> None:
        """From any thread, any number of times (the first counts); never raises."""

    async def wait(self, seconds: float) -> bool:
        """The answer, or False after so many seconds. Cancellation passes through."""


class _AsyncioWaiter:
    __slots__ = ("_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[bool] = loop.create_future()

    def wake(self, answer: bool) -> None:
        try:
            self._loop.call_soon_threadsafe(self._set, answer)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def _set(self, answer: bool) -> None:
        if not self._future.done():
            self._future.set_result(answer)

    async def wait(self, seconds: float) -> bool:
        # No asyncio.wait_for: until 3.12 it makes a task of its own and can lose a cancellation.
        timer = self._loop.call_later(seconds, self._set, False)
        try:
            return await self._future
        finally:
            timer.cancel()


class _TrioWaiter:
    __slots__ = ("_answer", "_event", "_token", "_trio")

    def __init__(self, trio: Any) -> None:
        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()
        self._answer = False

    def wake(self, answer: bool) -> None:
        try:
            self._token.run_sync_soon(self._set, answer)
        except Exception:
            pass  # trio.RunFinishedError: nobody waits any more

    def _set(self, answer: bool) -> None:
        if not self._event.is_set():
            self._answer = answer
            self._event.set()

    async def wait(self, seconds: float) -> bool:
        with self._trio.move_on_after(seconds):
            await self._event.wait()
        return self._answer


def new_waiter() -> Waiter | None:
    """A waiter for the task that calls; None where neither asyncio nor trio runs."""
    # Trio is asked first: as a guest of asyncio its tasks run inside callbacks of a running asyncio loop.
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            trio.lowlevel.current_task()
            return _TrioWaiter(trio)
        except (AttributeError, RuntimeError):
            pass
    try:
        return _AsyncioWaiter(asyncio.get_running_loop())
    except RuntimeError:
        return None


async def off_loop(call: Callable[[], object], seconds: float) -> bool:
    """Run `call` in a thread of its own and wait for its end at most so many seconds; True when it ended in time.

    The thread is a daemon and goes on alone after that; what `call` raises is dropped. Raises nothing but
    cancellation."""
    waiter = new_waiter()

    def run() -> None:
        try:
            call()
        except Exception:
            pass
        finally:
            if waiter is not None:
                waiter.wake(True)

    try:
        threading.Thread(target=run, name="asgi-audit-wait", daemon=True).start()
    except RuntimeError:  # the interpreter is shutting down, or the machine has no thread left
        return False
    return waiter is not None and await waiter.wait(seconds)
