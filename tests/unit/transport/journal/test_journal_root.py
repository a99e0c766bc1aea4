"""The file of a journal root: since when the root is kept, and which index reads from it."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from asgi_audit.errors import TransportError
from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.files import Files
from asgi_audit.transport.journal import JournalSource, JournalWriter
from asgi_audit.transport.journal.root import (
    ROOT_NAME,
    RootFacts,
    claim_root,
    forget_index,
    make_root,
    read_root,
)

A, B = "a" * 32, "b" * 32


def writer_of(root: Path, files: Files | None = None) -> JournalWriter:
    return JournalWriter(
        root, ProcessFacts(uuid.uuid4(), "h", "s", 1), bytes_max=1 << 20, segment_bytes=4096, files=files
    )


def test_root_says_when_it_was_made_when_a_process_begins_in_a_new_directory(tmp_path: Path) -> None:
    root = tmp_path / "home" / "journal"
    make_root(root, Files(), wall=lambda: 12.345)
    writer_of(root).close()
    assert read_root(root) == RootFacts(made_at_ms=12345)
    assert stat.S_IMODE((root / ROOT_NAME).stat().st_mode) == 0o600
    assert [p.name for p in root.iterdir() if p.name.startswith(".")] == [ROOT_NAME]


def test_root_says_when_it_was_made_when_an_administrator_made_the_empty_directory(tmp_path: Path) -> None:
    make_root(tmp_path, Files(), wall=lambda: 3.0)
    make_root(tmp_path, Files(), wall=lambda: 4.0)
    assert read_root(tmp_path) == RootFacts(made_at_ms=3000)


def test_making_is_unknown_when_the_root_held_journals_before(tmp_path: Path) -> None:
    """As version 0.1.0 left it."""
    (tmp_path / str(uuid.uuid4())).mkdir()
    writer_of(tmp_path).close()
    assert read_root(tmp_path) == RootFacts()


def test_one_making_stands_when_many_processes_make_the_root_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time; from asgi_audit.transport.files import Files\n"
        "from asgi_audit.transport.journal.root import make_root, read_root\n"
        "root = pathlib.Path(sys.argv[1]); print('ready', flush=True); sys.stdin.read()\n"
        "make_root(root, Files()); print(read_root(root).made_at_ms)"
    )
    for turn in range(3):
        root = str(tmp_path / f"root{turn}")
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(4)
        ]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.close()
        said = set()
        for process in started:
            assert process.stdout is not None
            said.add(process.stdout.read())
            assert process.wait(30) == 0
            process.stdout.close()
        assert len(said) == 1
        assert said != {"None\n"}


@pytest.mark.parametrize("fault", ["open", "pwrite", "fsync", "link"])
def test_journal_opens_when_the_roots_file_cannot_be_written(fault: str, tmp_path: Path) -> None:
    class Failing(Files):
        """Refuses the first call: the one for the root's file."""

        asked = False

        def _refuse(self) -> None:
            if not self.asked:
                self.asked = True
                raise OSError(errno.ENOSPC, "no space")

        def open(self, path: Path, flags: int) -> int:
            if fault == "open":
                self._refuse()
            return super().open(path, flags)

        def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            if fault == "pwrite":
                self._refuse()
            return super().pwrite(fd, data, offset)

        def fsync(self, fd: int) -> None:
            if fault == "fsync":
                self._refuse()
            super().fsync(fd)

        def link(self, old: Path, new: Path) -> None:
            if fault == "link":
                self._refuse()
            super().link(old, new)

    files = Failing()
    writer = writer_of(tmp_path, files)
    writer.append([Entry(Kind.RECORD, 1, b"{}")])
    writer.close()
    assert files.asked
    assert read_root(tmp_path) is None
    writer_of(tmp_path).close()  # and the next process does not take itself for the first one
    assert read_root(tmp_path) == RootFacts()


def test_first_index_is_remembered_when_another_one_takes_over(tmp_path: Path) -> None:
    files = Files()
    make_root(tmp_path, files, wall=lambda: 1.0)
    assert claim_root(tmp_path, A, files) == RootFacts(made_at_ms=1000, index=A, first_index=A)
    assert claim_root(tmp_path, B, files).index == A
    forget_index(tmp_path, files)
    found = claim_root(tmp_path, B, files)
    assert found == read_root(tmp_path) == RootFacts(made_at_ms=1000, index=B, first_index=A)
    assert (found.made_for(A), found.made_for(B)) == (1000, None)


