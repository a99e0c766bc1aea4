"""Adoption: whatever a dead process left, each whole entry survives, and the end of its journal is stated exactly."""

from __future__ import annotations

import logging
import os
import random
import shutil
import struct
import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_audit.record.statement import Lost, Statement, decode_statement, encode_statement
from asgi_audit.transport.base import Entry, Kind, Message, Position, ProcessFacts
from asgi_audit.transport.files import Files
from asgi_audit.transport.journal import JournalSource, JournalWriter
from asgi_audit.transport.journal import format as fmt
from asgi_audit.transport.journal.root import ROOT_NAME

BOOT = "11111111-2222-3333-4444-555555555555"


def written(
    root: Path,
    steps: list[tuple[str, int, int]],
    *,
    counters: tuple[int, int, int],
    segment_bytes: int = 1 << 20,
    boot: str = BOOT,
) -> uuid.UUID:
    """The journal of a process that wrote these steps, each ("record" or "statement", first, last), and died."""
    process = uuid.uuid4()
    facts = ProcessFacts(process, "host", "app", 1234)
    writer = JournalWriter(root, facts, bytes_max=1 << 30, segment_bytes=segment_bytes, boot=boot)
    number = 0
    for what, first, last in steps:
        if what == "record":
            writer.append(
                [Entry(Kind.RECORD, n, b'{"n":%d,"x":"%s"}' % (n, b"a" * (n * 7 % 50))) for n in range(first, last + 1)]
            )
        else:
            number += 1
            made = Statement(
                process=str(process), number=number, at=1, first=first, last=last, count=last - first + 1, watermark=9,
                unwaited=2, excluded=1,
            )  # fmt: skip
            writer.append([Entry(Kind.STATEMENT, last, encode_statement(made))])
    struct.pack_into("<QQQ", writer.counters, 0, *counters)
    writer.close()
    return process


def source_of(root: Path, positions: dict[str, Position] | None = None, **more: object) -> JournalSource:
    source = JournalSource(root, boot=BOOT, adopt_seconds=0, wall=lambda: 5000.0, **more)  # type: ignore[arg-type]
    source.open(positions or {})
    return source


def read(source: JournalSource) -> tuple[list[int], list[Statement]]:
    messages: list[Message] = []
    while True:
        batch = source.poll(1000, 0)
        if not batch.messages:
            break
        messages += batch.messages
        source.commit(batch.positions)
    return [m.sequence for m in messages if m.kind is Kind.RECORD], [
        decode_statement(m.payload) for m in messages if m.kind is Kind.STATEMENT
    ]


def test_adoption_says_in_the_log_what_was_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    process = written(tmp_path, [("record", 1, 10), ("record", 13, 15)], counters=(25, 20, 3))
    read(source_of(tmp_path))
    (line,) = [one for one in caplog.records if str(process) in one.getMessage()]
    assert line.levelname == "ERROR"
    assert line.getMessage() == (
        f"asgi-audit: process {process} (service app on host) ended and 7 of its records are lost, reason killed; "
        "2 requests were still open"
    )


def test_adoption_without_a_loss_is_no_error_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    process = written(tmp_path, [("record", 1, 10)], counters=(10, 10, 0))
    read(source_of(tmp_path))
    (line,) = [one for one in caplog.records if str(process) in one.getMessage()]
    assert line.levelname == "INFO"
    assert line.getMessage().endswith("ended and no record of it is lost")


def test_adoption_states_what_was_given_and_not_written_when_process_was_killed(tmp_path: Path) -> None:
    process = written(tmp_path, [("record", 1, 10), ("record", 13, 15)], counters=(25, 20, 3))
    source = source_of(tmp_path)
    found, (statement,) = read(source)
    assert found == [*range(1, 11), 13, 14, 15]
    assert statement.lost == [Lost(11, 12, "killed"), Lost(16, 20, "killed")]
    assert (statement.first, statement.last, statement.count) == (1, 20, 13)
    assert (statement.excluded, statement.open_count) == (3, 2)
    assert (statement.closed, statement.proven, statement.watermark) == ("adopted", True, 5_000_000)
    assert (statement.host, statement.service, statement.started) == ("host", "app", 1234)
    assert statement.process == str(process)
    assert list(tmp_path.glob("[!.]*")) == []


