"""From a real journal to a real topic: order, acknowledgement, refusal, and messages for the operator."""

from __future__ import annotations

import json
import os
import stat
import time
from collections import defaultdict
from pathlib import Path

import pytest
from aiokafka.partitioner import DefaultPartitioner
from tests.support.kafka import read_with_java
from tests.support.waiting import until

from asgi_audit.record.loss import decode_loss
from asgi_audit.record.merkle import leaf_hash
from asgi_audit.transport.base import Entry, Kind
from asgi_audit.transport.journal.source import JournalSource
from asgi_audit.transport.journal.writer import JournalWriter
from asgi_audit.transport.kafka.config import kafka_config
from asgi_audit.transport.kafka.forwarder import Forwarder
from asgi_audit.transport.kafka.state import KafkaState

from .conftest import ListSource, make_topic, read_all, record, write_journal


def test_forwarder_carries_every_process_in_order_when_journals_of_three_wait(
    address: str, jars: Path, tmp_path: Path, writers: list[JournalWriter]
) -> None:
    """Read back by Java's console consumer: the bytes, the order per process, the partition, the emptied journal."""
    config = make_topic(address, 4)
    root = tmp_path / "journal"
    processes = [write_journal(root, 3000, kept=writers) for _ in range(3)]
    for writer in writers:
        writer.close()
    writers.clear()
    forwarder = Forwarder(JournalSource(root), config, dead_letters=tmp_path / "dead", drain=True)
    forwarder.start()
    assert forwarder.join(60)
    stats = forwarder.stats()
    # Closing writers shows the source that the processes are dead: an adoption statement may follow the records.
    assert stats.acknowledged == stats.sent >= 9000
    assert stats.refused == stats.retries == stats.pending == 0
    read = read_with_java(jars, address, config.topic, stats.acknowledged)
    found: dict[str, list[bytes]] = defaultdict(list)
    for process, value in read:
        if value.startswith(b'{"account_id"'):
            found[process].append(value)
    expected = [record(n) for n in range(1, 3001)]
    assert {p: values == expected for p, values in found.items()} == dict.fromkeys(processes, True)
    for message in read_all(config, stats.acknowledged):
        assert message.partition.isdigit()
    ours = DefaultPartitioner()
    by_partition = {m.partition for m in read_all(config, stats.acknowledged)}
    assert by_partition == {str(ours(p.encode(), [0, 1, 2, 3], [])) for p in processes}


def test_forwarder_sends_at_once_when_it_is_told_to_hurry(address: str, tmp_path: Path) -> None:
    """A process is unknown to the index until its statement is in the topic. Method: the linger never ends."""
    source = ListSource([Entry(Kind.RECORD, 1, record(1))])
    forwarder = Forwarder(source, make_topic(address), dead_letters=tmp_path / "dead", linger_seconds=3600.0)
    forwarder.start()
    until(lambda: forwarder.stats().acknowledged == 1)
    for n in range(2, 5):
        source.entries.append(Entry(Kind.RECORD, n, record(n)))
        forwarder.send_now()
        until(lambda sent=n: forwarder.stats().acknowledged == sent)
    forwarder.stop(5)


def test_forwarder_removes_only_what_is_acknowledged_when_the_source_is_a_journal(
    address: str, tmp_path: Path, writers: list[JournalWriter]
) -> None:
    config = make_topic(address)
    root = tmp_path / "journal"
    process = write_journal(root, 6000, size=1000, kept=writers)  # 6 segments of 1 MiB
    segments = len(list((root / process).iterdir()))
    forwarder = Forwarder(JournalSource(root), config, dead_letters=tmp_path / "dead", linger_seconds=0.05)
    forwarder.start()
    until(lambda: forwarder.stats().acknowledged == 6000)
    until(lambda: len(list((root / process).iterdir())) < segments - 4)
    assert forwarder.stop(60)
    assert forwarder.state is KafkaState.STOPPED
    assert [m.payload for m in read_all(config, 6000)] == [record(n, 1000) for n in range(1, 6001)]


def test_forwarder_keeps_kinds_apart_when_statements_stand_between_records(address: str, tmp_path: Path) -> None:
    config = make_topic(address)
    entries = [
        Entry(Kind.RECORD, 1, record(1)),
        Entry(Kind.STATEMENT, 1, b'{"statement":"1.0"}'),
        Entry(Kind.LOSS, 2, b'{"loss":"1.0"}'),
        Entry(Kind.RECORD, 3, record(3)),
    ]
    source = ListSource(entries)
    forwarder = Forwarder(source, config, dead_letters=tmp_path, drain=True)
    forwarder.start()
    assert forwarder.join(60)
    assert source.committed == 4
    assert [(m.kind, m.payload) for m in read_all(config, 4)] == [(e.kind, e.payload) for e in entries]


