"""What the source does with one fetch, without a broker: no message is skipped whatever fails, and the metrics of
waiting messages are right."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from aiokafka import TopicPartition
from aiokafka import errors as vendor

from asgi_audit.errors import TransportError
from asgi_audit.metrics import TABLE
from asgi_audit.transport.base import Fence, Polled, Position
from asgi_audit.transport.kafka.client import TopicFacts
from asgi_audit.transport.kafka.config import KafkaConfig
from asgi_audit.transport.kafka.partition import Partition
from asgi_audit.transport.kafka.source import KafkaSource
from asgi_audit.transport.kafka.state import KafkaState

NOW = 1_000_000.0
DAY = 86_400.0


class Rec(NamedTuple):
    offset: int
    value: Any = b'{"account_id":"a"}'
    timestamp: int = 5
    timestamp_type: int = 0
    key: bytes | None = b"k"


class Consumer:
    """In place of aiokafka's consumer: returns the messages of each partition from the source's position on."""

    def __init__(self, logs: Mapping[int, Sequence[Rec]], partitions: Mapping[int, Partition]) -> None:
        self.logs = logs
        self.partitions = partitions
        self.position_error: BaseException | None = None
        self.fetch_max = 1000
        self.answers = 0

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Rec]]:
        self.answers += 1
        found = {n: log[self.partitions[n].next or 0 :][: self.fetch_max] for n, log in self.logs.items()}
        return {TopicPartition("t", n): records for n, records in found.items() if records}

    async def position(self, partition: TopicPartition) -> int:
        if self.position_error is not None:
            raise self.position_error
        return self.partitions[partition.partition].next or 0  # everything that was fetched has been taken

    async def stop(self) -> None: ...

    def last_poll_timestamp(self, _: TopicPartition) -> int:
        return int(NOW * 1000) - 100 + self.answers

    def highwater(self, partition: TopicPartition) -> int:
        return len(self.logs[partition.partition])


def made(logs: Mapping[int, Sequence[Rec]]) -> tuple[KafkaSource, Consumer]:
    """In place of a session: the thread never starts."""
    source = KafkaSource(KafkaConfig(servers=("127.0.0.1:1",), topic="t"), clock=lambda: NOW)
    source._partitions.update({number: Partition(number, None) for number in logs})
    source._assigned = frozenset(logs)
    consumer = Consumer(logs, source._partitions)
    source._consumer = consumer
    return source, consumer


def fetch(source: KafkaSource) -> None:
    asyncio.run(source._fetch())


def offsets(source: KafkaSource) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for message in source.poll(1000, 0).messages:
        found.setdefault(message.partition, []).append(message.offset)
    return found


def test_fetch_skips_nothing_when_its_position_cannot_be_asked() -> None:
    source, consumer = made({0: [Rec(0), Rec(1), Rec(2)], 1: [Rec(0)]})
    consumer.position_error = vendor.IllegalStateError("gone")
    with pytest.raises(vendor.IllegalStateError):
        fetch(source)
    consumer.position_error = None
    fetch(source)
    assert offsets(source) == {"0": [0, 1, 2], "1": [0]}


def test_fetch_skips_nothing_of_other_partitions_when_the_records_of_one_cannot_be_taken() -> None:
    logs = {0: [Rec(0), Rec(1), Rec(2)], 1: [Rec(0, "no bytes, which no broker gives")]}
    source, _ = made(logs)
    with pytest.raises(TypeError):
        fetch(source)
    logs[1] = [Rec(0)]
    fetch(source)
    assert offsets(source) == {"0": [0, 1, 2], "1": [0]}


def test_fetch_passes_a_statement_on_when_it_is_poison() -> None:
    source, _ = made({0: [Rec(0), Rec(1, b'{"statement":' + b"[" * 100_000)], 1: [Rec(0)]})
    fetch(source)
    assert offsets(source) == {"0": [0, 1], "1": [0]}


@pytest.mark.parametrize("begin", [0, 7])
def test_position_of_a_partition_without_a_message_comes_with_the_fence_that_proves_it_once(begin: int) -> None:
    """Otherwise, after a restart, nothing would show that retention removed messages that arrived meanwhile."""
    source, _ = made({0: [Rec(0)], 1: []})
    source._partitions[0].place(0, 1, False, NOW)
    source._partitions[1].place(begin, begin, False, NOW)
    fetch(source)
    assert source.poll(1000, 0).positions.keys() == {"0"}, "no fence has passed yet"
    fences = [Fence(NOW + n, float(n), "boot") for n in range(3)]
    source._fences.add(fences[0], {0: 1, 1: begin}, {}, is_full=False)
    asyncio.run(source._look_at_fences())
    source._queue.drop_fences()  # the partitions changed: the next poll reports it
    for fence in fences[1:]:
        source._fences.add(fence, {0: 1, 1: begin}, {}, is_full=False)
        asyncio.run(source._look_at_fences())
    batch = source.poll(1000, 0)
    assert batch.fence == fences[2]
    assert batch.positions == {"1": Position(begin, b"")}
    source._fences.add(Fence(NOW + 3, 3.0, "boot"), {0: 1, 1: begin}, {}, is_full=False)
    asyncio.run(source._look_at_fences())
    assert source.poll(1000, 0).positions == {}


def ago(days: float) -> int:
    return int((NOW - days * DAY) * 1000)


def aged(*days: float) -> tuple[KafkaSource, Consumer, list[Rec]]:
    """A source of one partition with messages of this age, and a topic with seven days of retention; nothing is read
    yet."""
    log = [Rec(offset, timestamp=ago(age)) for offset, age in enumerate(days)]
    source, consumer = made({0: log})
    source._retention_ms = int(7 * DAY * 1000)
    return source, consumer, log


def days_left(source: KafkaSource) -> float | None:
    left = source.stats().expires_in
    return None if left is None else round(left / DAY, 3)


def store(source: KafkaSource, batch: Polled) -> None:
    assert batch.positions
    source.commit(batch.positions)


def test_time_to_expiry_is_not_known_when_nothing_of_a_lagging_partition_was_read() -> None:
    source, _, _ = aged(6.9)
    assert days_left(source) is None, "no broker has answered yet"
    source._partitions[0].lag = 1_000_000
    assert days_left(source) is None


def test_time_to_expiry_counts_from_what_is_handed_out_until_it_is_stored() -> None:
    source, _, _ = aged(6.9, 5, 1)
    fetch(source)
    assert days_left(source) == 0.1
    first, second = source.poll(1, 0), source.poll(1, 0)
    assert days_left(source) == 0.1, "handed out, and stuck in writing"
    assert source.stats().lag == 3
    store(source, first)
    assert (days_left(source), source.stats().lag) == (2, 2)
    store(source, second)
    assert (days_left(source), source.stats().lag) == (6, 1), "in the queue"
    store(source, source.poll(1, 0))
    assert (days_left(source), source.stats().lag) == (7, 0)


def test_time_to_expiry_counts_from_the_last_that_was_read_when_more_is_not_fetched() -> None:
    source, consumer, _ = aged(6, 5, 4)
    consumer.fetch_max = 2
    fetch(source)
    store(source, source.poll(10, 0))
    assert (days_left(source), source.stats().lag) == (2, 1)


def test_time_to_expiry_does_not_count_a_silence_when_a_message_comes_after_it() -> None:
    source, consumer, log = aged(6.9)
    fetch(source)
    store(source, source.poll(10, 0))
    fetch(source)
    fetch(source)
    log.append(Rec(1, timestamp=ago(0)))
    consumer.fetch_max = 0
    fetch(source)
    assert (days_left(source), source.stats().lag) == (7, 1), "told, and not fetched"
    consumer.fetch_max = 10
    fetch(source)
    assert (days_left(source), source.stats().lag) == (7, 1)


def test_time_to_expiry_is_not_known_when_what_waits_has_no_time() -> None:
    source, _, log = aged(3)
    log[0] = log[0]._replace(timestamp=-1)
    fetch(source)
    assert days_left(source) is None
    store(source, source.poll(10, 0))
    assert days_left(source) == 7


def test_time_to_expiry_forgets_what_was_handed_out_of_a_topic_that_was_made_anew() -> None:
    source, _, log = aged(6, 6, 6)
    fetch(source)
    before = source.poll(10, 0)
    partition = source._partitions[0]
    source._report(partition.place(0, 1, True, NOW)[1])
    log[:] = [Rec(0, timestamp=ago(1))]
    fetch(source)
    after = source.poll(10, 0)
    assert (before.positions["0"].next, after.positions["0"].next) == (3, 1)
    source.commit({**before.positions, **after.positions})
    assert (days_left(source), source.stats().lag) == (7, 0)


def test_what_is_handed_out_takes_bounded_memory_when_nobody_stores_it() -> None:
    source, _, _ = aged(*([3.0] * 1000))
    fetch(source)
    for _ in range(1000):
        last = source.poll(1, 0)
    partition = source._partitions[0]
    assert len(partition._handed) <= 64
    assert partition.unstored == 1000
    store(source, last)
    assert (partition.unstored, days_left(source)) == (0, 7)


class Probe:
    """In place of our Probe: the cluster's leaders and ends, one value for each fence."""

    def __init__(self, *said: tuple[dict[int, int], dict[int, int]]) -> None:
        self.said = list(said)

    async def facts(self) -> TopicFacts:
        if not self.said:
            raise _Enough
        return TopicFacts("c", None, self.said[0][0], 1, None)

    async def ends(self, leaders: Mapping[int, int]) -> tuple[dict[int, int], dict[int, str]]:
        _, ends = self.said.pop(0)
        return ends, {n: "it has no leader" for n in leaders if n not in ends}


