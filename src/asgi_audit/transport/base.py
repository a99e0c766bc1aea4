"""The contract of carrying: how entries are written ahead, and how whoever takes them on reads them.

Three implementations stand beside it: the journal (a directory), memory (a bounded journal for a read-only machine
and for tests), Kafka (later). One contract suite runs over all of them.
"""

from __future__ import annotations

import enum
import hashlib
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from .fences import Fence

__all__ = [
    "Entry",
    "EntryWriter",
    "Fence",
    "Kind",
    "Message",
    "Polled",
    "Position",
    "ProcessFacts",
    "Source",
    "SourceIncident",
    "digest_of",
]  # fmt: skip


class Kind(enum.IntEnum):
    """What an entry is; the number stands on disk."""

    RECORD = 1
    STATEMENT = 2
    INTENT = 3
    LOSS = 4


class Entry(NamedTuple):
    """`sequence` is the record's, or for a statement the last that it covers."""

    kind: Kind
    sequence: int
    payload: bytes


class ProcessFacts(NamedTuple):
    """What a process says of itself when it opens its journal, so that whoever adopts the journal can say it too."""

    process: uuid.UUID
    host: str
    service: str
    started: int  # ms since the epoch


class Message(NamedTuple):
    """One entry as read. `offset` is its integer position, `next` the one after it; the partition of a journal is the
    process (UUID as text)."""

    partition: str
    offset: int
    next: int
    kind: Kind
    sequence: int
    payload: bytes


class Position(NamedTuple):
    """Where to go on: the next offset, and the digest of the last message before it, so that a partition that was
    made anew is noticed."""

    next: int
    digest: bytes


class SourceIncident(NamedTuple):
    """Something happened to a partition's history. `kind` is `topic_recreated` (the topic was made anew: `start` was
    our position, reading goes on at its beginning, `end`) or `retention_passed` (the offsets from `start` to `end`,
    exclusive, were removed before they were read). `at`: seconds since the epoch, when it was noticed."""

    kind: str
    partition: str
    start: int
    end: int
    at: float
    detail: str


class Polled(NamedTuple):
    """What one poll found. `positions` holds each partition that moved, after the batch.

    `more`: more was waiting than was asked for.
    `fence`: the newest that passes with this batch: everything before its ends is in this batch or in an earlier one.
    None when none passes.
    `damaged`: (partition, offset, reason, bytes) of what stands there but cannot be read: dead letters.
    `times`: append time of the last message by partition, seconds since the epoch, where it is known.
    `begins`: partitions that were read for the first time, without a position, and begin above offset 0: the time
    (seconds since the epoch) before which nothing is there any more; None when only the next fence can say it.
    `holds`: partitions that keep fences from being taken or from passing, and why; None when that is not known now.
    `has_changed`: the source was assigned other partitions than before: what passed until now says nothing of them.
    `recovered`: of the ignored partitions, those that were just seen to be read up to their end, or to be gone."""

    messages: Sequence[Message]
    positions: Mapping[str, Position]
    more: bool = False
    fence: Fence | None = None
    damaged: Sequence[tuple[str, int, str, bytes]] = ()
    times: Mapping[str, float] = {}
    begins: Mapping[str, float | None] = {}
    holds: Mapping[str, str] | None = None
    has_changed: bool = False
    recovered: Collection[str] = ()


class EntryWriter(Protocol):
    """One process's own journal; used by one thread. Errors are TransportErrors.

    `counters` is 24 writable bytes that survive kill -9 of the process (not of the machine): three unsigned 64-bit
    integers, little endian: exchanges begun, last sequence given, exchanges excluded. Any thread may write them."""

    counters: memoryview

    def append(self, entries: Sequence[Entry]) -> None:
        """All of them or none (what a failed append left behind is cut off before the next)."""

    def sync(self) -> None:
        """On return everything appended survives the machine."""

    def room(self) -> float:
        """The share of the byte bound of the whole root that is used: 1.0 and above is full."""

    def close(self) -> None: ...


class Source(Protocol):
    """Reads all partitions; used by one thread. Errors are TransportErrors."""

    @property
    def name(self) -> str:
        """Of the positions. May have to ask somebody (Kafka's cluster for its id), and so raise TransportError."""

    def open(self, positions: Mapping[str, Position]) -> None:
        """Where each partition goes on; partitions not named start at their beginning."""

    def made_at(self) -> float | None:
        """From when on (seconds since the epoch) nothing was taken away from here before its index came, but for what
        `begins` will say; 0.0: ever. None where that is not known: then the making of the index counts. Asked once,
        after `open`."""

    def ignore(self, partitions: Collection[str]) -> None:
        """Partitions that are lost for ever: fences do without each of them, and `holds` names it, until it is
        `recovered`: its end was asked, and everything before it is read."""

    def poll(self, messages_max: int, timeout_seconds: float) -> Polled:
        """At most so many messages; an empty batch after the timeout. Messages of one partition come in order."""

    def commit(self, positions: Mapping[str, Position]) -> Sequence[str]:
        """Everything before these positions is stored for good and may be removed here (idempotent). Answers the
        partitions that ended and are gone: their positions may be forgotten."""

    def take_incidents(self) -> Sequence[SourceIncident]:
        """What happened to the source itself since this was asked last. What was not stored before a crash is noticed
        again."""

    def measures(self) -> Mapping[str, float]:
        """What the source knows of itself now, by names of metrics (see `metrics.TABLE`); what it does not know is
        left out. May be asked from any thread; never raises."""

    def close(self) -> None: ...


def digest_of(payload: bytes) -> bytes:
    """16 bytes that identify the last message before a position."""
    return hashlib.blake2b(payload, digest_size=16).digest()
