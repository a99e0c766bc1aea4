"""`POST /api` in the trail of the API itself: each request once, with its caller, without a secret; strangers are
bounded without affecting valid clients."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.wiring.test_wiring import journal_of, within_lifespan

from asgi_audit.settings import Settings
from asgi_audit.wiring.environment import settings_from
from asgi_audit.wiring.operations import open_control, open_store_writer
from asgi_audit.wiring.server import build_api

LIST = {"command": "usage.api.list"}
PING = {"command": "diag.ping"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ASGI_AUDIT_HOME", str(tmp_path))
    made = settings_from(query_wait_seconds=0)
    open_store_writer(made).close()
    return made


def keys_of(settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """Keys and their ids: an auditor of acme, one of beta, a reader."""
    control = open_control(settings)
    made = {
        name: control.create_key(role, [account])
        for name, role, account in (
            ("acme", "auditor", "acme"),
            ("beta", "auditor", "beta"),
            ("reader", "reader", "acme"),
        )
    }
    control.close()
    return {name: key for name, (_, key) in made.items()}, {name: id for name, (id, _) in made.items()}


def login(password: str, username: str = "mira@example.com") -> dict[str, Any]:
    return {"command": "api.authenticate", "params": {"username": username, "password": password}}


def test_each_request_is_recorded_once_with_who_it_was_and_no_secret(settings: Settings) -> None:
    keys, ids = keys_of(settings)
    secrets: list[str] = [*keys.values()]

    async def work(client: httpx.AsyncClient) -> None:
        async def call(body: Any, **headers: str) -> Any:
            return (await client.post("/api", json=body, headers=headers)).json()

        acme = (await call({"auth": login(keys["acme"])}))["auth"]["params"]["sessionId"]
        beta = (await call({"auth": login(keys["beta"])}))["auth"]["params"]["sessionId"]
        secrets.extend((acme, beta))
        for _ in range(2):  # a poll is a request of its own
            assert (await call({"auth": {"sessionId": acme}, "1": LIST, "2": PING}))["1"]["success"]
        assert (await call({"1": LIST}, sessionId=acme))["1"]["success"]
        both = {"a": {**LIST, "sessionId": acme}, "b": {**LIST, "sessionId": beta}}
        assert (await call(both))["b"]["success"]
        assert not (await call({"auth": {"sessionId": "wrong-session"}, "1": LIST}))["success"]
        assert not (await call({"auth": login(keys["reader"])}))["success"]
        assert not (await call({"1": {"command": "nothing"}}, sessionId=acme))["1"]["success"]
        assert not (await call([], sessionId=acme))["success"]

    asyncio.run(within_lifespan(build_api(settings), work))
    found = journal_of(settings)
    assert {(r.service, r.method, r.path, r.status) for r in found} == {("logs", "POST", "/api", 200)}
    name = {who: f"key:{id}" for who, id in ids.items()}
    assert [(r.account, r.principal, r.operation, r.level) for r in found] == [
        ("acme", name["acme"], "api.authenticate", "INFO"),
        ("beta", name["beta"], "api.authenticate", "INFO"),
        ("acme", name["acme"], "usage.api.list, diag.ping", "INFO"),
        ("acme", name["acme"], "usage.api.list, diag.ping", "INFO"),
        ("acme", name["acme"], "usage.api.list", "INFO"),
        ("asgi-audit", name["acme"], "usage.api.list", "INFO"),
        ("asgi-audit", "", "tr50.call", "ERROR"),
        ("acme", name["reader"], "tr50.call", "ERROR"),
        ("acme", name["acme"], "tr50.call", "WARN"),
        ("acme", name["acme"], "tr50.call", "WARN"),
    ]
    assert json.loads(found[5].data)["context"]["annotations"] == {"keys": [ids["acme"], ids["beta"]]}
    journal = b"".join(p.read_bytes() for p in Path(settings.home).rglob("*") if p.is_file())
    assert b"usage.api.list" in journal
    for secret in [*secrets, *(s.split("_", 2)[2] for s in keys.values()), "wrong-session", "mira@example.com"]:
        assert secret.encode() not in journal


def test_strangers_are_bounded_and_recorded_as_elsewhere_and_a_session_never_is(settings: Settings) -> None:
    """From one address: 100 wrong logins, sessions and missing ones; then 429, of which one a minute is recorded.
    Requests with a valid session, key or login are still served and recorded."""
    keys, _ = keys_of(settings)

    async def work(client: httpx.AsyncClient) -> None:
        async def call(body: Any, **headers: str) -> httpx.Response:
            return await client.post("/api", json=body, headers=headers)

        session = (await call({"auth": login(keys["acme"])})).json()["auth"]["params"]["sessionId"]
        wrong = [
            {"auth": login("wrong")}, {"auth": {"sessionId": "x" * 22}, "1": LIST}, {"1": LIST}, [],
        ]  # fmt: skip
        answers = [await call(wrong[n % 4]) for n in range(100)]
        assert Counter(a.status_code for a in answers) == {200: 30, 429: 70}
        assert {json.dumps(a.json()["errorCodes"]) for a in answers[:30]} == {"[-90008]", "[-90000]"}
        for answer in answers[30:]:
            assert answer.json().keys() == {"success", "errorCodes", "errorMessages"}
            assert 0 < int(answer.headers["retry-after"]) <= 60
        for body, headers in (
            ({"auth": {"sessionId": session}, "1": PING}, {}),
            ({"1": PING}, {"authorization": f"Bearer {keys['acme']}"}),
            ({"auth": login(keys["acme"]), "1": PING}, {}),
        ):
            good = await call(body, **headers)
            assert good.status_code == 200
            assert good.json()["1"] == {"success": True}
        mixed = await call({"1": {**PING, "sessionId": session}, "2": {**PING, "sessionId": "x" * 22}})
        assert mixed.status_code == 200
        assert mixed.json()["1"] == {"success": True}
        assert mixed.json()["2"]["errorCodes"] == [-11]
        assert "asgi_audit_api_refusals_unrecorded_total 69.0" in (await client.get("/metrics")).text

    asyncio.run(within_lifespan(build_api(settings), work))
    found = [(bool(r.principal), r.status) for r in journal_of(settings)]
    assert Counter(found) == {(True, 200): 5, (False, 200): 30, (False, 429): 1}


def test_each_guess_of_a_request_counts(settings: Settings) -> None:
    keys_of(settings)

    async def work(client: httpx.AsyncClient) -> None:
        guesses = {str(n): login(f"guess-{n}") for n in range(16)}
        statuses = [(await client.post("/api", json=guesses)).status_code for _ in range(3)]
        assert statuses == [200, 429, 429]

    asyncio.run(within_lifespan(build_api(settings), work))


def test_one_key_id_is_bounded_whatever_the_address(settings: Settings) -> None:
    _, ids = keys_of(settings)
    app = build_api(settings)

    async def work(_: httpx.AsyncClient) -> None:
        statuses = []
        for n in range(32):
            transport = httpx.ASGITransport(app, client=(f"192.0.2.{n}", 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                wrong = login(f"aa_{ids['acme']}_{n}")
                statuses.append((await client.post("/api", json={"auth": wrong})).status_code)
        assert statuses == [200] * 30 + [429] * 2

    asyncio.run(within_lifespan(app, work))


def test_client_that_leaves_in_the_middle_of_its_body_is_no_way_around_the_bound(settings: Settings) -> None:
    keys, _ = keys_of(settings)
    app = build_api(settings)

    async def leaving(headers: list[tuple[bytes, bytes]]) -> None:
        messages = iter([{"type": "http.request", "body": b'{"auth', "more_body": True}, {"type": "http.disconnect"}])

        async def receive() -> Any:
            return next(messages, None) or await asyncio.Event().wait()

        async def send(_: Any) -> None:
            raise AssertionError("there is nobody to be answered")

        await app(
            {
                "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/api",
                "raw_path": b"/api", "query_string": b"", "headers": headers, "client": ("192.0.2.1", 1),
                "server": None, "scheme": "http", "root_path": "",
            },
            receive,
            send,
        )  # fmt: skip

    async def work(_: httpx.AsyncClient) -> None:
        for _n in range(50):
            await leaving([])
        for _n in range(3):
            await leaving([(b"x-api-key", keys["acme"].encode())])

    asyncio.run(within_lifespan(app, work))
    found = journal_of(settings)
    assert len(found) == 31 + 3
    assert {r.outcome for r in found} == {"disconnected"}