class _Enough(Exception):
    pass


def take_fences(source: KafkaSource, *said: tuple[dict[int, int], dict[int, int]]) -> None:
    source._probe = Probe(*said)  # type: ignore[assignment]
    source._facts_seconds = 0
    with pytest.raises(_Enough):
        asyncio.run(source._take_fences())


def test_fence_passes_behind_what_stood_before_it_and_not_earlier() -> None:
    source, consumer = made({0: [Rec(0), Rec(1), Rec(2)], 1: [Rec(0)]})
    take_fences(source, ({0: 1, 1: 1}, {0: 3, 1: 1}))
    consumer.fetch_max = 2
    fetch(source)
    batch = source.poll(1, 0)
    assert (len(batch.messages), batch.fence, batch.more) == (1, None, True)
    consumer.fetch_max = 10
    fetch(source)
    found = [source.poll(1, 0) for _ in range(3)]
    assert [b.fence is not None for b in found] == [False, False, True], "it stands behind all of them in the queue"
    assert not found[-1].more


def test_partition_without_a_leader_holds_the_fences_until_it_is_given_up() -> None:
    source, _ = made({0: [Rec(0)], 1: [Rec(0)]})
    source._assigned = frozenset({0})
    take_fences(source, ({0: 1, 1: -1}, {0: 1}))
    source._consumer.logs = {0: [Rec(0)]}
    fetch(source)
    batch = source.poll(10, 0)
    assert [m.partition for m in batch.messages] == ["0"], "the others are read"
    assert (batch.fence, batch.holds) == (None, {"1": "it has no leader"})
    source.ignore(["1"])
    take_fences(source, ({0: 1, 1: -1}, {0: 1}))
    fetch(source)
    assert source.poll(10, 0).fence is not None


