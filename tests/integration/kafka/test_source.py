"""The topic as a Source: checked positions, proven times, and every way in which a log can change."""

from __future__ import annotations

import re
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete
from tests.support.waiting import until

from asgi_audit.errors import TransportError
from asgi_audit.transport.base import Kind, Message, Position, digest_of
from asgi_audit.transport.kafka.config import KafkaConfig, kafka_config
from asgi_audit.transport.kafka.source import KafkaSource
from asgi_audit.transport.kafka.state import KafkaState

from .conftest import admin, delete_topic, make_topic, read_from, read_until_fence, record, send


def _records(first: int, last: int) -> list[bytes | None]:
    return [record(n) for n in range(first, last + 1)]


def _read(config: KafkaConfig, count: int) -> dict[str, Position]:
    """Reads this many messages from the beginning; returns the positions after them."""
    source = KafkaSource(config)
    source.open({})
    try:
        return read_from(source, count)[1]
    finally:
        source.close()


def _remake(config: KafkaConfig, partitions: int = 1) -> None:
    delete_topic(config)
    until(lambda: _made(config, partitions))


def _made(config: KafkaConfig, partitions: int) -> bool:
    try:
        make_topic(",".join(config.servers), partitions, name=config.topic)
    except AssertionError:
        return False  # the broker has not yet deleted the old one
    return True


def _remove_before(config: KafkaConfig, offset: int) -> None:
    tp = TopicPartition(config.topic, 0)
    admin(",".join(config.servers), "delete_records", {tp: RecordsToDelete(offset)})


def test_source_goes_on_at_its_position_when_it_is_opened_again(address: str) -> None:
    config = make_topic(address, 2)
    send(config, _records(1, 50), partition=0)
    send(config, _records(51, 100), partition=1)
    positions = _read(config, 100)
    assert positions == {
        "0": Position(50, digest_of(record(50))),
        "1": Position(50, digest_of(record(100))),
    }
    send(config, [b'{"statement":"1.0"}', b'{"loss":"1.0"}', record(101)], partition=1)
    source = KafkaSource(config)
    try:
        assert source.name.startswith("kafka:")
        assert source.name.endswith(f":{config.topic}")
        source.open(positions)
        messages, moved = read_from(source, 3)
        assert [(m.partition, m.offset, m.next, m.kind) for m in messages] == [
            ("1", 50, 51, Kind.STATEMENT), ("1", 51, 52, Kind.LOSS), ("1", 52, 53, Kind.RECORD),
        ]  # fmt: skip
        assert moved == {"1": Position(53, digest_of(record(101)))}
        assert read_until_fence(source, time.time()) == []
        assert source.incidents == ()
    finally:
        source.close()
    assert source.state is KafkaState.STOPPED


def test_fence_covers_everything_acknowledged_before_it_when_records_keep_coming(address: str) -> None:
    """Twenty times: acknowledge a record, then read until the source claims everything before that moment."""
    config = make_topic(address, 3)
    source = KafkaSource(config)
    source.open({})
    try:
        waits = []
        for n in range(1, 21):
            acknowledged_at = send(config, [record(n)], partition=n % 3)
            messages = read_until_fence(source, acknowledged_at)
            assert [m.payload for m in messages] == [record(n)]
            waits.append(time.time() - acknowledged_at)
    finally:
        source.close()
    assert sorted(waits)[10] < 0.5, waits


@pytest.mark.parametrize("fresh", [40, 300])
def test_source_starts_anew_and_says_so_when_the_topic_was_made_again_while_it_was_away(
    address: str, fresh: int
) -> None:
    """With fewer and with more new messages than the old position: no message of the new topic is skipped."""
    config = make_topic(address)
    send(config, _records(1, 200))
    positions = _read(config, 200)
    _remake(config)
    send(config, _records(1001, 1000 + fresh))
    source = KafkaSource(config)
    source.open(positions)
    try:
        messages, moved = read_from(source, fresh)
        assert [m.payload for m in messages] == _records(1001, 1000 + fresh)
        (incident,) = source.take_incidents()
        assert (incident.kind, incident.partition, incident.start, incident.end) == ("topic_recreated", "0", 200, 0)
        assert moved["0"].next == fresh
        assert source.incidents == ()
    finally:
        source.close()


