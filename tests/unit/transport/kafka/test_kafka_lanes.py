"""The forwarder's books: order per process, positions behind acknowledgements, and refused batches taken apart."""

from __future__ import annotations

import random
import uuid
from collections import defaultdict

import pytest

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from asgi_audit.transport.base import Kind, Message, Position
from asgi_audit.transport.kafka.lanes import Lane, Lanes, partition_of


def _messages(process: str, first: int, last: int) -> list[Message]:
    return [Message(process, n, n + 1, Kind.RECORD, n, b"%d" % n) for n in range(first, last + 1)]


def _waiting(lane: Lane, size: int = 3) -> list[int]:
    return [m.sequence for _, entries in lane.slices(size) for m in entries]


@pytest.mark.parametrize(
    ("key", "expected"),
    # From UtilsTest.testMurmur2 of Apache Kafka.
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)],
)
def test_partition_is_where_java_puts_the_key(key: bytes, expected: int) -> None:
    assert partition_of(key, range(1 << 30)) == (expected & 0x7FFFFFFF) % (1 << 30)


def test_position_may_be_removed_only_when_everything_before_it_is_acknowledged() -> None:
    lanes = Lanes()
    process = str(uuid.uuid4())
    lanes.add(_messages(process, 1, 4), {process: Position(4, b"a")}, [0])
    lanes.add(_messages(process, 5, 6), {process: Position(6, b"b")}, [0])
    (lane,) = lanes.idle()
    lanes.acknowledge(lane, 3)
    assert lanes.moved() == {}
    lanes.acknowledge(lane, 2)
    assert lanes.moved() == {process: Position(4, b"a")}
    lanes.forget([])
    lanes.acknowledge(lane, 1)
    assert lanes.moved() == {process: Position(6, b"b")}
    assert (lanes.entries, lanes.pending_bytes) == (0, 0)


def test_position_without_messages_passes_when_all_before_it_is_acknowledged() -> None:
    """A damaged entry moves the position and is no message."""
    lanes = Lanes()
    lanes.add([], {"p": Position(9, b"")}, [0])
    assert lanes.moved() == {"p": Position(9, b"")}


def test_process_stays_in_its_lane_when_partitions_are_added() -> None:
    lanes = Lanes()
    process = str(uuid.uuid4())
    lanes.add(_messages(process, 1, 2), {process: Position(2, b"")}, [0])
    lanes.add(_messages(process, 3, 4), {process: Position(4, b"")}, list(range(50)))
    (lane,) = lanes.all()
    assert (lane.partition, _waiting(lane)) == (0, [1, 2, 3, 4])


def test_everything_is_placed_anew_in_order_when_the_topic_has_fewer_partitions() -> None:
    lanes = Lanes()
    processes = [str(uuid.uuid4()) for _ in range(20)]
    for at in (1, 11):
        for process in processes:
            lanes.add(_messages(process, at, at + 9), {process: Position(at + 9, b"")}, list(range(16)))
    lanes.fit([0])
    (lane,) = lanes.all()
    found = defaultdict(list)
    for key, entries in lane.slices(7):
        found[key.decode()] += [m.sequence for m in entries]
    assert found == {process: list(range(1, 21)) for process in processes}


@pytest.mark.parametrize("seed", range(20))
def test_refused_batch_is_taken_apart_until_the_guilty_stand_alone(seed: int) -> None:
    """A broker that refuses every batch with a guilty entry in it: all others are sent once and in order, and the
    number of sends is logarithmic for each guilty one."""
    rng = random.Random(seed)
    process = str(uuid.uuid4())
    lanes = Lanes()
    count = rng.randint(1, 300)
    guilty = set(rng.sample(range(1, count + 1), min(count, rng.randint(0, 4))))
    lanes.add(_messages(process, 1, count), {process: Position(count, b"")}, [0])
    (lane,) = lanes.all()
    sent: list[int] = []
    sends = 0
    while lane.runs:
        batch = _waiting(lane)
        sends += 1
        if not guilty.intersection(batch):
            sent += batch
            lanes.acknowledge(lane, len(batch))
        elif len(batch) > 1:
            lane.suspect(len(batch))
            assert len(_waiting(lane)) < len(batch)
        else:
            assert lane.head.sequence == batch[0]
            lanes.replace_head(lane, lane.head._replace(kind=Kind.LOSS, payload=b"loss"))
            guilty.remove(batch[0])
    assert sent == list(range(1, count + 1)), f"seed {seed}"
    assert not lanes.careful
    assert lanes.moved() == {process: Position(count, b"")}
    assert (lanes.entries, lanes.pending_bytes) == (0, 0)
    assert sends <= 2 + 5 * 22, f"seed {seed}"