def test_stuck_partition_that_is_given_up_stays_so_until_it_is_read_up_to_its_end() -> None:
    """A single poll that did not name it made it hold T again, and so did each start."""
    said = {0: 1, 1: 1}, {0: 1, 1: 2}
    source, consumer = made({0: [Rec(0)], 1: []})
    take_fences(source, said)
    fetch(source)
    assert source.poll(10, 0).fence is None
    for partition in source._partitions.values():
        partition.moved_at -= 16
        partition.placed_at -= 16
    take_fences(source, said)
    stuck = {"1": "nothing can be read at offset 0"}
    assert source.poll(10, 0).holds == stuck
    source.ignore(["1"])
    for _ in range(4):
        take_fences(source, said)
        fetch(source)
        batch = source.poll(10, 0)
        assert batch.fence is not None
        assert (batch.holds, batch.recovered) == (stuck, set())

    source, consumer = made({0: [Rec(0)], 1: []})
    source.ignore(["1"])
    fetch(source)
    assert source.poll(10, 0).recovered == set(), "its end is not known"
    source.ignore([])
    take_fences(source, said)
    source.ignore(["1"])
    fetch(source)
    batch = source.poll(10, 0)
    assert batch.fence is not None, "it was told after the ends were asked"
    assert (batch.holds, batch.recovered) == ({}, set())
    for _ in range(2):
        take_fences(source, said)
        fetch(source)
        batch = source.poll(10, 0)
        assert batch.fence is not None
        assert (batch.holds, batch.recovered) == ({"1": "it is not read up to its end"}, set())
    consumer.logs = {0: [Rec(0)], 1: [Rec(0), Rec(1)]}
    consumer.fetch_max = 1
    fetch(source)
    assert source.poll(10, 0).recovered == set(), "half of it is read"
    fetch(source)
    assert source.poll(10, 0).recovered == {"1"}
    take_fences(source, said)
    assert source.poll(10, 0).holds == {}