def test_source_starts_anew_and_says_so_when_the_topic_is_made_again_under_it(address: str) -> None:
    config = make_topic(address, 2)
    source = KafkaSource(config, facts_seconds=0.2, backoff_seconds=(0.05, 0.2))
    source.open({})
    try:
        send(config, _records(1, 100))
        read_from(source, 100)
        _remake(config)
        send(config, _records(1001, 1150))
        messages, _ = read_from(source, 150)
        # Messages above the old position may have been read before the change was detected; none may be missing.
        assert {m.payload for m in messages} == set(_records(1001, 1150))
        until(lambda: source.incidents)
        assert [(i.kind, i.partition, i.start, i.end) for i in source.take_incidents()] == [
            ("topic_recreated", "0", 100, 0)
        ]
    finally:
        source.close()


def test_source_states_the_lost_range_when_retention_passed_its_position(address: str) -> None:
    config = make_topic(address)
    send(config, _records(1, 100))
    positions = _read(config, 100)
    send(config, _records(101, 200))
    _remove_before(config, 150)
    source = KafkaSource(config)
    source.open(positions)
    try:
        messages, _ = read_from(source, 50)
        assert [m.payload for m in messages] == _records(151, 200)
        (incident,) = source.take_incidents()
        assert (incident.kind, incident.start, incident.end) == ("retention_passed", 100, 150)
    finally:
        source.close()


def test_source_reads_on_without_incident_when_retention_took_only_what_it_had(address: str) -> None:
    config = make_topic(address)
    send(config, _records(1, 100))
    positions = _read(config, 100)
    _remove_before(config, 100)
    send(config, _records(101, 110))
    source = KafkaSource(config)
    source.open(positions)
    try:
        assert [m.payload for m in read_from(source, 10)[0]] == _records(101, 110)
        assert source.incidents == ()
    finally:
        source.close()


def test_source_states_the_lost_range_when_retention_passes_it_while_its_queue_is_full(address: str) -> None:
    config = make_topic(address)
    send(config, _records(1, 9000))
    source = KafkaSource(config, queue_messages=500)
    source.open({})
    try:
        until(lambda: source.stats().queued >= 500)
        time.sleep(0.3)  # an input: a queue without a bound would grow meanwhile
        queued = source.stats().queued
        assert queued <= 2500, "the queue has no bound"
        _remove_before(config, 9000)
        messages, _ = read_from(source, queued)
        send(config, _records(9001, 9010))
        while len(messages) < 9010 and messages[-1].payload != record(9010):
            messages += read_from(source, 1)[0]
        numbers = [m.offset + 1 for m in messages]
        assert numbers == sorted(set(numbers))
        lost = set(range(1, 9011)) - set(numbers)
        stated = {n + 1 for i in source.incidents for n in range(i.start, i.end)}
        assert stated == lost
        assert {i.kind for i in source.incidents} == {"retention_passed"}
    finally:
        source.close()


def test_source_reads_partitions_that_are_added_while_it_runs(address: str) -> None:
    config = make_topic(address)
    source = KafkaSource(config, facts_seconds=0.2)
    source.open({})
    try:
        send(config, _records(1, 5))
        read_from(source, 5)
        admin(address, "create_partitions", {config.topic: NewPartitions(3)})
        send(config, _records(6, 10), partition=2)
        messages, positions = read_from(source, 5)
        assert [m.payload for m in messages] == _records(6, 10)
        assert set(positions) - {"1"} == {"2"}  # a fence may have passed, which shows that 1 is empty
        assert source.incidents == ()
    finally:
        source.close()


def test_source_passes_poison_on_and_hands_tombstones_over_as_damaged(address: str) -> None:
    config = make_topic(address, max_message_bytes=str(32 << 20))
    poison = [b"", b"\xff\xfe", b"{", b"x" * (20 << 20), None, record(1)]
    send(config, poison)
    source = KafkaSource(config)
    source.open({})
    try:
        messages, damaged = [], []

        def read() -> bool:
            batch = source.poll(2, 0.2)
            messages.extend(batch.messages)
            damaged.extend(batch.damaged)
            position = batch.positions["0"].next if batch.positions else 0
            assert position <= 4 or damaged, "no position passes a tombstone that was not handed over"
            return position == 6

        until(read)
        assert [m.payload for m in messages] == [p for p in poison if p is not None]
        assert [(d[0], d[1], d[3]) for d in damaged] == [("0", 4, b"k")]
    finally:
        source.close()


