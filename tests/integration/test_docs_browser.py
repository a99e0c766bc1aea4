"""`/docs` in a real browser, over a real socket, without access to any other host."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from tests.support.api import Api
from tests.support.operations import TABLE
from tests.support.waiting import until

from asgi_audit.api.docs import Documentation

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture
def browser() -> str:
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    pytest.skip("needs a browser: apt-get install chromium (or Google Chrome in the PATH)")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    api = Api(tmp_path)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(api.app, log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listening.close()
    api.close()


@pytest.mark.full
def test_page_is_shown_without_another_host(browser: str, url: str, tmp_path: Path) -> None:
    words = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--enable-logging=stderr",
        "--dump-dom",
        f"{url}/docs",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr  # a style or a font that was refused
    for path in json.loads(Documentation(TABLE).openapi)["paths"]:
        assert path in done.stdout
