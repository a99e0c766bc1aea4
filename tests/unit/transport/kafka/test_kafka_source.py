"""What the source does with one fetch, without a broker: nothing is skipped whatever fails, and the measures of what
waits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from aiokafka import TopicPartition
from aiokafka import errors as vendor

from asgi_audit.transport.kafka.config import KafkaConfig
from asgi_audit.transport.kafka.partition import Partition
from asgi_audit.transport.kafka.source import KafkaSource

NOW = 1_000_000.0


class Rec(NamedTuple):
    offset: int
    value: Any = b'{"account_id":"a"}'
    timestamp: int = 5
    key: bytes | None = b"k"


class Consumer:
    """In place of aiokafka's: gives of each partition what stands from the source's position on."""

    def __init__(self, logs: Mapping[int, Sequence[Rec]], partitions: Mapping[int, Partition]) -> None:
        self.logs = logs
        self.partitions = partitions
        self.position_error: BaseException | None = None

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[Rec]]:
        found = {n: [r for r in log if r.offset >= (self.partitions[n].next or 0)] for n, log in self.logs.items()}
        return {TopicPartition("t", n): records for n, records in found.items() if records}

    async def position(self, partition: TopicPartition) -> int:
        if self.position_error is not None:
            raise self.position_error
        return len(self.logs[partition.partition])

    def last_poll_timestamp(self, _: TopicPartition) -> int:
        return 1

    def highwater(self, partition: TopicPartition) -> int:
        return len(self.logs[partition.partition])


def made(logs: Mapping[int, Sequence[Rec]]) -> tuple[KafkaSource, Consumer]:
    """In place of a session: the thread never starts."""
    source = KafkaSource(KafkaConfig(servers=("127.0.0.1:1",), topic="t"), clock=lambda: NOW)
    source._partitions = {number: Partition(number, None) for number in logs}
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


def test_fetch_skips_nothing_when_the_proof_of_having_caught_up_fails() -> None:
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