def test_adoption_is_made_when_process_died_before_its_first_append(tmp_path: Path) -> None:
    written(tmp_path, [], counters=(4, 3, 0))
    found, (statement,) = read(source_of(tmp_path))
    assert found == []
    assert (statement.lost, statement.last, statement.open_count) == ([Lost(1, 3, "killed")], 3, 1)
    assert list(tmp_path.glob("[!.]*")) == []


def test_adoption_states_nothing_twice_when_a_statement_covers_it(tmp_path: Path) -> None:
    written(tmp_path, [("record", 1, 3), ("statement", 1, 5), ("record", 6, 7)], counters=(9, 8, 1))
    found, statements = read(source_of(tmp_path))
    assert found == [1, 2, 3, 6, 7]
    adopted = statements[-1]
    assert (adopted.number, adopted.first, adopted.last, adopted.count) == (2, 6, 8, 2)
    assert adopted.lost == [Lost(8, 8, "killed")]
    assert adopted.unwaited == 2


def test_adoption_is_exact_when_earlier_segments_are_gone(tmp_path: Path) -> None:
    """Goal: sequences in segments that were indexed and unlinked are not stated lost. Method: read and commit while the
    process lives, then let it die."""
    process = uuid.uuid4()
    writer = JournalWriter(
        tmp_path, ProcessFacts(process, "h", "s", 1), bytes_max=1 << 24, segment_bytes=4096, boot=BOOT
    )
    source = source_of(tmp_path)
    for n in range(1, 200):
        if n % 50:
            writer.append([Entry(Kind.RECORD, n, b"{%s}" % (b"x" * 300))])
    batch = source.poll(1000, 0)
    source.commit(batch.positions)
    assert len(list((tmp_path / str(process)).glob("*.seg"))) == 1
    struct.pack_into("<QQQ", writer.counters, 0, 205, 202, 0)
    writer.close()
    found, (statement,) = read(source)
    assert found == []
    assert statement.lost == [Lost(n, n, "killed") for n in (50, 100, 150)] + [Lost(200, 202, "killed")]
    assert statement.count == 196


def test_adoption_is_unproven_when_the_machine_was_started_again(tmp_path: Path) -> None:
    written(tmp_path, [("record", 1, 3)], counters=(3, 2, 0), boot="another")
    found, (statement,) = read(source_of(tmp_path))
    assert found == [1, 2, 3]
    assert (statement.proven, statement.last, statement.lost) == (False, 3, [])


@pytest.mark.parametrize("damage", ["missing", "garbage", "short"])
def test_adoption_is_unproven_when_counters_cannot_be_read(tmp_path: Path, damage: str) -> None:
    process = written(tmp_path, [("record", 1, 3), ("record", 5, 5)], counters=(9, 9, 0))
    page = tmp_path / str(process) / "counters"
    if damage == "missing":
        page.unlink()
    else:
        page.write_bytes(b"?" * (4096 if damage == "garbage" else 100))
    found, (statement,) = read(source_of(tmp_path))
    assert found == [1, 2, 3, 5]
    assert (statement.proven, statement.last, statement.lost) == (False, 5, [Lost(4, 4, "killed")])


def test_adoption_happens_once_when_two_sources_race(tmp_path: Path) -> None:
    for _ in range(10):
        written(tmp_path, [("record", 1, 3)], counters=(5, 5, 0))
    statements: list[Message] = []
    failures: list[BaseException] = []
    barrier = threading.Barrier(2)

    def run() -> None:
        try:
            source = source_of(tmp_path)
            barrier.wait(10)
            for _ in range(20):
                batch = source.poll(1000, 0)
                statements.extend(m for m in batch.messages if m.kind is Kind.STATEMENT)
            source.close()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    offsets = {(m.partition, m.offset, m.payload) for m in statements}
    assert len(offsets) == 10, "each journal holds one adoption statement, whoever read it"
    found, again = read(source_of(tmp_path))
    assert len(found) == 30
    assert len(again) == 10


