"""Answers that cost the same whoever asks: computed once for all who ask meanwhile.

`/metrics` and `/health/ready` need no key, and look at files. A flood of them would hold the threads that look up
keys. So one computation runs at a time, for all who ask until it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["Shared"]

T = TypeVar("T")


class Shared(Generic[T]):
    """One event loop uses it. `rests`: a result stands for as long as it took, so that at most half of one thread is
    spent on it."""

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
        """Raises what the computation raised."""
        if self._running is None or (self._running.done() and self._monotonic() >= self._stands_until):
            self._running = asyncio.get_running_loop().create_task(self._timed())
        # Whoever leaves takes nothing from the others.
        return await asyncio.shield(self._running)

    async def _timed(self) -> T:
        began = self._monotonic()
        try:
            return await self._compute()
        finally:
            now = self._monotonic()
            self._stands_until = now + (now - began if self._rests else 0.0)
