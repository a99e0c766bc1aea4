"""A program ends while the recorder still works: it ends with its own exit code, and every exchange is accounted for.

Method: whole programs, as users write them, each with a backlog of large bodies that keeps the recorder's thread in
compiled code; their journal is read afterwards as an indexer reads it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_audit.record.statement import Statement, decode_statement
from asgi_audit.transport.base import Kind
from asgi_audit.transport.journal import JournalSource

PROGRAM = """
import asyncio, json, multiprocessing, os, signal, sys, threading, time
from asgi_audit import AuditMiddleware

ITEM = {"password": "correct horse", "note": "a word of thanks"}
BODY = json.dumps({"items": [ITEM | {"n": n} for n in range(600)]})
SCOPE = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"",
         "scheme": "http", "headers": [(b"content-type", b"application/json")], "client": None, "server": None}

async def app(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": BODY.encode()})

audited = AuditMiddleware(app, home=sys.argv[1])

async def requests(count):
    async def receive():
        return {"type": "http.request", "body": BODY.encode()}
    async def send(message):
        pass
    for _ in range(count):
        await audited(dict(SCOPE), receive, send)

def go(count=1500):
    asyncio.run(requests(count))

def forever():
    while True:
        go(20)

def child(code):
    go(300)
    sys.exit(code)

WAYS = {
    "returns": lambda: go(),
    "exits": lambda: (go(), sys.exit(3)),
    "raises": lambda: (go(), 1 / 0),
    "interrupted": lambda: (go(), os.kill(os.getpid(), signal.SIGINT), signal.pause()),
    "terminated": lambda: (go(), signal.raise_signal(signal.SIGTERM)),
    "thread goes on": lambda: threading.Thread(target=go).start(),
    "daemon goes on": lambda: (threading.Thread(target=forever, daemon=True).start(), go(100), sys.exit(4)),
}

if __name__ == "__main__":
    way = sys.argv[2]
    if way == "forks":
        go(300)
        pid = os.fork()
        if not pid:
            go(300)
            sys.exit(5)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    if way in ("fork", "spawn"):
        go(300)
        process = multiprocessing.get_context(way).Process(target=child, args=(6,))
        process.start()
        process.join()
        sys.exit(process.exitcode)
    WAYS[way]()
"""

CODES = {
    "returns": 0,
    "exits": 3,
    "raises": 1,
    "interrupted": -signal.SIGINT,
    "terminated": -signal.SIGTERM,
    "thread goes on": 0,
    "daemon goes on": 4,
    "forks": 5,
    "fork": 6,
    "spawn": 6,
}


def read(root: Path) -> tuple[dict[str, set[int]], dict[str, list[Statement]]]:
    """Sequences of records, and statements, by process; journals of dead processes are adopted."""
    source = JournalSource(root)
    source.open({})
    records: dict[str, set[int]] = {}
    statements: dict[str, list[Statement]] = {}
    while messages := source.poll(10_000, 0.2).messages:
        for m in messages:
            if m.kind is Kind.RECORD:
                records.setdefault(m.partition, set()).add(m.sequence)
            elif m.kind is Kind.STATEMENT:
                statements.setdefault(m.partition, []).append(decode_statement(m.payload))
    source.close()
    return records, statements


@pytest.mark.parametrize("way", CODES)
def test_exit_code_is_the_programs_own_when_it_ends_with_a_backlog(tmp_path: Path, way: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "home"), way], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == CODES[way], done.stderr[-2000:]
    assert "Fatal Python error" not in done.stderr
    assert "FATAL" not in done.stderr
    records, statements = read(tmp_path / "home" / "journal")
    assert statements
    for process, said in statements.items():
        lost = {n for s in said for r in s.lost for n in range(r.first, r.last + 1)}
        assert records.get(process, set()) | lost == set(range(1, said[-1].last + 1))
        assert not records.get(process, set()) & lost
        if way not in ("daemon goes on", "terminated", "fork", "forks"):
            assert (said[-1].closed, said[-1].open_count) == ("final", 0)
