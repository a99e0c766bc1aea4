"""Limits how many requests without a valid key get a 401 and a record of their own.

A valid key is never throttled: any client can use an address or send a key id, so limits on them must not lock out
valid clients. Only refusals are limited: after `FAILURES_MAX` of one client address or one key id in `WINDOW_SECONDS`,
further ones get 429 until the window ends. A client whose session has ended, and which retries a few times, still gets
its 401. Of refusals above a limit, and above `FAILURES_ALL_MAX` in total, only one per `WINDOW_SECONDS` is recorded,
with the number of unrecorded ones before it: otherwise any client could fill the journal and the index.

Bounds: `ENTRIES_MAX` addresses and ids; the least recently seen one is dropped. Used by one event loop. Nothing is
stored: a restart begins new windows. With several workers, shared `Windows` are passed in.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

__all__ = ["ENTRIES_MAX", "FAILURES_ALL_MAX", "FAILURES_MAX", "WINDOW_SECONDS", "OwnWindows", "Throttle", "Windows"]

FAILURES_MAX = 30
FAILURES_ALL_MAX = 600
WINDOW_SECONDS = 60.0
ENTRIES_MAX = 4_096

_ALL = ("all", "")


class Windows(Protocol):
    """Counts per name, each in a window of `seconds` that begins with its first count. `unrecorded`: how often
    `to_record` returned None."""

    @property
    def unrecorded(self) -> int: ...

    def add(self, name: tuple[str, str], seconds: float) -> tuple[float, int]:
        """Adds one. Returns (seconds until the window ends, count in the window)."""

    def get(self, name: tuple[str, str], seconds: float) -> tuple[float, int]:
        """Like `add`, without counting; (0, 0) after the window has ended."""

    def to_record(self, seconds: float) -> int | None:
        """Once in `seconds`: how often it returned None since the last time; else None."""


class OwnWindows:
    """The windows of a single process."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.unrecorded = 0
        self._monotonic = monotonic
        self._windows: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()  # begin of the window, number
        self._recorded_at = float("-inf")
        self._left_out = 0

    def add(self, name: tuple[str, str], seconds: float) -> tuple[float, int]:
        now = self._monotonic()
        began, number = self._windows.get(name, (now, 0))
        self._windows[name] = (began, number + 1) if now - began < seconds else (now, 1)
        self._windows.move_to_end(name)
        while len(self._windows) > ENTRIES_MAX:
            self._windows.popitem(last=False)
        return self.get(name, seconds)

    def get(self, name: tuple[str, str], seconds: float) -> tuple[float, int]:
        now = self._monotonic()
        began, number = self._windows.get(name, (now, 0))
        return (began + seconds - now, number) if now - began < seconds else (0.0, 0)

    def to_record(self, seconds: float) -> int | None:
        now = self._monotonic()
        if now - self._recorded_at < seconds:
            self._left_out += 1
            self.unrecorded += 1
            return None
        self._recorded_at = now
        left_out, self._left_out = self._left_out, 0
        return left_out


class Throttle:
    """`unrecorded`: number of refusals without a record since the start."""

    def __init__(self, windows: Windows | None = None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._windows = windows or OwnWindows(monotonic)

    @property
    def unrecorded(self) -> int:
        return self._windows.unrecorded

    def failed(self, address: str, key_id: str) -> int:
        """Notes a failure; either may be '' for unknown. Returns the seconds to wait when it is over a bound, else
        0."""
        self._windows.add(_ALL, WINDOW_SECONDS)
        counted = [self._windows.add(name, WINDOW_SECONDS) for name in _names(address, key_id)]
        return math.ceil(max((left for left, number in counted if number > FAILURES_MAX), default=0.0))

    def is_over(self, address: str, key_id: str) -> bool:
        """Whether a failure now would be over the bound of its address, of its id, or of all."""
        most = [(_ALL, FAILURES_ALL_MAX), *((name, FAILURES_MAX) for name in _names(address, key_id))]
        return any(self._windows.get(name, WINDOW_SECONDS)[1] >= bound for name, bound in most)

    def to_record(self) -> int | None:
        """For a refusal above a limit: None when it is not recorded, else the number of unrecorded ones before it."""
        return self._windows.to_record(WINDOW_SECONDS)


def _names(address: str, key_id: str) -> list[tuple[str, str]]:
    return [(kind, name) for kind, name in (("address", address), ("key", key_id)) if name]
