"""The bytes of a batch, read by aiokafka's own reader and compared with its own writer; Java reads them in
tests/integration/kafka/test_forwarder.py."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from asgi_audit.transport.base import Kind, Message
from asgi_audit.transport.kafka.batch import RecordBatch


def entries(sizes: list[int], seed: int = 1) -> list[Message]:
    rng = random.Random(seed)
    return [Message("p", 0, 0, Kind.RECORD, i, rng.randbytes(size)) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("codec", [None, "gzip", "lz4", "zstd"])
def test_a_batch_is_read_back_whole_when_it_is_compressed(codec: str | None) -> None:
    given = entries([0, 1, 63, 64, 8191, 8192, 70_000, *range(200)])
    batch = RecordBatch(codec, 1_767_225_600_123, 1 << 20)
    assert batch.extend(b"one", given[:100])
    assert batch.extend(b"another", given[100:])
    batch.close()
    batch._set_producer_state(4711, 3, 99)
    data = batch._build()
    found = MemoryRecords(data).next_batch()
    assert found is not None
    assert found.validate_crc()
    assert (found.producer_id, found.producer_epoch, found.base_sequence) == (4711, 3, 99)
    read = [(r.offset, r.timestamp, r.key, r.value) for r in found]
    keys = [b"one"] * 100 + [b"another"] * (len(given) - 100)
    assert read == [(i, 1_767_225_600_123, key, m.payload) for i, (key, m) in enumerate(zip(keys, given, strict=True))]
    assert batch.record_count() == len(given)
    assert batch._build() is data  # a second try is the same bytes


def test_a_batch_is_byte_for_byte_that_of_aiokafka_when_nothing_is_compressed() -> None:
    given = entries([1, 500, 20_000, *range(300)])
    theirs = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=7, producer_epoch=1, base_sequence=55, batch_size=1 << 20
    )
    for i, message in enumerate(given):
        theirs.append(i, 12_345, b"key", message.payload, [])
    ours = RecordBatch(None, 12_345, 1 << 20)
    assert ours.extend(b"key", given)
    ours._set_producer_state(7, 1, 55)
    assert ours._build() == bytes(theirs.build())


def test_a_batch_takes_what_fits_when_there_are_more() -> None:
    given = entries([1000] * 10)
    batch = RecordBatch(None, -1, 3_500)
    assert not batch.extend(b"k", given)
    assert batch.record_count() == 3
    assert not batch.extend(b"k", given[3:])
    assert batch.record_count() == 3
    assert 3_000 < len(batch._build()) < 3_500 + 61


def test_a_batch_takes_one_entry_when_that_is_larger_than_it_may_be() -> None:
    batch = RecordBatch("zstd", -1, 1_000)
    assert not batch.extend(b"k", entries([50_000, 1]))
    assert batch.record_count() == 1
    found = MemoryRecords(batch._build()).next_batch()
    assert found is not None
    assert [len(r.value) for r in found] == [50_000]