def test_partition_that_is_given_up_is_no_longer_so_when_the_topic_has_it_no_more() -> None:
    source, _ = made({0: [Rec(0)]})
    source.ignore(["1"])
    assert source.poll(10, 0).recovered == set(), "the topic's partitions are not known"
    source._fences.known = frozenset({"0"})
    assert source.poll(10, 0).recovered == {"1"}


def test_session_ends_when_a_partition_has_a_leader_again() -> None:
    source, _ = made({0: [Rec(0)], 1: [Rec(0)]})
    source._assigned = frozenset({0})
    source._probe = Probe(({0: 1, 1: 1}, {0: 1, 1: 1}))  # type: ignore[assignment]
    with pytest.raises(vendor.KafkaError, match="a partition has a leader again"):
        asyncio.run(source._take_fences())


def test_fences_are_forgotten_and_it_is_said_when_the_partitions_are_others() -> None:
    source, _ = made({0: [Rec(0)]})
    take_fences(source, ({0: 1}, {0: 1}))
    fetch(source)
    source._forget_fences()
    batch = source.poll(10, 0)
    assert (len(batch.messages), batch.fence, batch.has_changed) == (1, None, True)
    assert not source.poll(10, 0).has_changed


def test_defect_of_ours_ends_the_reading_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for an error of the broker: "waiting for Kafka", for ever."""
    source, _ = made({0: [Rec(0)]})
    sessions = []

    def breaks(*_: object) -> None:
        raise KeyError("what a record holds")

    async def session(_: asyncio.Event) -> None:
        sessions.append(1)
        source._cluster = "c"
        await source._fetch()

    monkeypatch.setattr(Partition, "take", breaks)
    monkeypatch.setattr(source, "_session", session)
    source.open({})
    for _ in range(2):  # the thread has ended; its error stays
        with pytest.raises(TransportError, match="a bug in asgi-audit, KeyError at test_kafka_source") as raised:
            source.poll(10, 30.0)
        assert not raised.value.retriable
        assert "record holds" not in str(raised.value)
    source.close()
    assert len(sessions) == 1
    assert source.state is KafkaState.STOPPED


def test_defect_of_the_vendor_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    source, consumer = made({0: [Rec(0)]})
    source._backoff = (0.0, 0.0)
    sessions = []

    async def session(stop: asyncio.Event) -> None:
        sessions.append(1)
        source._consumer = consumer
        await source._fetch()
        await stop.wait()

    async def getmany(**_: Any) -> dict[TopicPartition, list[Rec]]:
        monkeypatch.delattr(consumer, "getmany")
        raise AssertionError("no connection")

    monkeypatch.setattr(consumer, "getmany", getmany)
    monkeypatch.setattr(source, "_session", session)
    source.open({})
    assert [m.offset for m in source.poll(10, 30.0).messages] == [0]
    assert len(sessions) == 2
    assert "AssertionError" in source.stats().last_error
    source.close()


def test_measures_are_metrics_and_leave_out_what_is_not_known() -> None:
    source, _ = made({0: [Rec(0)]})
    assert source.measures() == {}
    source._retention_ms = 1000
    fetch(source)
    assert set(source.measures()) <= set(TABLE)
    assert source.measures()["asgi_audit_indexer_lag_messages"] == 1
    source.close()
