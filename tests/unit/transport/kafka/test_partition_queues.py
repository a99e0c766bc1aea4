"""The forwarder's queues: order per process, positions after acknowledgements, and refused batches taken apart."""

from __future__ import annotations

import random
import uuid
from collections import defaultdict

import pytest

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from asgi_audit.transport.base import Kind, Message, Position
from asgi_audit.transport.kafka.partition_queues import PartitionQueue, PartitionQueues, partition_of


def _messages(process: str, first: int, last: int) -> list[Message]:
    return [Message(process, n, n + 1, Kind.RECORD, n, b"%d" % n) for n in range(first, last + 1)]


def _waiting(queue: PartitionQueue, size: int = 3) -> list[int]:
    return [m.sequence for _, entries in queue.slices(size) for m in entries]


@pytest.mark.parametrize(
    ("key", "expected"),
    # From UtilsTest.testMurmur2 of Apache Kafka.
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)],
)
def test_partition_is_where_java_puts_the_key(key: bytes, expected: int) -> None:
    assert partition_of(key, range(1 << 30)) == (expected & 0x7FFFFFFF) % (1 << 30)


def test_position_may_be_removed_only_when_everything_before_it_is_acknowledged() -> None:
    queues = PartitionQueues()
    process = str(uuid.uuid4())
    queues.add(_messages(process, 1, 4), {process: Position(4, b"a")}, [0])
    queues.add(_messages(process, 5, 6), {process: Position(6, b"b")}, [0])
    (queue,) = queues.idle()
    queues.acknowledge(queue, 3)
    assert queues.moved() == {}
    queues.acknowledge(queue, 2)
    assert queues.moved() == {process: Position(4, b"a")}
    queues.forget([])
    queues.acknowledge(queue, 1)
    assert queues.moved() == {process: Position(6, b"b")}
    assert (queues.entries, queues.pending_bytes) == (0, 0)


def test_position_without_messages_passes_when_all_before_it_is_acknowledged() -> None:
    """A damaged entry moves the position and is not a message."""
    queues = PartitionQueues()
    queues.add([], {"p": Position(9, b"")}, [0])
    assert queues.moved() == {"p": Position(9, b"")}


def test_process_stays_in_its_lane_when_partitions_are_added() -> None:
    queues = PartitionQueues()
    process = str(uuid.uuid4())
    queues.add(_messages(process, 1, 2), {process: Position(2, b"")}, [0])
    queues.add(_messages(process, 3, 4), {process: Position(4, b"")}, list(range(50)))
    (queue,) = queues.all()
    assert (queue.partition, _waiting(queue)) == (0, [1, 2, 3, 4])


def test_everything_is_placed_anew_in_order_when_the_topic_has_fewer_partitions() -> None:
    queues = PartitionQueues()
    processes = [str(uuid.uuid4()) for _ in range(20)]
    for at in (1, 11):
        for process in processes:
            queues.add(_messages(process, at, at + 9), {process: Position(at + 9, b"")}, list(range(16)))
    queues.fit([0])
    (queue,) = queues.all()
    found = defaultdict(list)
    for key, entries in queue.slices(7):
        found[key.decode()] += [m.sequence for m in entries]
    assert found == {process: list(range(1, 21)) for process in processes}


@pytest.mark.parametrize("seed", range(20))
def test_refused_batch_is_taken_apart_until_the_guilty_stand_alone(seed: int) -> None:
    """A broker refuses every batch with one of these entries in it: all others are sent once and in order, and the
    number of sends is logarithmic for each refused one."""
    rng = random.Random(seed)
    process = str(uuid.uuid4())
    queues = PartitionQueues()
    count = rng.randint(1, 300)
    guilty = set(rng.sample(range(1, count + 1), min(count, rng.randint(0, 4))))
    queues.add(_messages(process, 1, count), {process: Position(count, b"")}, [0])
    (queue,) = queues.all()
    sent: list[int] = []
    sends = 0
    while queue.runs:
        batch = _waiting(queue)
        sends += 1
        if not guilty.intersection(batch):
            sent += batch
            queues.acknowledge(queue, len(batch))
        elif len(batch) > 1:
            queue.suspect(len(batch))
            assert len(_waiting(queue)) < len(batch)
        else:
            assert queue.head.sequence == batch[0]
            queues.replace_head(queue, queue.head._replace(kind=Kind.LOSS, payload=b"loss"))
            guilty.remove(batch[0])
    assert sent == list(range(1, count + 1)), f"seed {seed}"
    assert not queues.careful
    assert queues.moved() == {process: Position(count, b"")}
    assert (queues.entries, queues.pending_bytes) == (0, 0)
    assert sends <= 2 + 5 * 22, f"seed {seed}"
