"""`asgi-audit completeness --acknowledge`: a silent process is gone for good."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest
from tests.support_records import PROCESS, batch

from asgi_audit.cli import main
from asgi_audit.store.base import Completion, Incident, ProcessState
from asgi_audit.store.sqlite import SqliteWriter


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """One process fell silent a minute ago."""
    now = int(time.time() * 1000)
    writer = SqliteWriter(tmp_path / "index")
    silent = Incident(
        id=1, kind="silent", process=str(PROCESS), opened_at=now - 60_000, start=now - 180_000, end=None
    )  # fmt: skip
    off = ProcessState(process=PROCESS.bytes, partition="p", started=now - 200_000, standing="off")
    writer.write(batch(completion=Completion(now - 10_000, False, [off], [silent])))
    writer.close()
    return tmp_path / "index"


def run(index: Path, *arguments: str) -> int:
    return main(["completeness", "--store", f"sqlite:///{index}", *arguments])


def test_window_is_complete_again_when_a_silent_process_is_acknowledged(
    index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 50))
    assert run(index, "--from", since) == 1
    assert run(index, "--acknowledge", str(PROCESS).upper()) == 0
    assert "gone for good" in capsys.readouterr().err
    assert run(index, "--from", since) == 0
    assert run(index) == 1, "what is unproven stays so"


@pytest.mark.parametrize("wrong", ["x", str(uuid.UUID(int=1))])
def test_only_a_silent_process_can_be_acknowledged(index: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    assert run(index, "--acknowledge", wrong) == 2
    assert f"accepted: a process that is silent: {PROCESS}" in capsys.readouterr().err
    assert run(index, "--acknowledge", str(PROCESS)) == 0
    assert run(index, "--acknowledge", str(PROCESS)) == 2
    assert "there is none" in capsys.readouterr().err
