"""The command rebuilds a day beside a running indexer, while further records are added to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import until

from .commands import COMMAND, run, running
from .test_purge import day, indexed, record_days_ago


def records_in(file: Path) -> int:
    """0 for a file whose tables do not exist yet."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'record'").fetchone()[0]:
            return 0
        return int(connection.execute("SELECT count(*) FROM record").fetchone()[0])


def test_day_is_made_new_beside_a_running_indexer(tmp_path: Path) -> None:
    index_directory = tmp_path / ".asgi-audit" / "index"
    for ago in (3, 0):
        record_days_ago(ago, 7, tmp_path)
    with running(COMMAND, "index", cwd=tmp_path) as index:
        until(lambda: indexed(tmp_path) == 14, "all records are indexed")
        done = run("reindex", "--day", day(3), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr.endswith("1 days, 7 records rebuilt\n")
        index.wait_for("1 days were replaced by their reindexed copies")
        assert {p.name for p in index_directory.glob("day-*.db")} == {f"day-{day(3)}.1.db", f"day-{day(0)}.db"}
        record_days_ago(3, 5, tmp_path)
        until(lambda: indexed(tmp_path) == 19, "late records are indexed")
        assert index.stop() == 0
    assert records_in(index_directory / f"day-{day(3)}.1.db") == 12
    done = run("reindex", "--day", day(3), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert records_in(index_directory / f"day-{day(3)}.2.db") == 12


# Without the free space that it leaves for the indexer.
FULL = """
import sys
from asgi_audit.store.sqlite import reindexing
reindexing.LOW_BYTES = 0
from asgi_audit.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.full
def test_reindex_gives_the_space_back_when_the_disk_is_full(tmp_path: Path, small_disk: Path) -> None:
    store = f"sqlite:///{small_disk}/index"
    record_days_ago(2, 4000, tmp_path)
    with running(COMMAND, "index", "--to", store, cwd=tmp_path) as index:
        old = small_disk / "index" / f"day-{day(2)}.db"
        until(lambda: old.exists() and records_in(old) == 4000, "all records are indexed")
        assert index.stop() == 0
    early = run("reindex", "--day", day(2), "--store", store, cwd=tmp_path)
    assert early.returncode == 1
    assert "less than 64 MiB free" in early.stderr
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", 0) as filler:
        for _ in range(1 << 20):
            filler.write(bytes(4096))
    os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - (300 << 10))
    full = subprocess.run(
        [sys.executable, "-c", FULL, "reindex", "--day", day(2), "--store", store],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert full.returncode == 1
    assert "Free space on the disk" in full.stderr
    assert {p.name for p in (small_disk / "index").iterdir() if p.name.startswith(("day", "reindex"))} == {
        old.name, f"{old.name}-wal", f"{old.name}-shm", "reindexing",
    }  # fmt: skip
    assert records_in(old) == 4000
