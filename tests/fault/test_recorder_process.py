"""A process with a recorder over a real journal: a clean exit, an exit without `atexit`, many forked workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from asgi_audit.record.statement import Statement, decode_statement
from asgi_audit.transport.base import Kind
from asgi_audit.transport.journal import JournalSource

PROGRAM = """
import os, signal, sys, threading, time
from pathlib import Path
from tests.support.exchanges import begun, seal
from asgi_audit.recording.recorder import shared_recorder
from asgi_audit.settings import make_settings
from asgi_audit.transport.journal import JournalWriter

root, way = Path(sys.argv[1]), sys.argv[2]

class Builder:
    def __init__(self, settings, facts): pass
    def build(self, exchange, shed=0): return b'{"n":%d}' % exchange.sequence

settings = make_settings({}, transport=f"journal:///{root}")
recorder = shared_recorder(
    settings, lambda facts: JournalWriter(root, facts, bytes_max=1 << 24, segment_bytes=4096), builder_factory=Builder
)

def go(count):
    for _ in range(count):
        seal(recorder, begun(recorder))

go(100)
if way == "exit":
    sys.exit(0)
if way == "terminated":
    os.kill(os.getpid(), signal.SIGTERM)  # as servers do: the default action, without atexit
if way == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if way == "fork":
    children = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            go(50)
            os._exit(0 if recorder.flush(10) else 1)
        children.append(pid)
    go(10)
    bad = [pid for pid in children if os.waitpid(pid, 0)[1]]
    sys.exit(len(bad))
signal.pause()
"""


def run(root: Path, way: str) -> tuple[int, list[int], dict[str, list[Statement]]]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, str(root), way]
    status = subprocess.run(command, timeout=60, check=False).returncode
    source = JournalSource(root, adopt_seconds=0)
    source.open({})
    found: list[int] = []
    statements: dict[str, list[Statement]] = {}
    for _ in range(100):
        batch = source.poll(10_000, 0)
        for message in batch.messages:
            if message.kind is Kind.RECORD:
                assert json.loads(message.payload) == {"n": message.sequence}
                found.append(message.sequence)
            else:
                statements.setdefault(message.partition, []).append(decode_statement(message.payload))
        source.commit(batch.positions)
    if root.exists():
        assert list(root.glob("[!.]*")) == []
    return status, found, statements


def test_everything_is_written_and_final_when_the_interpreter_ends(tmp_path: Path) -> None:
    status, found, statements = run(tmp_path / "journal", "exit")
    assert status == 0
    assert found == list(range(1, 101))
    ((*_, last),) = statements.values()
    assert last.closed == "final"
    assert last.last == 100


@pytest.mark.parametrize("way", ["terminated", "killed"])
def test_records_and_stated_losses_agree_when_the_process_dies_at_once(tmp_path: Path, way: str) -> None:
    """Killed right after sealing: either before the journal was made (then nothing is known), or everything is
    accounted for."""
    status, found, statements = run(tmp_path / "journal", way)
    assert status < 0
    for of_process in statements.values():
        last = of_process[-1]
        assert last.closed == "adopted"
        assert last.proven
        lost = sum(r.last - r.first + 1 for s in of_process for r in s.lost)
        assert len(found) + lost == last.last == 100
    if not statements:
        assert found == []


def test_each_worker_has_a_journal_of_its_own_when_forked(tmp_path: Path) -> None:
    status, found, statements = run(tmp_path / "journal", "fork")
    assert status == 0
    assert len(statements) == 4
    assert sorted(of_process[-1].last for of_process in statements.values()) == [50, 50, 50, 110]
    assert len(found) == 260
    assert sum(r.last - r.first + 1 for of in statements.values() for s in of for r in s.lost) == 0
