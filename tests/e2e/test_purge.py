"""Days are purged by the command, with an indexer running and without, and by the indexer itself."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import until

from .commands import COMMAND, run, running

DAY = datetime.timedelta(days=1)
TODAY = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)

# An application's own process writes records of some days ago: the test sets its clock back.
WRITER = """
import asyncio, sys, time
shift = float(sys.argv[1]) * 86400
real, real_ns = time.time, time.time_ns
time.time = lambda: real() - shift
time.time_ns = lambda: real_ns() - int(shift * 1e9)
from asgi_audit import AuditMiddleware
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
async def main():
    audited = AuditMiddleware(app)
    async def receive(): return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message): pass
    for i in range(int(sys.argv[2])):
        scope = {"type": "http", "method": "GET", "path": f"/{i}", "raw_path": b"/", "query_string": b"", "headers": [],
                 "http_version": "1.1", "scheme": "http", "root_path": "", "server": ("a", 1), "client": ("b", 2)}
        await audited(scope, receive, send)
asyncio.run(main())
"""


def record_days_ago(days: int, count: int, cwd: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITER, str(days), str(count)], cwd=cwd, check=True, timeout=60)


def days_on_disk(cwd: Path) -> list[str]:
    return sorted({n[4:14] for n in os.listdir(cwd / ".asgi-audit/index") if n.startswith("day-")})


def day(ago: int) -> str:
    return (TODAY - ago * DAY).strftime("%Y-%m-%d")


def indexed(cwd: Path) -> int:
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{cwd}/.asgi-audit/index/main.db?mode=ro", uri=True)
        ) as connection:
            return int(connection.execute("SELECT coalesce(sum(indexed), 0) FROM process").fetchone()[0])
    except sqlite3.Error:
        return 0


def test_days_are_purged_by_the_command_and_never_come_back(tmp_path: Path) -> None:
    for ago in (5, 3, 0):
        record_days_ago(ago, 7, tmp_path)
    with running(COMMAND, "index", cwd=tmp_path) as index:
        until(lambda: indexed(tmp_path) == 21, "all records are indexed")
        assert days_on_disk(tmp_path) == [day(5), day(3), day(0)]
        dry = run("purge", "--before", day(3), "--dry-run", cwd=tmp_path)
        assert (dry.returncode, days_on_disk(tmp_path)) == (0, [day(5), day(3), day(0)])
        assert re.fullmatch(rf"{day(5)} +7 records +[\d.]+ KiB\n", dry.stdout)
        # The indexer runs: it gets the request and carries it out at once.
        done = run("purge", "--before", day(3), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"1 days, 7 records, [\d.]+ KiB removed\n", done.stderr)
        assert days_on_disk(tmp_path) == [day(3), day(0)]
        index.wait_for("purged 1 days")
        # Later records of a purged day are expired: neither record nor dead letter.
        record_days_ago(4, 5, tmp_path)
        until(lambda: not list((tmp_path / ".asgi-audit/journal").glob("[!.]*")), "the journal is taken in")
        assert days_on_disk(tmp_path) == [day(3), day(0)]
        assert index.stop() == 0
    # No indexer runs.
    done = run("purge", "--before", day(0), cwd=tmp_path)
    assert (done.returncode, days_on_disk(tmp_path)) == (0, [day(0)])
    assert not [n for n in os.listdir(tmp_path / ".asgi-audit/index") if n.startswith("purge-")]


def test_days_are_purged_by_the_indexer_when_a_retention_is_set(tmp_path: Path) -> None:
    for ago in (5, 3, 0):
        record_days_ago(ago, 2, tmp_path)
    with running(COMMAND, "index", cwd=tmp_path) as index:
        until(lambda: indexed(tmp_path) == 6, "all records are indexed")
        assert index.stop() == 0
    with running(COMMAND, "serve", "--port", "0", cwd=tmp_path, ASGI_AUDIT_RETENTION_DAYS="3") as serve:
        until(lambda: days_on_disk(tmp_path) == [day(3), day(0)], "the oldest day is purged")
        assert serve.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--before", "soon"], "--before is 'soon'; accepted: a date such as 2026-10-01"),
        (["--before", (TODAY + DAY).strftime("%Y-%m-%d")], "the records of today stay"),
        (["--before", "2020-01-01"], "there is no index in .asgi-audit/index"),
        ([], "required: --before"),
    ],
)
def test_purge_is_one_line_when_it_cannot_be(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = run("purge", *arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
