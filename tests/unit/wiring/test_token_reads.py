"""Tokens of an issuer in the whole API: each dialect, sessions, URLs of exports, the trail of the reads, and failures
that are bounded like those of keys. The key set is a file; one from a server is in `integration/test_jwks.py`."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.export_home import Home
from tests.support.records import batch, foreign
from tests.support.tokens import AUDIENCE, ISSUER, jwk, key_set, token
from tests.unit.wiring.test_wiring import journal_of, within_lifespan

import asgi_audit
from asgi_audit.api.app import DIALECTS
from asgi_audit.api.bearer import TOKEN_CHARACTERS_MAX
from asgi_audit.api.throttle import FAILURES_MAX
from asgi_audit.errors import ConfigError
from asgi_audit.settings import Settings, make_settings
from asgi_audit.wiring.environment import settings_from
from asgi_audit.wiring.exports import build_runner
from asgi_audit.wiring.operations import open_control, open_store_writer
from asgi_audit.wiring.server import build_api

NOON = 1_704_110_400_000
DAY = {"from": "2024-01-01T00:00:00Z", "to": "2024-01-02T00:00:00Z"}


def settings_with(home: Path, **given: Any) -> Settings:
    (home / "jwks.json").write_bytes(key_set(jwk("ES256", "k1")))
    of_issuer = {"jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "jwt_jwks": str(home / "jwks.json")}
    return settings_from(home=home, query_wait_seconds=0, **{**of_issuer, **given})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_with(tmp_path)
    writer = open_store_writer(made)
    writer.write(batch([foreign(NOON, account="acme", name="a"), foreign(NOON + 1, account="beta", name="b")]))
    writer.close()
    return made


def run(settings: Settings, work: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    asyncio.run(within_lifespan(build_api(settings), work))


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def files_of(settings: Settings) -> bytes:
    return b"".join(p.read_bytes() for p in Path(settings.home).rglob("*") if p.is_file() and p.name != "jwks.json")


def login(text: str) -> dict[str, Any]:
    return {"command": "api.authenticate", "params": {"username": "ada", "password": text}}


def test_token_asks_each_dialect_and_is_recorded_as_its_subject(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    mine = token(sub="ada@example.com")
    all_of_them = token(sub="eve", accounts="*", role=["reader", "auditor"])

    async def work(client: httpx.AsyncClient) -> None:
        execution = (await client.post("/trail", json=DAY, headers=bearer(mine))).json()["queryExecutionId"]
        found = (await client.get(f"/trail/query-result/{execution}", headers=bearer(mine))).json()
        assert [r["metadata"]["id"] for r in found["data"]] == ["a"]
        assert (await client.post("/usage/gateway/i1", json=DAY, headers={"x-api-key": mine})).status_code == 200
        for path in ("/logs", "/records", "/histogram?start=2024-01-01T00:00:00Z&end=2024-01-02T00:00:00Z", "/feed"):
            assert (await client.get(path, headers=bearer(mine))).status_code == 200, path
        listed = (await client.get("/records", headers=bearer(all_of_them))).json()["records"]
        assert [r["account_id"] for r in listed] == ["beta", "acme"]
        command = {"command": "usage.api.list", "params": {"start": DAY["from"], "end": DAY["to"]}}
        answer = (await client.post("/api", json={"1": command}, headers=bearer(mine))).json()
        assert answer["1"]["params"]["count"] == 1

    run(settings, work)
    found = journal_of(settings)
    assert {(r.account, r.principal) for r in found} == {("acme", "ada@example.com"), ("asgi-audit", "eve")}
    auth = json.loads(found[0].data)["request"]["auth"]
    assert auth["method"] == "jwt"
    assert auth["publicKey"].startswith("jwt_")
    kept = files_of(settings)
    assert b"ada@example.com" in kept
    for piece in (*mine.split("."), *all_of_them.split(".")[1:]):
        assert piece.encode() not in kept
        assert piece not in caplog.text


def test_role_and_accounts_of_a_token_are_held_as_those_of_a_key(settings: Settings) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        async def status(text: str, method: str, path: str, **given: Any) -> int:
            return (await client.request(method, path, headers=bearer(text), **given)).status_code

        reader = token(role="reader")
        assert await status(reader, "POST", "/trail", json=DAY) == 200
        assert await status(reader, "GET", "/records") == 403
        assert await status(token(role="admin"), "GET", "/records") == 403
        assert await status(token(accounts=[]), "GET", "/records") == 403
        assert await status(token(accounts=["*", "acme"]), "GET", "/records") == 403
        assert await status(token(accounts="beta"), "GET", "/records/a") == 404
        answer = await client.get("/records", headers=bearer(token(role="admin")))
        assert "gives no role and accounts" in answer.text
        execution = (await client.post("/trail", json=DAY, headers=bearer(token()))).json()["queryExecutionId"]
        assert await status(token(sub="bob"), "GET", f"/trail/query-result/{execution}") == 200  # of the account
        assert await status(token(accounts="beta"), "GET", f"/trail/query-result/{execution}") == 404

    run(settings, work)
    refused = [r for r in journal_of(settings) if r.status == 403]
    assert {r.principal for r in refused} == {"ada"}  # the caller is known


def test_refused_token_is_a_401_of_each_dialect_which_says_no_more_than_of_a_wrong_key(settings: Settings) -> None:
    wrong = [
        token(exp=5), token(aud="other"), token(iss="https://other.test/"), token(kid="k9"), token(number=1),
        token(nbf=int(time.time()) + 900), "eyJhbGciOiJub25lIn0.e30.", "a.b.c", "x" * 20_000 + ".b.c",
    ]  # fmt: skip

    async def work(client: httpx.AsyncClient) -> None:
        for path in ("/trail", "/usage/a/b", "/logs", "/api/v1/logs/x?type=query", "/records", "/feed"):
            method = "POST" if path in ("/trail", "/usage/a/b") else "GET"
            answers = [await client.request(method, path, headers=bearer(text)) for text in ("aa_wrong", wrong[0])]
            assert [a.status_code for a in answers] == [401, 401], path
            assert answers[0].content == answers[1].content
            assert answers[1].headers["www-authenticate"].startswith("Bearer")
        for text in wrong[1:]:
            answer = await client.get("/records", headers=bearer(text))
            assert answer.status_code == 401, text[:60]
            assert answer.content == (await client.get("/records", headers=bearer("aa_wrong"))).content
        answer = await client.post("/api", json={"1": {"command": "diag.ping"}}, headers=bearer(wrong[0]))
        assert answer.json()["errorCodes"]

    run(settings, work)
    assert len({d.name for d in DIALECTS}) == 6  # a new one: poll for it
    kept = files_of(settings)
    assert not [text for text in wrong for piece in text.split(".") if len(piece) > 12 and piece.encode() in kept]


def test_failures_are_bounded_and_a_valid_token_never_is(settings: Settings) -> None:
    """From one address, and for one key id and subject from any address. Each of the first failures is recorded,
    once."""
    expired = token(exp=5)

    async def work(client: httpx.AsyncClient) -> None:
        answers = [await client.get("/records", headers=bearer(expired)) for _ in range(FAILURES_MAX + 20)]
        assert Counter(a.status_code for a in answers) == {401: FAILURES_MAX, 429: 20}
        assert int(answers[-1].headers["retry-after"]) > 0
        assert (await client.get("/records", headers=bearer(token()))).status_code == 200
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=client._transport.app, client=("192.0.2.7", 1)),  # type: ignore[attr-defined]
            base_url="http://api",
        ) as elsewhere:
            assert (await elsewhere.get("/records", headers=bearer(expired))).status_code == 429
            assert (await elsewhere.get("/records", headers=bearer(token(sub="bob", exp=5)))).status_code == 401
            assert (await elsewhere.get("/records", headers=bearer(token()))).status_code == 200

    run(settings, work)
    found = Counter(r.status for r in journal_of(settings))
    assert found == {401: FAILURES_MAX + 1, 429: 1, 200: 2}


def test_session_of_a_token_ends_with_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ping = {"command": "diag.ping"}

    async def work(client: httpx.AsyncClient) -> None:
        async def call(body: Any) -> Any:
            return (await client.post("/api", json=body)).json()

        text = token(exp=ends)
        session = (await call({"auth": login(text)}))["auth"]["params"]["sessionId"]
        assert len(session) <= 30
        info = (await call({"auth": {"sessionId": session}, "1": {"command": "session.info"}}))["1"]["params"]
        assert info["userName"] == "ada"
        assert info["orgKey"] == "acme"
        assert 0 < info["ttl"] <= 2_030
        assert (await call({"auth": login(token(exp=5)), "1": ping}))["success"] is False
        other = (await call({"auth": login(token(sub="bob"))}))["auth"]["params"]["sessionId"]
        ended = {"command": "session.end", "params": {"id": other}}
        assert not (await call({"auth": {"sessionId": session}, "1": ended}))["1"]["success"]  # of another caller
        assert (await call({"auth": {"sessionId": other}, "1": ended}))["1"]["success"]
        assert not (await call({"auth": {"sessionId": other}, "1": ping}))["success"]
        sessions.append(session)

    sessions: list[str] = []
    ends = int(time.time()) + 2_000
    run(settings, work)
    control = open_control(settings)
    found = control.sessions.find(sessions[0])  # a restart keeps it
    assert found is not None
    assert (found.grant.role, found.grant.accounts, found.grant.subject) == ("auditor", frozenset({"acme"}), "ada")
    monkeypatch.setattr(control, "_clock", lambda: ends + 31)
    assert control.sessions.find(sessions[0]) is None
    control.close()
    assert sessions[0].encode() not in files_of(settings)


def test_long_token_opens_a_session_and_a_wrong_one_is_not_quoted(settings: Settings) -> None:
    long = token(groups=["0d7f3a52-6f0b-4a2e-8c9d-1e5b7a9c3f10"] * 250)
    assert 10_000 < len(long) < TOKEN_CHARACTERS_MAX

    async def work(client: httpx.AsyncClient) -> None:
        answer = (await client.post("/api", json={"auth": login(long)})).json()
        assert answer["auth"]["success"], answer
        assert (await client.get("/records", headers=bearer(long))).status_code == 200
        for wrong in ("hunter2" * 3_000, ["hunter2"], {"hunter2": 1}, 7002):
            params = {"username": "ada", "password": wrong, "appToken": long}
            said = (await client.post("/api", json={"auth": {"command": "api.authenticate", "params": params}})).text
            assert '"success":false' in said
            assert "hunter2" not in said
            assert "7002" not in said

    run(settings, work)


def test_sessions_of_a_token_are_bounded_and_those_of_keys_stay(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asgi_audit.control.sessions import SESSIONS_MAX
    from asgi_audit.query.model import Grant

    control = open_control(settings)
    now = itertools.count(time.time(), 0.01)  # two sessions of one millisecond have no order: the first must be older
    monkeypatch.setattr(control, "_clock", lambda: next(now))
    key_id, _ = control.create_key("auditor", "*")
    of_key = control.sessions.open(key_id)
    grant = Grant(key_id="jwt_1_2", role="auditor", accounts=None, subject="ada", expires=time.time() + 9_000)
    first, *others = [control.sessions.open_of_token(grant) for _ in range(SESSIONS_MAX + 1)]
    assert control.sessions.find(first) is None
    assert all(control.sessions.find(text) is not None for text in (*others, of_key))
    control.close()


def test_session_of_a_token_of_many_years_ends_after_a_day_however_often_it_is_used(settings: Settings) -> None:
    from asgi_audit.control.sessions import SESSION_SECONDS
    from asgi_audit.query.model import Grant

    now = [1_800_000_000_000]
    control = open_control(settings)
    control.sessions._now_ms = lambda: now[0]
    grant = Grant(key_id="jwt_1_2", role="auditor", accounts=None, subject="ada", expires=253_402_300_799.0)
    text = control.sessions.open_of_token(grant)
    for _ in range(23):
        now[0] += SESSION_SECONDS * 1000 // 24
        assert control.sessions.find(text) is not None
    now[0] += SESSION_SECONDS * 1000 // 24
    assert control.sessions.find(text) is None
    control.close()


def test_session_and_url_end_when_the_issuer_is_no_longer_accepted(tmp_path: Path) -> None:
    made: list[str] = []
    home = Home(tmp_path, 30, 1)
    settings = settings_with(tmp_path)
    runner = build_runner(settings, home.control)
    asked = {"region_group": "classic", "time_start": "2026-01-01T00:00:00Z", "time_end": "2026-01-02T00:00:00Z"}

    async def work(client: httpx.AsyncClient) -> None:
        made.append((await client.post("/api", json={"auth": login(token())})).json()["auth"]["params"]["sessionId"])
        headers = bearer(token(sub="exp@example.com", exp=int(time.time()) + 1_500))
        runner.step()
        answer = await client.post("/api/v1/logs?type=query", json=asked, headers=headers)
        assert answer.status_code == 200, answer.text
        for _ in range(20):
            runner._looked = float("-inf")
            runner.step()
        path = f"/api/v1/logs/{answer.json()['request_id']}?type=query"
        body = (await client.get(path, headers=headers)).json()
        assert body["state"] == "Complete", body
        url = httpx.URL(body["presigned_url"])
        assert int(url.params["expires"]) - time.time() <= 1_531  # the token and the leeway, not an hour
        assert "example" not in str(url.params["key"])
        assert (await client.get(url.raw_path.decode())).status_code == 200
        longer = bearer(token(exp=int(time.time()) + 90_000))
        body = (await client.get(path, headers=longer)).json()
        assert 2000 < int(httpx.URL(body["presigned_url"]).params["expires"]) - time.time() <= 3600
        made.append(httpx.URL(body["presigned_url"]).raw_path.decode())

    run(settings, work)
    runner.close()
    home.close()
    downloads = [r for r in journal_of(settings) if r.operation == "exports.download"]
    assert [r.principal.startswith("jwt_") for r in downloads] == [True]

    async def refused(client: httpx.AsyncClient) -> None:
        body = {"auth": {"sessionId": made[0]}, "1": {"command": "diag.ping"}}
        assert (await client.post("/api", json=body)).json()["success"] is False
        assert (await client.get(made[1])).status_code == 403

    async def accepted(client: httpx.AsyncClient) -> None:
        body = {"auth": {"sessionId": made[0]}, "1": {"command": "diag.ping"}}
        assert (await client.post("/api", json=body)).json()["1"]["success"] is True
        assert (await client.get(made[1])).status_code == 200

    run(settings, accepted)
    run(settings_with(tmp_path, jwt_issuer="https://another.test/"), refused)
    run(settings_with(tmp_path, jwt_issuer="", jwt_audience="", jwt_jwks=""), refused)


def test_token_is_nothing_without_an_issuer(settings: Settings, tmp_path: Path) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.get("/records", headers=bearer(token()))).status_code == 401

    run(settings_with(tmp_path, jwt_issuer="", jwt_audience="", jwt_jwks=""), work)


def test_keys_that_were_never_loaded_are_a_503_which_is_bounded_too(tmp_path: Path) -> None:
    """The issuer is unreachable from the start: keys of asgi-audit still work."""
    settings = settings_with(tmp_path, jwt_jwks="http://127.0.0.1:9/jwks.json")
    open_store_writer(settings).close()
    control = open_control(settings)
    _, key = control.create_key("auditor", ["acme"])
    control.close()

    async def work(client: httpx.AsyncClient) -> None:
        answers = [await client.get("/records", headers=bearer(token())) for _ in range(FAILURES_MAX + 20)]
        assert Counter(a.status_code for a in answers) == {503: FAILURES_MAX, 429: 20}
        assert "retry-after" in answers[0].headers
        assert (await client.get("/records", headers=bearer(key))).status_code == 200
        answer = await client.post("/api", json={"1": {"command": "diag.ping"}}, headers=bearer(token()))
        assert answer.status_code == 429

    run(settings, work)
    assert Counter(r.status for r in journal_of(settings))[503] == FAILURES_MAX


def test_key_set_that_is_no_file_stops_the_start(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, jwt_jwks=str(tmp_path / "nothing.json"))
    with pytest.raises(ConfigError, match=r"setting jwt_jwks: .*nothing\.json cannot be read: No such file"):
        build_api(settings)
    with pytest.raises(ConfigError, match="setting jwt_jwks"):
        asgi_audit.create_app(home=tmp_path, jwt_issuer=ISSUER, jwt_audience="x", jwt_jwks=tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"jwt_issuer": "x"}, "jwt_issuer is given without jwt_audience and jwt_jwks"),
        ({"jwt_jwks": "x"}, "jwt_jwks is given without jwt_issuer and jwt_audience"),
        ({"jwt_jwks": "http://issuer.example/keys"}, "an https:// URL"),
        ({"jwt_jwks": "http://localhost.evil.example/keys"}, "an https:// URL"),
        ({"jwt_jwks": "https://user:pass@issuer.example/keys"}, "an https:// URL"),
        ({"jwt_jwks": "ftp://issuer.example/keys"}, "an https:// URL"),
        ({"jwt_algorithms": "HS256"}, "did you mean RS256"),
        ({"jwt_algorithms": "none"}, "RS256"),
        ({"jwt_leeway_seconds": 301}, "seconds from 0 to 300"),
        ({"jwt_role_claim": ""}, "the name of a claim"),
        ({"jwt_roles": "admins=owner"}, "name=role"),
        ({"jwt_roles": "a=auditor,a=reader"}, "name=role"),
    ],
)
def test_wrong_setting_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as raised:
        make_settings({}, **given)
    assert "pass@" not in str(raised.value)


def test_settings_come_from_the_environment_too() -> None:
    made = make_settings(
        {
            "ASGI_AUDIT_JWT_ISSUER": ISSUER,
            "ASGI_AUDIT_JWT_AUDIENCE": "a, b",
            "ASGI_AUDIT_JWT_JWKS": "keys/jwks.json",
            "ASGI_AUDIT_JWT_ROLES": "cn=admins=auditor,staff=reader",
            "ASGI_AUDIT_JWT_ALGORITHMS": "ES256,RS256",
        }
    )
    assert made.jwt_audience == ("a", "b")
    assert made.jwt_roles == (("cn=admins", "auditor"), ("staff", "reader"))
    assert made.jwt_algorithms == ("ES256", "RS256")
    assert made.absolute().jwt_jwks == str(Path("keys/jwks.json").absolute())
    for url in ("https://issuer.example/keys", "http://localhost:8080/keys", "http://[::1]/keys"):
        assert make_settings({}, jwt_issuer="x", jwt_audience="y", jwt_jwks=url).absolute().jwt_jwks == url
