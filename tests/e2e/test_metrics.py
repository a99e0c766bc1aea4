"""Metrics and health of the installed commands: the sidecar, its standby, the API."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.waiting import until

from .commands import COMMAND, running

APPLICATION = """
import asyncio, sys
from asgi_audit import AuditMiddleware
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
async def receive(): return {"type": "http.request", "body": b"", "more_body": False}
async def send(message): pass
scope = {"type": "http", "method": "GET", "path": "/private-path", "raw_path": b"/", "query_string": b"", "headers": [],
         "http_version": "1.1", "scheme": "http", "root_path": "", "server": ("a", 1), "client": ("b", 2)}
async def main():
    audited = AuditMiddleware(app, service="private-service", account_id="private-account")
    for i in range(25): await audited(dict(scope), receive, send)
asyncio.run(main())
"""


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.read().decode()


def port_of(line: str) -> int:
    found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
    assert found is not None, line
    return int(found[1])


def values(port: int) -> dict[str, float]:
    status, text = get(port, "/metrics")
    assert status == 200
    assert "private" not in text
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_sidecar_and_standby_show_metrics_and_health(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", APPLICATION], cwd=tmp_path, check=True, timeout=60)
    with running(COMMAND, "index", "--metrics-port", "0", cwd=tmp_path) as first:
        port = port_of(first.wait_for("metrics and health on"))
        first.wait_for("indexing from")
        until(lambda: values(port).get("asgi_audit_indexer_indexed_total") == 25, "all is indexed")
        until(lambda: "asgi_audit_index_caught_up_age_seconds" in values(port), "nothing is left")
        found = values(port)
        assert found["asgi_audit_indexer_active"] == 1
        assert found["asgi_audit_index_records_total"] == 25
        assert found["asgi_audit_index_captured_total"] == 25
        assert found['asgi_audit_index_lost_total{reason="queue"}'] == 0
        assert found["asgi_audit_index_dead_letters_total"] == 0
        assert found["asgi_audit_indexer_batch_seconds_count"] >= 1
        assert found["asgi_audit_index_caught_up_age_seconds"] < 60
        until(lambda: values(port).get("asgi_audit_journal_lag_bytes") == 0, "nothing waits")
        assert get(port, "/health/ready") == (200, '{"status": "ok"}')
        with running(COMMAND, "index", cwd=tmp_path, ASGI_AUDIT_METRICS_PORT="0") as standby:
            other = port_of(standby.wait_for("metrics and health on"))
            standby.wait_for("waiting to take over")
            assert get(other, "/health/ready")[0] == get(other, "/health/live")[0] == 200
            assert values(other)["asgi_audit_indexer_active"] == 0
            assert first.stop() == 0
            standby.wait_for("indexing from")
            until(lambda: values(other)["asgi_audit_indexer_active"] == 1, "it has taken over")
            assert standby.stop() == 0


def test_api_shows_metrics_and_is_not_ready_while_its_indexer_is_away(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", APPLICATION], cwd=tmp_path, check=True, timeout=60)
    with running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as serve:
        port = port_of(serve.wait_for("listens on"))
        until(lambda: get(port, "/health/ready")[0] == 200, "ready")
        until(lambda: values(port).get("asgi_audit_index_records_total") == 25, "all is indexed")
        found = values(port)
        assert found['asgi_audit_api_request_seconds_count{dialect="health",status="200"}'] >= 1
        assert found["asgi_audit_index_readable"] == 1
        pid = (tmp_path / ".asgi-audit/index/lease").read_text().split()[0]
        subprocess.run(["kill", "-9", pid], check=True)
        until(lambda: get(port, "/health/ready")[0] == 503, "it has noticed")
        assert json.loads(get(port, "/health/ready")[1])["reasons"] == ["the indexer process is not running"]
        until(lambda: get(port, "/health/ready")[0] == 200, "the indexer is there again")
        assert serve.stop() == 0
