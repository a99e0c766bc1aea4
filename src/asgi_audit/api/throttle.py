"""How many requests without a valid key are told so, and recorded, one by one.

A valid key is never throttled: the address and the id are anybody's to use, so a bound on them must lock nobody out.
What is bounded is refusals: after `FAILURES_MAX` of one client address, or of one key id, in `WINDOW_SECONDS` the next
ones are answered 429 until the window ends. A client that finds its session ended, and asks again a few times, still
gets its 401. Of refusals over a bound, and of all over `FAILURES_ALL_MAX` from anywhere, one in `WINDOW_SECONDS` is
recorded, with the number of those before it that were not: otherwise anybody could fill the journal and the index.

Bounds: `ENTRIES_MAX` addresses and ids, the one not seen for longest is forgotten. One event loop uses it. Nothing is
stored: a restart begins new windows.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["ENTRIES_MAX", "FAILURES_ALL_MAX", "FAILURES_MAX", "WINDOW_SECONDS", "Throttle"]

FAILURES_MAX = 30
FAILURES_ALL_MAX = 600
WINDOW_SECONDS = 60.0
ENTRIES_MAX = 4_096


class Throttle:
    """`unrecorded`: refusals that became no record of their own, since the start."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.unrecorded = 0
        self._monotonic = monotonic
        self._failures: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()  # begin of the window, number
        self._all = (monotonic(), 0)
        self._recorded_at = monotonic() - WINDOW_SECONDS
        self._left_out = 0

    def failed(self, address: str, key_id: str) -> int:
        """Notes a failure; either may be '' for unknown. Returns the seconds to wait when it is over a bound, else
        0."""
        now = self._monotonic()
        self._all = _next(self._all, now)
        wait = 0.0
        for name in _names(address, key_id):
            began, number = self._failures[name] = _next(self._failures.get(name, (now, 0)), now)
            self._failures.move_to_end(name)
            if number > FAILURES_MAX:
                wait = max(wait, began + WINDOW_SECONDS - now)
        while len(self._failures) > ENTRIES_MAX:
            self._failures.popitem(last=False)
        return math.ceil(wait)

    def is_over(self, address: str, key_id: str) -> bool:
        """Whether a failure now would be over the bound of its address, of its id, or of all."""
        now = self._monotonic()
        return _number(self._all, now) >= FAILURES_ALL_MAX or any(
            _number(self._failures.get(name, (now, 0)), now) >= FAILURES_MAX for name in _names(address, key_id)
        )

    def to_record(self) -> int | None:
        """For a refusal over a bound: None when it is not recorded; else how many before it were not."""
        now = self._monotonic()
        if now - self._recorded_at < WINDOW_SECONDS:
            self._left_out += 1
            self.unrecorded += 1
            return None
        self._recorded_at = now
        left_out, self._left_out = self._left_out, 0
        return left_out


def _names(address: str, key_id: str) -> list[tuple[str, str]]:
    return [(kind, name) for kind, name in (("address", address), ("key", key_id)) if name]


def _next(window: tuple[float, int], now: float) -> tuple[float, int]:
    began, number = window
    return (began, number + 1) if now - began < WINDOW_SECONDS else (now, 1)


def _number(window: tuple[float, int], now: float) -> int:
    began, number = window
    return number if now - began < WINDOW_SECONDS else 0
