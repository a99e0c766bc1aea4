"""`asgi-audit ask feed`, from a shell into a SIEM: every record once, across runs, kills, restarts and a restore."""

from __future__ import annotations

import json
import re
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.waiting import until

from .commands import COMMAND, Running, clean_environment, run, running
from .test_ask import FIRST, ask, call


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose index has the first calls. No process uses it."""
    path = tmp_path_factory.mktemp("feed")
    call(path, *FIRST)
    with running(COMMAND, "index", cwd=path) as indexer:
        until(lambda: ask(path, "--count").stdout == f"{len(FIRST)}\n")
        assert indexer.stop() == 0
    return path


@pytest.fixture
def home(filled: Path, tmp_path: Path) -> Path:
    """A copy, which the test may change."""
    shutil.copytree(filled, tmp_path / "home")
    return tmp_path / "home"


def ids(text: str) -> list[str]:
    return [json.loads(line)["metadata"]["id"] for line in text.splitlines()]


def test_each_record_comes_once_across_runs(home: Path) -> None:
    whole = ask(home, "feed")
    assert (whole.returncode, whole.stderr) == (0, "")
    assert len(set(ids(whole.stdout))) == len(FIRST)
    assert [json.loads(line)["response"]["statusCode"] for line in whole.stdout.splitlines()] == [
        200,
        404,
        200,
        500,
        503,
    ]
    first = ask(home, "feed", "--cursor", "siem.cursor", "-n", "3")
    assert stat.S_IMODE((home / "siem.cursor").stat().st_mode) == 0o600
    second = ask(home, "feed", "--cursor", "siem.cursor")
    third = ask(home, "feed", "--cursor", "siem.cursor")
    assert ids(first.stdout) + ids(second.stdout) == ids(whole.stdout)
    assert len(ids(first.stdout)) == 3
    assert (third.returncode, third.stdout) == (0, "")
    cursor = (home / "siem.cursor").read_text().strip()
    assert ask(home, "feed", "--after", cursor).stdout == ""
    # The same command line continues: its start does not matter any more.
    assert ask(home, "feed", "--cursor", "siem.cursor", "--since", "1h").stdout == ""


@pytest.mark.full
def test_cursor_stays_where_it_was_when_records_cannot_be_written(home: Path) -> None:
    ask(home, "feed", "--cursor", "siem.cursor", "-n", "2")
    before = (home / "siem.cursor").read_text()
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [COMMAND, "ask", "feed", "--cursor", "siem.cursor"],
            cwd=home, env=clean_environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode != 0
    assert (home / "siem.cursor").read_text() == before
    assert len(ids(ask(home, "feed", "--cursor", "siem.cursor").stdout)) == 3


def test_cursor_of_another_index_is_refused_by_the_name_of_its_file(home: Path) -> None:
    (home / "siem.cursor").write_text("x\n")
    refused = ask(home, "feed", "--cursor", "siem.cursor")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("asgi-audit: --cursor: the cursor in siem.cursor is not of this API")
    assert (home / "siem.cursor").read_text() == "x\n"


@pytest.mark.full
def test_restored_index_is_said_and_no_record_is_skipped_silently(home: Path) -> None:
    assert run("backup", "copy", cwd=home).returncode == 0
    ask(home, "feed", "--cursor", "siem.cursor")
    before = (home / "siem.cursor").read_text()
    shutil.rmtree(home / ".asgi-audit/index")
    assert run("restore", "copy", cwd=home).returncode == 0
    done = ask(home, "feed", "--cursor", "siem.cursor")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot continue from the cursor in siem.cursor without missing records" in done.stderr
    assert "remove siem.cursor" in done.stderr
    assert (home / "siem.cursor").read_text() == before
    (home / "siem.cursor").unlink()
    assert len(ids(ask(home, "feed", "--cursor", "siem.cursor").stdout)) == len(FIRST)


def seen(feed: Running) -> list[str]:
    """Records of the application; the feed has requests to the API, too."""
    return ids("\n".join(line for line in feed.lines if line.startswith("{") and '"service":"shop"' in line))


@pytest.mark.full
def test_follower_survives_the_server_and_its_own_death(home: Path) -> None:
    """The server ends and starts again: no record twice. The follower is killed and started again: none missing, and
    only the last page is repeated, whose cursor may not have been written."""
    follow = ["ask", "feed", "--cursor", "siem.cursor", "--follow"]
    key = run("keys", "create", "--role", "auditor", "--account", "acme", cwd=home).stdout.strip()
    with running(COMMAND, "serve", "--port", "0", cwd=home) as serve:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", serve.wait_for("listens on"))
        assert found is not None
        of = {"ASGI_AUDIT_URL": found[0], "ASGI_AUDIT_KEY": key}
        with running(COMMAND, *follow, cwd=home, **of) as feed:
            feed.wait_for('/orders/4"')
            second = subprocess.run(
                [COMMAND, *follow], cwd=home, env=clean_environment(**of), capture_output=True, text=True, timeout=60
            )
            assert (second.returncode, second.stdout) == (1, "")
            assert "another run uses the cursor in siem.cursor" in second.stderr
            assert serve.stop() == 0
            feed.wait_for("trying again in")
            with running(COMMAND, "serve", "--port", found[1], cwd=home) as again:
                call(home, *(["x=200"] * 5), "new=201")
                feed.wait_for('"statusCode":201')
                came = seen(feed)
                assert len(came) == len(set(came)) == len(FIRST) + 6
                feed.stop(signal.SIGKILL)
                call(home, "dee=202")
                with running(COMMAND, *follow, cwd=home, **of) as feed:
                    feed.wait_for('"statusCode":202')
                    more = seen(feed)
                    assert feed.stop(signal.SIGINT) == 130
                assert again.stop() == 0
    repeated = [id for id in more if id in came]
    assert repeated == more[: len(repeated)] == came[len(came) - len(repeated) :]
    assert len({*came, *more}) == len(FIRST) + 7
