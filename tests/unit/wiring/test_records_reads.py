"""`/records`, `/histogram` and `/feed` in the trail of the API itself: each read and each refusal once, and no later
page of a list or feed. If reads of a feed were records, it would never end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from tests.support.records import DAY_MS, NOON, batch, foreign
from tests.unit.wiring.test_wiring import journal_of, within_lifespan

from asgi_audit.settings import Settings
from asgi_audit.wiring.environment import settings_from
from asgi_audit.wiring.operations import open_control, open_store_writer
from asgi_audit.wiring.server import build_api


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ASGI_AUDIT_HOME", str(tmp_path))
    made = settings_from(query_wait_seconds=0)
    writer = open_store_writer(made)
    writer.write(batch(foreign(NOON - 7 * DAY_MS - n, name=f"n{n}") for n in range(3)))
    writer.close()
    return made


def test_reads_are_recorded_once_and_what_goes_on_never(settings: Settings) -> None:
    control = open_control(settings)
    key_id, key = control.create_key("auditor", ["acme"])
    reader = control.create_key("reader", ["acme"])[1]
    control.close()

    async def work(client: httpx.AsyncClient) -> None:
        async def get(path: str, key: str = key, **params: str) -> httpx.Response:
            return await client.get(path, headers={"x-api-key": key}, params=params)

        assert (await get("/histogram", start="2026-11-15", end="2026-11-15")).json()["total"] == 3
        assert (await get("/records/n1")).json()["metadata"]["id"] == "n1"
        for path, name in (("/records", "cursor"), ("/feed", "after")):
            cursor = (await get(path, limit="1")).json()["cursor"]
            for _ in range(2):
                cursor = (await get(path, limit="1", **{name: cursor})).json()["cursor"]
            assert (await get(path, **{name: "x"})).status_code == 400
            assert (await get(path, reader)).status_code == 403
            assert (await get(path, "wrong")).status_code == 401
        assert (await get("/feed", wait="1", after=cursor)).json()["records"] == []
        assert (await get("/records/nothing")).status_code == 404

    asyncio.run(within_lifespan(build_api(settings), work))
    found = journal_of(settings)
    assert [(r.path, r.status) for r in found] == [
        ("/histogram", 200), ("/records/n1", 200),
        ("/records", 200), ("/records", 400), ("/records", 403), ("/records", 401),
        ("/feed", 200), ("/feed", 400), ("/feed", 403), ("/feed", 401),
        ("/records/nothing", 404),
    ]  # fmt: skip
    assert {r.service for r in found} == {"logs"}
    assert {(r.account, r.principal) for r in found if r.status == 200} == {("acme", f"key:{key_id}")}
