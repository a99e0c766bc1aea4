"""The most important rows of the Kafka fault table, in a short form; `make kafka-faults` runs all of it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fault.kafka_rows import ROWS
from tests.support import kafka
from tests.support.kafka import LocalKafka

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

pytestmark = pytest.mark.full

TINY = [name for name, row in ROWS.items() if row.tiny]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """A broker of our own, whatever ASGI_AUDIT_TEST_KAFKA is, because it is killed."""
    jars = kafka.jars()
    if jars is None:
        pytest.skip(kafka.HOW_TO_GET_ONE)
    cluster = LocalKafka(tmp_path_factory.mktemp("fault-kafka"), jars)
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.mark.parametrize("name", TINY)
def test_every_record_is_accounted_for_when(name: str, cluster: LocalKafka, tmp_path: Path) -> None:
    seed = int(os.environ.get("ASGI_AUDIT_TEST_SEED") or random.randrange(1 << 30))
    print(f"seed {seed}")
    account = ROWS[name].measure(cluster, tmp_path / name, seed, tiny=True)
    print(account)
    assert account.given >= account.indexed > 0
    assert not account.wrong