@pytest.mark.parametrize("place", [0, 37, 99])
def test_forwarder_states_the_loss_in_place_when_the_broker_refuses_one_record(
    address: str, tmp_path: Path, place: int
) -> None:
    """A record of 2 MB that does not compress, for a topic that accepts 1 MB: it alone becomes a dead letter and a
    loss."""
    config = make_topic(address, max_message_bytes="1000000")
    huge = record(place + 1)[:-2] + os.urandom(1 << 20).hex().encode() + b'"}'
    entries = [Entry(Kind.RECORD, n, huge if n == place + 1 else record(n)) for n in range(1, 101)]
    source = ListSource(entries)
    forwarder = Forwarder(source, config, dead_letters=tmp_path / "dead", drain=True)
    forwarder.start()
    assert forwarder.join(60), forwarder.stats()
    assert source.committed == 100
    messages = read_all(config, 100)
    assert [m.payload for m in messages if m.kind is Kind.RECORD] == [e.payload for e in entries if e.payload != huge]
    loss = decode_loss(messages[place].payload)
    assert (loss.process, loss.sequence, loss.bytes) == (source.process, place + 1, len(huge))
    assert loss.leaf == leaf_hash(huge).hex()
    file = tmp_path / "dead" / "refused.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    line = json.loads(file.read_text())
    assert (line["process"], line["sequence"], line["text"].encode()) == (source.process, place + 1, huge)
    assert "MessageSizeTooLarge" in line["reason"]


def test_forwarder_sends_smaller_batches_when_the_topic_takes_no_large_ones(address: str, tmp_path: Path) -> None:
    config = make_topic(address, max_message_bytes="100000")
    noise = [record(n)[:-2] + os.urandom(1000).hex().encode() + b'"}' for n in range(1, 1501)]
    source = ListSource([Entry(Kind.RECORD, n, data) for n, data in enumerate(noise, 1)])
    forwarder = Forwarder(source, config, dead_letters=tmp_path, drain=True)
    forwarder.start()
    assert forwarder.join(60), forwarder.stats()
    assert forwarder.stats().refused == 0
    assert [m.payload for m in read_all(config, 1500)] == noise


def test_forwarder_loses_nothing_when_its_clock_is_two_hours_ahead(address: str, tmp_path: Path) -> None:
    """Kafka refuses each batch that is dated more than an hour ahead, which is not the fault of any record."""
    config = make_topic(address, message_timestamp_type="CreateTime")
    source = ListSource([Entry(Kind.RECORD, n, record(n)) for n in range(1, 501)])
    forwarder = Forwarder(source, config, dead_letters=tmp_path, drain=True, clock=lambda: time.time() + 7200)
    forwarder.start()
    assert forwarder.join(60), forwarder.stats()
    assert forwarder.stats().refused == 0
    assert [m.payload for m in read_all(config, 500)] == [record(n) for n in range(1, 501)]


def test_forwarder_waits_and_says_so_when_the_topic_does_not_exist(
    address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"late-{os.urandom(4).hex()}"
    config = kafka_config(f"kafka://{address}/{name}", request_seconds=5)
    source = ListSource([Entry(Kind.RECORD, 1, record(1))])
    forwarder = Forwarder(source, config, dead_letters=tmp_path, backoff_seconds=(0.05, 0.2))
    forwarder.start()
    until(lambda: forwarder.state is KafkaState.NO_TOPIC)
    made = make_topic(address, name=name)
    until(lambda: forwarder.stats().acknowledged == 1)
    assert forwarder.stop(60)
    assert [m.payload for m in read_all(made, 1)] == [record(1)]
    said = [r.getMessage() for r in caplog.records if "does not exist" in r.getMessage()]
    assert len(said) == 1
    assert "topics create" in said[0]


def test_forwarder_starts_and_stops_when_no_broker_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = kafka_config("kafka://127.0.0.1:1/audit", request_seconds=2)
    source = ListSource([Entry(Kind.RECORD, 1, record(1))])
    forwarder = Forwarder(source, config, dead_letters=tmp_path, backoff_seconds=(0.02, 0.1))
    forwarder.start()
    until(lambda: forwarder.stats().retries >= 5)
    assert forwarder.state is KafkaState.WAITING
    assert not forwarder.stop(1)
    assert source.committed == 0
    assert len([r for r in caplog.records if r.levelname in ("WARNING", "ERROR")]) == 1, caplog.text
