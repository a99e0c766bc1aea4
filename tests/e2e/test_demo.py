"""`asgi-audit demo` ends by itself with numbers that agree, and leaves nothing behind; `--keep` serves until it is
stopped."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import until

from .commands import COMMAND, clean_environment, run, running

pytest.importorskip("datasette", reason="needs the demo's extra: pip install 'asgi-audit[server,demo]'")


def processes_with(text: str) -> list[str]:
    """Command lines of running processes that contain `text`."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        if text in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(line)
    return found


def test_demo_agrees_and_finds_no_secret(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    done = run("demo", "--home", str(home), cwd=tmp_path, seconds=120)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    found = re.fullmatch(
        r"demo: (\d+) requests, (\d+) records indexed, (\d+) answered by usage, (\d+) by trail, (\d+) by logs, "
        r"(\d+) exported, (\d+) by usage\.api\.list",
        last,
    )
    assert found is not None, last
    assert len(set(found.groups())) == 1
    assert int(found[1]) > 200
    assert "Found: nowhere." in done.stdout
    assert [line for line in lines if len(line.replace(str(home), "")) > 80] == []
    assert not processes_with(str(home))
    assert done.stderr == ""
    assert "Try next:" in lines
    errors = next(line for line in lines if " ask --status 4xx" in line)
    shown = subprocess.run(
        ["sh", "-c", errors], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) > 10
    assert " 403 " in shown.stdout


@pytest.mark.full
def test_demo_works_whatever_the_environment_says_of_us(tmp_path: Path) -> None:
    """A user's own settings, even wrong ones, do not affect the demo. A sidecar that dies ends it with one line."""
    home = tmp_path / "demo"
    environment = {"ASGI_AUDIT_ENABLED": "0", "ASGI_AUDIT_PORT": "wrong", "ASGI_AUDIT_ACCOUNT_ID": "mine"}
    with running(COMMAND, "demo", "--home", str(home), cwd=tmp_path, **environment) as demo:
        demo.wait_for("login with a password", 60)
        sidecar = [p for p in psutil.Process(demo.process.pid).children() if "index" in p.cmdline()]
        assert len(sidecar) == 1
        sidecar[0].kill()
        assert demo.process.wait(60) == 1
        until(lambda: "asgi-audit: sidecar ended with code -9" in demo.said, "the line is said")
    assert not processes_with(str(home))


def test_demo_refuses_a_directory_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    done = run("demo", "--home", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "was not created by the demo" in done.stderr
    assert (tmp_path / "mine.txt").read_text() == "keep me"


@pytest.mark.full
@pytest.mark.parametrize(("number", "codes"), [(2, (0, 130)), (15, (143,)), (9, (-9,))])
def test_demo_leaves_no_process_when_stopped_while_serving(number: int, codes: tuple[int, ...], tmp_path: Path) -> None:
    home = tmp_path / "demo"
    with running(COMMAND, "demo", "--keep", "--home", str(home), cwd=tmp_path) as demo:
        demo.wait_for("serving until Ctrl-C", 90)
        lines = demo.lines[next(i for i, line in enumerate(demo.lines) if line.startswith("Query its records")) :]
        pasted = "\n".join(line.strip() for line in lines if line.startswith("  "))
        environment = clean_environment(PATH=f"{Path(COMMAND).parent}:{os.environ['PATH']}")
        shell = subprocess.run(["sh", "-c", pasted], capture_output=True, text=True, timeout=60, env=environment)
        *table, last = shell.stdout.splitlines()
        assert len(table) == 51  # the head and the newest 50
        assert len(json.loads(last)["records"]) == 100
        assert demo.stop(number) in codes
    until(lambda: not processes_with(str(home)), "all children have ended")
