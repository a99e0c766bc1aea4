"""What the forwarder does with one read of its source, without a broker."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from tests.support.waiting import until

from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.kafka.config import kafka_config
from asgi_audit.transport.kafka.errors import vendor_errors
from asgi_audit.transport.kafka.forwarder import Forwarder
from asgi_audit.transport.kafka.partition_queues import PartitionQueue, PartitionQueues
from asgi_audit.transport.memory import MemoryJournal


def test_forwarder_ends_when_what_it_read_is_not_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source returns it once: continuing after it would remove it from the journal unsent."""
    journal = MemoryJournal(bytes_max=1 << 20)
    journal.writer(ProcessFacts(uuid.uuid4(), "h", "s", 1)).append([Entry(Kind.RECORD, 1, b"{}")])
    forwarder = Forwarder(journal.source(), kafka_config("kafka://127.0.0.1:1/audit"), dead_letters=tmp_path / "dead")
    forwarder._source.open({})

    def breaks(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(PartitionQueues, "add", breaks)
    with pytest.raises(MemoryError) as raised:
        forwarder._read()
    assert not isinstance(raised.value, vendor_errors()), "the outermost loop goes on after those"
    assert not forwarder._queues.moved()


class Packs:
    """In place of aiokafka's producer: it sends what it packs, and a broker acknowledges it."""

    def __init__(self) -> None:
        self.sent = 0
        self.raises: list[Exception] = []  # by the next calls
        self.packed = 0

    def create_batch(self) -> Packs:
        self.packed = 0
        return self

    def append(self, **_: object) -> object:
        if self.raises:
            raise self.raises.pop()
        self.packed += 1
        return self

    def record_count(self) -> int:
        return self.packed

    def close(self) -> None: ...

    async def stop(self) -> None: ...

    async def send_batch(self, *_: object, partition: int) -> asyncio.Future[None]:
        self.sent += self.packed
        future = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


def sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> tuple[Forwarder, Packs, MemoryJournal]:
    """A forwarder of one record whose cluster has one partition and accepts everything."""
    journal = MemoryJournal(bytes_max=1 << 20)
    journal.writer(ProcessFacts(uuid.uuid4(), "h", "s", 1)).append([Entry(Kind.RECORD, 1, b"{}")])
    forwarder = Forwarder(
        journal.source(), kafka_config("kafka://127.0.0.1:1/audit"), dead_letters=tmp_path / "dead",
        backoff_seconds=(0.0, 0.0), drain=True, **more,
    )  # fmt: skip
    producer = Packs()

    async def connect() -> None:
        forwarder._failed, forwarder._reached = None, True
        forwarder._producer, forwarder._partitions = producer, [0]
        forwarder._queues.fit([0])

    monkeypatch.setattr(forwarder, "_connect", connect)
    return forwarder, producer, journal


def test_defect_in_our_packing_ends_the_thread_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for an error of the broker, and retried for ever."""
    broken: list[BaseException] = []
    forwarder, producer, journal = sending(tmp_path, monkeypatch, on_broken=broken.append)

    def breaks(*_: object) -> None:
        raise KeyError("slices")

    monkeypatch.setattr(PartitionQueue, "slices", breaks)
    forwarder.start()
    assert forwarder.join(30.0)
    until(lambda: bool(broken), "it is told")
    assert isinstance(broken[0], KeyError)
    stats = forwarder.stats()
    assert (stats.retries, stats.acknowledged, producer.sent) == (0, 0, 0)
    assert journal.used, "it waits for the next forwarder"


def test_defect_of_the_vendor_in_packing_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken: list[BaseException] = []
    forwarder, producer, _ = sending(tmp_path, monkeypatch, on_broken=broken.append)
    producer.raises = [AssertionError("closed"), KeyError(3)]
    forwarder.start()
    assert forwarder.join(30.0)
    stats = forwarder.stats()
    assert (stats.retries, stats.acknowledged, producer.sent) == (2, 1, 1)
    assert not broken
