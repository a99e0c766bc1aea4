"""Results that are equal for all clients, computed once for all concurrent requests.

`/metrics` and `/health/ready` need no key and read files. A flood of requests would occupy the threads that look up
keys. So only one computation runs at a time, and all requests during it share its result.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["Shared"]

T = TypeVar("T")


class Shared(Generic[T]):
    """Used by one event loop. `rests`: a result stays valid for as long as it took to compute, so that it uses at most
    half of one thread."""

    def __init__(
        self,
        compute: Callable[[], Awaitable[T]],
        *,
        rests: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._compute = compute
        self._rests = rests
        self._monotonic = monotonic
        self._running: asyncio.Task[T] | None = None
        self._stands_until = float("-inf")

    async def get(self) -> T:
        """The result. Raises any exception of the computation."""
        if self._running is None or (self._running.done() and self._monotonic() >= self._stands_until):
            self._running = asyncio.get_running_loop().create_task(self._timed())
        # Cancelling one waiter must not cancel the computation for the others.
        return await asyncio.shield(self._running)

    async def _timed(self) -> T:
        began = self._monotonic()
        try:
            return await self._compute()
        finally:
            now = self._monotonic()
            self._stands_until = now + (now - began if self._rests else 0.0)
