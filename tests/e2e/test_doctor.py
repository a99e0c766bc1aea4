"""`asgi-audit doctor`: before anything exists, beside a running service, and when something is broken."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.support.waiting import until

from .commands import COMMAND, run, running


def test_doctor_says_what_is_missing_then_that_all_is_well_then_what_is_broken(tmp_path: Path) -> None:
    first = run("doctor", cwd=tmp_path)
    assert first.returncode == 0, first.stdout
    assert "warn  index         nothing is indexed yet. Start" in first.stdout
    assert os.listdir(tmp_path) == []
    with running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as serve:
        serve.wait_for("More keys")
        until(lambda: "everything was read up to" in run("doctor", cwd=tmp_path).stdout, "it indexes")
        beside = run("doctor", "--json", cwd=tmp_path)
        assert beside.returncode == 0
        report = json.loads(beside.stdout)
        assert report["ok"] is True
        by_name = {check["about"]: check for check in report["checks"]}
        assert by_name["lease"]["message"].startswith("held by process ")
        assert {"settings", "journal", "processes", "clock", "index", "keys", "dead letters"} <= set(by_name)
        assert by_name["keys"]["message"].startswith("1 active")
        assert serve.stop() == 0
    (tmp_path / ".asgi-audit/control.db").chmod(0o666)
    broken = run("doctor", cwd=tmp_path)
    assert broken.returncode == 1
    assert "bad   access        .asgi-audit/control.db (0666) may be changed by others. chmod go-rwx" in broken.stdout
    assert "bad   lease         no indexer runs. Start" in broken.stdout
    assert broken.stderr == ""


def test_wrong_setting_is_a_finding(tmp_path: Path) -> None:
    done = run("doctor", "--to", "nonsense:x", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("bad   settings      setting store is ")