def test_one_index_wins_when_two_claim_a_root_of_the_first_version(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from asgi_audit.transport.files import Files\n"
        "from asgi_audit.transport.journal.root import claim_root\n"
        "print('ready', flush=True); sys.stdin.read()\n"
        "print(claim_root(pathlib.Path(sys.argv[1]), sys.argv[2], Files()).index)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in (A, B, A, B)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = {process.communicate(timeout=60)[0] for process in started}
    assert len(said) == 1
    found = read_root(tmp_path)
    assert found is not None
    assert said == {f"{found.index}\n"}
    assert (found.made_at_ms, found.first_index) == (None, found.index)


def test_source_refuses_a_root_that_feeds_another_index(tmp_path: Path) -> None:
    writer = writer_of(tmp_path)
    writer.append([Entry(Kind.RECORD, 1, b"{}")])
    first = JournalSource(tmp_path, index=A)
    first.open({})
    assert first.poll(10, 0).messages
    second = JournalSource(tmp_path, index=B)
    second.open({})
    with pytest.raises(TransportError) as e:
        second.poll(10, 0)
    assert not e.value.retriable
    assert all(said in str(e.value) for said in (str(tmp_path), A, B))
    assert "--new-index" in e.value.hint
    first.close()
    writer.close()


def test_source_stops_when_its_root_is_given_to_another_index(tmp_path: Path) -> None:
    at = [0.0]
    writer = writer_of(tmp_path)
    source = JournalSource(tmp_path, index=A, monotonic=lambda: at[0])
    source.open({})
    source.poll(10, 0)
    forget_index(tmp_path, Files())
    claim_root(tmp_path, B, Files())
    writer.append([Entry(Kind.RECORD, 1, b"{}")])
    at[0] += 1.5
    with pytest.raises(TransportError):
        source.poll(10, 0)
    source.close()
    writer.close()


def test_source_takes_nothing_down_when_there_is_no_root(tmp_path: Path) -> None:
    source = JournalSource(tmp_path / "journal", index=A)
    source.open({})
    assert not source.poll(10, 0).messages
    assert not (tmp_path / "journal").exists()


def test_making_is_known_when_an_indexer_looks_while_the_root_is_made(tmp_path: Path) -> None:
    """The indexer often starts first, and looks 100 times a second."""
    source = JournalSource(tmp_path, index=A)
    source.open({})

    class Watched(Files):
        def link(self, old: Path, new: Path) -> None:
            source.poll(10, 0)
            super().link(old, new)

        def mkdir(self, path: Path) -> None:
            source.poll(10, 0)
            super().mkdir(path)

    writer = writer_of(tmp_path, Watched())
    source.poll(10, 0)
    found = read_root(tmp_path)
    assert found is not None
    assert found.made_at_ms is not None
    assert found.index == A
    source.close()
    writer.close()


def test_source_reads_on_when_it_may_not_note_its_index(tmp_path: Path) -> None:
    class ReadOnly(Files):
        def open(self, path: Path, flags: int) -> int:
            if flags & os.O_CREAT:
                raise OSError(errno.EROFS, "read-only")
            return super().open(path, flags)

    writer = writer_of(tmp_path)
    writer.append([Entry(Kind.RECORD, 1, b"{}")])
    source = JournalSource(tmp_path, index=A, files=ReadOnly())
    source.open({})
    assert source.poll(10, 0).messages
    source.close()
    writer.close()


def test_file_is_not_taken_for_unknown_when_it_is_torn(tmp_path: Path) -> None:
    (tmp_path / ROOT_NAME).write_text('{"made_at_ms": 1')
    with pytest.raises(TransportError, match=ROOT_NAME):
        claim_root(tmp_path, A, Files())


def test_what_a_later_version_adds_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / ROOT_NAME).write_text(json.dumps({"made_at_ms": 5, "colour": "blue"}))
    assert read_root(tmp_path) == RootFacts(made_at_ms=5)


def test_leftover_of_a_crash_goes_when_it_is_a_minute_old(tmp_path: Path) -> None:
    old, new = tmp_path / f".root-{uuid.uuid4()}", tmp_path / f".root-{uuid.uuid4()}"
    for path in (old, new):
        path.write_text("")
    os.utime(old, (1, 1))
    source = JournalSource(tmp_path)
    source.open({})
    source.poll(10, 0)
    assert (old.exists(), new.exists()) == (False, True)


def test_source_says_nothing_when_no_process_has_begun_in_its_root_yet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = JournalSource(tmp_path / "journal", index=A)
    source.open({})
    assert source.poll(10, 0).messages == []
    assert caplog.text == ""
    writer = writer_of(tmp_path / "journal")
    try:
        source.close()
        source.open({})
        source.poll(10, 0)
        assert read_root(tmp_path / "journal").index == A
    finally:
        writer.close()
        source.close()
