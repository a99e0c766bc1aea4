"""Create the Kafka topic for the audit trail, or explain how an existing topic differs from it.

  asgi-audit topics create kafka://broker:9092/audit-records
  asgi-audit topics create kafka://broker:9092/audit-records --partitions 12 --retention 14d

The topic has six partitions, three replicas (or one per broker, if there are fewer), acknowledgement by two replicas,
seven days of retention, and broker time as timestamp. An existing topic is never changed; exit code 1 when it differs
so that records could be lost or refused. User and password come from the environment.
"""

from __future__ import annotations

import argparse
import re

from ..addresses import kafka_address
from ..errors import ConfigError, TransportError
from ..wiring.kafka import open_topic
from .flags import KAFKA, add_settings, settings_of

__all__ = ["add_arguments", "run"]

_UNITS = {"": 1, "ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="topics_command", metavar="create", required=True)
    create = commands.add_parser("create", help="create the topic, or explain an existing one", allow_abbrev=False)
    create.add_argument("url", metavar="TOPIC-URL", help="kafka://host:port[,host:port]/topic, or kafkas://")
    create.add_argument(
        "--partitions", type=int, metavar="N", help="partitions: processes forwarded in parallel; default: 6"
    )
    create.add_argument("--replication", type=int, metavar="N", help="default: 3, or one per broker if there are fewer")
    create.add_argument("--min-insync", type=int, metavar="N", help="default: 2 of three replicas, else 1")
    create.add_argument("--retention", metavar="TIME", help="such as 7d, 12h or 'unlimited'; default: 7d")
    create.add_argument("--message-bytes", metavar="SIZE", help="largest batch, such as 4m; default: 4m")
    add_settings(create, *KAFKA)


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    topic = open_topic(settings, arguments.url)
    wanted = topic.wanted(
        partitions=arguments.partitions,
        replication=arguments.replication,
        min_insync=arguments.min_insync,
        retention_ms=_retention(arguments.retention),
        message_bytes=_bytes(arguments.message_bytes),
    )
    is_made = topic.create(wanted)
    try:
        found = topic.describe()
    except TransportError as e:
        if not is_made:
            raise
        print(f"topic {kafka_address(arguments.url).topic} created; it cannot be checked: {e}")
        return 0
    if found is None:
        raise ConfigError(f"{arguments.url} was created but does not exist any more; is something deleting it?")
    name = kafka_address(arguments.url).topic
    known = found.settings
    shown = ", ".join(
        f"{key} {known[key]}"
        for key in ("min.insync.replicas", "retention.ms", "max.message.bytes", "message.timestamp.type")
        if known is not None and key in known
    )
    if known is None:
        shown = "its settings are unknown: this user may not DescribeConfigs"
    print(
        f"topic {name} {'made' if is_made else 'is there already'}: {found.partitions} partitions, "
        f"{found.replication} replicas, {shown}"
    )
    differences = found.differences(wanted)
    for d in differences:
        level = "wrong" if d.severe else "differs"
        print(f"{level}: {d.setting} is {d.found}, wanted {d.wanted}: {d.why}")
    if found.without_leader:
        print(f"wrong: {found.without_leader}")
    return 1 if found.without_leader or any(d.severe for d in differences) else 0


def _retention(text: str | None) -> int | None:
    if text is None:
        return None
    if text == "unlimited":
        return -1
    found = re.fullmatch(r"(\d{1,15})(ms|s|m|h|d)?", text)
    if found is None:
        raise ConfigError(f"--retention is {text[:40]!r}; accepted: such as 7d, 12h, 90m, or unlimited")
    return int(found[1]) * _UNITS[found[2] or ""]


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,12})([km])?", text.lower())
    if found is None:
        raise ConfigError(f"--message-bytes is {text[:40]!r}; accepted: such as 4194304, 4096k, 4m")
    return int(found[1]) * _SIZES[found[2] or ""]
