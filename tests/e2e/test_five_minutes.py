"""A new user's first five minutes: run the example as written, tail, serve, paste the printed lines, see the
request."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import until

from .commands import COMMAND, clean_environment, run, running

EXAMPLES = Path(__file__).parents[2] / "examples"
UVICORN = [sys.executable, "-m", "uvicorn", "--port", "0"]


def port_of(line: str) -> int:
    found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
    assert found is not None, line
    return int(found[1])


def call(port: int, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["content-type"] = "application/json"
    connection.request(method, path, data, headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.headers.get("x-request-id", "")


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl: apt-get install curl")
def test_request_is_seen_by_tail_and_by_the_printed_lines(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    application = (tmp_path / "examples" / "fastapi_app.py").read_text("utf-8")
    assert len(application.splitlines()) <= 30
    with running(*UVICORN, "examples.fastapi_app:app", cwd=tmp_path) as app:
        port = port_of(app.wait_for("Uvicorn running on"))
        order = {"item": "tea", "password": "hunter2-secret"}
        status, first_id = call(port, "POST", "/orders", order, authorization="Bearer tok-secret")
        assert (status, bool(first_id)) == (201, True)
        assert call(port, "GET", "/orders/9")[0] == 404

        # Needs neither server nor key: the journal is enough.
        def tailed() -> list[str]:
            return run("tail", cwd=tmp_path).stdout.splitlines()

        until(lambda: len(tailed()) == 2, "tail shows two records")
        created, missing = tailed()
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z  INFO   app  POST /orders → 201 Created, alice, .* ms", created
        )
        assert re.fullmatch(r".*Z  WARN   app  GET /orders/9 → 404 Not Found, .* ms", missing)

        with running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as serve:
            serve.wait_for("More keys")
            pasted = "\n".join(line.strip() for line in serve.lines if line.startswith("  "))
            assert call(port, "GET", "/orders/1", **{"x-request-id": "a-second-ago"}) == (200, "a-second-ago")
            at = {**clean_environment(), "PATH": f"{Path(COMMAND).parent}:{os.environ['PATH']}"}

            def ask() -> list[str]:
                shell = ["sh", "-c", pasted]
                done = subprocess.run(shell, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=at)
                assert (done.returncode, done.stderr) == (0, "")
                assert "secret" not in done.stdout
                return done.stdout.splitlines()

            until(lambda: len(ask()) == 5, "the table has three records")
            head, *table, last = ask()
            assert head.startswith("TIME (UTC)")
            assert [row.split()[-1] for row in table] == ["/orders/1", "/orders/9", "/orders"]
            newest, _, oldest = json.loads(last)["records"]
            assert newest["metadata"]["requestId"] == "a-second-ago"
            assert oldest["metadata"]["requestId"] == first_id
            assert oldest["account_id"] == oldest["instance_id"] == "default"
            assert oldest["request"]["body"]["item"] == "tea"
            # Shown once: the second start does not print a key.
            assert serve.stop() == 0
        with running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as again:
            again.wait_for("asgi-audit keys create --role auditor")
            again.stop()
            assert "KEY" not in again.said
        # Indexed records are still shown, and so are the others.
        call(port, "GET", "/orders/2")
        until(lambda: "/orders/2" in run("tail", cwd=tmp_path).stdout, "tail shows the newest")
        lines = run("tail", "-n", "3", "--json", cwd=tmp_path).stdout.splitlines()
        assert len(lines) == 3
        assert all(json.loads(line)["metadata"]["version"] == "1.0" for line in lines)
        assert app.stop() in (0, -15)


def test_first_screen_of_the_readme_works_as_written(tmp_path: Path) -> None:
    readme = (EXAMPLES.parent / "README.md").read_text("utf-8")
    application = re.search(r"```python\n# shop\.py\n(.*?)```", readme, re.DOTALL)
    login = re.search(r"^curl -s localhost:8000(/login.*)$", readme, re.MULTILINE)
    assert application is not None
    assert login is not None
    (tmp_path / "shop.py").write_text(application[1], "utf-8")
    with running(*UVICORN, "shop:app", cwd=tmp_path) as app:
        port = port_of(app.wait_for("Uvicorn running on"))
        command = f"curl -s http://127.0.0.1:{port}{login[1]}"
        assert subprocess.run(command, shell=True, capture_output=True, text=True).stdout == '{"welcome":"ada"}'
        until(lambda: "POST /login → 200 OK" in run("tail", cwd=tmp_path).stdout, "tail shows the login")
        record = json.loads(run("tail", "-n", "1", "--json", cwd=tmp_path).stdout)
        assert record["request"]["body"]["name"] == "ada"
        assert "hunter2" not in json.dumps(record)


def test_tail_follows_until_its_reader_leaves(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    with (
        running(COMMAND, "tail", "-f", cwd=tmp_path) as tail,
        running(*UVICORN, "examples.any_asgi_app:app", "--lifespan", "off", cwd=tmp_path) as app,
    ):
        port = port_of(app.wait_for("Uvicorn running on"))
        assert call(port, "GET", "/one")[0] == 200
        tail.wait_for("GET /one → 200 OK")
        assert call(port, "GET", "/two")[0] == 200
        tail.wait_for("GET /two → 200 OK")
        assert len(tail.lines) == 2
        assert tail.stop(2) == 130
    done = subprocess.run(
        f"{COMMAND} tail | head -1", shell=True, capture_output=True, text=True, cwd=tmp_path, env=clean_environment()
    )
    assert done.stderr == ""
    assert "GET /one" in done.stdout


def test_tail_says_so_when_there_is_nothing(tmp_path: Path) -> None:
    done = run("tail", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "asgi-audit: there are no records in .asgi-audit/journal and .asgi-audit/index. "
        "Use another place with --home, or --from and --store.\n"
    )


def test_serve_is_one_line_and_exit_code_1_when_its_port_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve", "--port", str(taken.getsockname()[1]), cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"asgi-audit: port \d+ of 127\.0\.0\.1 is in use; .*\n", done.stderr)


def test_second_indexer_waits_as_standby_and_takes_over(tmp_path: Path) -> None:
    with running(COMMAND, "index", cwd=tmp_path) as first, running(COMMAND, "index", cwd=tmp_path) as second:
        indexing = {first: "indexing from", second: "waiting to take over"}
        until(lambda: any("indexing from" in r.said for r in indexing), "one indexes")
        if "indexing from" not in first.said:
            first, second = second, first
        second.wait_for("waiting to take over")
        assert first.stop() == 0
        second.wait_for("indexing from")
        assert second.stop() == 0


def test_indexer_beside_ends_with_serve_even_when_that_is_killed(tmp_path: Path) -> None:
    with running(COMMAND, "serve", "--port", "0", cwd=tmp_path) as serve:
        serve.wait_for("listens on")
        until((tmp_path / ".asgi-audit/index/lease").exists, "the indexer began")
        serve.stop(9)
    # The lease is free again when the orphaned process has ended.
    with running(COMMAND, "index", cwd=tmp_path) as index:
        index.wait_for("indexing from")
        assert index.stop() == 0


def test_schema_is_json_schema(tmp_path: Path) -> None:
    done = run("schema", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
