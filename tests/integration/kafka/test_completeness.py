"""The completeness claims of an index while it reads a real topic: from its beginning, killed in between, with a
partition without a leader, and with a topic whose beginning retention removed."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from tests.support.records import payload, statement
from tests.support.waiting import until

from asgi_audit.cli import main
from asgi_audit.indexing.indexer import Indexer
from asgi_audit.record.line import TIME_END
from asgi_audit.record.statement import encode_statement
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter
from asgi_audit.transport.kafka.config import KafkaConfig
from asgi_audit.transport.kafka.source import KafkaSource

from .conftest import admin, make_topic, send


@contextmanager
def indexing(config: KafkaConfig, index: Path, *, batch_max: int = 4000) -> Iterator[Indexer]:
    """An indexer in a thread, which ends after its current batch."""
    writer = SqliteWriter(index)
    source = KafkaSource(config)
    stop = threading.Event()
    indexer = Indexer(source, writer, stop=stop, batch_max=batch_max, linger_seconds=0)
    thread = threading.Thread(target=indexer.run)
    thread.start()
    try:
        yield indexer
    finally:
        stop.set()
        thread.join(20)
        writer.close()
        source.close()


def entries(process: uuid.UUID, count: int, at: int, *, closed: str = "") -> list[bytes]:
    """Entries of one process: its first statement, `count` records, and a statement that covers them."""
    first = statement(1, 1, 0, process=process, at=at, watermark=at, started=at)
    last = statement(2, 1, count, process=process, at=at + count, watermark=at + count, started=at, closed=closed)
    records = [payload(n, at + n, process=process) for n in range(1, count + 1)]
    return [encode_statement(first), *records, encode_statement(last)]


def test_nothing_is_claimed_while_the_topic_is_read_from_its_beginning(address: str, tmp_path: Path) -> None:
    """One process with 20,000 records, 30 short ones on other partitions, a fresh index, killed early: whenever it
    claims that the window is complete, all of the window must be indexed."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choice = random.Random(seed)
    config = make_topic(address, 4)
    start = int(time.time() * 1000) - 60_000
    send(config, list(entries(uuid.uuid4(), 20_000, start, closed="final")), partition=0)
    for n in range(30):
        send(config, list(entries(uuid.uuid4(), 2, start, closed="final")), partition=1 + n % 3)
    total, end = 20_060, start + 20_001
    index = tmp_path / "index"
    window = ["--from", _text(start), "--to", _text(end)]

    def claims() -> bool:
        reader = SqliteReader(index)
        try:
            # First read the claim, then the contents.
            found = reader.completeness(start, end)
            is_claimed = found.until is not None and found.until >= end and not found.incidents
            is_claimed = is_claimed and found.begins is not None and found.begins <= start
            indexed = sum(p.indexed for p in reader.processes())
            assert not is_claimed or indexed == total, f"complete with {indexed} of {total}; {found}"
            return is_claimed
        finally:
            reader.close()

    for killed_at in (140, choice.randrange(141, 19_000)):
        with indexing(config, index, batch_max=20) as indexer:
            until(lambda at=killed_at, i=indexer: claims() or i.progress.indexed >= min(at, 300))
        assert not claims()
        assert main(["completeness", "--store", f"sqlite:///{index}", *window]) == 1
    with indexing(config, index):
        until(claims)
    assert main(["completeness", "--store", f"sqlite:///{index}", *window]) == 0
    assert main(["completeness", "--store", f"sqlite:///{index}"]) == 0


@pytest.mark.parametrize("kind", ["LogAppendTime", "CreateTime"])
def test_what_retention_took_before_is_no_incident_and_complete_from_says_so(
    address: str, tmp_path: Path, kind: str
) -> None:
    config = make_topic(address, 1, message_timestamp_type=kind)
    at = int(time.time() * 1000) - 5_000
    values = entries(uuid.uuid4(), 100, at, closed="final")
    send(config, list(values[:60]))
    middle = time.time() * 1000
    until(lambda: time.time() * 1000 > middle + 1)  # append times are whole milliseconds
    send(config, list(values[60:]))
    admin(",".join(config.servers), "delete_records", {TopicPartition(config.topic, 0): RecordsToDelete(60)})
    opened = time.time() * 1000
    reader = SqliteReader(tmp_path / "index")
    with indexing(config, tmp_path / "index"):
        until(lambda: reader.completeness(0, 0).begins is not None and reader.processes())
        until(lambda: reader.processes()[0].standing == "left")
    begins = reader.completeness(0, 0).begins
    assert begins is not None
    assert (middle <= begins <= opened) if kind == "LogAppendTime" else begins >= opened
    assert reader.incidents(0, TIME_END) == []
    (process,) = reader.processes()
    assert (process.indexed, process.earlier, process.missing) == (41, 59, 0)
    reader.close()


def _text(ms: int) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ms // 1000))}.{ms % 1000:03d}Z"