def test_adoption_is_done_by_the_next_when_the_adopter_died_in_the_middle(tmp_path: Path) -> None:
    process = written(tmp_path, [("record", 1, 3)], counters=(5, 5, 0))

    class DiesWriting(Files):
        def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            super().pwrite(fd, data[:40], offset)
            raise KeyboardInterrupt

    source = source_of(tmp_path, files=DiesWriting())
    with pytest.raises(KeyboardInterrupt):
        source.poll(100, 0)
    source.close()
    found, (statement,) = read(source_of(tmp_path))
    assert found == [1, 2, 3]
    assert statement.lost == [Lost(4, 5, "killed")]
    assert not (tmp_path / str(process)).exists()


def test_records_are_read_though_adoption_cannot_be_written(tmp_path: Path) -> None:
    written(tmp_path, [("record", 1, 3)], counters=(5, 5, 0))

    class Full(Files):
        def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            raise OSError(28, "No space left on device")

    source = source_of(tmp_path, files=Full())
    assert [m.sequence for m in source.poll(100, 0).messages] == [1, 2, 3]
    source.close()


def test_directory_is_not_adopted_as_empty_when_its_removal_was_interrupted(tmp_path: Path) -> None:
    written(tmp_path, [("record", 1, 3)], counters=(5, 5, 0))

    class DiesRemoving(Files):
        def unlink(self, path: Path) -> None:
            raise KeyboardInterrupt

    source = source_of(tmp_path, files=DiesRemoving())
    batch = source.poll(100, 0)
    with pytest.raises(KeyboardInterrupt):
        source.commit(batch.positions)
    source.close()
    found, statements = read(source_of(tmp_path, dict(batch.positions)))  # type: ignore[arg-type]
    assert (found, statements) == ([], [])
    (left,) = (p for p in tmp_path.iterdir() if p.name != ROOT_NAME)
    assert left.name.startswith(".gone-")
    later = JournalSource(tmp_path, boot=BOOT)  # a wall clock years ahead of the file's time: make the file old
    os.utime(left, (1, 1))
    later.open({})
    later.poll(10, 0)
    assert list(tmp_path.glob("[!.]*")) == []


def test_leftover_of_a_process_that_died_while_starting_is_removed_after_a_minute(tmp_path: Path) -> None:
    left = tmp_path / f".new-{uuid.uuid4()}"
    left.mkdir()
    (left / "lock").touch()
    source = JournalSource(tmp_path)
    source.open({})
    source.poll(10, 0)
    assert left.exists()
    os.utime(left, (1, 1))
    source._next_cleaning = 0.0
    source.poll(10, 0)
    assert not left.exists()


def test_source_starts_again_when_position_is_beyond_what_a_crashed_machine_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = written(tmp_path, [("record", 1, 30)], counters=(30, 30, 0), boot="another")
    first = JournalSource(tmp_path, boot=BOOT, adopt_seconds=1e9)
    partition = str(process)
    with (tmp_path / partition / fmt.segment_name(0)).open("r+b") as f:
        f.truncate(700)
    found, (statement,) = read(source_of(tmp_path, {partition: Position(1_000_000, b"d" * 16)}))
    first.close()
    assert found == list(range(1, len(found) + 1))
    assert statement.last == 30
    assert not statement.proven
    assert "read again from its beginning" in caplog.text
    (line,) = [one for one in caplog.records if "read again" in one.getMessage()]
    assert line.levelno == logging.WARNING


# ------------------------------------------------------------------------------------------------------- damage, torn
# tails


