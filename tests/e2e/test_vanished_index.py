"""An index that disappears under `serve`: queries are refused, nothing is created in its place, and no record is
lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.waiting import until

from .commands import COMMAND, Running, run, running
from .test_metrics import APPLICATION, get, port_of, values

pytestmark = pytest.mark.full
WINDOW = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}


def moved(index: Path) -> None:
    index.rename(index.parent / "kept")


def emptied(index: Path) -> None:
    """A volume that is not mounted leaves its mount point."""
    moved(index)
    index.mkdir()


def cut(index: Path) -> None:
    shutil.copytree(index, index.parent / "kept")
    os.truncate(index / "main.db", 0)


def without_a_day(index: Path) -> None:
    shutil.copytree(index, index.parent / "kept")
    for path in index.glob("day-*"):
        path.unlink()


def put_back(index: Path) -> None:
    shutil.rmtree(index, ignore_errors=True)
    (index.parent / "kept").rename(index)


def record(cwd: Path) -> None:
    subprocess.run([sys.executable, "-c", APPLICATION], cwd=cwd, check=True, timeout=60)


def asked(port: int, key: str) -> tuple[int, dict[str, object]]:
    """A query of everything and its first page; the first response that is an error."""
    status, said = _call(port, key, "/trail", json.dumps(WINDOW).encode())
    if status >= 400:
        return status, said
    return _call(port, key, f"/trail/query-result/{said['queryExecutionId']}")


def _call(port: int, key: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, object]]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers), timeout=30
        ) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as e:
        with e:
            return e.code, json.load(e)


def key_of(cwd: Path) -> str:
    made = run("keys", "create", "--role", "auditor", "--account", "*", cwd=cwd)
    return next(word for word in made.stdout.split() if word.startswith("aa_"))


def indexed(port: int) -> float:
    return values(port).get("asgi_audit_index_records_total", 0)


def is_refused(port: int, key: str) -> bool:
    status, said = asked(port, key)
    return (
        status == 503
        and isinstance(said.get("message"), str)
        and get(port, "/health/ready")[0] == 503
        and values(port)["asgi_audit_index_readable"] == 0
        and "asgi_audit_journal_bytes" in values(port)
    )


@pytest.mark.parametrize("gone", [moved, emptied, cut, without_a_day], ids=lambda f: f.__name__)
def test_index_that_is_gone_is_never_called_empty(gone: Callable[[Path], None], tmp_path: Path) -> None:
    index = tmp_path / ".asgi-audit" / "index"
    key = key_of(tmp_path)
    record(tmp_path)
    with running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as serve:
        port = port_of(serve.wait_for("listens on"))
        until(lambda: indexed(port) == 25, "all is indexed")
        assert asked(port, key)[0] == 200
        gone(index)
        until(lambda: is_refused(port, key), "it is noticed")
        record(tmp_path)  # while it is missing
        serve.wait_for("starting it again")
        assert is_refused(port, key)
        serve.stop()
    # After a restart the home still remembers it.
    with running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as serve:
        port = port_of(serve.wait_for("listens on"))
        serve.wait_for("starting it again")
        assert is_refused(port, key)
        assert not list(index.glob("day-*")) or gone is cut
        put_back(index)
        until(lambda: get(port, "/health/ready")[0] == 200, "it is back")
        until(lambda: indexed(port) >= 50, "nothing was lost")
        assert values(port)["asgi_audit_index_readable"] == 1
        assert asked(port, key)[0] == 200
        serve.stop()


def refused(cwd: Path, *arguments: str) -> str:
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 1, done.stderr
    return done.stderr


def test_new_index_is_made_when_it_is_said_to_be_meant(tmp_path: Path) -> None:
    index = tmp_path / ".asgi-audit" / "index"
    key = key_of(tmp_path)
    record(tmp_path)

    def ends_with(child: Running, count: int) -> None:
        port = port_of(child.wait_for("listens on"))
        until(lambda: indexed(port) == count, f"{count} records")
        assert get(port, "/health/ready")[0] == 200
        assert asked(port, key)[0] == 200
        child.stop()

    with running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as serve:
        ends_with(serve, 25)
    shutil.rmtree(index)
    record(tmp_path)
    said = refused(tmp_path, "index")
    assert "is gone" in said
    assert "--new-index" in said
    assert str(tmp_path) in said or ".asgi-audit" in said
    assert not index.exists()
    with running(COMMAND, "serve", "--port", "0", "--new-index", cwd=tmp_path) as serve:
        # The first index contained the first records; requests to the API are records as well.
        port = port_of(serve.wait_for("listens on"))
        until(lambda: indexed(port) >= 25, "those that came since are in the new one")
        assert asked(port, key)[0] == 200
        serve.stop()
    with running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as serve:
        port = port_of(serve.wait_for("listens on"))
        until(lambda: get(port, "/health/ready")[0] == 200, "it is the one from now on")
        serve.stop()


def test_journal_feeds_one_index_at_a_time(tmp_path: Path) -> None:
    record(tmp_path)
    with running(COMMAND, "index", cwd=tmp_path) as first:
        first.wait_for("indexing from")
        until(lambda: (tmp_path / ".asgi-audit/index/main.db").exists(), "it began")
        until(lambda: not list((tmp_path / ".asgi-audit/journal").glob("[!.]*")), "all is taken")
        first.stop()
    said = refused(tmp_path, "index", "--to", "sqlite:///other")
    assert "is gone" in said
    assert ".asgi-audit/journal expects that index" in said
    assert not (tmp_path / "other").exists()


def test_day_that_is_given_up_is_an_incident_of_every_answer(tmp_path: Path) -> None:
    index = tmp_path / ".asgi-audit" / "index"
    key = key_of(tmp_path)
    record(tmp_path)
    with running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as serve:
        port = port_of(serve.wait_for("listens on"))
        until(lambda: indexed(port) == 25, "all is indexed")
        serve.stop()
    (day,) = index.glob("day-*.db")
    for path in index.glob("day-*"):
        path.unlink()
    assert run("completeness", cwd=tmp_path).returncode == 1
    for flags in (["--new-index"], []):  # it outlives the process that accepted the loss
        with running(COMMAND, "serve", "--port", "0", *flags, cwd=tmp_path) as serve:
            port = port_of(serve.wait_for("listens on"))
            until(lambda port=port: asked(port, key)[0] == 200, "the day is given up")  # type: ignore[misc]
            assert incidents(port, key) == 1
            serve.stop()
    shown = run("completeness", cwd=tmp_path)
    assert shown.returncode == 1
    assert "day_lost" in shown.stdout
    assert day.stem.removeprefix("day-") in shown.stdout


def incidents(port: int, key: str) -> int:
    """Incidents as a response over all time counts them."""
    asking = urllib.request.Request(
        f"http://127.0.0.1:{port}/trail",
        json.dumps(WINDOW).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asking, timeout=30) as answer:
        return int(answer.headers["Audit-Incidents"])
