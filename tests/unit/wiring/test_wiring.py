"""Objects built from settings: one clear line for a missing package, and an API whose reads are audited once each."""

from __future__ import annotations

import asyncio
import datetime
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.operations import PATHS
from tests.support.waiting import until

from asgi_audit.errors import ConfigError
from asgi_audit.query.tokens import Sealer, Token, TokenKind
from asgi_audit.record.codec import Decoded, decode
from asgi_audit.record.line import TIME_END
from asgi_audit.settings import Settings, make_settings
from asgi_audit.store.query import Query
from asgi_audit.transport.base import Kind
from asgi_audit.wiring.environment import settings_from
from asgi_audit.wiring.operations import (
    build_indexer,
    follow_journal,
    open_control,
    open_source,
    open_store_reader,
    open_store_writer,
)
from asgi_audit.wiring.server import build_api


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ASGI_AUDIT_HOME", str(tmp_path))
    return settings_from(query_wait_seconds=0)


def journal_of(settings: Settings) -> list[Decoded]:
    messages = follow_journal(settings, from_beginning=True, stop=lambda: True)
    return [decode(m.payload) for m in messages if m.kind is Kind.RECORD]


def question() -> dict[str, str]:
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    return {"from": (now - hour).isoformat(), "to": (now + hour).isoformat()}


async def within_lifespan(app: Any, work: Callable[[httpx.AsyncClient], Any]) -> None:
    """Acts like a server: startup, requests, shutdown."""
    to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    lifespan = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        await work(client)
    await to_app.put({"type": "lifespan.shutdown"})
    assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
    await lifespan


@pytest.mark.parametrize("opened", [open_control, open_store_writer])
def test_home_keeps_git_from_what_is_in_it(settings: Settings, opened: Callable[[Settings], Any]) -> None:
    opened(settings).close()
    ignored = settings.home / ".gitignore"
    assert ignored.read_text().splitlines()[-1] == "*"
    assert ignored.stat().st_mode & 0o777 == 0o600
    ignored.write_text("mine")
    opened(settings).close()
    assert ignored.read_text() == "mine"


def test_reads_are_audited_once_for_each_execution_and_for_a_poll_when_it_is_refused(settings: Settings) -> None:
    control = open_control(settings)
    key_id, key = control.create_key("reader", ["acme"])
    control.close()
    headers = {"authorization": f"Bearer {key}"}

    async def work(client: httpx.AsyncClient) -> None:
        for path in ("/health/live", "/health/ready"):
            await client.get(path)
        started = await client.post("/trail", json=question(), headers=headers)
        execution = started.json()["queryExecutionId"]
        for _ in range(3):
            polled = await client.get(f"/trail/query-result/{execution}", headers=headers)
            assert polled.json() == {"data": []}
        assert (await client.post("/trail", json=question())).status_code == 401
        assert (await client.get(f"/trail/query-result/{execution}")).status_code == 401
        assert (await client.get("/api/v1/logs/x", headers=headers)).status_code == 403  # a reader

    asyncio.run(within_lifespan(build_api(settings), work))
    found = journal_of(settings)
    assert [(r.service, r.method, r.path, r.status) for r in found] == [
        ("logs", "POST", "/trail", 200),
        ("logs", "POST", "/trail", 401),
        ("logs", "GET", found[2].path, 401),
        ("logs", "GET", "/api/v1/logs/x", 403),
    ]
    assert found[2].path.startswith("/trail/query-result/")
    # The caller: in the account that the key reads, if it is a single one.
    assert [(r.account, r.principal) for r in found] == [
        ("acme", f"key:{key_id}"), ("asgi-audit", ""), ("asgi-audit", ""), ("acme", f"key:{key_id}"),
    ]  # fmt: skip
    # Metadata only: neither the key nor the query.
    assert all(key.encode() not in r.data and b'"from"' not in r.data for r in found)


@pytest.mark.parametrize("root", ["", "/audit"])
def test_call_is_recorded_when_its_row_of_the_table_says_so(settings: Settings, root: str) -> None:
    """Each row without a key, at each of its paths, also where the API is mounted; and paths of no row."""
    unknown = [("GET", "/usage/x/query-result/y"), ("GET", "/health/x"), ("GET", "/metrics/x"), ("POST", "/metrics")]
    calls = [(o.method, path.replace("{", "").replace("}", "")) for o, path in PATHS]
    recorded = [o.is_recorded or bool(o.roles) or o.signed for o, _ in PATHS]  # a refused call always is
    api = build_api(settings)

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await api({**scope, "root_path": root}, receive, send)

    async def work(client: httpx.AsyncClient) -> None:
        for method, path in [*calls, *unknown]:
            await client.request(method, root + path)

    asyncio.run(within_lifespan(mounted, work))
    expected = [call for call, is_recorded in zip(calls, recorded, strict=True) if is_recorded] + unknown
    found = journal_of(settings)
    assert [(r.method, r.service) for r in found] == [(method, "logs") for method, _ in expected]
    assert b'"operation":"Resource"' not in b"".join(r.data for r in found)  # the name of one of our classes


def test_refusals_are_recorded_one_by_one_up_to_a_bound_and_what_a_valid_key_asks_always(settings: Settings) -> None:
    control = open_control(settings)
    _, key = control.create_key("reader", ["acme"])
    control.close()
    headers = {"authorization": f"Bearer {key}"}

    async def work(client: httpx.AsyncClient) -> None:
        for path in ("/trail", "/nothing/that/is/here"):
            for _ in range(100):
                await client.post(path, json=question())
        for _ in range(3):
            assert (await client.post("/trail", json=question(), headers=headers)).status_code == 200
        shown = (await client.get("/metrics")).text
        assert "asgi_audit_api_refusals_unrecorded_total 138.0" in shown
        assert "asgi_audit_api_in_flight 0.0" in shown

    asyncio.run(within_lifespan(build_api(settings), work))
    # 30 of each, and the first one over the bound, which represents those of the next minute.
    assert Counter(r.status for r in journal_of(settings)) == {401: 30, 429: 1, 404: 31, 200: 3}


