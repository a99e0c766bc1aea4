"""Partitions that keep a journal's fences from passing, and their report in `holds`."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import pytest

from asgi_audit.transport.base import Entry, Kind, ProcessFacts
from asgi_audit.transport.files import Files
from asgi_audit.transport.journal import JournalSource, JournalWriter


class Unreadable(Files):
    """The page of one process cannot be opened."""

    name = ""

    def open(self, path: Path, flags: int) -> int:
        if self.name and self.name in str(path) and path.name == "counters":
            raise PermissionError(13, "Permission denied")
        return super().open(path, flags)


def writer(root: Path) -> tuple[JournalWriter, str]:
    facts = ProcessFacts(uuid.uuid4(), "host", "app", 1234)
    made = JournalWriter(root, facts, bytes_max=1 << 24, segment_bytes=1 << 16)
    made.append([Entry(Kind.RECORD, 1, b'{"n":1}')])
    return made, str(facts.process)


def test_journal_that_cannot_be_read_holds_the_fences_until_it_is_given_up_or_comes_back(tmp_path: Path) -> None:
    first, name = writer(tmp_path)
    second, other = writer(tmp_path)
    files = Unreadable()
    files.name = name
    source = JournalSource(tmp_path, files=files)
    batch = source.poll(10, 0)
    assert [m.partition for m in batch.messages] == [other], "the others are read"
    assert (batch.fence, batch.holds) == (None, {name: "it cannot be read: Permission denied"})
    source.ignore([name])
    batch = source.poll(10, 0)
    assert batch.fence is not None
    assert batch.holds is not None
    assert list(batch.holds) == [name], "it is named as long as it cannot be read"
    assert batch.recovered == set()
    files.name = ""
    batch = source.poll(10, 0)
    assert [m.partition for m in batch.messages] == [name]
    assert (batch.holds, batch.recovered) == ({}, {name})
    source.close()
    first.close()
    second.close()


def test_stuck_journal_that_is_given_up_stays_so_until_it_is_read_up_to_its_end(tmp_path: Path) -> None:
    """Over polls that do not reach it, and over a restart. Method: its only segment is missing."""
    root, now = tmp_path / "journal", [0.0]
    first, name = writer(root)
    second, other = writer(root)
    (segment,) = (path for path in (root / name).iterdir() if path.suffix == ".seg")
    os.rename(segment, tmp_path / "away")
    source = JournalSource(root, monotonic=lambda: now[0])
    assert source.poll(10, 0).holds == {}
    now[0] += 16
    stuck = {name: "nothing can be read at offset 0"}
    second.append([Entry(Kind.RECORD, n, b'{"n":%d}' % n) for n in range(2, 9)])
    for _ in range(4):
        batch = source.poll(1, 0)
        assert ([m.partition for m in batch.messages], batch.fence, batch.holds) == ([other], None, stuck)
    source.ignore([name])
    fences = 0
    for _ in range(10):
        batch = source.poll(1, 0)
        assert (batch.holds, batch.recovered) == (stuck, set())
        fences += batch.fence is not None
    assert fences > 1, "they go on without it"
    source.close()

    source = JournalSource(root, monotonic=lambda: now[0])
    source.open({})
    source.ignore([name])
    for _ in range(2):
        batch = source.poll(10, 0)
        assert batch.fence is not None
        assert (batch.holds, batch.recovered) == ({name: "it is not read up to its end"}, set())
    os.rename(tmp_path / "away", segment)
    first.append([Entry(Kind.RECORD, 2, b'{"n":2}')])
    batch = source.poll(1, 0)
    assert (len(batch.messages), batch.recovered) == (1, set()), "half of it is read"
    batch = source.poll(1, 0)
    assert (len(batch.messages), batch.holds, batch.recovered) == (1, {}, {name})
    source.close()
    first.close()
    second.close()


def test_journal_that_is_given_up_is_no_longer_so_when_it_is_gone_and_not_when_the_root_is(tmp_path: Path) -> None:
    root = tmp_path / "journal"
    made, name = writer(root)
    made.close()
    os.rename(root, tmp_path / "away")
    source = JournalSource(root)
    source.ignore([name, "journal"])
    batch = source.poll(10, 0)
    assert batch.holds is not None
    assert (list(batch.holds), batch.recovered) == (["journal"], set())
    os.rename(tmp_path / "away", root)
    shutil.rmtree(root / name)
    assert source.poll(10, 0).recovered == {name, "journal"}
    source.close()


def test_no_fence_is_given_when_the_root_is_away(tmp_path: Path) -> None:
    root = tmp_path / "journal"
    source = JournalSource(root)
    assert source.poll(10, 0).fence is not None, "no process has begun yet"
    made, _ = writer(root)
    assert source.poll(10, 0).fence is not None
    os.rename(root, tmp_path / "away")
    batch = source.poll(10, 0)
    assert (batch.fence, batch.holds) == (None, {"journal": f"the directory {root} is gone"})
    os.rename(tmp_path / "away", root)
    assert source.poll(10, 0).fence is not None
    assert source.take_incidents() == []
    source.close()
    made.close()


def test_journal_that_somebody_removed_unread_is_an_incident(tmp_path: Path) -> None:
    made, name = writer(tmp_path)
    source = JournalSource(tmp_path)
    source.poll(10, 0)
    made.append([Entry(Kind.RECORD, n, b'{"n":%d}' % n) for n in range(2, 50)])
    source.poll(5, 0)
    shutil.rmtree(tmp_path / name)
    assert source.poll(10, 0).fence is not None
    (incident,) = source.take_incidents()
    assert (incident.kind, incident.partition) == ("retention_passed", name)
    assert incident.start < incident.end
    source.close()


def test_source_knows_when_its_root_was_made_when_its_index_is_the_first(tmp_path: Path) -> None:
    root = tmp_path / "journal"
    assert JournalSource(root, index="a").made_at() is None, "there is none yet"
    made, _ = writer(root)
    first = JournalSource(root, index="a")
    assert first.made_at() == pytest.approx(1.234)  # as old as the first process in it
    assert JournalSource(root).made_at() is None
    made.close()
