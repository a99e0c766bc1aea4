"""The contract of transports: how a process appends entries, and how an indexer or a forwarder reads them.

Three implementations stand beside it: the journal (a directory), memory (a bounded journal for tests and for
`memory://`), and Kafka (reading; the forwarder sends what it reads from a journal). One contract suite runs over all.
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
    """What an entry is. The numbers are part of the format on disk."""

    RECORD = 1
    STATEMENT = 2
    INTENT = 3
    LOSS = 4


class Entry(NamedTuple):
    """`sequence`: of the record, or the last one that the statement covers."""

    kind: Kind
    sequence: int
    payload: bytes


class ProcessFacts(NamedTuple):
    """Facts about a process, which it writes when it opens its journal, so that an adopter can put them into a
    statement."""

    process: uuid.UUID
    host: str
    service: str
    started: int  # ms since the epoch


class Message(NamedTuple):
    """One entry as read. `offset`: its integer position; `next`: the position after it. `partition`: in a journal the
    process (UUID as text), in Kafka the partition's number."""

    partition: str
    offset: int
    next: int
    kind: Kind
    sequence: int
    payload: bytes


class Position(NamedTuple):
    """Where to continue: the next offset, and the digest of the message before it, by which a partition that was
    deleted and created again is recognised."""

    next: int
    digest: bytes


class SourceIncident(NamedTuple):
    """Something happened to the history of a partition. `kind` is `topic_recreated` (the topic was deleted and created
    again: `start` was the position, reading continues at the beginning, `end`) or `retention_passed` (the offsets from
    `start` to `end`, exclusive, were removed before they were read). `at`: when it was noticed, seconds since the
    epoch."""

    kind: str
    partition: str
    start: int
    end: int
    at: float
    detail: str


class Polled(NamedTuple):
    """What one poll found.

    `positions`: of each partition that moved, the position after this batch.
    `more`: more messages are waiting.
    `fence`: the newest fence that passes with this batch (everything before its ends is in this batch or an earlier
    one); None when none passes.
    `damaged`: (partition, offset, reason, bytes) of what cannot be read: dead letters.
    `times`: append time of the last message by partition, seconds since the epoch, where it is known.
    `begins`: partitions that were read for the first time, without a position, and begin above offset 0, each with the
    time (seconds since the epoch) before which messages may have been removed; None: the time of the next fence.
    `holds`: partitions that keep fences from being taken or from passing, and why; None when that is unknown now.
    `has_changed`: the source was assigned other partitions than before, so earlier fences prove nothing about them.
    `recovered`: of the ignored partitions, those that are now read up to their end, or gone."""

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
        """Append all of them or none. What a failed append left behind is cut off before the next one."""

    def sync(self) -> None:
        """On return, everything that was appended survives a crash of the machine."""

    def room(self) -> float:
        """The used share of the byte bound of the whole root; 1.0 and above is full."""

    def close(self) -> None: ...


class Source(Protocol):
    """Reads all partitions; used by one thread. Errors are TransportErrors."""

    @property
    def name(self) -> str:
        """The name under which the store keeps the positions. Raises TransportError when it is not known: the name of a
        topic contains the id of the Kafka cluster, which a broker must return."""

    def open(self, positions: Mapping[str, Position]) -> None:
        """Continue each partition at its position; partitions without a position start at their beginning."""

    def made_at(self) -> float | None:
        """Since this time (seconds since the epoch) the source has kept everything for its index, except what `begins`
        will name; 0.0: always. None when that is unknown: then the index is complete from its own making on. Called
        once, after `open`."""

    def ignore(self, partitions: Collection[str]) -> None:
        """These partitions were acknowledged as lost for ever. Fences ignore them, and `holds` names them, until
        `recovered` names them: everything before their end is read."""

    def poll(self, messages_max: int, timeout_seconds: float) -> Polled:
        """Return at most `messages_max` messages, or an empty batch after the timeout. The messages of a partition come
        in order."""

    def commit(self, positions: Mapping[str, Position]) -> Sequence[str]:
        """Everything before these positions is stored durably and may be removed here. May be repeated. Returns the
        partitions that ended and were removed: the caller may delete their positions."""

    def take_incidents(self) -> Sequence[SourceIncident]:
        """Returns the incidents since the last call. An incident that was not stored before a crash is found again."""

    def measures(self) -> Mapping[str, float]:
        """The source's measurements by the names of metrics (see `metrics.TABLE`), without those that are unknown.
        Called from any thread; never raises."""

    def close(self) -> None: ...


def digest_of(payload: bytes) -> bytes:
    """16 bytes by which a position recognises the message before it."""
    return hashlib.blake2b(payload, digest_size=16).digest()
