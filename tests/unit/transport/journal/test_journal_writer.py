"""The writer's files: modes, names, rotation, contents of headers, locks, fork."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from asgi_audit.errors import TransportError
from asgi_audit.record.statement import Statement, encode_statement
from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.files import Files
from asgi_audit.transport.journal import JournalSource, JournalWriter, follow
from asgi_audit.transport.journal import format as fmt
from asgi_audit.transport.journal.lock import take


def facts() -> ProcessFacts:
    return ProcessFacts(uuid.uuid4(), "host", "app", 1234)


def records(*numbers: int) -> list[Entry]:
    return [Entry(Kind.RECORD, n, b'{"n":%d}' % n) for n in numbers]


def statement(process: uuid.UUID, number: int, first: int, last: int, watermark: int = 5) -> Entry:
    made = Statement(
        process=str(process), number=number, at=1, first=first, last=last, count=last - first + 1, watermark=watermark
    )
    return Entry(Kind.STATEMENT, last, encode_statement(made))


def test_writer_makes_private_directory_and_files(tmp_path: Path) -> None:
    known = facts()
    writer = JournalWriter(tmp_path / "root", known, bytes_max=1 << 20, segment_bytes=4096)
    writer.append(records(1))
    directory = tmp_path / "root" / str(known.process)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    names = sorted(p.name for p in directory.iterdir())
    assert names == [fmt.segment_name(0), "counters", "lock"]
    assert {stat.S_IMODE(p.stat().st_mode) for p in directory.iterdir()} == {0o600}
    writer.close()


def test_writer_begins_new_segment_when_full_and_its_header_says_what_went_before(tmp_path: Path) -> None:
    known = facts()
    writer = JournalWriter(tmp_path, known, bytes_max=1 << 24, segment_bytes=4096)
    writer.append(records(1, 2, 3))
    writer.append([statement(known.process, 1, 1, 3, watermark=77)])
    writer.append(records(4, 5, 9))
    writer.append([Entry(Kind.RECORD, 10, b"x" * 5000)])
    writer.append(records(11))
    directory = tmp_path / str(known.process)
    bases = sorted(base for p in directory.iterdir() if (base := fmt.segment_base(p.name)) is not None)
    assert len(bases) == 2
    decoded = fmt.decode_segment_header((directory / fmt.segment_name(bases[1])).read_bytes())
    assert decoded is not None
    header = decoded[0]
    assert (header.base, header.covered, header.present) == (bases[1], 3, [(4, 5), (9, 10)])
    assert (header.number, header.watermark) == (1, 77)
    assert bases[1] == (directory / fmt.segment_name(0)).stat().st_size
    writer.close()


def test_writer_closes_old_segment_when_a_minute_has_passed(tmp_path: Path) -> None:
    now = [0.0]
    known = facts()
    writer = JournalWriter(tmp_path, known, bytes_max=1 << 24, segment_bytes=1 << 22, monotonic=lambda: now[0])
    writer.append([Entry(Kind.RECORD, 1, b"x" * 70_000)])
    writer.append(records(2))
    assert len(list((tmp_path / str(known.process)).glob("*.seg"))) == 1
    now[0] = 61.0
    writer.append(records(3))
    assert len(list((tmp_path / str(known.process)).glob("*.seg"))) == 2
    writer.sync()
    writer.close()


def test_room_counts_the_whole_root_when_others_are_dead(tmp_path: Path) -> None:
    other = tmp_path / str(uuid.uuid4())
    other.mkdir(parents=True)
    (other / fmt.segment_name(0)).write_bytes(b"x" * 600_000)
    writer = JournalWriter(tmp_path, facts(), bytes_max=1 << 20, segment_bytes=4096)
    assert 0.6 < writer.room() < 0.7
    writer.close()


def test_room_is_full_when_the_disk_is(tmp_path: Path) -> None:
    class FullDisk(Files):
        def free_bytes(self, path: Path) -> int:
            return 0

    writer = JournalWriter(tmp_path, facts(), bytes_max=1 << 20, segment_bytes=4096, files=FullDisk())
    assert writer.room() >= 1.0
    writer.close()


def test_journal_leaves_room_for_the_index_when_the_disk_fills(tmp_path: Path) -> None:
    class Disk(Files):
        size, free = 100 << 30, 1 << 30

        def free_bytes(self, path: Path) -> int:
            return self.free

        def disk_bytes(self, path: Path) -> int:
            return self.size

    disk, now = Disk(), [0.0]

    def room() -> float:
        now[0] += 2
        return writer.room()

    writer = JournalWriter(
        tmp_path, facts(), bytes_max=1 << 30, segment_bytes=4 << 20, files=disk, monotonic=lambda: now[0]
    )
    assert room() < 0.1
    disk.free = 15 << 20
    assert room() >= 1.0, "below 16 MiB"
    writer.append(records(1))  # as statements are
    disk.size = 48 << 20
    disk.free = 20 << 20
    assert room() < 0.1, "a small disk keeps a twentieth"
    disk.free = 2 << 20
    assert room() >= 1.0
    # Only whole segments free space: two of them fit below the floor.
    disk.free = 20 << 20
    for n in range(2, 502):
        writer.append([Entry(Kind.RECORD, n, b"x" * 8000)])
    sizes = [p.stat().st_size for p in (tmp_path / writer._name).glob("*.seg")]
    assert 0.8 * (48 << 20) / 40 < max(sizes[1:]) < (48 << 20) / 40 + 10_000
    writer.close()


def test_lock_is_never_taken_twice_when_we_hold_it_ourselves(tmp_path: Path) -> None:
    known = facts()
    writer = JournalWriter(tmp_path, known, bytes_max=1 << 20, segment_bytes=4096)
    directory = tmp_path / str(known.process)
    assert take(directory, str(known.process), Files()) is None
    # So it is still held: another process cannot take it.
    program = (
        "import sys, pathlib; from asgi_audit.transport.journal.lock import take; from asgi_audit.transport.files "
        "import Files; p = pathlib.Path(sys.argv[1]); print(take(p, p.name, Files()) is None)"
    )
    answer = subprocess.run([sys.executable, "-c", program, str(directory)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "True"
    writer.close()
    answer = subprocess.run([sys.executable, "-c", program, str(directory)], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_neither_holds_nor_touches_the_journal_of_its_parent(tmp_path: Path) -> None:
    known = facts()
    writer = JournalWriter(tmp_path, known, bytes_max=1 << 20, segment_bytes=4096)
    writer.append(records(1))
    fd = writer._fd
    pid = os.fork()
    if pid == 0:
        try:
            os.fstat(fd)
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    writer.append(records(2))
    source = JournalSource(tmp_path, adopt_seconds=0)
    source.open({})
    assert [m.sequence for m in source.poll(10, 0).messages] == [1, 2]
    writer.close()


def test_follow_shows_entries_and_removes_nothing(tmp_path: Path) -> None:
    known = facts()
    writer = JournalWriter(tmp_path, known, bytes_max=1 << 20, segment_bytes=4096)
    writer.append(records(1, 2))
    assert [m.sequence for m in follow(tmp_path, from_beginning=True, stop=lambda: True)] == [1, 2]
    turns: list[int] = []

    def stop() -> bool:
        turns.append(1)
        if len(turns) == 1:
            writer.append(records(3))
        return len(turns) > 2

    assert [m.sequence for m in follow(tmp_path, stop=stop, sleep=lambda _: None)] == [3]
    writer.close()
    assert [m.sequence for m in follow(tmp_path, from_beginning=True, stop=lambda: True)] == [1, 2, 3]
    assert (tmp_path / str(known.process) / fmt.segment_name(0)).exists()


def test_writer_lets_go_of_segments_that_were_taken_in_before_a_sync(tmp_path: Path) -> None:
    """Goal: an application that never syncs (`buffered`) does not keep the disk space of indexed segments."""

    class Counting(Files):
        closed = 0

        def close(self, fd: int) -> None:
            Counting.closed += 1
            super().close(fd)

    known = facts()
    at = [0.0]
    writer = JournalWriter(
        tmp_path, known, bytes_max=1 << 24, segment_bytes=4096, files=Counting(), monotonic=lambda: at[0]
    )
    for number in (1, 2, 3):
        writer.append([Entry(Kind.RECORD, number, b"x" * 5000)])
    first, *_ = sorted((tmp_path / str(known.process)).glob("*.seg"))
    first.unlink()
    before = Counting.closed
    at[0] += 10
    writer.room()
    assert Counting.closed == before + 1, "the one that is gone, and not the one that a sync still has to write"
    writer.sync()
    writer.close()


def test_error_names_the_settings_when_a_file_stands_where_the_journal_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TransportError, match="Not a directory") as caught:
        JournalWriter(tmp_path / "file" / "journal", facts(), bytes_max=1 << 20)
    assert "`home`, `transport` or `journal`" in caught.value.hint
