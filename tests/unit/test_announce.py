"""The line logged at start, under a server that configures only its own loggers and in an application that configures
logging."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, logging, sys
{logging}
import asgi_audit
from starlette.applications import Starlette
app = asgi_audit.install(Starlette(), home={home!r}, service="shop"{more})
async def main():
    came = iter(["lifespan.startup", "lifespan.shutdown"])
    async def receive(): return {{"type": next(came)}}
    async def send(message): pass
    await app({{"type": "lifespan", "asgi": {{"version": "3.0"}}, "state": {{}}}}, receive, send)
asyncio.run(main())
"""


@pytest.mark.parametrize("configured", [False, True])
def test_one_line_says_where_records_go_when_the_application_starts(tmp_path: Path, configured: bool) -> None:
    setup = "logging.basicConfig(level=logging.INFO, format='%(levelname)s:%(message)s')" if configured else ""
    program = PROGRAM.format(home=str(tmp_path), logging=setup, more="")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (line,) = run.stderr.splitlines()
    assert line.startswith("INFO:asgi-audit " if configured else "asgi-audit ")
    assert f"service 'shop' in {tmp_path / 'journal'}" in line
    assert "asgi-audit tail" in line
    assert run.stdout == ""


def test_the_application_is_not_disturbed_when_stderr_is_closed(tmp_path: Path) -> None:
    program = PROGRAM.format(home=str(tmp_path), logging="sys.stderr.close()", more="")
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)


def test_the_line_names_the_brokers_without_a_password_when_records_go_to_kafka(tmp_path: Path) -> None:
    more = ", transport='kafka://127.0.0.1:9/audit', kafka_username='ann', kafka_password='s3cret'"
    program = PROGRAM.format(home=str(tmp_path), logging="", more=more)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "sends them to kafka://127.0.0.1:9/audit" in run.stderr
    assert "s3cret" not in run.stderr
