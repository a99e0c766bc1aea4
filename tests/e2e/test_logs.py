"""`--log-format json`: every log line of the commands is an object, and none contains a secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path

from .commands import COMMAND, clean_environment, run, running


def test_every_line_of_serve_and_its_indexer_is_json_and_no_key_is_shown(tmp_path: Path) -> None:
    with running(COMMAND, "serve", "--port", "0", "--log-format", "json", cwd=tmp_path) as serve:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", serve.wait_for("listens on"))
        assert found is not None
        serve.wait_for("there is no key yet")
        with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/health/live", timeout=60) as answer:
            assert answer.status == 200
        # The indexer beside logs in the same format: it is killed, and started again.
        lease = tmp_path / ".asgi-audit/index/lease"
        while not lease.exists() or not lease.read_text():
            pass
        os.kill(int(lease.read_text().split()[0]), 9)
        serve.wait_for("the indexer ended")
        assert serve.stop() == 0
        lines = [json.loads(line) for line in serve.lines]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert "aa_" not in serve.said
    assert lines[0]["home"] == str(tmp_path / ".asgi-audit")
    key = run("keys", "create", "--role", "reader", "--account", "acme", cwd=tmp_path)
    assert key.stdout.startswith("aa_")


def test_index_logs_fields_and_errors_are_json_too(tmp_path: Path) -> None:
    with running(COMMAND, "index", cwd=tmp_path, ASGI_AUDIT_LOG_FORMAT="json") as index:
        line = json.loads(index.wait_for("indexing from"))
        assert line["to"] == f"sqlite:///{tmp_path}/.asgi-audit/index"
        assert index.stop() == 0
    done = subprocess.run(
        [COMMAND, "index", "--to", "ftp://nonsense"],
        cwd=tmp_path,
        env=clean_environment(ASGI_AUDIT_LOG_FORMAT="json"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    error = json.loads(done.stderr)
    assert (error["level"], "setting store is 'ftp://nonsense'" in error["message"]) == ("ERROR", True)


def test_format_that_is_none_is_one_line(tmp_path: Path) -> None:
    done = run("index", "--log-format", "xml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "asgi-audit: setting log_format is 'xml'; accepted: one of text, json\n"
