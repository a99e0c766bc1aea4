"""Fences: the proof that everything that was appended before a moment has been read.

Intuition: to know that all letters of yesterday are sorted, note the time, then mark the end of each pile, and sort
until every mark is reached. What comes in meanwhile is younger than the note, and does not matter. A source that is
always behind can so still say until when it has read; no moment is needed at which nothing is left.

The order is what proves it: first the clock (e), then the list of partitions, then the end of each. An entry that was
appended before e stands in a listed partition, before its end. A partition whose end cannot be asked gives no fence.

Bound: at most `FENCES_MAX` fences that have not passed are kept. Thinning keeps the oldest and the newest: were each
new one to replace the one before, none would pass while the reader lags.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["FENCES_MAX", "Fence", "FenceQueue", "boot_id", "boot_seconds"]

FENCES_MAX = 64


class Fence(NamedTuple):
    """`at`: e, by the reader's wall clock, seconds since the epoch. `boot`: the same moment in seconds since the
    machine started, sleep included. `boot_id`: which start that was, '' where it cannot be known."""

    at: float
    boot: float
    boot_id: str


def boot_seconds() -> float:
    """Seconds since the machine started. They go on while it sleeps (on Linux) and never step."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def boot_id() -> str:
    """Changes when the machine starts again; '' where it cannot be known (then a true tail cannot be proven)."""
    if sys.platform == "linux":
        try:
            with open("/proc/sys/kernel/random/boot_id") as f:
                return f.read().strip()
        except OSError:
            return ""
    return ""


class FenceQueue:
    """Fences that have not passed, in the order in which they were taken. Used by one thread."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fence, dict[str, int]]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, fence: Fence, ends: Mapping[str, int]) -> None:
        """`ends`: of each partition, the offset behind its last entry when it was asked."""
        if len(self._waiting) >= FENCES_MAX:
            del self._waiting[1:-1:2]
        self._waiting.append((fence, dict(ends)))

    def passed(self, read: Mapping[str, int]) -> Fence | None:
        """The newest fence that lies behind what was read, None when there is none; it and those before it are
        forgotten. `read`: of each partition, the offset before which everything was read. A partition that is not in it
        is there no longer and holds nothing."""
        for at in range(len(self._waiting) - 1, -1, -1):
            fence, ends = self._waiting[at]
            if all(read[name] >= end for name, end in ends.items() if name in read):
                del self._waiting[: at + 1]
                return fence
        return None

    def behind(self, read: Mapping[str, int]) -> list[str]:
        """The partitions that keep the oldest fence from passing."""
        if not self._waiting:
            return []
        return [name for name, end in self._waiting[0][1].items() if name in read and read[name] < end]

    def clear(self) -> None:
        """The partitions are not those any more of which the ends were asked."""
        self._waiting.clear()
