"""Waiting for another thread from inside a request or a lifespan: on any asyncio loop, or under trio, never without a
bound.

The recorder's thread and the application share no asyncio object: a waiter belongs to the loop that made it, and `wake`
hands the answer over thread-safely. A loop that was closed meanwhile (a test client makes one per request) is no error.
Under any other event loop there is no waiter, so nothing is held back there.

The application does not know that it waits, so a cancellation that comes meanwhile is kept: what it held back happens
first. `forward` sends the message and raises the cancellation then; `hand_on` lets the task's next wait raise it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

__all__ = ["Waiter", "new_waiter", "off_loop"]

# How long a server may take for a message that was held back when its task is cancelled: as long as it was held back,
# which it would have had without us, and within these seconds. A server that blocks for ever is left after that.
FORWARD_SECONDS_MIN = 0.05
FORWARD_SECONDS_MAX = 1.0


class Waiter(Protocol):
    def wake(self, answer: bool) -> None:
        """From any thread, any number of times (the first counts); never raises."""

    async def wait(self, seconds: float) -> bool:
        """The answer, or False after so many seconds, or when the task is cancelled: then `forward` or `hand_on` must
        be called. Raises nothing."""

    async def forward(self, send: Callable[[Any], Awaitable[None]], message: Any) -> None:
        """`await send(message)`, which raises what `send` does. After a cancellation: the same although the task is
        cancelled, for a bounded time, whatever comes of it; then the cancellation is raised."""

    def hand_on(self) -> None:
        """After a cancellation: the next wait of the task raises it, unless it was taken back before."""


class _AsyncioWaiter:
    __slots__ = ("_began", "_cancelled", "_future", "_loop", "_requests")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[bool] = loop.create_future()
        self._began = loop.time()
        self._cancelled: asyncio.CancelledError | None = None
        self._requests = 0  # what `cancelling` said of the task before it waited

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
        task = asyncio.current_task()
        self._requests = 0 if task is None else task.cancelling()
        try:
            return await self._future
        except asyncio.CancelledError as error:
            self._cancelled = error
            return not self._future.cancelled() and self._future.result()
        finally:
            timer.cancel()

    async def forward(self, send: Callable[[Any], Awaitable[None]], message: Any) -> None:
        error, self._cancelled = self._cancelled, None
        if error is None:
            return await send(message)
        # A cancellation of asyncio comes once; anyio repeats its own until the task has left the scope.
        with contextlib.suppress(Exception, asyncio.CancelledError), _anyio_shield():
            async with asyncio.timeout(_seconds_for(self._loop.time() - self._began)):
                await send(message)
        raise error

    def hand_on(self) -> None:
        error, self._cancelled = self._cancelled, None
        task = asyncio.current_task()
        if error is None or task is None:
            return
        # A task that was cancelled before it waited has no request more than then.
        before = min(self._requests, task.cancelling() - 1)

        # When the task waits, and not now: a timeout, scope or group that is left before takes its request back, and
        # until Python 3.13 `uncancel` does not take back what `cancel` has armed.
        def cancel() -> None:
            if not task.done() and task.cancelling() > before:
                task.uncancel()  # or it would count twice
                task.cancel(*error.args)

        self._loop.call_soon(cancel)


class _TrioWaiter:
    __slots__ = ("_answer", "_began", "_cancelled", "_event", "_token", "_trio")

    def __init__(self, trio: Any) -> None:
        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()
        self._answer = False
        self._began = trio.current_time()
        self._cancelled: BaseException | None = None

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
        try:
            with self._trio.move_on_after(seconds):
                await self._event.wait()
        except self._trio.Cancelled as error:
            self._cancelled = error
        return self._answer

    async def forward(self, send: Callable[[Any], Awaitable[None]], message: Any) -> None:
        error, self._cancelled = self._cancelled, None
        if error is None:
            return await send(message)
        now = self._trio.current_time()
        with (
            contextlib.suppress(Exception),
            self._trio.CancelScope(shield=True, deadline=now + _seconds_for(now - self._began)),
        ):
            await send(message)
        raise error

    def hand_on(self) -> None:
        self._cancelled = None  # trio repeats it at each checkpoint inside the cancelled scope


def _seconds_for(held: float) -> float:
    return min(max(held, FORWARD_SECONDS_MIN), FORWARD_SECONDS_MAX)


def _anyio_shield() -> contextlib.AbstractContextManager[Any]:
    anyio = sys.modules.get("anyio")
    try:
        return contextlib.nullcontext() if anyio is None else anyio.CancelScope(shield=True)
    except Exception:  # half imported, or a version without it
        return contextlib.nullcontext()


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

    The thread is a daemon and goes on alone after that; what `call` raises is dropped. A cancellation ends the waiting
    and is handed on: what the caller does next happens until it waits. Raises nothing else."""
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
    if waiter is None:
        return False
    is_done = await waiter.wait(seconds)
    waiter.hand_on()
    return is_done
