"""Fences: the proof that everything that was appended before a moment has been read.

The idea. To know that all letters of yesterday are sorted, note the time, mark the end of each pile, and sort until
every mark is reached. Letters that arrive meanwhile are younger than the note and do not matter. So a reader that is
always behind can still state until when it has read; it need never have read everything.

An example. At e = 10:00:00 partition 0 ends at offset 500 and partition 1 at 80: a fence. When the reader has passed
both, at 10:00:07, the fence has passed: everything that was appended before 10:00:00 is read.

The order of the three steps is the proof: first the clock (e), then the list of partitions, then the end of each. An
entry that was appended before e is in a listed partition and before its end. When the end of a partition cannot be
read, there is no fence.

Bound: at most `FENCES_MAX` fences that have not passed are kept; when there are more, the oldest and the newest stay.
If each new fence replaced the one before, none would ever pass while the reader lags.
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
    machine started, sleep included. `boot_id`: see `boot_id()`."""

    at: float
    boot: float
    boot_id: str


def boot_seconds() -> float:
    """Seconds since the machine started, including sleep (on Linux). This clock never steps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def boot_id() -> str:
    """Identifies this start of the machine; '' where it is unknown (then the tail of a journal cannot be proven)."""
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
        """`ends`: the offset behind the last entry of each partition."""
        if len(self._waiting) >= FENCES_MAX:
            del self._waiting[1:-1:2]
        self._waiting.append((fence, dict(ends)))

    def passed(self, read: Mapping[str, int]) -> Fence | None:
        """Remove and return the newest fence that has passed, with all before it; None when none has. `read`: the
        offset of each partition before which everything was read. A partition that is not in it does not exist any
        more, and holds no fence back."""
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
        """Forget all fences: the partitions are no longer those whose ends they hold."""
        self._waiting.clear()
