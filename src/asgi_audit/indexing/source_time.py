"""Computes until when the source has been read, checked against a second clock, and how long a process has been silent.

The time of a fence comes from the indexer's wall clock. If that clock is set ahead by mistake, T must not follow.
Therefore each fence is compared with CLOCK_BOOTTIME, which counts since the machine started, never steps, and continues
while the machine sleeps. When the wall clock is more than a second further ahead of it than at the fence before, that
is a *step*: for ten minutes the boot clock carries the time on; a step that still exists then is believed. A clock that
is set back is believed at once, because that only claims less.

An example: fences at 10:00:00 and, 1 s later by the boot clock, at 13:00:01. read_until continues as 10:00:01,
10:00:02 … and becomes the wall clock's time at 13:10:01.

Silence is counted in steps of at most 10 s between two fences: after a laptop slept, or the indexer was not running,
the processes are not silent all at once. Until a first fence has passed, the append times of messages are used, each
partition's for its own processes.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..store.state import ReadUntil
from ..transport.base import Fence

__all__ = ["BELIEVED_MS", "STEP_MS", "SourceTime"]

STEP_MS = 1_000
BELIEVED_MS = 600_000
_SILENT_STEP_MS_MAX = 10_000


class SourceTime:
    """`mark`: the newest fence that has passed, None before the first one."""

    def __init__(self, mark: ReadUntil | None = None) -> None:
        self.mark = mark
        self._is_resumed = True
        self._step: tuple[int, int] | None = None  # how far ahead (ms) of the boot clock, and since when by it
        self._partitions: dict[str, tuple[int, int]] = {}

    def passed(self, fence: Fence) -> None:
        taken, boot = int(fence.at * 1000), int(fence.boot * 1000)
        before = self.mark
        at = taken
        elapsed = 0
        if before is not None:
            if fence.boot_id == before.boot_id and (fence.boot_id or not self._is_resumed):
                at = self._believed(taken, boot, before.at - before.boot)
            elapsed = before.elapsed + min(max(at - before.at, 0), _SILENT_STEP_MS_MAX)
        self._is_resumed = False
        self.mark = ReadUntil(at, taken, boot, fence.boot_id, elapsed)

    def _believed(self, taken: int, boot: int, ahead: int) -> int:
        """The time to believe for a fence. `taken`: by the wall clock; `boot`: by the boot clock; `ahead`: how far the
        wall clock was ahead of it until now. All in ms."""
        now_ahead = taken - boot
        if now_ahead <= ahead + STEP_MS:
            self._step = None
            return taken
        if self._step is None or now_ahead > self._step[0] + STEP_MS:
            self._step = now_ahead, boot
        if boot - self._step[1] >= BELIEVED_MS:
            self._step = None
            return taken
        return boot + ahead

    def observe(self, times: Mapping[str, int]) -> None:
        """Append times (ms) by partition. They are used until a first fence has passed."""
        if self.mark is None:
            for name, at in times.items():
                before, elapsed = self._partitions.get(name, (at, 0))
                self._partitions[name] = at, elapsed + min(max(at - before, 0), _SILENT_STEP_MS_MAX)
        elif self._partitions:
            self._partitions.clear()

    def elapsed(self, partition: str) -> tuple[str, int] | None:
        """(which clock counts for `partition`, how far it has come in ms); None while there is no clock. '' is the
        clock of the fences."""
        if self.mark is not None:
            return "", self.mark.elapsed
        found = self._partitions.get(partition)
        return None if found is None else (partition, found[1])
