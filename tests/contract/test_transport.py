"""One suite for every transport: appended entries are read once, in order, from any position, until they are
committed."""

from __future__ import annotations

import itertools
import struct
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asgi_audit.errors import TransportError
from asgi_audit.metrics import TABLE
from asgi_audit.transport.base import (
    Entry,
    EntryWriter,
    Kind,
    Message,
    Polled,
    Position,
    ProcessFacts,
    Source,
    digest_of,
)
from asgi_audit.transport.journal import JournalSource, JournalWriter
from asgi_audit.transport.memory import MemoryJournal

BYTES_MAX = 1 << 20


class Transport:
    """Makes writers and sources of one kind, over one place."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind = kind
        self.root = root
        self.memory = MemoryJournal(bytes_max=BYTES_MAX)
        self.now = 1000.0
        self._closing: list[Callable[[], None]] = []

    def writer(self) -> EntryWriter:
        facts = ProcessFacts(uuid.uuid4(), "host", "app", 1)
        writer: EntryWriter = (
            self.memory.writer(facts)
            if self.kind == "memory"
            else JournalWriter(self.root, facts, bytes_max=BYTES_MAX, segment_bytes=4096)
        )
        self._closing.append(writer.close)
        return writer

    def source(self, positions: dict[str, Position] | None = None) -> Source:
        def wall() -> float:
            self.now += 1
            return self.now

        source: Source = (
            self.memory.source(wall=wall)
            if self.kind == "memory"
            else JournalSource(self.root, wall=wall, adopt_seconds=0)
        )
        source.open(positions or {})
        self._closing.append(source.close)
        return source

    def close(self) -> None:
        for close in reversed(self._closing):
            close()


@pytest.fixture(params=["journal", "memory"])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    made = Transport(request.param, tmp_path / "journal")
    yield made
    made.close()


def records(first: int, last: int, size: int = 100) -> list[Entry]:
    return [Entry(Kind.RECORD, n, b'{"n":%d,"x":"%s"}' % (n, b"a" * size)) for n in range(first, last + 1)]


def sequences(messages: object) -> list[int]:
    return [m.sequence for m in messages if m.kind is Kind.RECORD]  # type: ignore[attr-defined]


def drain(source: Source, messages_max: int = 7) -> tuple[list[Message], Polled]:
    """All waiting messages, and the last batch."""
    found: list[Message] = []
    for _ in range(10_000):
        batch = source.poll(messages_max, 0)
        assert len(batch.messages) <= messages_max
        found += batch.messages
        if not batch.more and not batch.messages:
            return found, batch
    raise AssertionError("the source never came to its end")


def test_source_answers_empty_batch_when_nothing_was_written(transport: Transport) -> None:
    batch = transport.source().poll(10, 0)
    assert not batch.messages
    assert batch.positions == {}
    assert batch.fence is not None
    assert batch.fence.at == 1001.0
    assert not batch.more


def test_source_reads_entries_in_order_when_several_appends_were_made(transport: Transport) -> None:
    writer, source = transport.writer(), transport.source()
    expected = []
    for n in range(0, 200, 5):
        writer.append(records(n + 1, n + 5))
        expected += list(range(n + 1, n + 6))
    writer.append([Entry(Kind.INTENT, 0, b"{}")])
    found, _ = drain(source)
    assert sequences(found) == expected
    assert [m.kind for m in found][-1] is Kind.INTENT
    assert found[0].payload == records(1, 1)[0].payload
    assert all(a.next <= b.offset for a, b in itertools.pairwise(found))


def test_source_keeps_order_within_each_partition_when_several_writers_interleave(transport: Transport) -> None:
    writers = [transport.writer() for _ in range(3)]
    source = transport.source()
    for n in range(1, 61):
        for writer in writers:
            writer.append(records(n, n))
    found, _ = drain(source)
    partitions = {m.partition for m in found}
    assert len(partitions) == 3
    for partition in partitions:
        assert sequences(m for m in found if m.partition == partition) == list(range(1, 61))


def test_source_goes_on_behind_position_when_opened_again(transport: Transport) -> None:
    writer = transport.writer()
    writer.append(records(1, 100))
    first = transport.source()
    batch = first.poll(33, 0)
    assert sequences(batch.messages) == list(range(1, 34))
    (position,) = batch.positions.values()
    assert position == Position(batch.messages[-1].next, digest_of(batch.messages[-1].payload))
    first.close()
    found, _ = drain(transport.source(dict(batch.positions)))
    assert sequences(found) == list(range(34, 101))


def test_source_reads_all_again_when_nothing_was_committed(transport: Transport) -> None:
    transport.writer().append(records(1, 100))
    drain(transport.source())
    found, _ = drain(transport.source())
    assert sequences(found) == list(range(1, 101))


def test_source_reads_from_beginning_when_position_is_of_another_journal(transport: Transport) -> None:
    writer = transport.writer()
    writer.append(records(1, 20))
    first = transport.source()
    batch = first.poll(10, 0)
    ((partition, position),) = batch.positions.items()
    first.close()
    for wrong in (Position(position.next, b"?" * 16), Position(position.next + 10_000, position.digest)):
        found, _ = drain(transport.source({partition: wrong}))
        assert sequences(found) == list(range(1, 21))


def test_fence_passes_when_all_that_stood_before_it_was_read(transport: Transport) -> None:
    writer, source = transport.writer(), transport.source()
    writer.append(records(1, 10))
    batch = source.poll(9, 0)
    taken = transport.now  # a poll reads the clock once, before it looks at anything
    assert (batch.fence, batch.more) == (None, True)
    writer.append(records(11, 30))
    batch = source.poll(3, 0)
    assert sequences(batch.messages) == [10, 11, 12]
    assert batch.fence is not None
    assert batch.fence.at == taken, "what came meanwhile holds nothing back"
    batch = source.poll(3, 0)
    assert batch.fence is None, "of the polls since, none is passed"


def test_fences_pass_when_the_reader_always_lags(transport: Transport) -> None:
    """Method: more is written than is read between two polls; if each new fence replaced the one before, none would
    pass."""
    writer, source = transport.writer(), transport.source()
    passed = []
    for n in range(0, 2000, 10):
        writer.append(records(n + 1, n + 10, 10))
        batch = source.poll(9, 0)
        if batch.fence is not None:
            passed.append(batch.fence.at)
    assert len(passed) > 50
    assert passed == sorted(passed)


def test_beginning_is_told_when_another_reader_took_it(transport: Transport) -> None:
    writer, first = transport.writer(), transport.source()
    for n in range(0, 400, 20):
        writer.append(records(n + 1, n + 20, 400))
    while batch := first.poll(50, 0):
        if not batch.messages:
            break
        assert batch.begins == {}
        first.commit(batch.positions)
    second = transport.source()
    told = {**second.poll(50, 0).begins, **second.poll(50, 0).begins}
    assert list(told.values()) == [None]


def test_source_says_what_it_knows_of_itself(transport: Transport) -> None:
    transport.writer().append(records(1, 3))
    source = transport.source()
    source.poll(10, 0)
    assert list(source.take_incidents()) == []
    assert set(source.measures()) <= set(TABLE)


def test_commit_is_idempotent_and_gives_room_back_when_repeated(transport: Transport) -> None:
    writer, source = transport.writer(), transport.source()
    for n in range(0, 400, 20):
        writer.append(records(n + 1, n + 20, 400))
    full = writer.room()
    while True:
        batch = source.poll(50, 0)
        if not batch.messages:
            break
        assert source.commit(batch.positions) == []
        assert source.commit(batch.positions) == []
    if isinstance(writer, JournalWriter):
        writer._scanned_at = float("-inf")
    assert writer.room() < full / 2
    writer.append(records(401, 402))
    assert sequences(drain(source)[0]) == [401, 402]


def test_partition_is_answered_as_gone_when_its_writer_ended_and_all_is_committed(transport: Transport) -> None:
    writer, source = transport.writer(), transport.source()
    writer.append(records(1, 3))
    writer.close()
    gone: list[str] = []
    partitions = set()
    for _ in range(10):
        batch = source.poll(100, 0)
        partitions |= set(batch.positions)
        gone += source.commit(batch.positions)
    assert gone == list(partitions)
    assert not source.poll(100, 0).messages


def test_append_fails_and_writes_nothing_when_bound_is_passed(transport: Transport) -> None:
    writer, source = transport.writer(), transport.source()
    n = 0
    with pytest.raises(TransportError) as caught:  # noqa: PT012 - which append fails is not known before
        for n in range(0, 10_000, 10):
            writer.append(records(n + 1, n + 10, 5000))
    assert caught.value.retriable
    assert writer.room() >= 1.0
    found, _ = drain(source, 1000)
    assert sequences(found) == list(range(1, n + 1))


def test_append_fails_when_closed(transport: Transport) -> None:
    writer = transport.writer()
    writer.close()
    with pytest.raises(TransportError):
        writer.append(records(1, 1))


def test_counters_hold_three_numbers(transport: Transport) -> None:
    writer = transport.writer()
    assert len(writer.counters) == 24
    struct.pack_into("<QQQ", writer.counters, 0, 7, 6, 1)
    assert struct.unpack("<QQQ", writer.counters) == (7, 6, 1)
