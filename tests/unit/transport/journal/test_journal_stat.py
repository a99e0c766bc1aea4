"""The reported state of a journal, found without reading its entries."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.records import NOON, OTHER, PROCESS, payload, statement

from asgi_audit.record.statement import encode_statement
from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.journal import JournalSource, JournalWriter, look


def write(root: Path, process: object, count: int, *, close: bool = False) -> JournalWriter:
    writer = JournalWriter(root, ProcessFacts(process, "h", "gateway", NOON), bytes_max=1 << 30, segment_bytes=4096)  # type: ignore[arg-type]
    for s in range(1, count + 1):
        writer.append([Entry(Kind.RECORD, s, payload(s, NOON + s * 1000, process=process))])  # type: ignore[arg-type]
    if close:
        writer.close()
    return writer


def test_look_is_empty_when_there_is_no_journal(tmp_path: Path) -> None:
    assert look(tmp_path / "none", {}) == []
    (tmp_path / "something").mkdir()
    assert look(tmp_path, {}) == []


def test_look_tells_bytes_what_waits_and_since_when(tmp_path: Path) -> None:
    writer = write(tmp_path, PROCESS, 20)
    (before,) = look(tmp_path, {})
    assert (before.process, before.service, before.is_alive) == (str(PROCESS), "gateway", None)
    assert before.waiting_since == (NOON + 1000) / 1000
    on_disk = sum(p.stat().st_blocks * 512 for p in (tmp_path / str(PROCESS)).iterdir())
    assert 0 < before.waiting_bytes <= on_disk == before.bytes
    source = JournalSource(tmp_path)
    source.open({})
    some = source.poll(12, 0)
    (between,) = look(tmp_path, some.positions)
    assert between.waiting_since == (NOON + 13_000) / 1000
    assert between.waiting_bytes < before.waiting_bytes
    rest = source.poll(1000, 0)
    (after,) = look(tmp_path, {**some.positions, **rest.positions})
    assert (after.waiting_bytes, after.waiting_since) == (0, None)
    writer.append([Entry(Kind.STATEMENT, 20, encode_statement(statement(1, 1, 20)))])
    (stated,) = look(tmp_path, {**some.positions, **rest.positions})
    assert stated.waiting_since == (NOON + 1) / 1000
    source.close()
    writer.close()


def test_look_tells_the_living_from_the_dead_and_leaves_both_as_they_are(tmp_path: Path) -> None:
    alive = write(tmp_path, PROCESS, 3)
    write(tmp_path, OTHER, 3, close=True)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    found = {j.process: j.is_alive for j in look(tmp_path, {}, ask_alive=True)}
    assert found == {str(PROCESS): True, str(OTHER): False}
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    alive.append([Entry(Kind.RECORD, 4, payload(4, NOON))])
    child = os.fork()
    if not child:  # another process sees it alive too: looking has not freed the lock
        (one,) = [j for j in look(tmp_path, {}, ask_alive=True) if j.process == str(PROCESS)]
        os._exit(0 if one.is_alive else 1)
    assert os.waitpid(child, 0)[1] == 0
    alive.close()
