"""The fences of a topic: which have passed, which partitions hold them back, and which of them are ignored.

`KafkaSource` takes the fences and reports what it has read; this module decides which fences have passed. Pure
bookkeeping, in the source's thread; only `recovered` may be called from any thread.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..fences import Fence, FenceQueue
from .partition import Partition

__all__ = ["TopicFences"]

_STUCK_SECONDS = 15.0  # after this time without progress a partition is named in `holds`


class TopicFences:
    """`partitions`: those of the topic, shared with the source, which changes them. `holds`: why fences do not pass, by
    partition; None when that is unknown. `known`: the names of the topic's partitions; empty: unknown. `ignored`: those
    that were acknowledged as lost."""

    def __init__(self, partitions: Mapping[int, Partition]) -> None:
        self.holds: dict[str, str] | None = None
        self.known: frozenset[str] = frozenset()
        self.ignored: frozenset[str] = frozenset()
        self._partitions = partitions
        self._waiting = FenceQueue()
        self._ends: dict[str, int] = {}  # of each partition, as its leader named it last

    def clear(self) -> None:
        """The partitions changed: fences over the former ones prove nothing."""
        self._waiting.clear()

    def disconnected(self) -> None:
        self._ends = {}

    def add(self, fence: Fence, ends: Mapping[int, int], refused: Mapping[int, str], *, is_full: bool) -> None:
        """`ends`: the end of each partition that was known after the fence's clock was read; `refused`: why the other
        ends are not known. `is_full`: the queue has no room, so a partition without progress is not reported."""
        self._ends = {str(number): end for number, end in ends.items()}
        self.holds = self._stuck(is_full) | {str(number): why for number, why in refused.items()}
        if not self.holds.keys() - self.ignored:
            self._waiting.add(fence, self._ends)

    def passed(self) -> Fence | None:
        """The newest fence that has passed since the last call."""
        return self._waiting.passed(self._read_up_to())

    def recovered(self) -> set[str]:
        """The ignored partitions that are read up to their last known end, or are gone."""
        ends, known = self._ends, self.known
        found = set()
        for name in self.ignored:
            partition = self._partitions.get(int(name)) if name.isdigit() else None
            if partition is not None and name in ends:
                is_recovered = partition.position >= ends[name]
            else:
                is_recovered = bool(known) and name not in known
            if is_recovered:
                found.add(name)
        return found

    def _read_up_to(self) -> dict[str, int]:
        """For each partition that counts for fences: the offset before which everything is in the queue, or was
        returned by `poll`."""
        skipped = self.ignored - self.recovered()
        return {str(p.number): p.position for p in self._partitions.values() if str(p.number) not in skipped}

    def _stuck(self, is_full: bool) -> dict[str, str]:
        """Why fences do not pass, by partition: those without progress for _STUCK_SECONDS, and the ignored ones that
        are not read up to their end."""
        ignored = (self.ignored & self._ends.keys()) - self.recovered()
        found = dict.fromkeys(ignored, "it is not read up to its end")
        if is_full:
            return found
        now = time.monotonic()
        for name in {*self._waiting.behind(self._read_up_to()), *ignored}:
            p = self._partitions[int(name)]
            if now - p.moved_at >= _STUCK_SECONDS and now - p.placed_at >= _STUCK_SECONDS:
                found[name] = f"nothing can be read at offset {p.position}"
        return found
