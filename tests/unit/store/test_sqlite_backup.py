"""A backup of an index in use, an interrupted backup, and restores."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.support.records import DAY_MS, NOON, PROCESS, batch, over_days, record, sequences, statement, walk
from tests.support.waiting import until

from asgi_audit.control import Control
from asgi_audit.errors import ConfigError, StoreError
from asgi_audit.record.line import TIME_END
from asgi_audit.store.base import Batch
from asgi_audit.store.sqlite import SqliteAdmin, SqliteReader, SqliteWriter, inspect
from asgi_audit.store.sqlite.backup import MANIFEST_NAME, back_up, check_backup, restore
from asgi_audit.transport.base import Position


def clock() -> float:
    return NOON / 1000 + 3600


def numbers(directory: Path) -> list[int]:
    reader = SqliteReader(directory)
    try:
        return sorted(sequences(walk(reader)))
    finally:
        reader.close()


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """30 records over three days, from Kafka."""
    writer = SqliteWriter(tmp_path / "index", clock=clock)
    writer.write(Batch(source="kafka:c:t", records=over_days(1, 30), positions={"0": Position(30, b"")}))
    writer.write(Batch(source="kafka:c:t", statements=[statement(1, 1, 30)], positions={"0": Position(31, b"")}))
    writer.close()
    return tmp_path / "index"


def test_restored_index_has_all_and_goes_on_in_a_new_generation(index: Path, tmp_path: Path) -> None:
    before = SqliteReader(index)
    known = before.index()
    before.close()
    made = back_up(index, tmp_path / "backup")
    names = {path.name for path in (tmp_path / "backup").iterdir()} - {"fence"}
    assert names == {"main.db", MANIFEST_NAME, *(f"day-2026-11-{day}.db" for day in (20, 21, 22))}
    assert made == check_backup(tmp_path / "backup")
    assert (made.has_journal, made.has_keys) == (False, False)
    restore(tmp_path / "backup", tmp_path / "restored")
    assert numbers(tmp_path / "restored") == list(range(1, 31))
    after = SqliteReader(tmp_path / "restored")
    assert (after.index().id, after.index().generation) == (known.id, known.generation + 1)
    assert after.incidents(0, TIME_END) == [], "the topic still holds what came after"
    after.close()
    writer = SqliteWriter(tmp_path / "restored", clock=clock)
    assert writer.positions("kafka:c:t") == {"0": Position(31, b"")}
    writer.write(batch([record(31), record(30)]))
    writer.close()
    assert numbers(tmp_path / "restored") == list(range(1, 32))


def test_index_of_a_journal_says_that_what_came_after_the_backup_is_gone(tmp_path: Path) -> None:
    writer = SqliteWriter(tmp_path / "index", clock=clock)
    writer.write(Batch(source="journal", records=[record(1)], positions={str(PROCESS): Position(9, b"")}))
    back_up(tmp_path / "index", tmp_path / "backup", clock=lambda: NOON / 1000)
    writer.close()
    restore(tmp_path / "backup", tmp_path / "restored", clock=lambda: (NOON + DAY_MS) / 1000)
    reader = SqliteReader(tmp_path / "restored")
    (incident,) = reader.incidents(0, TIME_END)
    reader.close()
    assert (incident.kind, incident.start, incident.end) == ("restored", NOON, NOON + DAY_MS)
    assert incident.detail.startswith("the index was restored from a backup of 2026-11-22T")


def test_backup_of_an_index_that_is_written_is_of_one_moment(tmp_path: Path) -> None:
    """Records of three days are written continuously, each batch to all of them. Each of several backups contains
    exactly what its main.db counts; later records are delivered again by the source, and are not duplicates."""
    writer = SqliteWriter(tmp_path / "index", clock=clock)
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        for n in itertools.count():
            if stop.is_set():
                return
            first = 30 * n + 1
            writer.write(batch(over_days(first, 30), following=first + 30))
            written.append(first + 29)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for n in range(5):
            until(lambda n=n: len(written) >= 3 * (n + 1))  # type: ignore[misc]
            back_up(tmp_path / "index", tmp_path / f"backup-{n}")
    finally:
        stop.set()
        thread.join()
        writer.close()
    for n in range(5):
        restore(tmp_path / f"backup-{n}", tmp_path / f"restored-{n}")
        found = inspect(tmp_path / f"restored-{n}", source="test")
        assert found is not None
        position = found.positions[str(PROCESS)].next
        assert numbers(tmp_path / f"restored-{n}") == list(range(1, position)), "all before the position, none after"
        assert found.indexed == position - 1
        again = SqliteWriter(tmp_path / f"restored-{n}", clock=clock)
        assert again.write(batch(over_days(position, 30), following=position + 30)).inserted == 30
        again.close()


@pytest.mark.parametrize("step", ["_check_room", "_copy", "_digest", "_write_whole", "sync"])
def test_backup_that_is_interrupted_leaves_nothing_that_looks_like_one(index: Path, tmp_path: Path, step: str) -> None:
    """Killed at this step; the next one succeeds and leaves nothing of the first behind."""
    code = f"""
