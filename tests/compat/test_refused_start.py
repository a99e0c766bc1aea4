"""A wrong setting under each server: it stops and prints one line with the reason; without lifespan, every request
fails and the line is at the end of the server's output for it.

uvicorn is installed for development; the others are tested where they are installed (`pip install hypercorn granian
daphne gunicorn uvicorn-worker`)."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.e2e.commands import Running, running
from tests.support.ports import free_port
from tests.support.waiting import until

APPLICATION = Path(__file__).with_name("refused_app.py")
SAID = "setting ASGI_AUDIT_DELIVERY is 'durabel'; accepted: one of buffered, durable; did you mean durable?"
STOPPING = {
    "uvicorn": "uvicorn refused_app:app --port {port}",
    "uvicorn-lifespan-on": "uvicorn refused_app:app --lifespan on --port {port}",
    "uvicorn-factory": "uvicorn --factory refused_app:make --port {port}",
    "uvicorn-workers": "uvicorn refused_app:app --workers 2 --port {port}",
    "hypercorn": "hypercorn refused_app:app -b 127.0.0.1:{port}",
    "granian": "granian --interface asgi refused_app:app --port {port}",
    "gunicorn": "gunicorn refused_app:app -k uvicorn_worker.UvicornWorker -b 127.0.0.1:{port} --no-control-socket",
}
GOING_ON = {
    "uvicorn-without-lifespan": "uvicorn refused_app:app --lifespan off --port {port}",
    "granian-without-lifespan": "granian --interface asginl refused_app:app --port {port}",
    "daphne": "daphne refused_app:app -b 127.0.0.1 -p {port}",
}


@contextlib.contextmanager
def serving(line: str, tmp_path: Path, **environment: str) -> Iterator[tuple[Running, str]]:
    port = free_port()
    module, *arguments = line.format(port=port).split()
    for needed in (module, *(["uvicorn_worker"] if module == "gunicorn" else [])):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: pip install {needed.replace('_', '-')}")
    shutil.copy(APPLICATION, tmp_path)
    wanted = {"ASGI_AUDIT_HOME": str(tmp_path / "home"), "ASGI_AUDIT_DELIVERY": "durabel", **environment}
    with running(sys.executable, "-m", module, *arguments, cwd=tmp_path, **wanted) as server:
        try:
            yield server, f"http://127.0.0.1:{port}/"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.process.pid, signal.SIGKILL)  # workers and reloaders too


def answered(url: str) -> int:
    """The status, or 0 while no server listens."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, timeout=60, trust_env=False).status_code
    return 0


@pytest.mark.parametrize("name", STOPPING)
def test_server_stops_and_prints_why_when_a_setting_is_wrong(name: str, tmp_path: Path) -> None:
    with serving(STOPPING[name], tmp_path) as (server, _):
        server.process.wait(60)
        until(lambda: SAID in server.said, "it says why")
        assert "startup complete" not in server.said


def test_reloader_prints_why_and_waits_for_a_change_when_a_setting_is_wrong(tmp_path: Path) -> None:
    with serving("uvicorn refused_app:app --reload --port {port}", tmp_path) as (server, url):
        until(lambda: SAID in server.said and "Application startup failed" in server.said, "it says why")
        assert "startup complete" not in server.said
        assert answered(url) == 0


@pytest.mark.parametrize("name", GOING_ON)
def test_every_request_fails_when_no_lifespan_is_spoken(name: str, tmp_path: Path) -> None:
    with serving(GOING_ON[name], tmp_path) as (server, url):
        statuses: list[int] = []
        until(lambda: statuses.append(answered(url)) or statuses[-1] != 0, "it serves")
        assert [answered(url) for _ in range(3)] == [500, 500, 500]
        until(lambda: SAID in server.said, "it says why")


@pytest.mark.parametrize("name", GOING_ON | {"uvicorn": STOPPING["uvicorn"]})
def test_application_serves_without_us_when_it_is_turned_off(name: str, tmp_path: Path) -> None:
    with serving((GOING_ON | STOPPING)[name], tmp_path, ASGI_AUDIT_ENABLED="0") as (_, url):
        until(lambda: answered(url) == 200, "it serves")
    assert not (tmp_path / "home").exists()
