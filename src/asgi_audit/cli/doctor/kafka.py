"""The doctor's checks of Kafka: the broker, and differences in the topic's configuration."""

from __future__ import annotations

from collections.abc import Iterator

from ...addresses import kafka_address
from ...errors import TransportError
from ...settings import Settings
from ...wiring.kafka import open_topic
from .checks import Finding

__all__ = ["kafka"]

_SECONDS = 10.0


def kafka(s: Settings) -> Iterator[Finding]:
    if not s.is_kafka:
        return
    name = kafka_address(s.transport).topic
    topic = open_topic(s)
    try:
        found = topic.describe(seconds=_SECONDS)
    except TransportError as e:
        do = e.hint or "Records wait in the journal until the broker responds. Check the broker."
        yield Finding("bad", "broker", str(e), do)
        return
    if found is None:
        yield Finding("ok", "broker", "the cluster responds")
        do = f"asgi-audit topics create {s.transport}. Records wait in the journal until then."
        yield Finding("bad", "topic", f"{name} does not exist", do)
        return
    brokers = f"{found.brokers} broker{'s' if found.brokers != 1 else ''}"
    yield Finding("ok", "broker", f"cluster {found.cluster_id} responds, {brokers}")
    shown = f"{name}: {found.partitions} partitions, {found.replication} replicas"
    if found.in_sync_least < found.replication:
        text = f"{shown}; one partition has only {found.in_sync_least} in sync"
        yield Finding("warn", "topic", text, "A broker is down or behind: bring it back.")
    else:
        yield Finding("ok", "topic", shown)
    yield from _rights(found.may_write, found.may_read)
    if found.settings is None:
        text = "its settings were not checked: this user may not DescribeConfigs"
        yield Finding("ok", "topic", text, "Run `asgi-audit doctor` once as a user with this right.")
    least = int((found.settings or {}).get("max.message.bytes", 1 << 40))
    if s.record_bytes_max >= least:
        text = f"record_bytes_max is {s.record_bytes_max} and the topic's max.message.bytes {least}"
        yield Finding(
            "bad",
            "topic",
            text,
            "Lower the first or raise the second: Kafka refuses larger records, and they are lost.",
        )
    for d in found.differences(topic.wanted(partitions=1)):
        if d.setting != "max.message.bytes":
            do = f"Set it to {d.wanted} at the broker, unless this is intended."
            yield Finding("bad" if d.severe else "warn", "topic", f"{d.setting} is {d.found}: {d.why}", do)
    if found.without_leader:
        do = "Bring back the brokers of these partitions. The other partitions continue."
        yield Finding("bad", "topic", found.without_leader, do)


def _rights(may_write: bool | None, may_read: bool | None) -> Iterator[Finding]:
    """The rights of this user on the topic; None: not known. Write alone is enough for an application, Read alone for
    an indexer."""
    if may_write is False and may_read is False:
        do = "This is enough for a user that only looks. An application needs Write, an indexer Read: docs/kafka.md."
        yield Finding("warn", "topic", "this user may neither write nor read it", do)
    elif may_write is False:
        yield Finding("ok", "topic", "this user may read but not write it: enough for `index`, not for an application")
    elif may_read is False:
        yield Finding("ok", "topic", "this user may write but not read it: enough for an application, not for `index`")
