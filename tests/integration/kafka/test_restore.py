"""A backup restored beside a real Kafka: the index is lost, restored, and catches up from the backup's offsets, with no
duplicate and no missing record, though the restore and the catch-up are killed with SIGKILL. Records that retention
removed from the topic meanwhile cause an incident. Installed commands as processes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.commands import COMMAND, clean_environment, run, running
from tests.integration.kafka.conftest import admin
from tests.support.waiting import until

from asgi_audit.errors import StoreError
from asgi_audit.record.codec import decode
from asgi_audit.store.sqlite import SqliteReader

pytest.importorskip("aiokafka", reason="pip install 'asgi-audit[kafka]'")

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

# Sends requests r-FIRST … r-LAST, each with a body that does not compress.
APP = """
import asyncio, os, sys
import asgi_audit, httpx
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def order(request):
    await request.body()
    asgi_audit.annotate(account_id="acme")
    return PlainTextResponse("ok")

app = asgi_audit.install(Starlette(routes=[Route("/orders", order, methods=["POST"])]), service="shop")

async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        for number in range(int(sys.argv[1]), int(sys.argv[2]) + 1):
            await client.post("/orders", json={"x": os.urandom(8_000).hex()}, headers={"x-request-id": f"r-{number}"})

asyncio.run(main())
"""


class Road:
    """A topic of two partitions, and an index of it in `index`."""

    def __init__(self, directory: Path, address: str) -> None:
        self.directory = directory
        self.topic = f"restore-{uuid.uuid4().hex[:8]}"
        self.address = address
        self.url = f"kafka://{address}/{self.topic}"
        self.index = directory / "index"
        self.sent = 0
        made = run("topics", "create", self.url, "--partitions", "2", cwd=directory)
        assert made.returncode == 0, made.stderr

    def send(self, count: int) -> None:
        """Sends requests in a further process; when it returns, the broker has acknowledged all of them."""
        home = self.directory / f"app-{self.sent}"
        environment = clean_environment(ASGI_AUDIT_TRANSPORT=self.url, ASGI_AUDIT_HOME=str(home))
        command = [sys.executable, "-c", APP, str(self.sent + 1), str(self.sent + count)]
        subprocess.run(command, cwd=self.directory, env=environment, check=True, capture_output=True, timeout=120)
        forwarded = run(
            "forward", "--once", "--home", str(home), "--from", str(home / "journal"), "--to", self.url,
            cwd=self.directory,
        )  # fmt: skip
        assert forwarded.returncode == 0, forwarded.stderr
        self.sent += count

    def indexing(self) -> Any:
        return running(COMMAND, "index", "--from", self.url, "--to", str(self.index), cwd=self.directory)

    def records(self) -> Counter[str]:
        """Number of records by request id."""
        try:
            reader = SqliteReader(self.index)
        except StoreError:
            return Counter()
        try:
            found, place, more = Counter[str](), None, True
            while more:
                page = reader.feed(None, after=place, limit=1_000, bytes_max=1 << 23)
                found.update(decode(row.record).request_id for row in page.rows)
                place, more = page.place, page.more
            return found
        finally:
            reader.close()

    def wait_for_more(self) -> None:
        seen = self.records().total()
        until(lambda: seen < self.records().total() or seen == self.sent, "more is indexed")

    def completeness(self) -> tuple[int, dict[str, Any]]:
        done = run("completeness", "--json", "--store", str(self.index), cwd=self.directory)
        return done.returncode, json.loads(done.stdout)

    def lose(self) -> None:
        shutil.rmtree(self.index)


def ids(*ranges: tuple[int, int]) -> dict[str, int]:
    return {f"r-{n}": 1 for first, last in ranges for n in range(first, last + 1)}


def test_restored_index_catches_up_when_killed_at_any_point(address: str, tmp_path: Path) -> None:
    road = Road(tmp_path, address)
    road.send(200)
    with road.indexing() as indexer:
        until(lambda: road.records() == ids((1, 200)), "the first are indexed")
        made = run("backup", "copy", "--store", str(road.index), cwd=tmp_path)  # beside the running indexer
        assert made.returncode == 0, made.stderr
        road.send(200)
        until(lambda: road.records() == ids((1, 400)), "the second are indexed")
        until(lambda: road.completeness()[0] == 0, "T passed")
        indexer.stop(signal.SIGKILL)
    before = road.completeness()[1]
    road.lose()
    road.send(400)  # while there is no index

    restore = [COMMAND, "restore", "copy", "--store", str(road.index)]
    for _ in range(3):  # killed as soon as it has begun to copy
        with subprocess.Popen(restore, cwd=tmp_path, env=clean_environment(), stderr=subprocess.DEVNULL) as child:
            until(lambda: any(tmp_path.glob("index.*")) or road.index.exists() or child.poll() is not None)
            child.kill()
        if road.index.exists():  # it was faster than the kill
            assert road.records() == ids((1, 200))
            road.lose()
    done = run(*restore[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "an incident covers" not in done.stderr
    assert road.records() == ids((1, 200))
    assert [p.name for p in tmp_path.glob("index*")] == ["index"]

    for _ in range(4):  # killed as soon as it has indexed more
        with road.indexing() as indexer:
            road.wait_for_more()
            indexer.stop(signal.SIGKILL)
    with road.indexing() as indexer:
        until(lambda: road.records() == ids((1, 800)), lambda: f"each once: {road.records().most_common(3)}")
        road.send(10)
        until(lambda: road.records() == ids((1, 810)), "and what comes now")
        until(
            lambda: road.completeness()[0] == 0 and road.completeness()[1]["completeUntil"] > before["completeUntil"],
            lambda: f"T passes: {road.completeness()}",
        )
        assert indexer.stop() == 0
    assert road.completeness()[1]["incidents"] == []
    assert road.records() == ids((1, 810))


def test_what_retention_took_since_the_backup_is_an_incident(address: str, tmp_path: Path) -> None:
    road = Road(tmp_path, address)
    road.send(50)
    with road.indexing() as indexer:
        until(lambda: road.records() == ids((1, 50)), "the first are indexed")
        assert indexer.stop() == 0
    assert run("backup", "copy", "--store", str(road.index), cwd=tmp_path).returncode == 0
    road.send(50)  # the index would have had them
    with road.indexing() as indexer:
        until(lambda: road.records() == ids((1, 100)), "the second are indexed")
        assert indexer.stop() == 0
    everything = {TopicPartition(road.topic, partition): RecordsToDelete(-1) for partition in range(2)}
    admin(address, "delete_records", everything)
    road.lose()
    assert run("restore", "copy", "--store", str(road.index), cwd=tmp_path).returncode == 0
    road.send(50)
    with road.indexing() as indexer:
        until(lambda: road.records() == ids((1, 50), (101, 150)), lambda: f"{len(road.records())}")
        until(lambda: bool(road.completeness()[1]["incidents"]), "it is said")
        code, said = road.completeness()
        assert code == 1
        assert {incident["kind"] for incident in said["incidents"]} >= {"retention_passed"}, said["incidents"]
        assert indexer.stop() == 0
