"""The reported state of an index: for metrics and for the doctor."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.support.records import (
    DAY_MS,
    NOON,
    OTHER,
    PROCESS,
    batch,
    extent,
    foreign,
    over_days,
    payload,
    read_until,
    record,
    statement,
)
from tests.support.source import ListSource

from asgi_audit.errors import StoreError
from asgi_audit.indexing.indexer import Indexer
from asgi_audit.record.loss import Loss, encode_loss
from asgi_audit.record.statement import encode_statement
from asgi_audit.store.base import Snapshot
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter, inspect, quick_check
from asgi_audit.store.state import Completion, DeadLetter, ProcessState
from asgi_audit.transport.base import Kind


def clock() -> float:
    return NOON / 1000 + 3600


def test_inspect_is_none_when_there_is_no_index(tmp_path: Path) -> None:
    assert inspect(tmp_path / "none") is None


def test_records_of_foreign_producers_count_as_indexed_once_and_for_ever(tmp_path: Path) -> None:
    """They have no process whose count could include them."""
    writer = SqliteWriter(tmp_path, clock=clock)
    for _ in range(2):  # the second time they exist already
        writer.write(batch([foreign(NOON + n, name=str(n)) for n in range(5)]))
    writer.write(batch([record(1)]))
    writer.close()
    found = inspect(tmp_path)
    assert found is not None
    assert found.indexed == 6


def test_inspect_sums_up_processes_and_losses_by_reason(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path, clock=clock)
    writer.write(batch(over_days(1, 30), following=77, read_until=read_until(123.5)))
    lost = [(31, 33, "queue"), (34, 34, "build")]
    writer.write(batch(statements=[statement(1, 1, 34, lost=lost, excluded=7)]))
    writer.write(batch(statements=[statement(1, 1, 34, lost=lost, excluded=7)]))  # again: nothing new
    writer.write(batch([record(1, process=OTHER)], statements=[statement(1, 1, 9, process=OTHER, lost_more=4)]))
    writer.write(batch(dead_letters=[DeadLetter("test", "p", n, f"reason {n}", b"x") for n in range(7)]))
    found = inspect(tmp_path, source="test")
    assert found is not None
    assert (found.captured, found.indexed, found.excluded) == (34 + 9, 31, 7)
    assert found.lost == {"queue": 3, "build": 1, "other": 4}
    assert found.snapshot == Snapshot(2, 123.5)
    assert found.days == ["2026-11-20", "2026-11-21", "2026-11-22"]
    assert found.dead == 7
    assert [b.reason for b in found.newest_dead] == [f"reason {n}" for n in (6, 5, 4, 3, 2)]
    assert found.held_by == "this very process"
    assert set(found.positions) == {str(PROCESS)}
    assert found.bytes > 100_000
    writer.close()
    after = inspect(tmp_path, source="test")
    assert after is not None
    assert after.held_by is None
    SqliteWriter(tmp_path, clock=clock).close()  # looking has left the lease free


def test_inspect_counts_what_a_broker_refused_among_the_losses(tmp_path: Path) -> None:
    """Such a loss is in an entry of its own, possibly repeated, and in no statement."""
    source = ListSource()
    source.put(str(PROCESS), Kind.RECORD, 1, payload(1))
    for _ in range(2):
        loss = Loss(process=str(PROCESS), sequence=2, at=NOON, reason="refused", leaf="00" * 32, bytes=9)
        source.put(str(PROCESS), Kind.LOSS, 2, encode_loss(loss))
    said = statement(1, 1, 4, lost=[(3, 4, "queue")], started=NOON - 10)
    source.put(str(PROCESS), Kind.STATEMENT, 4, encode_statement(said))
    writer = SqliteWriter(tmp_path, clock=clock)
    stop = threading.Event()
    indexer = Indexer(source, writer, stop=stop, on_progress=lambda p: stop.set() if p.statements else None)
    thread = threading.Thread(target=indexer.run)
    thread.start()
    thread.join(30)
    writer.close()
    found = inspect(tmp_path)
    assert found is not None
    assert (found.indexed, found.lost) == (1, {"queue": 2, "refused": 1})


def test_inspect_takes_no_refused_loss_back_when_a_later_statement_names_it(tmp_path: Path) -> None:
    """Prometheus takes a decreasing counter for a restarted one."""
    writer = SqliteWriter(tmp_path, clock=clock)
    settled = ProcessState(process=PROCESS.bytes, partition="p", started=0, lost=1)
    writer.write(batch(statements=[statement(1, 1, 10)], completion=Completion(extent(NOON), [settled], refused=1)))
    settled.lost = 3
    later = statement(2, 8, 12, lost=[(8, 12, "killed")])
    writer.write(batch(statements=[later], completion=Completion(extent(NOON), [settled])))
    writer.close()
    found = inspect(tmp_path)
    assert found is not None
    assert found.lost == {"refused": 1, "killed": 5}


def test_quick_check_finds_damage(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path, clock=clock)
    for n in range(200):
        writer.write(batch([record(1, account=f"account-{n}", process=None, identity=str(n))]))
    writer.close()
    assert quick_check(tmp_path) == ""
    with (tmp_path / "main.db").open("r+b") as f:
        size = f.seek(0, 2)
        f.seek(8192)
        f.write(b"\xaa" * (size - 8192))
    assert quick_check(tmp_path) != ""


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be taken for one" * 50])
def test_inspect_tells_an_empty_file_from_somebody_elses(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "main.db").write_bytes(content)
    if not content:
        assert inspect(tmp_path) is None
    else:
        with pytest.raises(StoreError, match="NotADBError"):
            inspect(tmp_path)


def test_inspect_counts_what_a_purge_forgets_as_before(tmp_path: Path) -> None:
    """Prometheus takes a decreasing counter for a restarted one, and adds the whole value again."""
    writer = SqliteWriter(tmp_path, clock=clock)
    past = NOON - 3 * DAY_MS
    gone = ProcessState(
        process=OTHER.bytes, partition="p", started=0, standing="left", low=past, lost=5, closed="final"
    )
    said = statement(1, 1, 9, process=OTHER, lost=[(8, 9, "queue")], excluded=4, watermark=past, closed="final")
    kept = statement(1, 1, 3, lost=[(2, 3, "build")], excluded=2)
    old = [record(n, past, process=OTHER) for n in range(1, 8)]
    writer.write(
        batch([record(1), *old], statements=[said, kept], completion=Completion(extent(NOON), [gone], refused=3))
    )
    before = inspect(tmp_path)
    writer.purge(NOON)
    assert [p.process for p in SqliteReader(tmp_path).processes()] == [PROCESS]
    after = inspect(tmp_path)
    assert before is not None
    assert after is not None
    assert (after.captured, after.indexed, after.excluded) == (12, 8, 6)
    assert after.lost == {"queue": 2, "build": 2, "refused": 3}
    assert (before.captured, before.indexed, before.excluded, before.lost) == (12, 8, 6, after.lost)
    writer.purge(NOON)
    assert inspect(tmp_path) == after._replace(bytes=inspect(tmp_path).bytes)  # type: ignore[union-attr]
    writer.close()
