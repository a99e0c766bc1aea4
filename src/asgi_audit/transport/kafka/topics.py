"""Creates the topic, and describes how an existing one differs from what the audit trail needs. For `asgi-audit topics
create` and `doctor`.

Synchronous: each call runs in a thread and loop of its own, at most `seconds`. Errors are TransportErrors with a hint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka import errors as vendor
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ...errors import ConfigError, TransportError
from .client import Probe, cause_of, connection_options, dispose, run_bounded
from .config import KafkaConfig
from .errors import translate, vendor_calls, vendor_errors

__all__ = ["Difference", "Topic", "TopicFound", "TopicWanted"]

_READ, _WRITE = 3, 4  # org.apache.kafka.common.acl.AclOperation


@dataclass(frozen=True, kw_only=True)
class TopicWanted:
    """`replication` None: 3, or as many brokers as there are. `min_insync` None: 2 where there are three replicas, else
    1. `message_bytes` bounds a batch as sent; it must hold the largest record."""

    partitions: int = 6
    replication: int | None = None
    min_insync: int | None = None
    retention_ms: int = 7 * 86_400_000
    message_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        for name, low, high in (
            ("partitions", 1, 10_000),
            ("replication", 1, 100),
            ("min_insync", 1, 100),
            ("retention_ms", -1, 1 << 62),
            ("message_bytes", 65_536, 1 << 30),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} of the topic is {value}; accepted: a whole number from {low} to {high}")
        if self.min_insync and self.replication and self.min_insync > self.replication:
            raise ConfigError(
                f"min_insync is {self.min_insync} with replication {self.replication}, so nothing could be written; "
                f"accepted: at most {self.replication}"
            )


class Difference(NamedTuple):
    """One setting of an existing topic that differs. `severe`: records may be lost or refused because of it."""

    setting: str
    found: str
    wanted: str
    why: str
    severe: bool


class TopicFound(NamedTuple):
    """`settings`: Kafka's own names and values; None when this user may not see them (DescribeConfigs).
    `leaderless`: partitions without a leader. `may_write` and `may_read`: whether this user has the right; None when
    the broker does not return it (before 3.0)."""

    cluster_id: str
    brokers: int
    partitions: int
    replication: int
    in_sync_least: int
    leaderless: int
    settings: Mapping[str, str] | None
    may_write: bool | None = None
    may_read: bool | None = None

    @property
    def without_leader(self) -> str:
        """How many partitions nothing can be written to now, as a sentence; '' when there are none."""
        if not self.leaderless:
            return ""
        number = "1 partition has" if self.leaderless == 1 else f"{self.leaderless} partitions have"
        return f"{number} no leader: their records wait in the journal"

    def differences(self, wanted: TopicWanted) -> list[Difference]:
        """The settings of an existing topic that differ from what is wanted, severe ones first. Settings that this
        user may not see are left out. Changes nothing at the broker."""
        differences: list[Difference] = []

        def differ(setting: str, is_found: object, is_wanted: object, why: str, *, severe: bool = False) -> None:
            differences.append(Difference(setting, str(is_found), str(is_wanted), why, severe))

        settings = self.settings or {}
        replication = wanted.replication or min(3, self.brokers)
        min_insync = wanted.min_insync or (2 if replication >= 3 else 1)
        if settings.get("cleanup.policy", "delete") != "delete":
            why = "compaction keeps only one record of each process"
            differ("cleanup.policy", settings["cleanup.policy"], "delete", why, severe=True)
        if self.replication < replication:
            why = "the loss of a broker can lose records"
            differ("replication", self.replication, replication, why, severe=self.replication < 2 <= replication)
        if int(settings.get("min.insync.replicas", min_insync)) < min_insync:
            why = "a record may be acknowledged while only one broker has it"
            differ("min.insync.replicas", settings["min.insync.replicas"], min_insync, why, severe=True)
        elif self.replication > 1 and int(settings.get("min.insync.replicas", 1)) >= self.replication:
            why = "while one broker is down, nothing can be written; records wait in the journal"
            differ("min.insync.replicas", settings["min.insync.replicas"], self.replication - 1, why)
        if settings.get("unclean.leader.election.enable") == "true":
            why = "a lagging replica may become leader, which loses acknowledged records"
            differ("unclean.leader.election.enable", "true", "false", why, severe=True)
        retention = int(settings.get("retention.ms", wanted.retention_ms))
        if retention != -1 and (wanted.retention_ms == -1 or retention < wanted.retention_ms):
            why = "an indexer that is stopped for longer loses records"
            differ("retention.ms", retention, wanted.retention_ms, why, severe=retention < 86_400_000)
        if int(settings.get("retention.bytes", -1)) != -1:
            why = "a burst may remove records before they are indexed"
            differ("retention.bytes", settings["retention.bytes"], -1, why)
        if int(settings.get("max.message.bytes", wanted.message_bytes)) < wanted.message_bytes:
            why = "a larger record is refused and goes to the dead letters"
            differ("max.message.bytes", settings["max.message.bytes"], wanted.message_bytes, why, severe=True)
        if settings.get("message.timestamp.type", "LogAppendTime") != "LogAppendTime":
            why = "completeness then depends on the clocks of the senders, not only on the broker's"
            differ("message.timestamp.type", settings["message.timestamp.type"], "LogAppendTime", why)
        if self.partitions < wanted.partitions:
            why = "fewer processes can be forwarded at the same time"
            differ("partitions", self.partitions, wanted.partitions, why)
        return sorted(differences, key=lambda d: not d.severe)


class Topic:
    """One topic, to be created or described."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config

    @staticmethod
    def wanted(**given: int | None) -> TopicWanted:
        """None: the default. Raises ConfigError."""
        return TopicWanted(**{name: value for name, value in given.items() if value is not None})

    def create(self, wanted: TopicWanted, *, seconds: float = 30.0) -> bool:
        """True when it was created, False when it existed already (see `TopicFound.differences`). Raises
        TransportError."""
        return run_bounded(lambda: _create(self._config, wanted), seconds, f"create topic {self._config.address}")

    def describe(self, *, seconds: float = 15.0) -> TopicFound | None:
        """None when the cluster responds and the topic does not exist. Raises TransportError."""
        return run_bounded(lambda: _describe(self._config), seconds, f"describe topic {self._config.address}")


