"""`examples/check_topic.py`, an independent consumer, over a real topic: what it accepts, and which errors it finds."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from jsonschema import Draft202012Validator
from tests.e2e.commands import clean_environment
from tests.support.schema import checked

from asgi_audit.record.merkle import Tree, leaf_hash, statement_digest
from asgi_audit.record.statement_schema import statement_schema
from asgi_audit.transport.base import Kind, Message
from asgi_audit.transport.kafka.client import run_bounded
from asgi_audit.transport.kafka.config import KafkaConfig
from asgi_audit.transport.kafka.forwarder import KIND_HEADER
from asgi_audit.transport.kafka.source import KafkaSource

from .conftest import make_topic, read_until_fence, send
from .test_process import run

ROOT = Path(__file__).parents[3]
Topic = tuple[KafkaConfig, list[bytes]]


def check(config: KafkaConfig) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.check_topic", ",".join(config.servers), config.topic],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def everything(config: KafkaConfig) -> list[tuple[dict[str, bytes], bytes]]:
    """(headers, value) of each message, by aiokafka alone."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    async def work() -> list[tuple[dict[str, bytes], bytes]]:
        partition = TopicPartition(config.topic, 0)
        consumer = AIOKafkaConsumer(bootstrap_servers=list(config.servers), group_id=None)
        await consumer.start()
        try:
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            end = (await consumer.end_offsets([partition]))[partition]
            found: list[tuple[dict[str, bytes], bytes]] = []
            while await consumer.position(partition) < end:
                for messages in (await consumer.getmany(timeout_ms=500)).values():
                    found += [(dict(m.headers), m.value) for m in messages]
            return found
        finally:
            await consumer.stop()

    return run_bounded(work, 60, "read")


@pytest.fixture(scope="module")
def original(address: str, tmp_path_factory: pytest.TempPathFactory) -> Topic:
    """A topic into which a real process sent six records, its fork three, and both their statements; and the values of
    its messages."""
    config = make_topic(address)
    run(f"kafka://{address}/{config.topic}", tmp_path_factory.mktemp("home"), "fork")
    return config, [value for _, value in everything(config)]


def copied(address: str, values: list[bytes]) -> KafkaConfig:
    """Another topic with these messages, without headers, as version 0.1.0 sent them."""
    config = make_topic(address)
    send(config, list(values))
    return config


def test_header_says_what_each_message_is_and_both_schemas_hold(original: Topic) -> None:
    validator = Draft202012Validator(statement_schema())
    kinds = []
    for headers, value in everything(original[0]):
        kind = headers[KIND_HEADER].decode()
        kinds.append(kind)
        if kind == "statement":
            assert list(validator.iter_errors(orjson.loads(value))) == []
        else:
            checked(value)
    assert kinds.count("record") == 9
    assert kinds.count("statement") == len(kinds) - 9 >= 4


def test_everything_fits_when_nothing_was_changed(original: Topic) -> None:
    done = check(original[0])
    assert done.returncode == 0, done.stdout + done.stderr
    for records in (3, 6):
        assert f": {records} records, 0 duplicates, 0 lost" in done.stdout
    assert " 0 roots checked" not in done.stdout
    assert "not stated yet" not in done.stdout


def test_everything_fits_when_all_was_sent_twice_and_without_headers(address: str, original: Topic) -> None:
    values = original[1]
    done = check(copied(address, [*values, *values]))
    assert done.returncode == 0, done.stdout + done.stderr
    found = [int(word) for word in re.findall(r"(\d+) duplicates", done.stdout)]
    assert (len(found), sum(found)) == (2, len(values))


def is_record(value: bytes) -> bool:
    return value.startswith(b'{"account_id":')


def without_one_record(values: list[bytes]) -> list[bytes]:
    return [v for v in values if not (is_record(v) and b'"sequence":2' in v)]


def with_another_path(values: list[bytes]) -> list[bytes]:
    return [v.replace(b'"method":"GET"', b'"method":"PUT"') if b'"sequence":2' in v else v for v in values]


def without_a_statement(values: list[bytes]) -> list[bytes]:
    return [v for v in values if not v.startswith(b'{"statement":"1.0"') or orjson.loads(v)["number"] != 1]


def with_another_statement(values: list[bytes]) -> list[bytes]:
    return [v.replace(b'"unwaited":0', b'"unwaited":9') if v.startswith(b'{"statement"') else v for v in values]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_one_record, "WRONG: sequences 2 to 2: 1 records are missing"),
        (with_another_path, "are not those of statement"),
        (without_a_statement, "WRONG: statements 1 to 1 are missing"),
        (with_another_statement, "does not follow the statement that was read before it"),
    ],
)
def test_change_is_found_when_statements_stayed_as_they_were(
    address: str, original: Topic, change: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    done = check(copied(address, change(original[1])))
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout


def test_forgery_is_not_found_when_the_statements_are_forged_too(address: str, original: Topic) -> None:
    """The limit that docs/formats.md states: statements are not signed, so a user who may write to the topic can forge
    them."""
    forged: list[bytes] = []
    trees: defaultdict[str, Tree] = defaultdict(Tree)
    digests: dict[str, str] = {}
    for value in with_another_path(original[1]):
        said = orjson.loads(value)
        if is_record(value):
            trees[said["context"]["capture"]["process"]].append(leaf_hash(value))
            forged.append(value)
            continue
        process = said["process"]
        said |= {"root": trees.pop(process, Tree()).root().hex(), "previous": digests.get(process)}
        forged.append(orjson.dumps(said))
        digests[process] = statement_digest(forged[-1])
    assert forged != original[1]
    done = check(copied(address, forged))
    assert done.returncode == 0, done.stdout


def test_index_takes_messages_with_and_without_the_header(address: str, original: Topic) -> None:
    def read(config: KafkaConfig) -> list[tuple[Kind, bytes]]:
        source = KafkaSource(config)
        source.open({})
        try:
            messages: list[Message] = read_until_fence(source, time.time())
            return [(m.kind, m.payload) for m in messages]
        finally:
            source.close()

    assert read(original[0]) == read(copied(address, original[1]))
