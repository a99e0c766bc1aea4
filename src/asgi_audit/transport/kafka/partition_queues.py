"""Which entries wait for which partition of the topic, and what the source may remove.

A `PartitionQueue` holds the entries for one partition of the topic, in order. All entries of a process wait in one
queue, in the order in which they were read, so what is acknowledged of a process is always a prefix of what was read.
That is how the source's positions are settled: a position that was read after the first 500 entries of a process may
be committed when 500 of its entries are acknowledged. A `_Track` counts both for one process.
"""

from __future__ import annotations

import itertools
import operator
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka.partitioner import murmur2

from ..base import Message, Position

__all__ = ["PartitionQueue", "PartitionQueues", "partition_of"]


def partition_of(key: bytes, partitions: Sequence[int]) -> int:
    """The partition that Java's default partitioner chooses for this key; `partitions` sorted."""
    number: int = murmur2(key) & 0x7FFFFFFF
    return partitions[number % len(partitions)]


@dataclass
class _Track:
    key: bytes
    read: int = 0
    acknowledged: int = 0
    checkpoints: deque[tuple[int, Position]] = field(default_factory=deque)


class _Run:
    """Consecutive entries of one process in a queue; those before `at` are acknowledged. It keeps the list of the
    source as it is: a copy, or a tuple for each entry, would double the cost of forwarding."""

    __slots__ = ("at", "entries", "key", "process")

    def __init__(self, process: str, key: bytes, entries: Sequence[Message]) -> None:
        self.process = process
        self.key = key
        self.entries = entries
        self.at = 0


@dataclass
class PartitionQueue:
    """`careful`: the number of entries at the head that belong to a refused batch. They are sent `step` at a time until
    the refused entry is sent alone; `refusals` counts how often it was refused alone."""

    partition: int
    runs: deque[_Run] = field(default_factory=deque)
    busy: bool = False
    careful: int = 0
    step: int = 0
    refusals: int = 0

    def suspect(self, count: int) -> None:
        """The first `count` entries were refused together."""
        self.careful = max(self.careful, count)
        self.step = max(1, count // 2)

    @property
    def head(self) -> Message:
        run = self.runs[0]
        return run.entries[run.at]

    def slices(self, size: int) -> Iterator[tuple[bytes, Sequence[Message]]]:
        """(key, at most `size` entries) from the head on; only what is there now, and in careful mode only `step`."""
        left = min(self.step, self.careful) if self.careful else (1 << 62)
        for run in list(self.runs):
            end = min(len(run.entries), run.at + left)
            for at in range(run.at, end, size):
                yield run.key, run.entries[at : min(at + size, end)]
            left -= end - run.at
            if left <= 0:
                return


class PartitionQueues:
    """Used by one thread; other threads may read `pending_bytes` and `entries`."""

    def __init__(self) -> None:
        self.pending_bytes = 0
        self.entries = 0
        self._tracks: dict[str, _Track] = {}
        self._queues: dict[int, PartitionQueue] = {}
        self._queue_of: dict[str, PartitionQueue] = {}
        self._moved: dict[str, Position] = {}

    @property
    def careful(self) -> bool:
        """Whether some refused batch is being taken apart."""
        return any(queue.careful for queue in self._queues.values())

    def all(self) -> list[PartitionQueue]:
        return list(self._queues.values())

    def idle(self) -> list[PartitionQueue]:
        """Queues with something to send and nothing in flight."""
        return [queue for queue in self._queues.values() if queue.runs and not queue.busy]

    def add(self, messages: Sequence[Message], positions: Mapping[str, Position], partitions: Sequence[int]) -> None:
        """Distribute what one read of the source returned. A process keeps the queue that it got first, so that
        partitions that are added to the topic later do not split it."""
        if len(positions) == 1 and messages:
            self._run(messages[0].partition, messages, partitions)
        else:
            for process, run in itertools.groupby(messages, key=_process):
                self._run(process, list(run), partitions)
        for process, position in positions.items():
            track = self._track(process)
            track.checkpoints.append((track.read, position))
            self._settle(process, track)

    def acknowledge(self, queue: PartitionQueue, count: int) -> None:
        """The first `count` entries of the queue are in the topic durably."""
        self.entries -= count
        queue.refusals = 0
        if queue.careful:
            queue.careful = max(0, queue.careful - count)
            queue.step = max(1, queue.careful // 2)
        while count:
            run = queue.runs[0]
            done = run.entries[run.at : run.at + count]
            count -= len(done)
            run.at += len(done)
            if run.at == len(run.entries):
                queue.runs.popleft()
            self.pending_bytes -= _size(done)
            track = self._tracks[run.process]
            track.acknowledged += len(done)
            self._settle(run.process, track)

    def replace_head(self, queue: PartitionQueue, message: Message) -> None:
        """Put another entry in the place of the queue's first."""
        run = queue.runs[0]
        self.pending_bytes += len(message.payload) - len(queue.head.payload)
        run.entries = [*run.entries[: run.at], message, *run.entries[run.at + 1 :]]
        queue.refusals = 0

    def fit(self, partitions: Sequence[int]) -> None:
        """Distribute all entries again when the partition of a queue no longer exists: the topic has fewer now."""
        if all(queue.partition in partitions for queue in self._queues.values()):
            return
        waiting = [run for queue in self._queues.values() for run in queue.runs]
        self._queues.clear()
        self._queue_of.clear()
        for run in waiting:
            self._queue(run.process, partitions).runs.append(run)

    def moved(self) -> Mapping[str, Position]:
        """The positions before which the source may remove everything; they are returned again until `forget` is
        called."""
        return self._moved

    def forget(self, gone: Sequence[str]) -> None:
        """The source has committed `moved`; the partitions in `gone` ended."""
        self._moved = {}
        for process in gone:
            self._tracks.pop(process, None)
            self._queue_of.pop(process, None)

    def _run(self, process: str, entries: Sequence[Message], partitions: Sequence[int]) -> None:
        track = self._track(process)
        self._queue(process, partitions).runs.append(_Run(process, track.key, entries))
        track.read += len(entries)
        self.entries += len(entries)
        self.pending_bytes += _size(entries)

    def _track(self, process: str) -> _Track:
        track = self._tracks.get(process)
        if track is None:
            track = self._tracks[process] = _Track(process.encode())
        return track

    def _queue(self, process: str, partitions: Sequence[int]) -> PartitionQueue:
        queue = self._queue_of.get(process)
        if queue is None:
            number = partition_of(self._track(process).key, partitions)
            queue = self._queues.get(number)
            if queue is None:
                queue = self._queues[number] = PartitionQueue(number)
            self._queue_of[process] = queue
        return queue

    def _settle(self, process: str, track: _Track) -> None:
        while track.checkpoints and track.checkpoints[0][0] <= track.acknowledged:
            self._moved[process] = track.checkpoints.popleft()[1]


_payload = operator.attrgetter("payload")


def _process(message: Message) -> str:
    return message.partition


def _size(entries: Sequence[Message]) -> int:
    return sum(map(len, map(_payload, entries)))
