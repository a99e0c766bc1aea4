"""Every relation between a partition's log and the stored position, and how far the partition is read."""

from __future__ import annotations

from typing import NamedTuple

import pytest

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from asgi_audit.transport.base import Kind, Message, Position, digest_of
from asgi_audit.transport.kafka.partition import Partition, cut, kind_of


class Rec(NamedTuple):
    offset: int
    value: bytes | None
    timestamp: int = 5
    timestamp_type: int = 0
    key: bytes | None = b"k"


OLD = Position(10, digest_of(b"nine"))


@pytest.mark.parametrize(
    ("position", "begin", "end", "anew", "start", "incident"),
    [
        (None, 0, 0, False, 0, None),
        (None, 7, 9, False, 7, None),
        (Position(0, b""), 0, 5, False, 0, None),
        (Position(0, b""), 3, 5, False, 3, ("retention_passed", 0, 3)),
        (Position(0, b""), 0, 5, True, 0, None),
        (OLD, 0, 10, False, 9, None),
        (OLD, 9, 30, False, 9, None),
        (OLD, 10, 30, False, 10, None),
        (OLD, 12, 30, False, 12, ("retention_passed", 10, 12)),
        (OLD, 0, 9, False, 0, ("topic_recreated", 10, 0)),
        (OLD, 0, 30, True, 0, ("topic_recreated", 10, 0)),
        (Position(10, b""), 0, 30, False, 10, None),
    ],
)
def test_place_finds_where_to_go_on(
    position: Position | None, begin: int, end: int, anew: bool, start: int, incident: tuple[str, int, int] | None
) -> None:
    partition = Partition(3, position)
    at, found = partition.place(begin, end, anew, 1.5)
    assert at == start
    assert (found and (found.kind, found.start, found.end)) == incident
    assert found is None or (found.partition, found.at) == ("3", 1.5)
    assert (partition.expected is not None) == (start == 9 and position == OLD)


def test_check_drops_the_message_before_the_position_when_it_is_the_same() -> None:
    partition = Partition(0, OLD)
    partition.place(0, 30, False, 0)
    new, incident = partition.check([Rec(9, b"nine"), Rec(10, b"ten")], 0)
    assert (list(new), incident) == ([Rec(10, b"ten")], None)


def test_check_restarts_at_the_beginning_when_another_message_stands_there() -> None:
    partition = Partition(0, OLD)
    partition.place(2, 30, False, 0)
    new, incident = partition.check([Rec(9, b"other")], 7.0)
    assert list(new) == []
    assert incident is not None
    assert (incident.kind, incident.start, incident.end, incident.at) == ("topic_recreated", 10, 2, 7.0)
    assert (partition.next, partition.digest) == (2, b"")


def test_check_takes_what_there_is_when_compaction_took_the_message_before() -> None:
    partition = Partition(0, OLD)
    partition.place(0, 30, False, 0)
    assert partition.check([Rec(14, b"x")], 0) == ([Rec(14, b"x")], None)


def test_take_hands_tombstones_over_as_damaged_and_moves_the_position_behind_them() -> None:
    partition = Partition(4, None)
    chunk = partition.take([Rec(0, b'{"statement":1}'), Rec(1, None), Rec(2, b""), Rec(3, None, 99)])
    assert chunk.messages == [
        Message("4", 0, 1, Kind.STATEMENT, 0, b'{"statement":1}'),
        Message("4", 2, 3, Kind.RECORD, 0, b""),
    ]
    assert [(d[0], d[1], d[3]) for d in chunk.damaged] == [("4", 1, b"k"), ("4", 3, b"k")]
    assert chunk.last == (4, b"", 99)
    assert partition.next is None, "not before it is in the queue"
    partition.queued(chunk)
    assert (partition.next, partition.digest) == (4, digest_of(b""))


@pytest.mark.parametrize(
    "statement",
    [b'{"statement":' + b"[" * 100_000, b'{"statement":1,"watermark":1' + b"0" * 400 + b"}",
     b'{"statement":1,"watermark":"\xff"}', b'{"statement":1,"watermark":[]}', b'{"statement":'],
    ids=["deep", "large", "no text", "of another type", "cut off"],
)  # fmt: skip
def test_take_passes_a_poison_statement_on_when_its_watermark_cannot_be_read(statement: bytes) -> None:
    partition = Partition(4, None)
    chunk = partition.take([Rec(0, b'{"statement":1,"watermark":1}', 2001), Rec(1, statement), Rec(2, b"a")])
    assert [m.payload for m in chunk.messages[1:]] == [statement, b"a"]
    assert partition.statement_delay == 2.0, "of the one before"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_cut_keeps_every_message_and_passes_no_damage_unseen(count: int) -> None:
    partition = Partition(4, None)
    records = [Rec(n, value, n) for n, value in enumerate([None, b"a", None, b"bb", b"c", b"d", None])]
    chunk = partition.take(records)
    head, tail = cut(chunk, count)
    assert head.messages + tail.messages == chunk.messages
    assert head.damaged + tail.damaged == chunk.damaged
    assert all(d[1] < head.last[0] for d in head.damaged)
    assert all(d[1] >= head.last[0] for d in tail.damaged)
    assert head.last[:2] == (head.messages[-1].next, head.messages[-1].payload)
    assert (tail.last, head.size + tail.size) == (chunk.last, chunk.size)
    assert head.times + tail.times == chunk.times == [1, 3, 4, 5]
    assert (head.since, head.last[2], tail.since) == (1, head.times[-1], tail.times[0])


def test_position_stands_behind_what_was_read_and_behind_control_records() -> None:
    partition = Partition(0, None)
    partition.place(0, 9, False, 0)
    partition.heard(1000, 9, 4)
    assert (partition.position, partition.lag) == (4, 5)
    partition.heard(2000, 9, 9)
    assert (partition.position, partition.lag) == (9, 0)


def test_position_proves_nothing_while_it_is_unchecked() -> None:
    partition = Partition(0, OLD)
    at, _ = partition.place(0, 10, False, 0)
    assert at == OLD.next - 1
    partition.heard(1000, 10, 10)
    assert partition.position == OLD.next


@pytest.mark.parametrize(("begin", "kind", "begins"), [(0, 1, ()), (5, 1, (77,)), (5, 0, (None,))])
def test_beginning_is_told_once_when_it_is_gone(begin: int, kind: int, begins: tuple[int | None, ...]) -> None:
    """On a topic that keeps append times, the first message shows it; otherwise only a fence can."""
    partition = Partition(4, None)
    partition.place(begin, 9, False, 0)
    first = partition.take([Rec(begin, b"a", 77, kind), Rec(begin + 1, b"b", 78, kind)])
    assert first.begins == begins
    head, tail = cut(first, 1)
    assert (head.begins, tail.begins) == (begins, ())
    assert partition.take([Rec(begin + 2, b"c", 79, kind)]).begins == ()


@pytest.mark.parametrize(
    ("payload", "kind"),
    [(b'{"statement":"1.0"', Kind.STATEMENT), (b'{"loss":"1.0"', Kind.LOSS), (b'{"intent":1', Kind.INTENT),
     (b'{"account_id":"a"', Kind.RECORD), (b"", Kind.RECORD), (b'{"lossy":1', Kind.RECORD)],
)  # fmt: skip
def test_kind_is_told_by_the_first_bytes(payload: bytes, kind: Kind) -> None:
    assert kind_of(payload) is kind