@pytest.mark.full
def test_every_whole_entry_survives_and_the_tail_is_exact_when_cut_at_any_byte(tmp_path: Path) -> None:
    """Goal: a torn end loses no more than the entry that is cut. Method: cut the journal of a dead process at every
    byte."""
    whole = tmp_path / "whole"
    process = written(whole, [("record", 1, 4), ("statement", 1, 4), ("record", 5, 9)], counters=(12, 11, 0))
    data = (whole / str(process) / fmt.segment_name(0)).read_bytes()
    decoded = fmt.decode_segment_header(data)
    assert decoded is not None
    ends: list[tuple[int, Kind, int]] = []
    at = decoded[1]
    while at < len(data):
        entry = fmt.decode_entry(data, at)
        assert isinstance(entry, fmt.Decoded)
        ends.append((entry.end, entry.kind, entry.sequence))
        at = entry.end
    for cut in range(len(data) + 1):
        root = tmp_path / "cut"
        shutil.copytree(whole, root)
        with (root / str(process) / fmt.segment_name(0)).open("r+b") as f:
            f.truncate(cut)
        source = source_of(root)
        found, statements = read(source)
        expected = [n for end, kind, n in ends if end <= cut and kind is Kind.RECORD]
        assert found == expected, cut
        lost = {n for s in statements for r in s.lost for n in range(r.first, r.last + 1)}
        covered = set(range(1, 5)) if any(k is Kind.STATEMENT and end <= cut for end, k, _ in ends) else set()
        assert lost == set(range(1, 12)) - set(expected) - covered, cut
        assert statements[-1].closed == "adopted"
        assert not (root / str(process)).exists()
        shutil.rmtree(root)


@given(seed=st.integers(0, 2**32), flips=st.integers(1, 8))
def test_nothing_is_passed_over_in_silence_when_bytes_are_damaged(
    tmp_path_factory: pytest.TempPathFactory, seed: int, flips: int
) -> None:
    """Goal: damage in the middle costs only the damaged entries, is reported, and never stops or loops the reader.
    Method: random bytes of several segments are overwritten; each record is then either read, or reported as damaged or
    stated as lost."""
    root = tmp_path_factory.mktemp("damaged")
    random_ = random.Random(seed)
    process = written(
        root, [("record", n, n + 4) for n in range(1, 300, 5)], counters=(300, 300, 0), segment_bytes=4096
    )
    segments = sorted((root / str(process)).glob("*.seg"))
    for _ in range(flips):
        path = random_.choice(segments)
        data = bytearray(path.read_bytes())
        at = random_.randrange(len(data))
        data[at : at + 3] = random_.randbytes(len(data[at : at + 3]))
        path.write_bytes(data)
    source = source_of(root)
    found: list[int] = []
    damaged = []
    statements: list[Statement] = []
    for _ in range(1000):
        batch = source.poll(50, 0)
        found += [m.sequence for m in batch.messages if m.kind is Kind.RECORD]
        statements += [decode_statement(m.payload) for m in batch.messages if m.kind is Kind.STATEMENT]
        damaged += batch.damaged
        source.commit(batch.positions)
        if not (root / str(process)).exists():
            break
    else:
        raise AssertionError("the journal was never read to its end")
    lost = {n for s in statements for r in s.lost for n in range(r.first, r.last + 1)}
    missing = set(range(1, 301)) - set(found) - lost
    assert len(found) == len(set(found))
    assert not (set(found) & lost)
    if missing:
        assert damaged
        assert all(len(bytes_) <= 65_536 for _, _, _, bytes_ in damaged)
    assert len(missing) <= flips * 3, "three bytes hit two entries at most, and a header none"


def test_reader_goes_on_in_next_segment_when_one_was_removed(tmp_path: Path) -> None:
    process = written(
        tmp_path, [("record", n, n + 9) for n in range(1, 500, 10)], counters=(500, 500, 0), segment_bytes=4096
    )
    segments = sorted((tmp_path / str(process)).glob("*.seg"))
    assert len(segments) > 4
    segments[1].unlink()
    source = source_of(tmp_path)
    batch = source.poll(10_000, 0)
    found = [m.sequence for m in batch.messages if m.kind is Kind.RECORD]
    assert found[0] == 1
    assert found[-1] == 500
    assert len(found) < 500
    assert [reason for _, _, reason, _ in batch.damaged]