def cursor_of(secret: bytes, *, expires: int = 1 << 40) -> str:
    """The cursor of the second page of `GET /logs`, for a key of the account acme."""
    return Sealer(secret).seal(
        Token(
            kind=TokenKind.PAGE,
            dialect="logs",
            query=Query(accounts=frozenset(["acme"]), start=0, end=TIME_END, except_service="logs"),
            published=0,
            before=1,
            expires=expires,
            total=1,
        )
    )


def test_refusals_are_recorded_whatever_cursor_they_bring(settings: Settings) -> None:
    control = open_control(settings)
    keys = {role: control.create_key(role, ["acme"])[1] for role in ("auditor", "reader")}
    other = control.create_key("auditor", ["beta"])[1]
    secret = control.secret()
    control.close()
    cursor = cursor_of(secret)
    open_store_writer(settings).close()

    async def work(client: httpx.AsyncClient) -> None:
        async def status(key: str, **params: str) -> int:
            return (await client.get("/logs", headers={"x-api-key": key}, params=params)).status_code

        assert await status(keys["auditor"], cursor=cursor) == 200
        assert await status(keys["reader"], cursor=cursor) == 403
        assert await status(other, cursor=cursor) == 400
        assert await status(keys["auditor"], cursor=cursor_of(secret, expires=1)) == 400
        assert await status(keys["auditor"], cursor=cursor, level="ERROR") == 400
        assert await status(keys["auditor"], cursor=cursor, limit="x") == 400
        for _ in range(100):
            await status("wrong", cursor=cursor)
        assert await status(keys["auditor"], cursor=cursor) == 200

    asyncio.run(within_lifespan(build_api(settings), work))
    # Of those without a valid key 30, and the first one over the bound.
    assert Counter(r.status for r in journal_of(settings)) == {403: 1, 400: 4, 401: 30, 429: 1}


def test_a_list_is_audited_once_and_not_for_the_pages_of_its_cursor(settings: Settings) -> None:
    """An invalid cursor, and a call without a key, are refusals, and recorded."""
    control = open_control(settings)
    _, key = control.create_key("auditor", ["acme"])
    cursor = cursor_of(control.secret())
    control.close()
    headers = {"authorization": f"Bearer {key}"}
    open_store_writer(settings).close()

    async def work(client: httpx.AsyncClient) -> None:
        statuses = [
            (await client.get("/logs", headers=headers)).status_code,
            (await client.get("/logs", headers=headers, params={"cursor": cursor})).status_code,
            (await client.get("/logs", headers=headers, params={"cursor": cursor[:-1]})).status_code,
            (await client.get("/logs")).status_code,
        ]
        assert statuses == [200, 200, 400, 401]

    asyncio.run(within_lifespan(build_api(settings), work))
    found = [(r.service, r.method, r.path, r.status) for r in journal_of(settings)]
    assert found == [("logs", "GET", "/logs", status) for status in (200, 400, 401)]


def test_what_the_api_recorded_is_indexed_and_read(settings: Settings) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        await client.post("/trail", json=question())

    asyncio.run(within_lifespan(build_api(settings), work))
    writer = open_store_writer(settings)
    stop = threading.Event()
    indexer = build_indexer(settings, writer, stop=stop)
    thread = threading.Thread(target=indexer.run)
    thread.start()
    reader = open_store_reader(settings)
    try:
        until(lambda: indexer.progress.indexed)
        assert indexer.progress.indexed == 1
        assert reader.seen(None, "logs", "default")
    finally:
        stop.set()
        thread.join(60)
        reader.close()
        writer.close()


def test_reads_are_not_audited_when_auditing_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_AUDIT_ENABLED", "0")
    settings = settings_from(home=tmp_path, query_wait_seconds=0)

    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.post("/trail", json=question())).status_code == 401

    asyncio.run(within_lifespan(build_api(settings), work))
    assert not (tmp_path / "journal").exists()


def test_memory_cannot_be_indexed_from_another_process(tmp_path: Path) -> None:
    settings = make_settings({}, home=tmp_path, transport="memory://")
    with pytest.raises(ConfigError, match="accepted: journal:///path"):
        open_source(settings)
    with pytest.raises(ConfigError, match="accepted: journal:///path"):
        follow_journal(settings, from_beginning=True, stop=lambda: True)


def test_missing_package_is_one_line_that_names_the_extra(tmp_path: Path) -> None:
    """In a process in which the server's packages cannot be imported, as after `pip install asgi-audit`."""
    code = """
import sys
for name in ("apsw", "cryptography", "pydantic", "starlette", "uvicorn", "zstandard", "datasette"):
    sys.modules[name] = None
from asgi_audit.cli import main
sys.exit(main(sys.argv[1:]))
"""
    for arguments in (["serve"], ["index"], ["keys", "list"], ["keys", "create", "--role", "reader", "--account", "a"]):
        (tmp_path / "control.db").touch()
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments, "--home", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("asgi-audit: the package "), done.stderr
        assert done.stderr.endswith(" is not installed; pip install 'asgi-audit[server]'\n")
    bare = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'asgi-audit[server]'" in bare.stdout
    tail = subprocess.run(
        [sys.executable, "-c", code, "tail"], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    # It works without the server's packages, and names the empty place.
    assert (tail.returncode, "package" in tail.stderr, ".asgi-audit" in tail.stderr) == (1, False, True)
