"""Goal: counts are exact at every moment, whether the rollup of a day was written or its counts wait: at each snapshot,
after a crash, with repeated batches, a second writer, a full disk, and files of an earlier version."""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.support.records import DAY_MS, NOON, batch, everything, record

from asgi_audit.record.codec import Decoded
from asgi_audit.store.query import statuses_of
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter, low_disk, open_days
from asgi_audit.store.sqlite.copying import Copy
from asgi_audit.store.sqlite.dead_letters import dead_letters
from asgi_audit.store.sqlite.open_days import OpenDays
from asgi_audit.store.sqlite.rollup import ROLLUP_RECORDS, Rollup
from asgi_audit.store.state import DeadLetter

TODAY = "2026-11-22"
MINUTE_MS = 60_000
EARLIER = NOON - 2 * DAY_MS
WINDOWS = (
    (0, NOON + DAY_MS),
    (EARLIER - 90 * MINUTE_MS, NOON + 30 * MINUTE_MS),
    (NOON - 1, NOON + 61 * MINUTE_MS + 17),
    (NOON + 59 * MINUTE_MS, NOON + 120 * MINUTE_MS),
)


def clock() -> float:
    return (NOON + 6 * 3_600_000) / 1000


def some_records(rng: random.Random, first: int, number: int) -> list[Decoded]:
    return [
        record(
            sequence,
            NOON - rng.choice((0, 0, 0, 1, 2)) * DAY_MS + rng.randrange(150 * MINUTE_MS),
            account=rng.choice(("acme", "beta")),
            instance=rng.choice(("i1", "i2")),
            method=rng.choice(("GET", "POST")),
            status=rng.choice((200, 204, 404, 500)),
        )
        for sequence in range(first, first + number)
    ]


