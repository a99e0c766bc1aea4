"""A journal in memory: for tests, and where records are read in the process that makes them (`memory://`).

It is bounded in bytes. When it is full because its records are not read, `append` fails, and the recorder counts and
states the losses. It is lost with the OS process; a forked child starts with an empty one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from ..errors import TransportError
from ..forking import Step, after_fork_in_child
from .base import Entry, Fence, Message, Polled, Position, ProcessFacts, SourceIncident, digest_of
from .fences import FenceQueue, boot_seconds

__all__ = ["SHARED_BYTES_MAX", "MemoryJournal", "MemorySource", "MemoryWriter"]

SHARED_BYTES_MAX = 64 << 20
_ENTRY_BYTES = 100  # approximate cost of an entry beside its payload
_shared: MemoryJournal | None = None
_shared_lock = threading.Lock()


def _after_fork() -> None:
    global _shared, _shared_lock
    _shared = None
    _shared_lock = threading.Lock()


after_fork_in_child(Step.MEMORY_JOURNAL, _after_fork)


class _Partition:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.first = 0  # offset of entries[0]
        self.is_open = True


class MemoryJournal:
    """Any number of writers and sources, in any threads."""

    def __init__(self, *, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used = 0
        self.changed = threading.Condition()
        self.partitions: dict[str, _Partition] = {}
        self.made_at = time.time()

    @classmethod
    def shared(cls, *, bytes_max: int) -> MemoryJournal:
        """The one journal of this OS process. The first call gives its bound, of which at most 64 MiB are used: the
        setting is meant for a disk, and this is the application's memory."""
        global _shared
        with _shared_lock:
            if _shared is None:
                _shared = cls(bytes_max=min(bytes_max, SHARED_BYTES_MAX))
            return _shared

    def writer(self, facts: ProcessFacts) -> MemoryWriter:
        return MemoryWriter(self, facts)

    def source(self, *, wall: Callable[[], float] = time.time) -> MemorySource:
        return MemorySource(self, wall=wall)


class MemoryWriter:
    """See `base.EntryWriter`."""

    def __init__(self, journal: MemoryJournal, facts: ProcessFacts) -> None:
        self._journal = journal
        self.counters = memoryview(bytearray(24))
        with journal.changed:
            self._partition = journal.partitions[str(facts.process)] = _Partition()

    def append(self, entries: Sequence[Entry]) -> None:
        journal = self._journal
        size = sum(len(entry.payload) + _ENTRY_BYTES for entry in entries)
        with journal.changed:
            if not self._partition.is_open:
                raise TransportError("memory append: the journal is closed", retriable=False)
            if journal.used + size > journal.bytes_max:
                raise TransportError(
                    f"memory append: {journal.used} bytes wait to be read, {size} more; accepted are at most "
                    f"{journal.bytes_max}",
                    retriable=size <= journal.bytes_max,
                    hint="records must be taken from the journal in this process",
                )
            self._partition.entries += entries
            journal.used += size
            journal.changed.notify_all()

    def sync(self) -> None:
        """Nothing here survives the OS process."""

    def room(self) -> float:
        return self._journal.used / (self._journal.bytes_max * 15 // 16)

    def close(self) -> None:
        with self._journal.changed:
            self._partition.is_open = False
            self._journal.changed.notify_all()


class MemorySource:
    """See `base.Source`. Committed entries are removed, so use one source for a journal."""

    name = "memory"

    def __init__(self, journal: MemoryJournal, *, wall: Callable[[], float]) -> None:
        self._journal = journal
        self._wall = wall
        self._next: dict[str, int] = {}
        self._positions: Mapping[str, Position] = {}
        self._fences = FenceQueue()
        self._begins: dict[str, float | None] = {}

    def open(self, positions: Mapping[str, Position]) -> None:
        self._positions = dict(positions)
        self._next = {}
        self._fences.clear()

    def made_at(self) -> float | None:
        return self._journal.made_at

    def ignore(self, partitions: Collection[str]) -> None:
        """Nothing to ignore: the end of a list in memory is always known."""

    def take_incidents(self) -> Sequence[SourceIncident]:
        return ()

    def measures(self) -> Mapping[str, float]:
        return {}

    def poll(self, messages_max: int, timeout_seconds: float) -> Polled:
        deadline = time.monotonic() + timeout_seconds
        with self._journal.changed:
            while True:
                batch = self._look(messages_max)
                left = deadline - time.monotonic()
                if batch.messages or left <= 0:
                    begins, self._begins = self._begins, {}
                    return batch._replace(begins=begins)
                self._journal.changed.wait(left)  # a fence that passed meanwhile passes with the next look

    def _look(self, messages_max: int) -> Polled:
        fence = Fence(self._wall(), boot_seconds(), "")  # first the clock, then what there is
        partitions = self._journal.partitions
        ends = {name: p.first + len(p.entries) for name, p in partitions.items()}
        self._fences.add(fence, ends)
        messages: list[Message] = []
        positions: dict[str, Position] = {}
        for name, partition in partitions.items():
            at = self._next.get(name)
            if at is None:
                at = self._started(name, partition)
                if name not in self._positions and partition.first > 0:
                    self._begins[name] = None
            taken = partition.entries[at - partition.first :][: messages_max - len(messages)]
            for entry in taken:
                messages.append(Message(name, at, at + 1, *entry))
                at += 1
            self._next[name] = at
            if taken:
                positions[name] = Position(at, digest_of(taken[-1].payload))
        more = any(self._next[name] < end for name, end in ends.items())
        passed = self._fences.passed({name: self._next[name] for name in ends})
        return Polled(messages, positions, more, passed, holds={})

    def _started(self, name: str, partition: _Partition) -> int:
        """Where to begin: at the given position, or at the beginning when the position is of another journal."""
        position = self._positions.get(name)
        if position is None or not partition.first <= position.next <= partition.first + len(partition.entries):
            return partition.first
        if position.next > partition.first:
            before = partition.entries[position.next - partition.first - 1]
            if position.digest and digest_of(before.payload) != position.digest:
                return partition.first
        return position.next

    def commit(self, positions: Mapping[str, Position]) -> Sequence[str]:
        journal = self._journal
        gone: list[str] = []
        with journal.changed:
            for name, position in positions.items():
                partition = journal.partitions.get(name)
                if partition is None:
                    continue
                count = max(0, min(position.next - partition.first, len(partition.entries)))
                journal.used -= sum(len(entry.payload) + _ENTRY_BYTES for entry in partition.entries[:count])
                del partition.entries[:count]
                partition.first += count
            for name in [n for n, p in journal.partitions.items() if not p.is_open and not p.entries]:
                del journal.partitions[name]
                self._next.pop(name, None)
                gone.append(name)
        return gone

    def close(self) -> None:
        self._next = {}
