"""Brokers die, freeze and return while a forwarder and a source are working."""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kafka import LocalKafka
from tests.support.waiting import until

from asgi_audit.transport.base import Entry, Kind, Message
from asgi_audit.transport.journal.source import JournalSource
from asgi_audit.transport.journal.writer import JournalWriter
from asgi_audit.transport.kafka.config import kafka_config
from asgi_audit.transport.kafka.forwarder import Forwarder
from asgi_audit.transport.kafka.source import KafkaSource
from asgi_audit.transport.kafka.state import KafkaState
from asgi_audit.transport.kafka.topics import Topic, TopicWanted

from .conftest import ListSource, admin, append_journal, make_topic, read_all, read_from, record, write_journal


class Reader(threading.Thread):
    """Keeps reading a source; the messages are in `messages`."""

    def __init__(self, source: KafkaSource) -> None:
        super().__init__(daemon=True)
        self.source = source
        self.messages: list[Message] = []
        self.ending = threading.Event()
        source.open({})
        self.start()

    def run(self) -> None:
        while not self.ending.is_set():
            batch = self.source.poll(1000, 0.1)
            self.messages += batch.messages
            self.source.commit(batch.positions)

    def end(self) -> None:
        self.ending.set()
        self.join(60)
        self.source.close()


def _first_seen(messages: list[Message]) -> list[bytes]:
    """Without repetitions, in the order of first occurrence."""
    return list(dict.fromkeys(m.payload for m in messages))


def test_nothing_is_missing_when_the_broker_is_killed_and_restarted_while_records_flow(
    local: LocalKafka, tmp_path: Path, writers: list[JournalWriter]
) -> None:
    """Two processes write continuously, the broker is killed twice: every record arrives, in order for each process."""
    config = make_topic(local.address, 2)
    root = tmp_path / "journal"
    begins = (1, 1_000_001)  # the first record of each process: no two records are equal
    for begin in begins:
        write_journal(root, 100, first=begin, kept=writers)
    forwarder = Forwarder(
        JournalSource(root),
        config,
        dead_letters=tmp_path / "dead",
        linger_seconds=0.02,
        delivery_seconds=3,
        backoff_seconds=(0.05, 0.5),
    )
    forwarder.start()
    reader = Reader(KafkaSource(config, silent_seconds=5, backoff_seconds=(0.05, 0.5)))
    try:
        written = 100
        for turn in range(2):
            for at in range(40):
                for writer, begin in zip(writers, begins, strict=True):
                    append_journal(writer, 50, first=begin + written)
                written += 50
                if at == 15:
                    until(lambda: forwarder.stats().acknowledged > 0)
                    local.kill()
                if at == 30:
                    local.restart()
                time.sleep(0.01)  # the pace of the writers
            until(lambda n=written: forwarder.stats().acknowledged >= 2 * n)
            assert forwarder.state is KafkaState.RUNNING, turn
        expected = [[record(n) for n in range(begin, begin + written)] for begin in begins]
        until(lambda: len({m.payload for m in reader.messages}) >= 2 * written)
        until(lambda: reader.source.stats().lag == 0)
        reader.ending.set()
        reader.join()  # it has queued what it read
        by_partition: dict[str, list[Message]] = defaultdict(list)
        for message in reader.messages:
            by_partition[message.partition].append(message)
        for records in expected:
            own = set(records)
            assert [payload for payload in _first_seen(reader.messages) if payload in own] == records
        offsets = {p: [m.offset for m in found] for p, found in by_partition.items()}
        assert all(found == list(range(len(found))) for found in offsets.values()), "read twice or skipped"
        assert reader.source.incidents == ()
    finally:
        reader.end()
        assert forwarder.stop(60), forwarder.stats()


def test_forwarder_delivers_when_kafka_comes_up_after_it(local: LocalKafka, tmp_path: Path) -> None:
    config = make_topic(local.address)
    local.kill()
    source = ListSource([Entry(Kind.RECORD, n, record(n)) for n in range(1, 1001)])
    forwarder = Forwarder(source, config, dead_letters=tmp_path, backoff_seconds=(0.05, 0.3))
    try:
        forwarder.start()
        until(lambda: forwarder.state is KafkaState.WAITING)
        assert "KafkaConnection" in forwarder.stats().last_error or "Refused" in forwarder.stats().last_error
    finally:
        local.restart()
    until(lambda: source.committed == 1000)
    assert forwarder.stop(60)
    assert _first_seen(read_all(config, 1000)) == [record(n) for n in range(1, 1001)]


