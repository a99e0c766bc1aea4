"""Waiting for another thread inside a request or a lifespan, with asyncio or trio, for a bounded time.

The recorder's thread and the application share no asyncio object: a waiter belongs to the loop in which it was made,
and `wake` passes the result to it thread-safely. It is no error when that loop was closed in between (a test client
makes one for each request). With any other event loop there is no waiter, and no message is held back.

The application does not know about the wait. When its task is cancelled during it, the cancellation is therefore kept
until the message that was held back has been sent: `forward` sends it and raises the cancellation after that;
`redeliver_cancellation` lets the next await of the task raise it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

__all__ = ["Waiter", "new_waiter", "off_loop"]

# When a task is cancelled, how long the server may take for the message that was held back: as long as it was held back
# (time that it would have had without the middleware), but within these bounds.
FORWARD_SECONDS_MIN = 0.05
FORWARD_SECONDS_MAX = 1.0


class Waiter(Protocol):
    def wake(self, answer: bool) -> None:
        """Called from any thread; only the first call counts. Never raises."""

    async def wait(self, seconds: float) -> bool:
        """Wait for `wake` and return its `answer`; False after `seconds`, or when the task is cancelled. Then call
        `forward` or `redeliver_cancellation`. Raises nothing."""

    async def forward(self, send: Callable[[Any], Awaitable[None]], message: Any) -> None:
        """`await send(message)`, which may raise. After a cancellation the message is still sent, within a bounded time
        and whatever `send` raises; then the cancellation is raised."""

    def redeliver_cancellation(self) -> None:
        """After a cancellation: let the task's next await raise it, unless it was withdrawn before."""


class _AsyncioWaiter:
    __slots__ = ("_began", "_cancelled", "_future", "_loop", "_requests")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[bool] = loop.create_future()
        self._began = loop.time()
        self._cancelled: asyncio.CancelledError | None = None
        self._requests = 0  # `task.cancelling()` before it waited

    def wake(self, answer: bool) -> None:
        try:
            self._loop.call_soon_threadsafe(self._set, answer)
        except RuntimeError:
            pass  # the loop is closed, so the request is over

    def _set(self, answer: bool) -> None:
        if not self._future.done():
            self._future.set_result(answer)

    async def wait(self, seconds: float) -> bool:
        # Not asyncio.wait_for, which until Python 3.12 makes a task and can lose a cancellation.
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
        # asyncio delivers a cancellation once; anyio repeats its own until the task has left the scope.
        with contextlib.suppress(Exception, asyncio.CancelledError), _anyio_shield():
            async with asyncio.timeout(_seconds_for(self._loop.time() - self._began)):
                await send(message)
        raise error

    def redeliver_cancellation(self) -> None:
        error, self._cancelled = self._cancelled, None
        task = asyncio.current_task()
        if error is None or task is None:
            return
        # If the task was cancelled only before it waited, `cancelling` has not grown.
        before = min(self._requests, task.cancelling() - 1)

        # When the task awaits next, and not now: a timeout, scope or group that ends before withdraws its cancellation,
        # and until Python 3.13 `uncancel` does not undo what `cancel` has scheduled.
        def cancel() -> None:
            if not task.done() and task.cancelling() > before:
                task.uncancel()  # otherwise it would count twice
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
            pass  # trio.RunFinishedError: the request is over

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

    def redeliver_cancellation(self) -> None:
        self._cancelled = None  # trio raises it again at each checkpoint in the cancelled scope


def _seconds_for(held: float) -> float:
    return min(max(held, FORWARD_SECONDS_MIN), FORWARD_SECONDS_MAX)


def _anyio_shield() -> contextlib.AbstractContextManager[Any]:
    anyio = sys.modules.get("anyio")
    try:
        return contextlib.nullcontext() if anyio is None else anyio.CancelScope(shield=True)
    except Exception:  # not fully imported, or a version without this function
        return contextlib.nullcontext()


def new_waiter() -> Waiter | None:
    """A waiter for the calling task; None when neither asyncio nor trio runs."""
    # Trio first: in guest mode its tasks run inside callbacks of a running asyncio loop.
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
    """Run `call` in a new thread and wait at most `seconds` for its end. Returns whether it ended in time.

    The thread is a daemon, and continues after that; what `call` raises is dropped. A cancellation ends the wait, and
    the task's next await raises it. Raises nothing itself."""
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
    waiter.redeliver_cancellation()
    return is_done
