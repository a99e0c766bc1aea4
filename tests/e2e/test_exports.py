"""Exports with the installed command alone: requested, written beside `serve`, downloaded; also after kill -9."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from tests.support.ports import free_port
from tests.support.waiting import until

from .commands import COMMAND, run, running
from .test_purge import record_days_ago


def call(url: str, key: str = "", body: Any = None) -> tuple[int, Any, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
            is_json = answer.headers["content-type"] == "application/json"
            return answer.status, json.loads(text) if is_json else text, answer.headers
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read()), e.headers


def found_in(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


def new_key(home: Path) -> str:
    """A key of an auditor of every account."""
    return found_in(r"(aa_[\w-]+)", run("keys", "create", "--role", "auditor", "--account", "*", cwd=home).stdout)


def exporter_of(serve: int) -> int:
    """Its process id; 0 while there is none."""
    for child in psutil.Process(serve).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "export" in child.cmdline():
                return child.pid
    return 0


def test_export_is_written_beside_serve_and_downloaded(tmp_path: Path) -> None:
    record_days_ago(1, 300, tmp_path)
    key = new_key(tmp_path)
    now = datetime.now(UTC)
    window = {"time_start": (now - timedelta(days=2)).isoformat(), "time_end": now.isoformat()}
    with running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as serve:
        base = found_in(r"listens on (\S+),", serve.wait_for("listens on"))
        until(lambda: call(f"{base}/api/v1/logs/_list?type=query", key, {})[0] == 200, "it answers")
        asked: list[dict[str, Any]] = []

        def is_taken() -> bool:
            status, answer, _ = call(f"{base}/api/v1/logs?type=query", key, {"region_group": "classic", **window})
            asked.append(answer)
            return status == 200

        until(is_taken, "the exporter has begun")
        found: dict[str, Any] = {}

        def is_complete() -> bool:
            found.update(call(f"{base}/api/v1/logs/{asked[-1]['request_id']}", key)[1])
            return bool(found["state"] == "Complete")

        until(is_complete, "the export is complete")
        assert found["presigned_url"].startswith(base + "/exports/")
        status, data, headers = call(found["presigned_url"])
        assert (status, headers["content-type"], headers["content-encoding"]) == (200, "application/gzip", None)
        lines = gzip.decompress(data).splitlines()
        assert sum(json.loads(line)["service"] != "logs" for line in lines) == 300
        manifest = call(found_in(r"<(.*)>", headers["link"]))[1]
        assert manifest["records"] == len(lines)
        killed = exporter_of(serve.process.pid)
        os.kill(killed, signal.SIGKILL)
        until(lambda: exporter_of(serve.process.pid) not in (0, killed), "it is started again")
        status, listed, _ = call(f"{base}/api/v1/logs/_list?type=query", key, {"states": ["Complete"]})
        assert [e["request_id"] for e in listed["results"]] == [found["request_id"]]
        children = psutil.Process(serve.process.pid).children()
        assert serve.stop() == 0
        assert not [child for child in children if child.is_running()]


def test_export_is_refused_where_nothing_runs_exports_and_taken_when_something_does(tmp_path: Path) -> None:
    """The API mounted in an application, and `asgi-audit export` beside it."""
    record_days_ago(1, 3, tmp_path)
    key = new_key(tmp_path)
    (tmp_path / "app.py").write_text("import asgi_audit\napp = asgi_audit.create_app()\n")
    port = str(free_port())
    uvicorn = str(Path(COMMAND).parent / "uvicorn")
    now = datetime.now(UTC)
    body = {
        "region_group": "classic",
        "time_start": (now - timedelta(days=2)).isoformat(),
        "time_end": (now + timedelta(hours=1)).isoformat(),
    }
    url = f"http://127.0.0.1:{port}/api/v1/logs?type=query"
    with running(uvicorn, "app:app", "--port", port, cwd=tmp_path, PYTHONPATH=str(tmp_path)) as app:
        app.wait_for("Uvicorn running on")
        status, answer, _ = call(url, key, body)
        assert (status, answer["code"]) == (503, "unavailable")
        assert "asgi-audit serve" in answer["message"]
        with running(COMMAND, "export", cwd=tmp_path) as export:
            export.wait_for("running exports to")
            until(lambda: call(url, key, body)[0] == 200, "it is taken")
            assert export.stop() == 0
        assert call(url, key, body)[0] == 503
