"""The writer dies at each step of a write: afterwards each record is visible once, and snapshots are unchanged."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import pytest
from tests.support.records import NOON, PROCESS, batch, everything, over_days, record, sequences, statement, walk

from asgi_audit.store.sqlite import SqliteReader, SqliteWriter
from asgi_audit.transport.base import Position


def clock() -> float:
    return (NOON + 3_600_000) / 1000


class Crash(BaseException):
    """Ends a write like the death of the process: committed data stays, nothing else runs."""


class CrashingWriter(SqliteWriter):
    """Dies after this step: `day 0`, `day 1` …, `before main`, `after main`."""

    at = ""
    _steps = 0

    def _write_day(self, *args: Any) -> Any:
        found = super()._write_day(*args)
        self._step(f"day {self._steps}")
        self._steps += 1
        return found

    def _write_main(self, *args: Any) -> None:
        self._step("before main")
        super()._write_main(*args)
        self._step("after main")

    def _step(self, name: str) -> None:
        if name == self.at:
            raise Crash


@pytest.mark.parametrize("at", ["day 0", "day 1", "day 2", "before main", "after main"])
@pytest.mark.parametrize("sliced", ["the same batch", "smaller batches", "a larger batch"])
def test_records_are_visible_once_when_the_writer_dies_in_between(
    index: Path, reader: SqliteReader, at: str, sliced: str
) -> None:
    """Goal: exactly once, whatever the source sends after the crash. Method: a batch of three days dies at each step;
    the next writer gets its records again in other batches; an earlier snapshot and an earlier cursor give the same
    results as before."""
    first = SqliteWriter(index, clock=clock)
    first.write(batch(over_days(1, 30), following=30))
    first.close()
    held = reader.snapshot().published
    page, more = reader.page(everything(), published=held, before=None, limit=5, bytes_max=1 << 20)
    assert more
    dying = CrashingWriter(index, clock=clock)
    dying.at = at
    with pytest.raises(Crash):
        dying.write(batch(over_days(31, 30), following=60, statements=[statement(1, 1, 60)]))
    dying.close()
    if at != "after main":
        assert reader.snapshot().published == held
        assert len(walk(reader)) == 30, "nothing of an unfinished batch may be seen"
    again = SqliteWriter(index, clock=clock)
    assert again.positions("test")[str(PROCESS)].next == (60 if at == "after main" else 30)
    early = reader.snapshot().published
    seen_early = sequences(walk(reader, published=early))
    assert len(seen_early) == len(set(seen_early))
    if sliced == "the same batch":
        again.write(batch(over_days(31, 30), following=60, statements=[statement(1, 1, 60)]))
    elif sliced == "smaller batches":
        for start in range(31, 61, 4):
            again.write(batch(over_days(start, min(4, 61 - start)), following=start + 3))
            assert sorted(sequences(walk(reader, published=early))) == sorted(seen_early), "a snapshot changed"
        again.write(batch(statements=[statement(1, 1, 60)]))
    else:
        again.write(batch(over_days(31, 40), following=70, statements=[statement(1, 1, 60)]))
    last = 70 if sliced == "a larger batch" else 60
    assert sorted(sequences(walk(reader))) == list(range(1, last + 1))
    assert sequences(walk(reader, everything(accounts=frozenset({"acme"})))) == sequences(walk(reader))
    (process,) = reader.processes()
    assert process.indexed == last == reader.records(), "counted twice, or not at all"
    rest = walk_from(reader, held, page[-1].id)
    assert sorted(sequences([*page, *rest])) == list(range(1, 31)), "the cursor skipped or repeated"
    again.close()


def walk_from(reader: SqliteReader, published: int, before: int) -> list[Any]:
    rows, more = reader.page(everything(), published=published, before=before, limit=1000, bytes_max=1 << 20)
    assert not more
    return rows


def test_stream_of_unpublished_records_is_seen_when_the_next_writer_recovers(
    index: Path, reader: SqliteReader, caplog: pytest.LogCaptureFixture
) -> None:
    dying = CrashingWriter(index, clock=clock)
    dying.at = "before main"
    with pytest.raises(Crash):
        dying.write(batch([record(1, instance="late"), record(0, process=None, identity="foreign")]))
    dying.close()
    assert not reader.seen(None, "gateway", "late")
    with caplog.at_level(logging.INFO):
        SqliteWriter(index, clock=clock).close()
    assert "recovered 2 records" in caplog.text
    assert reader.seen(frozenset({"acme"}), "gateway", "late")
    assert len(walk(reader)) == 2
    caplog.clear()
    with caplog.at_level(logging.INFO):
        SqliteWriter(index, clock=clock).close()
    assert "recovered" not in caplog.text


@pytest.mark.parametrize("seed", range(5))
def test_store_agrees_with_a_set_when_crashes_and_replays_are_random(
    index: Path, reader: SqliteReader, seed: int
) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    acknowledged = 0
    while acknowledged < 200:
        dying = CrashingWriter(index, clock=clock)
        for _ in range(rng.randrange(1, 5)):
            start = dying.positions("test").get(str(PROCESS), Position(1, b"")).next
            acknowledged = start - 1
            count = rng.randrange(1, 30)
            dying._steps = 0
            dying.at = rng.choice(["", "", "day 0", "day 1", "before main", "after main"])
            try:
                dying.write(batch(over_days(start, count), following=start + count))
            except Crash:
                break
            visible = sequences(walk(reader))
            assert len(visible) == len(set(visible))
            assert set(visible) >= set(range(1, start + count))
        dying.close()
    SqliteWriter(index, clock=clock).close()
    visible = sequences(walk(reader))
    assert sorted(visible) == list(range(1, len(visible) + 1))
    assert reader.processes()[0].indexed == len(visible)
