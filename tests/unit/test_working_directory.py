"""An application that changes its working directory keeps recording to the same place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

APPLICATION = """
import asyncio, os, sys
import asgi_audit
from starlette.applications import Starlette
from starlette.testclient import TestClient
from asgi_audit.transport.journal import writer as journal_writer
from asgi_audit.wiring.application import AuditMiddleware

journal_writer.SEGMENT_BYTES = 4096  # more than one file
how, elsewhere = sys.argv[1:]
app = Starlette()
if how == "install":
    app = asgi_audit.install(app)
elif how == "wrap":
    app = AuditMiddleware(app)
else:
    app.add_middleware(AuditMiddleware)
    TestClient(app).get("/first")
os.chdir(elsewhere)
with TestClient(app) as client:
    for n in range(40):
        client.get("/x", params={"n": str(n) * 200})
if how == "wrap":
    again = AuditMiddleware(app.app, home=os.path.join("..", ".asgi-audit"))
    assert again.recorder._state is app.recorder._state
"""


@pytest.mark.parametrize("how", ["install", "wrap", "add"])
def test_journal_stays_where_it_began_when_the_application_changes_its_directory(how: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ASGI_AUDIT_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", APPLICATION, how, str(elsewhere)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert os.listdir(elsewhere) == []
    shown = subprocess.run(
        [sys.executable, "-m", "asgi_audit", "tail", "-n", "100"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert shown.stdout.count("GET /x") == 40, shown.stderr
