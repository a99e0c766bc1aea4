"""Creating, describing and checking the topic, and the ways in which a broker accepts or refuses us."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

import pytest
from tests.support.kafka import SASL_PASSWORD, SASL_USER, LocalKafka
from tests.support.waiting import until

from asgi_audit.errors import TransportError
from asgi_audit.transport.base import Entry, Kind
from asgi_audit.transport.kafka.config import KafkaConfig, kafka_config
from asgi_audit.transport.kafka.forwarder import Forwarder
from asgi_audit.transport.kafka.source import KafkaSource
from asgi_audit.transport.kafka.state import KafkaState
from asgi_audit.transport.kafka.topics import Topic, TopicWanted

from .conftest import ListSource, make_topic, read_all, record


def _new(address: str) -> KafkaConfig:
    return kafka_config(f"kafka://{address}/t-{uuid.uuid4().hex[:12]}", request_seconds=5)


def test_create_topic_makes_what_check_topic_finds_no_fault_with(address: str) -> None:
    config = _new(address)
    wanted = TopicWanted(partitions=3)
    assert Topic(config).describe() is None
    assert Topic(config).create(wanted)
    found = Topic(config).describe()
    assert found is not None
    assert (found.partitions, found.leaderless) == (3, 0)
    assert found.settings["message.timestamp.type"] == "LogAppendTime"
    assert found.differences(wanted) == []
    assert not Topic(config).create(wanted), "made a second time"


def test_check_topic_explains_each_setting_when_an_existing_topic_differs(address: str) -> None:
    config = make_topic(
        address, cleanup_policy="compact", retention_ms="3600000", max_message_bytes="1000", retention_bytes="5000"
    )
    found = Topic(config).describe()
    assert found is not None
    differences = {d.setting: d for d in found.differences(TopicWanted(partitions=2))}
    assert set(differences) == {
        "cleanup.policy", "retention.ms", "max.message.bytes", "retention.bytes", "message.timestamp.type",
        "partitions",
    }  # fmt: skip
    assert (differences["retention.ms"].found, differences["retention.ms"].wanted) == ("3600000", "604800000")
    assert differences["cleanup.policy"].severe
    assert not differences["partitions"].severe


def test_create_topic_says_why_when_the_cluster_has_too_few_brokers(local: LocalKafka) -> None:
    with pytest.raises(TransportError, match="replica") as raised:
        Topic(_new(local.address)).create(TopicWanted(replication=3))
    assert not raised.value.retriable
    assert "fewer brokers" in raised.value.hint


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_records_pass_when_the_listener_wants_sasl(local: LocalKafka, tmp_path: Path, mechanism: str) -> None:
    plain = make_topic(local.address)
    config = kafka_config(
        f"kafka://{local.sasl_address}/{plain.topic}",
        sasl_mechanism=mechanism,
        username=SASL_USER,
        password=SASL_PASSWORD,
        request_seconds=5,
    )
    source = ListSource([Entry(Kind.RECORD, n, record(n)) for n in range(1, 11)])
    forwarder = Forwarder(source, config, dead_letters=tmp_path, drain=True)
    forwarder.start()
    assert forwarder.join(60), forwarder.stats()
    assert [m.payload for m in read_all(config, 10)] == [record(n) for n in range(1, 11)]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_told_and_never_shown_when_the_listener_wants_sasl(
    local: LocalKafka, tmp_path: Path, caplog: pytest.LogCaptureFixture, mechanism: str
) -> None:
    """The password must not occur in any log record at any level, in an exception, a state or a repr."""
    caplog.set_level(logging.DEBUG)
    secret = "hunter2-hunter2"
    config = kafka_config(
        f"kafka://{local.sasl_address}/audit",
        sasl_mechanism=mechanism,
        username=SASL_USER,
        password=secret,
        request_seconds=5,
    )
    forwarder = Forwarder(ListSource([]), config, dead_letters=tmp_path, backoff_seconds=(0.05, 0.1))
    forwarder.start()
    source = KafkaSource(config, connect_seconds=2, backoff_seconds=(0.05, 0.1))
    with pytest.raises(TransportError, match="SaslAuthenticationFailed") as raised:
        _ = source.name
    until(lambda: forwarder.state is KafkaState.DENIED)
    with pytest.raises(TransportError, match="SaslAuthenticationFailed"):
        Topic(config).describe()
    told = forwarder.stats().last_error
    forwarder.stop(2)
    source.close()
    assert "password" in told
    shown = "\n".join([caplog.text, told, repr(config), repr(raised.value), str(source.stats()), raised.value.hint])
    assert secret not in shown
    assert len([r for r in caplog.records if r.name == "asgi_audit.transport.kafka"]) <= 2, caplog.text