@pytest.fixture
def frozen(local: LocalKafka) -> Iterator[LocalKafka]:
    """A broker that the test freezes; it continues afterwards."""
    yield local
    local.resume()


def test_stop_and_close_return_when_the_broker_is_frozen(frozen: LocalKafka, tmp_path: Path) -> None:
    """It stays frozen until both have returned."""
    config = make_topic(frozen.address)
    entries = [Entry(Kind.RECORD, n, record(n)) for n in range(1, 101)]
    source = ListSource(entries)
    forwarder = Forwarder(source, config, dead_letters=tmp_path, linger_seconds=0.05)
    forwarder.start()
    until(lambda: source.committed == 100)
    reader = KafkaSource(config)
    reader.open({})
    read_from(reader, 100)
    frozen.pause()
    entries += [Entry(Kind.RECORD, n, record(n)) for n in range(101, 201)]
    until(lambda: forwarder.stats().pending > 0)
    assert not forwarder.stop(1.5)
    assert source.committed == 100, "removed without an acknowledgement"
    reader.close()
    # Recorders of other tests of this run still exist.
    left = [t.name for t in threading.enumerate() if t.name.startswith("asgi-audit")]
    assert [name for name in left if name != "asgi-audit-recorder"] == []


def test_nothing_is_missing_when_the_broker_freezes_for_longer_than_a_delivery_may_take(
    frozen: LocalKafka, tmp_path: Path
) -> None:
    config = make_topic(frozen.address)
    entries = [Entry(Kind.RECORD, n, record(n)) for n in range(1, 101)]
    source = ListSource(entries)
    forwarder = Forwarder(
        source,
        config,
        dead_letters=tmp_path,
        linger_seconds=0.05,
        delivery_seconds=1,
        backoff_seconds=(0.05, 0.3),
    )
    forwarder.start()
    reader = Reader(KafkaSource(config, silent_seconds=2, backoff_seconds=(0.05, 0.3)))
    try:
        until(lambda: source.committed == 100)
        frozen.pause()
        entries += [Entry(Kind.RECORD, n, record(n)) for n in range(101, 2001)]
        time.sleep(8)  # the failure itself: two producers and two consumers are given up meanwhile
        assert source.committed == 100
        frozen.resume()
        until(lambda: source.committed == 2000)
        until(lambda: len(_first_seen(reader.messages)) == 2000)
        assert _first_seen(reader.messages) == [record(n) for n in range(1, 2001)]
        assert forwarder.stats().retries >= 1
        assert reader.source.incidents == ()
    finally:
        reader.end()
        forwarder.stop(5)


def test_nothing_is_missing_when_the_leader_of_a_partition_is_killed_in_a_cluster_of_three(
    jars: Path, tmp_path: Path
) -> None:
    cluster = LocalKafka(tmp_path / "kafka", jars, brokers=3)
    try:
        cluster.start()
        config = kafka_config(f"kafka://{cluster.address}/audit", request_seconds=5)
        assert Topic(config).create(TopicWanted(partitions=3), seconds=60)
        source = ListSource([Entry(Kind.RECORD, n, record(n)) for n in range(1, 501)])
        forwarder = Forwarder(
            source,
            config,
            dead_letters=tmp_path / "dead",
            linger_seconds=0.02,
            delivery_seconds=5,
            backoff_seconds=(0.05, 0.5),
        )
        forwarder.start()
        reader = Reader(KafkaSource(config, silent_seconds=8, backoff_seconds=(0.05, 0.5)))
        try:
            until(lambda: source.committed == 500)
            until(lambda: reader.messages)
            partition = int(reader.messages[0].partition)
            (topic,) = admin(cluster.address, "describe_topics", [config.topic])
            leader = next(p["leader"] for p in topic["partitions"] if p["partition"] == partition)
            cluster.kill(leader)
            for n in itertools.count(501, 50):
                source.entries += [Entry(Kind.RECORD, i, record(i)) for i in range(n, n + 50)]
                time.sleep(0.02)  # the pace of the records
                if n > 4000:
                    break
            total = len(source.entries)
            until(lambda: source.committed == total)
            until(lambda: len(_first_seen(reader.messages)) == total)
            assert _first_seen(reader.messages) == [record(n) for n in range(1, total + 1)]
            assert reader.source.incidents == ()
        finally:
            reader.end()
            forwarder.stop(5)
    finally:
        cluster.stop()
