"""Forwarders of several processes over one root: which entries each reads, and where the next one continues."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_audit.filelock import locks_held
from asgi_audit.transport.base import Entry, Kind, Position, ProcessFacts
from asgi_audit.transport.files import Files
from asgi_audit.transport.journal import JournalSource, JournalWriter
from asgi_audit.transport.journal.position import POSITION_NAME, Forwarded, read_forwarded, write_forwarded

NOT_YET = Forwarded(Position(0, b""), by_itself=True)


class Living:
    """A process with its journal; `die` does what the kernel does for it."""

    def __init__(self, root: Path, *, segment_bytes: int = 1 << 20) -> None:
        self.process = str(uuid.uuid4())
        facts = ProcessFacts(uuid.UUID(self.process), "host", "app", 1)
        self.writer = JournalWriter(root, facts, bytes_max=1 << 30, segment_bytes=segment_bytes)
        self.directory = root / self.process

    def write(self, first: int, last: int) -> None:
        self.writer.append(
            [Entry(Kind.RECORD, n, b'{"n":%d,"x":"%s"}' % (n, b"y" * 200)) for n in range(first, last + 1)]
        )

    def die(self) -> None:
        self.writer.close()


@pytest.fixture
def living(tmp_path: Path) -> Iterator[list[Living]]:
    made = [Living(tmp_path, segment_bytes=4096) for _ in range(2)]
    for n, process in enumerate(made):
        process.write(1, 30 + n)
        write_forwarded(process.directory, NOT_YET, Files())
    yield made
    for process in made:
        process.die()


def source(root: Path, **more: object) -> JournalSource:
    made = JournalSource(root, adopt_seconds=0, **more)  # type: ignore[arg-type]
    made.open({})
    return made


def read(source: JournalSource, *, commit: bool = True) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    while True:
        batch = source.poll(7, 0)
        for m in batch.messages:
            if m.kind is Kind.RECORD:
                found.setdefault(m.partition, []).append(m.sequence)
        assert not batch.damaged
        if commit and batch.positions:
            source.commit(batch.positions)
        if not batch.messages:
            return found


def test_forwarder_reads_its_own_process_and_the_dead_but_no_living_sibling(
    living: list[Living], tmp_path: Path
) -> None:
    mine, other = living
    forwarder = source(tmp_path, only=mine.process, keeps_positions=True)
    assert read(forwarder) == {mine.process: list(range(1, 31))}
    other.die()
    assert read(forwarder) == {other.process: list(range(1, 32))}
    assert not other.directory.exists()
    assert mine.directory.exists()
    forwarder.close()


def test_living_process_that_forwards_itself_is_left_alone_by_whoever_reads_the_root(
    living: list[Living], tmp_path: Path
) -> None:
    mine, other = living
    (other.directory / POSITION_NAME).unlink()  # this one writes to a plain journal
    outside = source(tmp_path, keeps_positions=True)
    assert read(outside) == {other.process: list(range(1, 32))}
    mine.die()
    assert read(outside) == {mine.process: list(range(1, 31))}
    outside.close()


def test_next_forwarder_goes_on_where_the_last_one_was_acknowledged(living: list[Living], tmp_path: Path) -> None:
    """Segments are unlinked meanwhile: the position must never be before the remaining ones."""
    mine, _ = living
    first = source(tmp_path, only=mine.process, keeps_positions=True)
    batch = first.poll(20, 0)
    first.commit(batch.positions)
    first.poll(5, 0)  # sent and never acknowledged
    first.close()
    mine.write(31, 40)
    mine.die()
    second = source(tmp_path, keeps_positions=True)
    assert read(second) == {mine.process: list(range(21, 41))}
    second.close()


def test_position_that_was_read_before_its_owner_went_on_is_read_again_at_adoption(
    living: list[Living], tmp_path: Path
) -> None:
    mine, _ = living
    outside = source(tmp_path, keeps_positions=True)
    assert read(outside) == {}
    owner = source(tmp_path, only=mine.process, keeps_positions=True)
    assert read(owner) == {mine.process: list(range(1, 31))}
    owner.close()
    mine.write(31, 33)
    mine.die()
    assert read(outside) == {mine.process: [31, 32, 33]}
    outside.close()


@pytest.mark.parametrize("cut", [0, 3, 20, 36])
def test_position_that_is_torn_is_none(cut: int, living: list[Living], tmp_path: Path) -> None:
    mine, _ = living
    whole = Forwarded(Position(12345, b"d" * 16), by_itself=False)
    write_forwarded(mine.directory, whole, Files())
    assert read_forwarded(mine.directory, Files()) == whole
    path = mine.directory / POSITION_NAME
    path.write_bytes(path.read_bytes()[:cut])
    assert read_forwarded(mine.directory, Files()) is None
    mine.die()
    assert read(source(tmp_path, keeps_positions=True)) == {mine.process: list(range(1, 31))}
    with locks_held() as held:
        assert mine.process not in held


def test_journal_is_read_from_its_beginning_when_the_position_is_not_of_this_journal(
    living: list[Living], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mine, _ = living
    mine.die()
    write_forwarded(mine.directory, Forwarded(Position(1 << 40, b"d" * 16), by_itself=True), Files())
    assert read(source(tmp_path, keeps_positions=True)) == {mine.process: list(range(1, 31))}
    assert "it is read again from its beginning" in caplog.text
