"""Files of a journal that are removed while it is written, and directories that are not journals."""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path

import pytest
from tests.support.clock import Clock

from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.journal import JournalSource, JournalWriter
from asgi_audit.transport.journal import format as fmt
from asgi_audit.transport.journal.lock import take


def records(*numbers: int) -> list[Entry]:
    return [Entry(Kind.RECORD, n, b'{"n":%d}' % n) for n in numbers]


def read(source: JournalSource) -> list[int]:
    return [m.sequence for m in source.poll(100, 0).messages]


@pytest.mark.parametrize("is_source_before", [True, False])
@pytest.mark.parametrize("removed", [["counters"], ["lock"], ["counters", "lock"], ["*"], ["/"]])
def test_journal_is_mended_within_a_second_when_its_files_are_removed(
    removed: list[str], is_source_before: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    facts, clock = ProcessFacts(uuid.uuid4(), "host", "app", 1234), Clock(0.0)
    name = str(facts.process)
    directory = tmp_path / name
    writer = JournalWriter(tmp_path, facts, bytes_max=1 << 24, segment_bytes=1 << 16, monotonic=clock)
    source = JournalSource(tmp_path, adopt_seconds=0)
    writer.counters[8:16] = (77).to_bytes(8, "little")
    writer.append(records(1, 2))
    if is_source_before:
        assert read(source) == [1, 2]
    for path in list(directory.iterdir()):
        if path.name in removed or removed in (["*"], ["/"]):
            path.unlink()
    if removed == ["/"]:
        directory.rmdir()
    clock.now += 1.1
    with caplog.at_level(logging.WARNING):
        writer.append(records(3))
    writer.append(records(4))
    writer.sync()
    assert writer.counters[8:16] == (77).to_bytes(8, "little")
    page = fmt.read_page((directory / "counters").read_bytes(), facts)
    assert page is not None
    assert page.last == 77
    if removed != ["/"]:  # otherwise it is made with the next segment, as usual
        assert "were removed while in use" in caplog.text
    found = read(source) + read(source)
    has_segments = removed not in (["*"], ["/"])
    assert found == ([3, 4] if is_source_before or not has_segments else [1, 2, 3, 4])
    assert source.poll(100, 0).fence is not None
    # It lives: no other process may have its lock, and none adopted it.
    assert [p.name for p in tmp_path.glob("[!.]*")] == [name]
    child = os.fork()
    if not child:
        os._exit(0 if take(directory, name, writer._files) is None else 1)
    assert os.waitpid(child, 0)[1] == 0, "another process could take the lock"
    writer.close()
    read(source)  # it is adopted now, with the values of its page
    assert source._partitions[name].end is not None
    source.close()


def fenced(source: JournalSource) -> float | None:
    fence = source.poll(10, 0).fence
    return None if fence is None else fence.at


def test_fences_pass_when_an_empty_directory_lies_in_the_root(tmp_path: Path) -> None:
    stray, wall, monotonic = tmp_path / str(uuid.uuid4()), Clock(0.0), Clock(0.0)
    stray.mkdir()
    wall.now = stray.stat().st_mtime + 1
    source = JournalSource(tmp_path, wall=wall, monotonic=monotonic)
    assert fenced(source) == wall.now
    assert stray.exists(), "somebody may be about to use it"
    wall.now += 60
    assert fenced(source) == wall.now
    assert not stray.exists()
    assert fenced(source) == wall.now
    source.close()


def test_stray_directory_is_left_alone_when_it_holds_something_else(tmp_path: Path) -> None:
    stray = tmp_path / str(uuid.uuid4())
    stray.mkdir()
    (stray / "notes").write_text("mine")
    source = JournalSource(tmp_path, wall=lambda: stray.stat().st_mtime + 3600)
    assert source.poll(10, 0).fence is not None
    assert (stray / "notes").read_text() == "mine"
    source.close()


def test_segments_without_a_page_are_said_rarely_when_nobody_can_read_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    facts, clock = ProcessFacts(uuid.uuid4(), "host", "app", 1234), Clock(0.0)
    directory = tmp_path / str(facts.process)
    writer = JournalWriter(tmp_path, facts, bytes_max=1 << 24, segment_bytes=1 << 16)
    writer.append(records(1, 2))
    writer.close()
    for name in ("counters", "lock"):
        (directory / name).unlink()
    source = JournalSource(tmp_path, monotonic=clock)
    for _ in range(5):
        batch = source.poll(10, 0)
        assert batch.fence is None, "there is something to read"
        assert batch.holds == {str(facts.process): "its file `counters` is gone"}
    assert caplog.text.count("`counters` was removed") == 1
    (directory / "lock").touch()  # as in the log line
    clock.now += 61
    assert read(source) == [1, 2, 2]  # and the adopter's statement
    source.close()