def _settings_of(wanted: TopicWanted, replication: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",
        "min.insync.replicas": str(wanted.min_insync or (2 if replication >= 3 else 1)),
        "retention.ms": str(wanted.retention_ms),
        "max.message.bytes": str(wanted.message_bytes),
        "message.timestamp.type": "LogAppendTime",
    }


async def _create(config: KafkaConfig, wanted: TopicWanted) -> bool:
    admin = AIOKafkaAdminClient(**connection_options(config))
    try:
        await _started(config, admin)
        with vendor_calls():
            cluster = await admin.describe_cluster()
        brokers = len(cluster["brokers"])
        replication = wanted.replication or min(3, brokers)
        if wanted.min_insync and wanted.min_insync > replication:
            raise ConfigError(
                f"min_insync is {wanted.min_insync}, but the topic would have {replication} replicas on {brokers} "
                f"brokers; accepted: at most {replication}"
            )
        topic = NewTopic(config.topic, wanted.partitions, replication, topic_configs=_settings_of(wanted, replication))
        with vendor_calls():
            answer = await admin.create_topics([topic])
        _name, code, text = answer.topic_errors[0]
        error = vendor.for_code(code)
        if error is vendor.TopicAlreadyExistsError:
            return False
        if error is not vendor.NoError:
            raise error(text or "")
        await _visible(config)
        return True
    finally:
        await dispose(admin.close)


async def _visible(config: KafkaConfig) -> None:
    """Wait until every partition has a leader: not every broker knows a new topic at once."""
    probe = Probe(config)
    try:
        await probe.connect()
        while True:
            facts = await probe.facts()
            if isinstance(facts.error, vendor.TopicAuthorizationFailedError):
                return  # the topic exists now, and this user may not describe it
            if facts.error is None and facts.leaders and -1 not in facts.leaders.values():
                return
            await asyncio.sleep(0.05)
    finally:
        await probe.close()


async def _describe(config: KafkaConfig) -> TopicFound | None:
    probe = Probe(config)
    admin = AIOKafkaAdminClient(**connection_options(config))
    try:
        await _started(config, admin)
        await probe.connect()
        facts = await probe.facts(with_rights=True)
        if isinstance(facts.error, vendor.UnknownTopicOrPartitionError):
            return None
        if facts.error is not None:
            raise facts.error
        with vendor_calls():
            described = await admin.describe_topics([config.topic])
            answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, config.topic)])
        partitions = described[0]["partitions"]
        settings: dict[str, str] | None = None
        for code, text, _kind, _name, entries in answers[0].resources:
            error = vendor.for_code(code)
            if error is vendor.NoError:
                settings = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
            elif error is not vendor.TopicAuthorizationFailedError:
                raise error(text or "")
        return TopicFound(
            cluster_id=facts.cluster_id,
            brokers=facts.brokers,
            partitions=len(facts.leaders),
            replication=min((len(p["replicas"]) for p in partitions), default=0),
            in_sync_least=min((len(p["isr"]) for p in partitions), default=0),
            leaderless=sum(leader == -1 for leader in facts.leaders.values()),
            settings=settings,
            may_write=_has(facts.rights, _WRITE),
            may_read=_has(facts.rights, _READ),
        )
    finally:
        await dispose(admin.close)
        await probe.close()


def _has(rights: int | None, operation: int) -> bool | None:
    return None if rights is None else bool(rights & 1 << operation)


async def _started(config: KafkaConfig, admin: Any) -> None:
    try:
        with vendor_calls():
            await asyncio.wait_for(admin.start(), config.request_seconds)
    except vendor_errors() as e:
        cause = await cause_of(config, e)
        ours: TransportError = translate(f"connect to {config.address}", cause)
        raise ours from cause
