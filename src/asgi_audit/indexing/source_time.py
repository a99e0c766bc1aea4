"""The time of the source: until when it has been read, by a clock that is not simply believed, and for how long a
process has been silent.

`e` of a fence comes from the indexer's wall clock. When somebody sets that clock ahead, T must not run ahead with it.
So each e is compared with the clock that counts since the machine started (CLOCK_BOOTTIME: it never steps, and it goes
on while the machine sleeps). An e that is more than a second further ahead of it than the one before is a *step*: for
ten minutes the time is carried on by the boot clock, as if nobody had set anything; a step that still stands then is
believed. A clock that is set back is believed at once: less is claimed then, never more.

Silence is counted in steps of at most 10 s between two fences: a laptop that slept, or an indexer that was away, must
not make every process silent at once. Before a first fence has passed, the append times of messages stand in for it,
each partition for itself.
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
        """`ahead`: of the boot clock, as believed until now."""
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
        """Append times (ms) by partition: they count until a first fence has passed."""
        if self.mark is None:
            for name, at in times.items():
                before, elapsed = self._partitions.get(name, (at, 0))
                self._partitions[name] = at, elapsed + min(max(at - before, 0), _SILENT_STEP_MS_MAX)
        elif self._partitions:
            self._partitions.clear()

    def elapsed(self, partition: str) -> tuple[str, int] | None:
        """Which clock counts for what is read from `partition`, and how far it has come (ms); None: there is none."""
        if self.mark is not None:
            return "", self.mark.elapsed
        found = self._partitions.get(partition)
        return None if found is None else (partition, found[1])
