"""The disk of the index is really full: the indexer waits, and a purge ends the wait."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from tests.support.waiting import until

from .commands import COMMAND, run, running
from .test_metrics import get, port_of, values
from .test_purge import day, record_days_ago


@pytest.mark.full
def test_indexer_waits_for_a_full_disk_and_goes_on_when_days_are_purged(tmp_path: Path, small_disk: Path) -> None:
    """Method: the disk is filled to its last byte after old days are indexed; new records wait in the journal until a
    purge beside the running indexer makes room. No dead letter, no loss, and the process keeps running."""
    store = f"sqlite:///{small_disk}/index"
    for ago in (5, 4):
        record_days_ago(ago, 1500, tmp_path)
    with running(COMMAND, "index", "--to", store, "--metrics-port", "0", cwd=tmp_path) as index:
        port = port_of(index.wait_for("metrics and health on"))
        until(lambda: values(port).get("asgi_audit_indexer_indexed_total") == 3000, "the old days are indexed")
        try:
            with (small_disk / "filler").open("wb", 0) as filler:
                while True:
                    filler.write(bytes(4096))
        except OSError:
            assert os.statvfs(small_disk).f_bavail == 0
        record_days_ago(0, 2500, tmp_path)
        until(lambda: get(port, "/health/ready")[0] == 503, "it waits")
        assert get(port, "/health/live")[0] == 200
        assert values(port)["asgi_audit_indexer_paused"] == 1
        purged = run("purge", "--before", day(1), "--store", store, cwd=tmp_path)
        assert purged.returncode == 0, purged.stderr
        until(lambda: get(port, "/health/ready")[0] == 200, "it goes on")
        until(lambda: not list((tmp_path / ".asgi-audit/journal").glob("[!.]*")), "the journal is taken in")
        assert index.said.count("trying again until it works") >= 1
        assert index.stop() == 0
    with contextlib.closing(sqlite3.connect(f"file:{small_disk}/index/main.db?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT sum(indexed) FROM process").fetchone()[0] == 2500
        gone = connection.execute("SELECT value FROM meta WHERE key = 'forgotten_indexed'").fetchone()[0]
        assert gone == 3000, "of processes that ended before the days that are left"
        assert connection.execute("SELECT dead FROM state").fetchone()[0] == 0
