"""A real broker for these tests (see support/kafka.py), and helpers that they share."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support import kafka
from tests.support.kafka import HOW_TO_GET_ONE, LocalKafka
from tests.support.waiting import until

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from asgi_audit.transport.base import Entry, Fence, Kind, Message, Polled, Position, ProcessFacts, SourceIncident
from asgi_audit.transport.journal.writer import JournalWriter
from asgi_audit.transport.kafka.client import run_bounded
from asgi_audit.transport.kafka.config import KafkaConfig, kafka_config
from asgi_audit.transport.kafka.source import KafkaSource


def unavailable(reason: str) -> None:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{reason} (CI=true: a skip is a failure)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def jars() -> Path:
    """The broker's jars, for tests that need a JVM of their own."""
    found = kafka.jars()
    if found is None:
        unavailable(HOW_TO_GET_ONE)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker that all tests share; no test may kill it."""
    with kafka.any_broker(tmp_path_factory.mktemp("kafka")) as address:
        if address is None:
            unavailable(HOW_TO_GET_ONE)
            return
        yield address


@pytest.fixture(scope="session")
def local(jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """One broker that tests may kill, stop and restart, and that has a listener with SASL. A test that damages it
    repairs it."""
    cluster = LocalKafka(tmp_path_factory.mktemp("local-kafka"), jars)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def admin(address: str, method: str, *arguments: Any) -> Any:
    """One call of aiokafka's admin client."""

    async def work() -> Any:
        client = AIOKafkaAdminClient(bootstrap_servers=address)
        await client.start()
        try:
            return await getattr(client, method)(*arguments)
        finally:
            await client.close()

    return run_bounded(work, 30, method)


def make_topic(address: str, partitions: int = 1, *, name: str = "", **settings: str) -> KafkaConfig:
    name = name or f"t-{uuid.uuid4().hex[:12]}"
    configs = {key.replace("_", "."): value for key, value in settings.items()}
    answer = admin(address, "create_topics", [NewTopic(name, partitions, 1, topic_configs=configs)])
    assert [code for _, code, *_ in answer.topic_errors] == [0]
    config = kafka_config(f"kafka://{address}/{name}", request_seconds=5)
    until(lambda: partitions_of(config) == partitions)
    return config


def partitions_of(config: KafkaConfig) -> int:
    topics = admin(",".join(config.servers), "describe_topics", [config.topic])
    return sum(p["leader"] != -1 for p in topics[0]["partitions"])


def delete_topic(config: KafkaConfig) -> None:
    admin(",".join(config.servers), "delete_topics", [config.topic])
    until(lambda: partitions_of(config) == 0)


def record(number: int, size: int = 300) -> bytes:
    """One line that begins like a record; the transport does not look at the rest."""
    return b'{"account_id":"acme","n":%d,"pad":"%s"}' % (number, b"x" * size)


def write_journal(root: Path, count: int, *, first: int = 1, size: int = 300, kept: list[JournalWriter]) -> str:
    """The journal of one more live process with records first..first+count-1; returns its UUID. The writer is added to
    `kept`."""
    process = uuid.uuid4()
    writer = JournalWriter(
        root, ProcessFacts(process, "host", "app", int(time.time() * 1000)), bytes_max=1 << 30, segment_bytes=1 << 20
    )
    kept.append(writer)
    append_journal(writer, count, first=first, size=size)
    return str(process)


def append_journal(writer: JournalWriter, count: int, *, first: int, size: int = 300) -> None:
    for at in range(first, first + count, 100):
        numbers = range(at, min(at + 100, first + count))
        writer.append([Entry(Kind.RECORD, n, record(n, size)) for n in numbers])


@pytest.fixture
def writers() -> Iterator[list[JournalWriter]]:
    kept: list[JournalWriter] = []
    yield kept
    for writer in kept:
        writer.close()


class ListSource:
    """A Source over entries of one process that remembers what was committed."""

    name = "list"

    def __init__(self, entries: list[Entry], process: str = "") -> None:
        self.process = process or str(uuid.uuid4())
        self.entries = entries
        self.at = 0
        self.committed = 0

    def open(self, positions: Mapping[str, Position]) -> None:
        assert not positions

    def poll(self, messages_max: int, timeout_seconds: float) -> Polled:
        looked_at = time.time()
        found = [
            Message(self.process, n, n + 1, *entry)
            for n, entry in enumerate(self.entries[self.at : self.at + messages_max], self.at)
        ]
        self.at += len(found)
        positions = {self.process: Position(self.at, b"")} if found else {}
        more = self.at < len(self.entries)
        return Polled(found, positions, more, None if more else Fence(looked_at, 0.0, ""))

    def made_at(self) -> float | None:
        return None

    def take_incidents(self) -> Sequence[SourceIncident]:
        return ()

    def measures(self) -> Mapping[str, float]:
        return {}

    def ignore(self, partitions: Collection[str]) -> None: ...

    def commit(self, positions: Mapping[str, Position]) -> list[str]:
        self.committed = positions[self.process].next
        return []

    def close(self) -> None: ...


def read_all(config: KafkaConfig, count: int, seconds: float = 60.0, **options: Any) -> list[Message]:
    """The first `count` messages, read by our own source from the beginning."""
    source = KafkaSource(config, **options)
    source.open({})
    try:
        return read_from(source, count, seconds)[0]
    finally:
        source.close()


def read_from(source: KafkaSource, count: int, seconds: float = 60.0) -> tuple[list[Message], dict[str, Position]]:
    """At least `count` further messages, and the positions after them."""
    messages: list[Message] = []
    positions: dict[str, Position] = {}

    def read() -> bool:
        batch = source.poll(1000, 0.2)
        messages.extend(batch.messages)
        positions.update(batch.positions)
        return len(messages) >= count

    until(read, lambda: f"{len(messages)} of {count} messages; {source.stats()}", seconds)
    return messages, positions


def read_until_fence(source: KafkaSource, since: float, seconds: float = 30.0) -> list[Message]:
    """Everything up to a fence taken after `since`, and so everything acknowledged before then."""
    messages: list[Message] = []

    def read() -> bool:
        batch = source.poll(1000, 0.02)
        messages.extend(batch.messages)
        return batch.fence is not None and batch.fence.at > since

    until(read, lambda: str(source.stats()), seconds)
    return messages


def send(config: KafkaConfig, values: list[bytes | None], *, partition: int = 0, key: bytes = b"k") -> float:
    """Sends values to the topic by aiokafka alone; returns the wall clock when all were acknowledged."""
    from aiokafka import AIOKafkaProducer

    async def work() -> float:
        producer = AIOKafkaProducer(
            bootstrap_servers=list(config.servers), acks="all", max_request_size=64 << 20, max_batch_size=1 << 20
        )
        await producer.start()
        try:
            for future in [await producer.send(config.topic, v, key, partition) for v in values]:
                await future
            return time.time()
        finally:
            await producer.stop()

    return run_bounded(work, 60, "send")
