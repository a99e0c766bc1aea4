"""One partition of the topic as the source sees it: where to continue, and whether it is still the same log.

The idea: the index stores for each partition the next offset and a digest of the message before it. An offset alone is
not enough: someone may delete the topic and create it again. An example: the stored position is offset 1,000; the topic
was created again and has 1,200 new messages. A consumer that simply continues at 1,000 skips the first 1,000 of them
without an error. So on each connection the message at 999 is read again and its digest compared:

    the same digest            the same log: continue at 1,000
    another digest             another log: an incident `topic_recreated`, and read from the beginning
    the log ends before 1,000  another log, too
    the log begins after 1,000 retention removed messages before they were read: an incident `retention_passed`

It also keeps how far the partition is read, and since when the oldest message waits that is not stored yet.

Pure bookkeeping without a broker, so that each case has a unit test. Offsets are Kafka's. A *chunk* is what one fetch
returned of one partition, on its way to `poll`.
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
_HANDED_MAX = 64  # number of polls that are not stored yet and are kept apart
_LOG_APPEND_TIME = 1  # the type of a timestamp that the broker set, not the producer
UNKNOWN = -1
"""An unknown append time (ms); the value that Kafka uses."""


class _Watermark(msgspec.Struct):
    watermark: int = 0


_watermark = msgspec.json.Decoder(_Watermark).decode


def kind_of(payload: bytes) -> Kind:
    """The kind of an entry, by its first bytes. Everything else counts as a record; decoding it shows whether it is."""
    for head, kind in _HEADS:
        if payload.startswith(head):
            return kind
    return Kind.RECORD


class Chunk(NamedTuple):
    """`times`: the timestamp of each message, ms since the epoch. `last`: (the offset after the last message, its
    value, its timestamp). `begins`: empty, except for the first chunk of a partition whose beginning was removed: then
    the append time of its first message (ms; None when the topic's timestamps are the producers')."""

    partition: str
    messages: list[Message]
    times: list[int]
    damaged: list[tuple[str, int, str, bytes]]
    last: tuple[int, bytes, int]
    size: int
    begins: tuple[int | None, ...] = ()

    @property
    def since(self) -> int:
        """Append time (ms) of the first message or, when all of the chunk is damaged, of the last one."""
        return self.times[0] if self.times else self.last[2]


def cut(chunk: Chunk, count: int) -> tuple[Chunk, Chunk]:
    """The first `count` messages (at least one, not all), and the rest. Damaged messages stay with the half whose
    messages follow them, so that a committed position never skips one."""
    head, tail = chunk.messages[:count], chunk.messages[count:]
    last = head[-1]
    size = sum([len(m.payload) for m in head])
    early = [d for d in chunk.damaged if d[1] < last.offset]
    late = [d for d in chunk.damaged if d[1] > last.offset]
    times = chunk.times[:count]
    first = Chunk(chunk.partition, head, times, early, (last.next, last.payload, times[-1]), size, chunk.begins)
    return first, Chunk(chunk.partition, tail, chunk.times[count:], late, chunk.last, chunk.size - size)


class Partition:
    """`next`: the offset to continue at; None: the beginning of the log. `expected`: the digest of the message before
    it, until that message has been read again and compared."""

    def __init__(self, number: int, position: Position | None) -> None:
        self.number = number
        self.next: int | None = position.next if position else None
        self.expected: bytes | None = None
        self.lag: int | None = None
        self.heard_at = time.monotonic()
        self.statement_delay: float | None = None  # seconds from the last statement's watermark to its append time
        self._read_until = UNKNOWN  # ms: everything that is not fetched yet was appended later
        # Returned by `poll` and not stored: (the offset after it, number of messages, append time of the first).
        self._handed: deque[tuple[int, int, int]] = deque()
        self._digest = position.digest if position else b""
        self._value: bytes | None = None  # of the last message; its digest is computed when it is needed
        self._begin = 0
        self._answered_at: int | None = None
        self.is_cut = False  # its beginning was removed, which no chunk has reported yet
        self.is_unread = False  # it has no position, and no message was read
        self.position = self.next or 0  # the offset after everything that was read, control records included
        self.moved_at = self.placed_at = self.heard_at  # when `position` moved last, and when it was placed

    @property
    def digest(self) -> bytes:
        """Of the last message that was read; b'' when there is none, or it is not known."""
        return self._digest if self._value is None else digest_of(self._value)

    def place(self, begin: int, end: int, is_recreated: bool, now: float) -> tuple[int, SourceIncident | None]:
        """(the offset to read from, an incident or None). `begin`: the first offset of the log; `end`: the one after
        its last; `is_recreated`: the topic has a new id, so it was created again; `now`: seconds since the epoch. The
        message before `next` is read again if it still exists."""
        at = self.next
        self.expected = self._answered_at = self.lag = None
        self.heard_at = self.placed_at = time.monotonic()
        self._begin = begin
        if at is None or (at == 0 and (is_recreated or begin == 0)):
            self.is_cut = at is None and begin > 0
            self.is_unread = self.is_unread or at is None
            self.next = self.position = begin
            return begin, None
        if is_recreated or end < at:
            why = "the topic has another id" if is_recreated else f"it ends at {end}"
            return begin, self._restart("topic_recreated", begin, now, why)
        if begin > at:
            return begin, self._restart("retention_passed", begin, now, "the topic's retention")
        if begin == at or not self.digest:
            return at, None  # no message before it to compare with, and nothing unread was removed
        self.expected = self.digest
        return at - 1, None

    def check(self, records: Sequence[Any], now: float) -> tuple[Sequence[Any], SourceIncident | None]:
        """Compare the first records after `place`. Returns (those that are new, None), or an incident when the message
        before `next` is another one."""
        expected, self.expected = self.expected, None
        first = records[0]
        if expected is None or first.offset != (self.next or 0) - 1:
            # Compaction removed the message before the position; what was not read begins here.
            return records, None
        if digest_of(first.value or b"") == expected:
            self._read_until = first.timestamp
            return records[1:], None
        return (), self._restart("topic_recreated", self._begin, now, "another message is at that offset")

    def _restart(self, kind: str, begin: int, now: float, detail: str) -> SourceIncident:
        incident = SourceIncident(kind, str(self.number), self.next or 0, begin, now, detail)
        self.next, self._value, self._digest, self._read_until = begin, None, b"", UNKNOWN
        self.position = begin
        return incident

    def take(self, records: Sequence[Any]) -> Chunk:
        """Records (at least one) as messages. Only `queued` moves the position: if this did, a failure between the two
        would make the next session continue after messages that never reached the queue."""
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
        """The chunk is in the queue: continue after it."""
        self.is_unread = False
        self.next, self._value, self._read_until = chunk.last

    @property
    def beginning(self) -> Position:
        """Of a partition without a message: stored with the fence that proves it. Without a position, what retention
        removes before the next start would look like messages from before the first one."""
        return Position(self.next or 0, b"")

    def handed_out(self, chunk: Chunk) -> None:
        count, since = 0, chunk.since
        if len(self._handed) >= _HANDED_MAX:
            _, count, since = self._handed.pop()
        self._handed.append((chunk.last[0], count + len(chunk.messages), since))

    def stored(self, following: int) -> None:
        """Everything before this offset that `poll` returned is stored. Searched from the newest on, because before the
        topic was created again the offsets may have been higher."""
        for at in range(len(self._handed) - 1, -1, -1):
            if self._handed[at][0] == following:
                for _ in range(at + 1):
                    self._handed.popleft()
                return

    @property
    def unstored(self) -> int:
        """How many messages `poll` returned that are not stored."""
        return sum([count for _, count, _ in self._handed])

    def waits_since(self, queued: int | None) -> int | None:
        """A lower bound for the append time (ms) of the oldest message that is not stored. None when there is none;
        UNKNOWN when there may be one whose time is not known. `queued`: append time of the first message in the queue,
        if there is one."""
        if self._handed:
            return self._handed[0][2]
        if queued is not None:
            return queued
        return None if self.lag == 0 else self._read_until if self.lag else UNKNOWN

    def _hear(self, appended: int, value: bytes) -> None:
        # This is for a metric only, and the bytes may be hostile: a thousand brackets raise RecursionError, a watermark
        # of 400 digits OverflowError. An error raised here would repeat for ever; the indexer reports bad statements.
        with contextlib.suppress(Exception):
            watermark = _watermark(value).watermark
            if watermark:
                self.statement_delay = (appended - watermark) / 1000

    def heard(self, answered_at: int | None, high: int | None, position: int) -> None:
        """Called after each fetch. `answered_at`: when the broker responded last (ms); `high`: the high watermark in
        that response; `position`: where the next fetch begins, which is sent after that response."""
        before = self._answered_at
        if answered_at != before:
            self._answered_at = answered_at
            self.heard_at = time.monotonic()
        self.lag = None if high is None else max(0, high - position)
        if self.expected is not None:
            return  # the message before the position is not compared yet: this may be another log
        if position != self.position:
            self.position, self.moved_at = position, time.monotonic()
        if self.lag == 0 and before is not None:  # messages that come after a pause were not waiting before it
            self._read_until = max(self._read_until, before)
