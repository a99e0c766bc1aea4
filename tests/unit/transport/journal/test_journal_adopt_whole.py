"""The statement of an adopted journal: its root over the records that can still be read, and its place in the chain."""

from __future__ import annotations

import struct
import uuid
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.support.digest import root_of

from asgi_audit.indexing.completeness import Consumed, RecordEvent, StatementEvent, Tracker
from asgi_audit.record.merkle import leaf_hash, statement_digest
from asgi_audit.record.statement import Statement, decode_statement, encode_statement
from asgi_audit.store.state import Completion
from asgi_audit.transport.base import Entry, Kind, Message, ProcessFacts
from asgi_audit.transport.fences import boot_id
from asgi_audit.transport.journal import JournalSource, JournalWriter

PROCESS = uuid.UUID("019aaaaa-0000-7000-8000-000000000001")


def data(n: int) -> bytes:
    return b'{"n":%d}' % n


def written(root: Path, *, last: int, records: list[int], segment_bytes: int = 1 << 20) -> JournalWriter:
    """A process that stated 1 and 2, wrote `records`, gave sequences up to `last`, and is about to die."""
    facts = ProcessFacts(PROCESS, "host", "app", 1234)
    writer = JournalWriter(root, facts, bytes_max=1 << 30, segment_bytes=segment_bytes)
    writer.append([Entry(Kind.RECORD, n, data(n)) for n in (1, 2)])
    made = Statement(
        process=str(PROCESS), number=1, at=9, first=1, last=2, count=2, watermark=9, policy="p",
        root=root_of([leaf_hash(data(1)), leaf_hash(data(2))]).hex(),
    )  # fmt: skip
    writer.append([Entry(Kind.STATEMENT, 2, encode_statement(made))])
    for n in records:
        writer.append([Entry(Kind.RECORD, n, data(n))])
    struct.pack_into("<QQQ", writer.counters, 0, last, last, 0)
    return writer


def read(root: Path) -> list[Message]:
    source = JournalSource(root, adopt_seconds=0, boot=boot_id())
    source.open({})
    messages: list[Message] = []
    while (batch := source.poll(1000, 0)).messages:
        messages += batch.messages
        source.commit(batch.positions)
    source.close()
    return messages


def tracked(messages: list[Message]) -> Completion:
    events: list[RecordEvent | StatementEvent] = []
    for m in messages:
        if m.kind is Kind.RECORD:
            events.append(RecordEvent(PROCESS.bytes, m.partition, m.sequence, None, leaf_hash(m.payload)))
        else:
            said = decode_statement(m.payload)
            events.append(StatementEvent(PROCESS.bytes, m.partition, said, statement_digest(m.payload)))
    made = Tracker().take(Consumed(events, now=1 << 42))
    assert made is not None
    return made


def test_root_and_chain_go_on_when_the_process_was_killed(tmp_path: Path) -> None:
    written(tmp_path, last=7, records=[3, 4, 6]).close()
    messages = read(tmp_path)
    first, adopted = [m for m in messages if m.kind is Kind.STATEMENT]
    said = decode_statement(adopted.payload)
    assert said.root == root_of([leaf_hash(data(n)) for n in (3, 4, 6)]).hex()
    assert said.previous == statement_digest(first.payload)
    assert said.policy == "p"
    made = tracked(messages)
    (state,) = made.processes
    assert (state.standing, state.last, state.lost, state.unverified) == ("left", 7, 2, 0)
    assert list(made.incidents) == []


def test_root_is_right_when_records_stand_twice(tmp_path: Path) -> None:
    written(tmp_path, last=4, records=[3, 4, 3, 4]).close()
    (state,) = tracked(read(tmp_path)).processes
    assert (state.last, state.unverified) == (4, 0)


def test_there_is_no_root_when_earlier_segments_hold_some_of_the_records(tmp_path: Path) -> None:
    """Method: segments of a few records; those before the last one may be removed when the journal is adopted."""
    written(tmp_path, last=300, records=list(range(3, 301)), segment_bytes=1 << 12).close()
    messages = read(tmp_path)
    first, adopted = [m for m in messages if m.kind is Kind.STATEMENT]
    said = decode_statement(adopted.payload)
    assert said.root is None
    assert said.previous == statement_digest(first.payload)  # the segment's header contains it
    assert list(tracked(messages).incidents) == []


def test_every_statement_names_the_one_before_when_the_losses_need_several(tmp_path: Path) -> None:
    written(tmp_path, last=3000, records=list(range(4, 3000, 2))).close()
    messages = read(tmp_path)
    assert len([m for m in messages if m.kind is Kind.STATEMENT]) > 2
    made = tracked(messages)
    assert [s.last for s in made.processes] == [3000]
    assert list(made.incidents) == []


@pytest.mark.parametrize("what", ["record", "statement"])
def test_what_was_changed_in_the_journal_is_an_incident(tmp_path: Path, what: str) -> None:
    """A journal whose checksums are right, but whose bytes differ from the stated ones."""
    written(tmp_path, last=4, records=[3, 4]).close()
    messages = read(tmp_path)
    at = 0 if what == "record" else 2
    changed = data(9)
    if what == "statement":
        changed = encode_statement(replace(decode_statement(messages[2].payload), excluded=5))
    messages[at] = messages[at]._replace(payload=changed)
    assert [i.kind for i in tracked(messages).incidents] == ["altered"]
