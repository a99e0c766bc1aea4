"""Processes with the transport Kafka: at their start, at their end, and after fork."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.commands import clean_environment

from asgi_audit.transport.base import Kind

from .conftest import make_topic, read_all

ROOT = Path(__file__).parents[3]
# A program that serves three requests in each of its processes, without a server and without lifespan.
PROGRAM = """
import asyncio, os, sys, threading
from asgi_audit import AuditMiddleware
from tests.support.waiting import until

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

async def requests():
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message):
        pass
    for n in range(3):
        scope = {"type": "http", "method": "GET", "path": f"/{os.getpid()}/{n}", "headers": [], "query_string": b""}
        await audited(scope, receive, send)

audited = AuditMiddleware(app)
assert not [t for t in threading.enumerate() if t.name.startswith("asgi-audit")]
asyncio.run(requests())
if "fork" in sys.argv:
    until(lambda: audited.stats().get("forward_acknowledged", 0) >= 3)
    child = os.fork()
    if not child:
        asyncio.run(requests())
        print("child", audited.stats()["sealed"])
        sys.stdout.flush()
        sys.exit(0)
    os.waitpid(child, 0)
    asyncio.run(requests())
print("stats", audited.stats()["sealed"])
"""


def run(url: str, home: Path, *arguments: str, **environment: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=clean_environment(ASGI_AUDIT_TRANSPORT=url, ASGI_AUDIT_HOME=str(home), **environment),
        capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {k: int(v) for k, v in (line.split() for line in done.stdout.splitlines())}


def test_program_that_ends_by_itself_sends_what_it_wrote_and_its_final_statement(address: str, tmp_path: Path) -> None:
    config = make_topic(address)
    said = run(f"kafka://{config.address}", tmp_path)
    assert said["stats"] == 3
    messages = read_all(config, 4)
    records = [json.loads(m.payload) for m in messages if m.kind is Kind.RECORD]
    assert [r["context"]["capture"]["sequence"] for r in records] == [1, 2, 3]
    last = json.loads([m.payload for m in messages if m.kind is Kind.STATEMENT][-1])
    assert (last["last"], last["closed"]) == (3, "final")
    # The next one sends nothing again: the position is beside the journal.
    run(f"kafka://{config.address}", tmp_path)
    again = read_all(config, 8)
    processes = [json.loads(m.payload)["context"]["capture"]["process"] for m in again if m.kind is Kind.RECORD]
    assert sorted(processes.count(p) for p in set(processes)) == [3, 3]


def test_child_forwards_its_own_journal_when_a_process_forks(address: str, tmp_path: Path) -> None:
    config = make_topic(address)
    said = run(f"kafka://{config.address}", tmp_path, "fork")
    assert (said["stats"], said["child"]) == (6, 3)
    messages = read_all(config, 11)
    pairs = [
        (c["process"], c["sequence"])
        for c in (json.loads(m.payload)["context"]["capture"] for m in messages if m.kind is Kind.RECORD)
    ]
    assert len(pairs) == len(set(pairs)) == 9
    assert len({process for process, _ in pairs}) == 2


def test_application_starts_serves_and_ends_when_kafka_is_not_there(tmp_path: Path) -> None:
    """No part waits for a broker: there never is one."""
    assert run("kafka://127.0.0.1:1/topic", tmp_path)["stats"] == 3
    (process,) = (p.name for p in (tmp_path / "journal").glob("[!.]*"))
    assert (tmp_path / "journal" / process / "counters").exists()


def test_missing_package_is_one_clear_line_at_the_start(tmp_path: Path) -> None:
    program = "import sys; sys.modules['aiokafka'] = None\n" + PROGRAM
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(ASGI_AUDIT_TRANSPORT="kafka://h:1/t", ASGI_AUDIT_HOME=str(tmp_path)),
        capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    assert "ConfigError: the package aiokafka is not installed" in done.stderr
    assert not (tmp_path / "journal").exists()


def test_secret_is_in_no_message_when_two_middlewares_want_different_ones(tmp_path: Path) -> None:
    program = (
        "from asgi_audit import AuditMiddleware as A\n"
        "one = A(None, kafka_username='u', kafka_password='first-secret')\n"
        "print(one.settings)\n"
        "try: A(None, kafka_username='u', kafka_password='second-secret')\n"
        "except Exception as e: print(e, e.hint)\n"
        "try: A(None, transport='kafka://user:third-secret@h/t')\n"
        "except Exception as e: print(e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(ASGI_AUDIT_TRANSPORT="kafka://h:1/t", ASGI_AUDIT_HOME=str(tmp_path)),
        capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    assert "-secret" not in done.stdout + done.stderr
    assert "setting kafka_password is '***'" in done.stdout
    assert "user and password are separate settings" in done.stdout


def test_registry_of_the_application_shows_what_is_forwarded(address: str, tmp_path: Path) -> None:
    config = make_topic(address)
    program = PROGRAM.replace(
        "audited = AuditMiddleware(app)",
        "from prometheus_client import CollectorRegistry, generate_latest\n"
        "registry = CollectorRegistry()\n"
        "audited = AuditMiddleware(app, metrics=registry)",
    ) + (
        "until(lambda: audited.stats().get('forward_acknowledged', 0) >= 3)\n"
        "print(generate_latest(registry).decode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(ASGI_AUDIT_TRANSPORT=f"kafka://{config.address}", ASGI_AUDIT_HOME=str(tmp_path)),
        capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = dict(line.split() for line in done.stdout.splitlines() if line.startswith("asgi_audit_"))
    assert float(shown["asgi_audit_captured_total"]) == 3
    assert float(shown["asgi_audit_forward_sent_total"]) >= 3
    assert float(shown["asgi_audit_forward_connected"]) == 1
    assert float(shown["asgi_audit_forward_refused_total"]) == 0
    assert float(shown['asgi_audit_lost_total{reason="refused"}']) == 0
