"""`asgi-audit ask` as a user types it, over the index of a home and over a server, and the synchronous client."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_audit.client import ApiError, Client, ProtocolError
from tests.support.waiting import until

from .commands import COMMAND, clean_environment, run, running

CALLS = """
import asyncio, sys
import asgi_audit, httpx
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def order(request):
    asgi_audit.annotate(principal=request.query_params["who"], account_id="acme")
    return PlainTextResponse("ok", int(request.query_params["status"]))

app = asgi_audit.install(Starlette(routes=[Route("/orders/{number}", order)]), service="shop")

async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        for number, (who, status) in enumerate(pair.split("=") for pair in sys.argv[1:]):
            name = "%1b%5B31m" if who == "eve" else number
            await client.get(f"/orders/{name}", params={"who": who, "status": status})

asyncio.run(main())
"""
FIRST = ("ada=200", "ada=404", "eve=200", "ada=500", "bob=503")


def call(home: Path, *calls: str) -> None:
    subprocess.run(
        [sys.executable, "-c", CALLS, *calls], cwd=home, env=clean_environment(), check=True, capture_output=True
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ask")
    call(path, *FIRST)
    return path


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[tuple[str, str]]:
    """Address and key."""
    with running(COMMAND, "serve", "--port", "0", cwd=home) as serve:
        found = re.search(r"(http://127\.0\.0\.1:\d+)", serve.wait_for("listens on"))
        assert found is not None
        key = run("keys", "create", "--role", "auditor", "--account", "*", cwd=home).stdout.strip()
        with Client(found[1], key) as client:
            until(lambda: client.count() == len(FIRST), "all are indexed")
        yield found[1], key


def ask(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "ask", *arguments],
        cwd=home,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_where_it_looked_is_said_when_there_is_no_index(tmp_path: Path) -> None:
    done = ask(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(tmp_path / ".asgi-audit/index") in done.stderr
    assert "--home" in done.stderr


@pytest.mark.usefixtures("served")
def test_the_table_names_who_called_what_with_which_result(home: Path) -> None:
    done = ask(home, "--path", "/orders/*")
    assert done.returncode == 0
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["TIME", "(UTC)", "TOOK", "SERVICE", "WHO", "REQUEST"]
    assert len(rows) == len(FIRST)
    assert re.fullmatch(r"\d\d-\d\d \d\d:\d\d:\d\d  503 +\d+ ms  shop +bob +GET /orders/4 *", rows[0])
    assert "\x1b" not in done.stdout  # neither colours without a terminal, nor a client's control characters
    assert "GET /orders/\\u001b[31m" in done.stdout


@pytest.mark.usefixtures("served")
def test_filters_counts_and_forms_agree(home: Path) -> None:
    assert ask(home, "--status", "5xx", "--count").stdout == "2\n"
    assert ask(home, "--principal", "ada", "--since", "1h", "--count").stdout == "3\n"
    lines = ask(home, "--principal", "ada", "--json", "--oldest").stdout.splitlines()
    assert [json.loads(line)["response"]["statusCode"] for line in lines] == [200, 404, 500]
    assert len(ask(home, "--json", "-n", "2").stdout.splitlines()) == 2
    csv = ask(home, "--csv", "--fields", "request.path,response.statusCode", "--status", "404").stdout
    assert csv.splitlines() == ["request.path,response.statusCode", "/orders/1,404"]
    done = ask(home, "-n", "1")
    assert f"1 of {len(FIRST)} records" in done.stderr


def test_a_server_gives_the_same_as_the_index_when_it_is_asked(home: Path, served: tuple[str, str]) -> None:
    url, key = served
    there = {"ASGI_AUDIT_URL": url, "ASGI_AUDIT_KEY": key}
    assert ask(home, "--service", "shop", **there).stdout == ask(home, "--service", "shop").stdout
    usage = ask(home, "usage", "shop", "default", "--json", **there).stdout.splitlines()
    assert len(usage) == len(FIRST)
    assert len(ask(home, "logs", "--level", "ERROR", **there).stdout.splitlines()) == 3
    answer = json.loads(ask(home, "tr50", "usage.api.list", "limit=1", **there).stdout)
    assert answer["count"] == len(FIRST)
    # The line that `--curl` prints, unchanged.
    shown = ask(home, "--curl", "--principal", "bob", "--url", url).stdout
    done = subprocess.run(["sh", "-c", shown], env={**os.environ, **there}, capture_output=True, text=True, check=True)
    assert [record["context"]["principal"] for record in json.loads(done.stdout)["records"]] == ["bob"]


def test_an_export_is_a_file_whose_digest_was_checked(home: Path, served: tuple[str, str], tmp_path: Path) -> None:
    url, key = served
    to = tmp_path / "all.gz"
    done = ask(home, "export", "--since", "1h", "--account", "acme", "--to", str(to), "--url", url, ASGI_AUDIT_KEY=key)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{len(FIRST)} records in {to}; verified by its manifest\n"
    assert len(gzip.decompress(to.read_bytes()).splitlines()) == len(FIRST)


@pytest.mark.usefixtures("served")
def test_what_comes_is_shown_when_it_follows(home: Path) -> None:
    with running(COMMAND, "ask", "--service", "shop", "--status", "418", "--follow", cwd=home) as follow:
        call(home, "zoe=418", "zoe=200")
        assert re.search(r"418 .* zoe +GET /orders/0", follow.wait_for("zoe"))
        follow.stop()
    assert sum("zoe" in line for line in follow.lines) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--statsu", "5xx"], "--statsu"),
        (["--status", "teapot"], "status: 'teapot' selects no status"),
        (["--path", "orders"], "--path is 'orders'"),
        (["usage", "shop"], "SERVICE INSTANCE"),
        (["trail", "--principal", "ada"], "takes no --principal"),
        (["export", "--since", "1h"], "requires an API"),
        (["--since", "yesterday"], 'since: it is "yesterday"'),
        (["-n", "-1"], "--lines is -1"),
        (["logs", "--csv"], "takes no --csv"),
    ],
)
@pytest.mark.usefixtures("served")
def test_a_wrong_question_is_one_line_that_says_what_is_accepted(home: Path, arguments: list[str], said: str) -> None:
    done = ask(home, *arguments)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_client_that_blocks_asks_the_same(served: tuple[str, str], tmp_path: Path) -> None:
    url, key = served
    with Client(url, key) as client:
        rows = list(client.records(service="shop", order="oldest", page=2))
        assert [row["response"]["statusCode"] for row in rows][: len(FIRST)] == [200, 404, 200, 500, 503]
        assert client.record(rows[0]["metadata"]["id"]) == rows[0]
        assert len(list(client.lines(principal="bob"))) == 1
        export = client.request_export("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", group="us-std")
        assert client.wait_for_export(export.id, seconds=60).state == "DoesNotExist"
        with pytest.raises(ProtocolError):
            client.download(client.export(export.id), tmp_path / "none")
    with Client(url, "aa_000000000000_wrong") as client, pytest.raises(ApiError) as caught:
        client.count()
    assert caught.value.status == 401


@pytest.mark.usefixtures("served")
def test_it_ends_when_its_reader_is_gone(home: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{COMMAND} ask --json --follow | head -n 1"],
        cwd=home,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.count("\n") == 1
