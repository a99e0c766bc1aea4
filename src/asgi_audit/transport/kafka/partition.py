"""What the source knows of one partition: where it stands, whether that is still the same log, how far it is read, and
since when the oldest message waits that is not stored yet.

Pure bookkeeping without a broker, so that each case has a unit test. Offsets are Kafka's; a *chunk* is what one fetch
gave of one partition, on its way to `poll`.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from ..base import Kind, Message, Position, SourceIncident, digest_of

__all__ = ["UNKNOWN", "Chunk", "Partition", "cut", "kind_of"]

_HEADS = ((b'{"statement":', Kind.STATEMENT), (b'{"loss":', Kind.LOSS), (b'{"intent":', Kind.INTENT))
_HANDED_MAX = 64  # what was handed out and is not stored: so many polls are told apart
_LOG_APPEND_TIME = 1  # of a record's timestamp: the broker's, not the producer's
UNKNOWN = -1
"""In place of an append time (ms), as Kafka has it."""


class _Watermark(msgspec.Struct):
    watermark: int = 0


_watermark = msgspec.json.Decoder(_Watermark).decode


def kind_of(payload: bytes) -> Kind:
    """What an entry is, by its first bytes; what is none of ours is taken for a record, and decoding it will say so."""
    for head, kind in _HEADS:
        if payload.startswith(head):
            return kind
    return Kind.RECORD


class Chunk(NamedTuple):
    """`times`: of each message, its timestamp in ms since the epoch. `last`: (the offset after the last message, its
    value, its timestamp). `begins`: with the first messages of a partition whose beginning is gone, when the first of
    them was appended (ms; None when the topic does not say); else empty."""

    partition: str
    messages: list[Message]
    times: list[int]
    damaged: list[tuple[str, int, str, bytes]]
    last: tuple[int, bytes, int]
    size: int
    begins: tuple[int | None, ...] = ()

    @property
    def since(self) -> int:
        """Append time of the first message, or of what stands in its place."""
        return self.times[0] if self.times else self.last[2]


def cut(chunk: Chunk, count: int) -> tuple[Chunk, Chunk]:
    """The first `count` messages (at least one, not all), and the rest. What is damaged stays with the messages before
    which it stands, so that no position passes it before it is handed over."""
    head, tail = chunk.messages[:count], chunk.messages[count:]
    last = head[-1]
    size = sum([len(m.payload) for m in head])
    early = [d for d in chunk.damaged if d[1] < last.offset]
    late = [d for d in chunk.damaged if d[1] > last.offset]
    times = chunk.times[:count]
    first = Chunk(chunk.partition, head, times, early, (last.next, last.payload, times[-1]), size, chunk.begins)
    return first, Chunk(chunk.partition, tail, chunk.times[count:], late, chunk.last, chunk.size - size)


class Partition:
    """`next` is the offset to go on at; None: at the log's beginning. `expected` is the digest of the message before
    it, until that has been read again and compared."""

    def __init__(self, number: int, position: Position | None) -> None:
        self.number = number
        self.next: int | None = position.next if position else None
        self.expected: bytes | None = None
        self.lag: int | None = None
        self.heard_at = time.monotonic()
        self.statement_delay: float | None = None  # seconds from the last statement's watermark to its append time
        self._read_until = UNKNOWN  # ms: what is not fetched yet was appended after it
        # Handed out and not stored: (the offset after it, messages, append time of the first).
        self._handed: deque[tuple[int, int, int]] = deque()
        self._digest = position.digest if position else b""
        self._value: bytes | None = None  # of the last message, whose digest is taken when it is asked for
        self._begin = 0
        self._answered_at: int | None = None
        self.is_cut = False  # its beginning is gone, and nobody was told so yet
        self.position = self.next or 0  # behind all that was read, control records too
        self.moved_at = self.placed_at = self.heard_at  # when `position` moved last, and when it was placed

    @property
    def digest(self) -> bytes:
        """Of the last message that was read; b'' when there is none or it is not known."""
        return self._digest if self._value is None else digest_of(self._value)

    def place(self, begin: int, end: int, anew: bool, now: float) -> tuple[int, SourceIncident | None]:
        """Where to read on, given the log's first offset and the one after its last; `anew` when the topic has another
        id than before. The message before `next` is read again when it is still there."""
        at = self.next
        self.expected = self._answered_at = self.lag = None
        self.heard_at = self.placed_at = time.monotonic()
        self._begin = begin
        if at is None or (at == 0 and (anew or begin == 0)):
            self.is_cut = at is None and begin > 0
            self.next = self.position = begin
            return begin, None
        if anew or end < at:
            why = "the topic has another id" if anew else f"it ends at {end}"
            return begin, self._restart("topic_recreated", begin, now, why)
        if begin > at:
            return begin, self._restart("retention_passed", begin, now, "the topic's retention")
        if begin == at or not self.digest:
            return at, None  # nothing before it to compare with; nothing that we have not read is gone
        self.expected = self.digest
        return at - 1, None

    def check(self, records: Sequence[Any], now: float) -> tuple[Sequence[Any], SourceIncident | None]:
        """What is new of the first records after `place`; or an incident when another message stands before `next`."""
        expected, self.expected = self.expected, None
        first = records[0]
        if expected is None or first.offset != (self.next or 0) - 1:
            # Not there: compaction took the message before our position, and what we have not read begins right here.
            return records, None
        if digest_of(first.value or b"") == expected:
            self._read_until = first.timestamp
            return records[1:], None
        return (), self._restart("topic_recreated", self._begin, now, "another message stands there")

    def _restart(self, kind: str, begin: int, now: float, detail: str) -> SourceIncident:
        incident = SourceIncident(kind, str(self.number), self.next or 0, begin, now, detail)
        self.next, self._value, self._digest, self._read_until = begin, None, b"", UNKNOWN
        self.position = begin
        return incident

    def take(self, records: Sequence[Any]) -> Chunk:
        """Records (at least one) as messages. The position moves with `queued` alone: were it here, what fails between
        the two would make the next session go on behind messages that nobody was given."""
        number = str(self.number)
        messages: list[Message] = []
        times: list[int] = []
        damaged: list[tuple[str, int, str, bytes]] = []
        size = 0
        for record in records:
            offset, value = record.offset, record.value
            if value is None:
                damaged.append((number, offset, "a tombstone (a message without a value)", record.key or b""))
                continue
            size += len(value)
            kind = kind_of(value)
            if kind is Kind.STATEMENT:
                self._hear(record.timestamp, value)
            messages.append(Message(number, offset, offset + 1, kind, 0, value))
            times.append(record.timestamp)
        last = records[-1]
        begins: tuple[int | None, ...] = ()
        if self.is_cut:
            self.is_cut = False
            is_append_time = records[0].timestamp_type == _LOG_APPEND_TIME
            begins = (records[0].timestamp if is_append_time else None,)
        return Chunk(
            number, messages, times, damaged, (last.offset + 1, last.value or b"", last.timestamp), size, begins
        )

    def queued(self, chunk: Chunk) -> None:
        """What `take` gave is in the queue: go on behind it."""
        self.next, self._value, self._read_until = chunk.last

    def handed_out(self, chunk: Chunk) -> None:
        count, since = 0, chunk.since
        if len(self._handed) >= _HANDED_MAX:
            _, count, since = self._handed.pop()
        self._handed.append((chunk.last[0], count + len(chunk.messages), since))

    def stored(self, following: int) -> None:
        """All that was handed out before this offset. Looked for from the newest on: what stood there before the topic
        was made anew may have had higher ones."""
        for at in range(len(self._handed) - 1, -1, -1):
            if self._handed[at][0] == following:
                for _ in range(at + 1):
                    self._handed.popleft()
                return

    @property
    def unstored(self) -> int:
        """Messages that were handed out and are not stored."""
        return sum([count for _, count, _ in self._handed])

    def waits_since(self, queued: int | None) -> int | None:
        """Append time (ms) of the oldest message that is not stored, or of one before it; UNKNOWN when there may be one
        of which nothing is known, None when there is none. `queued`: of the first in the queue, if there is one."""
        if self._handed:
            return self._handed[0][2]
        if queued is not None:
            return queued
        return None if self.lag == 0 else self._read_until if self.lag else UNKNOWN

    def _hear(self, appended: int, value: bytes) -> None:
        # A metric alone, of bytes that anybody may have sent: a thousand brackets raise RecursionError, and a watermark
        # of 400 digits OverflowError. What escaped here would be read again for ever. Whoever indexes it will say so.
        with contextlib.suppress(Exception):
            watermark = _watermark(value).watermark
            if watermark:
                self.statement_delay = (appended - watermark) / 1000

    def heard(self, answered_at: int | None, high: int | None, position: int) -> None:
        """A turn of fetching is over. `answered_at`: when the last fetch was answered, in ms; `high`: the high
        watermark that it told; `position`: where the next fetch begins. That fetch was asked for after the answer
        before it had come."""
        before = self._answered_at
        if answered_at != before:
            self._answered_at = answered_at
            self.heard_at = time.monotonic()
        self.lag = None if high is None else max(0, high - position)
        if self.expected is not None:
            return  # the message before our position is read again: what follows is not proven to be the same log
        if position != self.position:
            self.position, self.moved_at = position, time.monotonic()
        if self.lag == 0 and before is not None:  # what comes after a silence has not waited since before it
            self._read_until = max(self._read_until, before)