def check(reader: SqliteReader, visible: Sequence[Decoded], published: int) -> None:
    """Totals and histograms, with filters and without, are what a count of `visible` gives."""
    for start, end in WINDOWS:
        inside = [d for d in visible if start <= d.timestamp < end]
        window: dict[str, Any] = {"start": start, "end": end}

        def total(given: dict[str, Any] = window, **filters: Any) -> int:
            return reader.count(everything(**given, **filters), published=published)

        assert total() == len(inside)
        assert total(account="acme") == sum(d.account == "acme" for d in inside)
        assert total(method="POST", statuses=statuses_of("404")) == sum(
            (d.method, d.status) == ("POST", 404) for d in inside
        )
        assert total(statuses=statuses_of("5xx")) == sum(d.status == 500 for d in inside)
    for minutes in (7, 60):
        width = minutes * MINUTE_MS
        start, end = NOON - 30 * MINUTE_MS, NOON + 170 * MINUTE_MS
        expected: dict[int, Counter[str]] = {}
        for d in visible:
            if start <= d.timestamp < end:
                expected.setdefault(d.timestamp // width * width, Counter())[f"{d.status // 100}xx"] += 1
        asked = everything(start=start, end=end)
        found = reader.histogram(asked, published=published, by="status", minutes=minutes)
        assert found == sorted((at, dict(counts)) for at, counts in expected.items())


def tables(index: Path, day: str = TODAY) -> tuple[int, int, int]:
    """(records in `minutes` of one kind each, the same in `hours`, the last batch that they count)"""
    connection = apsw.Connection(str(index / f"day-{day}.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        sql = "SELECT ifnull(sum(records), 0) FROM {} JOIN kind USING (kid) WHERE account NOTNULL"
        return (
            connection.execute(sql.format("minutes")).get,
            connection.execute(sql.format("hours")).get,
            connection.execute("SELECT rolled_up FROM state").get,
        )
    finally:
        connection.close()


class Crash(BaseException):
    """Ends the writer as the death of its process would."""


def die(writer: SqliteWriter) -> None:
    """What is committed stays, nothing else is done."""
    writer._abandon()
    writer._lease.close()


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_exact_at_each_snapshot_when_writers_die_and_batches_repeat(
    index: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    dying = False
    write = Rollup.write

    def interrupted(self: Rollup) -> None:
        write(self)
        if dying:
            raise Crash

    monkeypatch.setattr(Rollup, "write", interrupted)
    sent: list[Decoded] = []
    at: dict[int, int] = {0: 0}  # published -> how many of `sent` are visible
    writer = SqliteWriter(index, clock=clock)
    for _ in range(20):
        match rng.choice(("write", "write", "write", "again", "roll up", "die", "die writing", "close")):
            case "write":
                sent += some_records(rng, len(sent) + 1, rng.randrange(1, 20))
                writer.write(batch(sent[max(at.values()) :], following=len(sent)))
            case "again":
                writer.write(batch(sent[-rng.randrange(1, 40) :], following=len(sent)))
            case "roll up":
                writer._days.roll_up(rng.choice((1, 10)))
            case "die":
                die(writer)
                writer = SqliteWriter(index, clock=clock)
            case "die writing":
                dying = True
                try:
                    writer._days.roll_up(1)
                except Crash:
                    die(writer)
                    writer = SqliteWriter(index, clock=clock)
                dying = False
            case "close":
                writer.close()
                writer = SqliteWriter(index, clock=clock)
        reader = SqliteReader(index)  # it remembers no count
        at[reader.snapshot().published] = len(sent)
        for published in {max(at), rng.choice(list(at))}:
            check(reader, sent[: at[published]], published)
        reader.close()
    writer.close()
    check(SqliteReader(index), sent, max(at))


def test_counts_of_small_batches_wait_and_are_written_together(index: Path, reader: SqliteReader) -> None:
    writer = SqliteWriter(index, clock=clock)
    sent = [record(s, NOON + s * 1_000) for s in range(1, ROLLUP_RECORDS + 1)]
    for start in range(0, ROLLUP_RECORDS - 50, 50):
        writer.write(batch(sent[start : start + 50]))
    assert tables(index) == (0, 0, 0)
    check(reader, sent[: ROLLUP_RECORDS - 50], reader.snapshot().published)
    writer.write(batch(sent[-50:]))
    published = reader.snapshot().published
    assert tables(index) == (ROLLUP_RECORDS, ROLLUP_RECORDS, published)
    check(reader, sent, published)
    check(reader, sent[:-50], published - 1)
    writer.close()


def test_counts_of_a_large_batch_are_written_at_once(index: Path) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(record(s, NOON + s) for s in range(1, ROLLUP_RECORDS + 1)))
    assert tables(index) == (ROLLUP_RECORDS, ROLLUP_RECORDS, 1)
    die(writer)


def test_counts_are_written_when_a_day_is_left_and_when_the_writer_is_closed(index: Path) -> None:
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch([record(1, NOON - 5 * DAY_MS)]))
    for n in range(4):
        writer.write(batch([record(2 + n, NOON - n * DAY_MS)]))
    assert tables(index, "2026-11-17") == (1, 1, 1)
    assert tables(index) == (0, 0, 0)
    writer.close()
    assert tables(index) == (1, 1, 2)


def test_no_record_is_counted_twice_when_another_writer_took_over(index: Path, reader: SqliteReader) -> None:
    """As when the file of its lease was removed: its counts wait until it closes."""
    first = SqliteWriter(index, clock=clock)
    sent = [record(s, NOON + s) for s in range(1, 40)]
    first.write(batch(sent[:10]))
    first._lease.close()
    second = SqliteWriter(index, clock=clock)
    second.write(batch(sent[10:20]))
    first.close()
    second.write(batch(sent[20:]))
    check(reader, sent, reader.snapshot().published)
    second.close()
    assert tables(index)[:2] == (39, 39)
    check(reader, sent, reader.snapshot().published)


def test_record_is_stored_and_counted_when_the_disk_has_no_room_for_the_rollup(
    index: Path, reader: SqliteReader
) -> None:
    """Method: SQLite refuses the file another page, as on a full disk, for the counts alone."""
    writer = SqliteWriter(index, clock=clock)
    sent = [record(s, NOON + s * 1_000, method=f"M{s}") for s in range(1, ROLLUP_RECORDS)]
    for start in range(0, len(sent), 500):
        writer.write(batch(sent[start : start + 500]))
    database = writer._days.writer(TODAY)._connection
    database.execute(f"PRAGMA max_page_count={database.pragma('page_count') + 1}")
    writer._days.roll_up(1)
    assert tables(index) == (0, 0, 0)
    check(reader, sent, reader.snapshot().published)
    sent += [record(ROLLUP_RECORDS + s, NOON + s) for s in range(5)]
    assert writer.write(batch(sent[-5:])).inserted == 5, "the file is opened again, and there is room"
    assert tables(index)[0] == len(sent)
    check(reader, sent, reader.snapshot().published)
    writer.close()


@pytest.mark.parametrize("fails", ["lock", "disk"])
def test_batch_is_stored_once_when_its_rollup_cannot_be_written_now(
    index: Path, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Another program locks the day's file, or the disk cannot be examined, after the batch is committed. An error
    would make the indexer write the batch again, and store its dead letters twice."""
    writer = SqliteWriter(index, clock=clock)
    sent = [record(s, NOON + s) for s in range(1, 2 * ROLLUP_RECORDS + 1)]
    writer.write(batch(sent[:1]))
    roll_up = OpenDays.roll_up
    locked: list[apsw.Connection] = []

    def after_commit(self: OpenDays, at_least: int = ROLLUP_RECORDS) -> None:
        if fails == "lock":
            locked.append(apsw.Connection(str(index / f"day-{TODAY}.db")))
            locked[0].execute("BEGIN IMMEDIATE")
            for day in self.writers():
                day._connection.set_busy_timeout(0)
        else:
            monkeypatch.setattr(open_days, "is_low", unexaminable)
        roll_up(self, at_least)

    def unexaminable(directory: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(OpenDays, "roll_up", after_commit)
    dead = [DeadLetter("test", "0", 1, "no record", b"?")]
    written = writer.write(batch(sent[1 : ROLLUP_RECORDS + 1], dead_letters=dead))
    assert (written.inserted, written.dead) == (ROLLUP_RECORDS, 1)
    assert tables(index)[0] == 0
    monkeypatch.undo()
    for connection in locked:
        connection.close()
    check(reader, sent[: ROLLUP_RECORDS + 1], reader.snapshot().published)
    writer.write(batch(sent[ROLLUP_RECORDS + 1 :]))
    assert tables(index)[0] == len(sent)
    check(reader, sent, reader.snapshot().published)
    assert len(dead_letters(index, limit=9)) == 1
    writer.close()


def test_rollup_is_not_written_when_the_disk_is_nearly_full(
    index: Path, reader: SqliteReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SqliteWriter(index, clock=clock)
    monkeypatch.setattr(low_disk, "LOW_BYTES", 1 << 60)
    sent = [record(s, NOON + s * 1_000) for s in range(1, 2 * ROLLUP_RECORDS)]
    for start in range(0, len(sent), 1_000):
        writer.write(batch(sent[start : start + 1_000]))
    assert tables(index) == (0, 0, 0)
    check(reader, sent, reader.snapshot().published)
    monkeypatch.undo()
    writer.close()
    assert tables(index)[0] == len(sent)
    check(reader, sent, reader.snapshot().published)


@pytest.mark.parametrize("is_earlier", [False, True])
def test_copy_of_a_day_that_was_cut_short_counts_each_record_once(
    index: Path, tmp_path: Path, is_earlier: bool
) -> None:
    """Batches come in any order of their numbers: the copy takes records by their ids. `is_earlier`: it was begun by a
    version without `rolled_up`."""
    writer = SqliteWriter(index, clock=clock)
    sent = [record(s, NOON + (s * 7919) % 3_600_000) for s in range(1, 4_501)]
    for start in range(0, len(sent), 1_500):
        writer.write(batch(sent[start : start + 1_500]))
    die(writer)
    source, path = index / f"day-{TODAY}.db", tmp_path / f"day-{TODAY}.db"
    copy = Copy(source, path)
    assert next(iter(copy.run())) == 2_000
    copy.close()
    if is_earlier:
        connection = apsw.Connection(str(path))
        connection.execute("ALTER TABLE state DROP COLUMN rolled_up")
        connection.close()
    for _ in range(2):
        copy = Copy(source, path)
        for _ in copy.run():
            break
        copy.close()
    copy = Copy(source, path)
    copy.finish()
    copy.close()
    assert tables(tmp_path) == (4_500, 4_500, 3)


def as_of_an_earlier_version(index: Path) -> None:
    """The tables of each day count all of its records, and nothing says so."""
    for path in index.glob("day-*.db"):
        connection = apsw.Connection(str(path))
        assert connection.execute("SELECT highest = rolled_up FROM state").get
        connection.execute("ALTER TABLE state DROP COLUMN rolled_up")
        connection.close()


def test_file_of_an_earlier_version_is_read_and_written_on(index: Path) -> None:
    sent = some_records(random.Random(1), 1, 300)
    writer = SqliteWriter(index, clock=clock)
    writer.write(batch(sent[:50]))
    writer.write(batch(sent[50:100]))
    writer.close()
    as_of_an_earlier_version(index)
    reader = SqliteReader(index)
    check(reader, sent[:100], 2)
    check(reader, sent[:50], 1)
    writer = SqliteWriter(index, clock=clock)
    check(reader, sent[:100], 2)
    writer.write(batch(sent[100:150]))
    check(reader, sent[:150], 3)
    writer.write(batch(sent[150:]))
    check(reader, sent, 4)
    check(reader, sent[:50], 1)
    die(writer)
    SqliteWriter(index, clock=clock).close()
    check(reader, sent, 4)
    assert tables(index)[0] == sum(d.timestamp >= NOON for d in sent)