def test_source_commits_offsets_for_lag_tools_when_positions_are_committed(address: str) -> None:
    config = make_topic(address)
    send(config, _records(1, 30))
    source = KafkaSource(config)
    source.open({})
    try:
        _, positions = read_from(source, 30)
        assert list(source.commit(positions)) == []
        tp = TopicPartition(config.topic, 0)

        def committed() -> bool:
            try:
                found = admin(address, "list_consumer_group_offsets", config.group_id)
            except TransportError:
                return False  # the group's coordinator is being created
            return tp in found and found[tp].offset == 30

        until(committed)
        assert list(source.commit({"7": Position(1, b"")})) == ["7"]
    finally:
        source.close()


def test_source_says_that_the_topic_is_wrong_when_nothing_in_it_is_ours(address: str) -> None:
    """It returns nothing, to avoid a flood of dead letters, until a message of asgi-audit arrives."""
    config = make_topic(address)
    send(config, [b'{"event":"click"}'] * 120)
    source = KafkaSource(config)
    source.open({})
    try:
        messages: list[Message] = []

        def refused() -> str:
            try:
                messages.extend(source.poll(1000, 0.01).messages)
            except TransportError as e:
                return str(e)
            return ""

        for _ in range(2):
            assert re.search(r"none of the first 120 messages of .* is a record of asgi-audit", until(refused))
        send(config, [record(1)])
        until(lambda: not refused() and len(messages) == 121)
        assert [m.offset for m in messages] == list(range(121))
    finally:
        source.close()


def test_source_waits_for_the_topic_when_it_does_not_exist_yet(address: str) -> None:
    config = kafka_config(f"kafka://{address}/later-{time.time_ns()}")
    source = KafkaSource(config, backoff_seconds=(0.05, 0.1))
    try:
        assert source.name.endswith(config.topic)
        source.open({})
        until(lambda: source.state is KafkaState.NO_TOPIC)
        make_topic(address, name=config.topic)
        send(config, _records(1, 3))
        assert [m.payload for m in read_from(source, 3)[0]] == _records(1, 3)
    finally:
        source.close()


def test_source_name_raises_when_no_broker_is_there() -> None:
    source = KafkaSource(kafka_config("kafka://127.0.0.1:1/audit"), connect_seconds=1)
    with pytest.raises(TransportError, match=r"127\.0\.0\.1:1/audit") as raised:
        _ = source.name
    assert raised.value.retriable
    source.close()


def test_time_to_expiry_counts_from_what_waits_and_a_statement_tells_its_delay(address: str) -> None:
    """An hour of retention; the indexer pauses for half of it, by its clock."""
    config = make_topic(address, retention_ms="3600000")
    ahead = 0.0
    source = KafkaSource(config, clock=lambda: time.time() + ahead, queue_messages=2)
    try:
        source.open({})
        until(lambda: source.stats().expires_in is not None)
        assert source.stats().expires_in == pytest.approx(3600, abs=1)  # nothing waits
        watermark = int(time.time() * 1000) - 5_000
        send(config, [b'{"statement":"1.0","watermark":%d}' % watermark, record(1), record(2)])
        until(lambda: source.poll(1, 1).messages)
        delay = until(lambda: source.stats().statement_delay)
        assert 4.9 < delay < 60
        ahead = 1800.0
        assert 1700 < (source.stats().expires_in or 0) < 1800.5
        read_until_fence(source, time.time())
        assert 1700 < (source.stats().expires_in or 0) < 1800.5, "handed out, and not stored"
        source.commit({"0": Position(3, b"")})
        until(lambda: source.stats().lag == 0)
        assert source.stats().expires_in == pytest.approx(3600, abs=1)
    finally:
        source.close()