import os, signal
from pathlib import Path
from asgi_audit.store.sqlite import backup
backup.{step} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
backup.back_up(Path({str(index)!r}), Path({str(tmp_path / "backup")!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "backup").exists()
    back_up(index, tmp_path / "backup")
    assert sorted(os.listdir(tmp_path)) == ["backup", "index"]
    check_backup(tmp_path / "backup")


@pytest.mark.parametrize("step", ["_copy_file", "_begin_generation", "_put_in_place"])
def test_restore_that_is_interrupted_leaves_no_index(index: Path, tmp_path: Path, step: str) -> None:
    back_up(index, tmp_path / "backup")
    code = f"""
import os, signal
from pathlib import Path
from asgi_audit.store.sqlite import backup
backup.{step} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
backup.restore(Path({str(tmp_path / "backup")!r}), Path({str(tmp_path / "restored")!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "restored").exists()
    restore(tmp_path / "backup", tmp_path / "restored")
    assert sorted(os.listdir(tmp_path)) == ["backup", "index", "restored"]
    assert numbers(tmp_path / "restored") == list(range(1, 31))


def test_keys_are_copied_on_request_alone(index: Path, tmp_path: Path) -> None:
    control = Control(tmp_path / "control.db")
    key = control.create_key("reader", "*")[1]
    admin = SqliteAdmin(index)
    assert not admin.back_up(tmp_path / "without", control=None).has_keys
    assert admin.back_up(tmp_path / "with", control=tmp_path / "control.db").has_keys
    control.close()
    for path in (tmp_path / "with").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
    elsewhere = SqliteAdmin(tmp_path / "home" / "index")
    with pytest.raises(ConfigError, match="exists already"):
        elsewhere.restore(tmp_path / "with", control=tmp_path / "control.db")
    elsewhere.restore(tmp_path / "with", control=tmp_path / "home" / "control.db")
    again = Control(tmp_path / "home" / "control.db")
    assert again.authenticate(key) is not None
    again.close()


def test_place_must_be_free_and_a_backup_must_be_one(index: Path, tmp_path: Path) -> None:
    back_up(index, tmp_path / "backup")
    with pytest.raises(ConfigError, match="exists already; accepted: a new or empty directory"):
        back_up(index, tmp_path / "backup")
    with pytest.raises(ConfigError, match="there is already an index at"):
        restore(tmp_path / "backup", index)
    with pytest.raises(ConfigError, match=f"contains no {MANIFEST_NAME}"):
        restore(index, tmp_path / "restored")
    with pytest.raises(StoreError, match="there is no index at"):
        back_up(tmp_path / "nothing", tmp_path / "other")


@pytest.mark.parametrize("damage", ["cut", "changed", "removed", "manifest"])
def test_damaged_backup_is_refused_before_anything_is_made(index: Path, tmp_path: Path, damage: str) -> None:
    back_up(index, tmp_path / "backup")
    day = next((tmp_path / "backup").glob("day-*.db"))
    if damage == "cut":
        os.truncate(day, 4096)
    elif damage == "changed":
        with day.open("r+b") as f:
            f.seek(5000)
            f.write(b"x")
    elif damage == "removed":
        day.unlink()
    else:
        (tmp_path / "backup" / MANIFEST_NAME).write_text("{")
    with pytest.raises(StoreError, match=r"damaged|differs from the backed up file"):
        restore(tmp_path / "backup", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_directory_that_only_holds_a_lease_gives_way(index: Path, tmp_path: Path) -> None:
    """An indexer that waited for an index that was moved away leaves the lease file behind."""
    back_up(index, tmp_path / "backup")
    (tmp_path / "restored").mkdir()
    (tmp_path / "restored" / "lease").touch()
    restore(tmp_path / "backup", tmp_path / "restored")
    assert numbers(tmp_path / "restored") == list(range(1, 31))
