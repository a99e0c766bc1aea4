"""Exports in the trail of the API itself: each request and each download once, with its caller, without a URL that
gives access."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.support.export_home import Home
from tests.unit.wiring.test_wiring import journal_of, within_lifespan

from asgi_audit.settings import Settings
from asgi_audit.wiring.environment import settings_from
from asgi_audit.wiring.exports import build_runner
from asgi_audit.wiring.server import build_api

BODY = {"region_group": "classic", "time_start": "2026-01-01T00:00:00Z", "time_end": "2026-01-02T00:00:00Z"}
TOKEN = "3fa85f64-5717-4562-b3fc-2c963f66afa6"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ASGI_AUDIT_HOME", str(tmp_path))
    return Home(tmp_path, 30, 1)


class Asked:
    """Runs `work` against the API of `home`, and returns the records of its requests."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self.settings = settings
        self.key_id, self.key = home.control.create_key("auditor", ["acme"])
        self.runner = build_runner(settings, home.control)

    async def complete(self, client: httpx.AsyncClient, **body: Any) -> str:
        """The URL of a new export."""
        headers = {"authorization": f"Bearer {self.key}"}
        self.runner.step()
        asked = await client.post("/api/v1/logs?type=query", json={**BODY, **body}, headers=headers)
        assert asked.status_code == 200, asked.text
        for _ in range(20):
            self.runner._looked = float("-inf")
            self.runner.step()
        answer = (await client.get(f"/api/v1/logs/{asked.json()['request_id']}", headers=headers)).json()
        url = urlsplit(answer["presigned_url"])
        return f"{url.path}?{url.query}"


@pytest.fixture
def asked(home: Home) -> Any:
    made = Asked(home, settings_from(query_wait_seconds=0))
    yield made
    made.runner.close()
    home.close()


def test_exports_and_downloads_are_recorded_once_each_and_polls_never(asked: Asked) -> None:
    urls: list[str] = []

    async def work(client: httpx.AsyncClient) -> None:
        headers = {"authorization": f"Bearer {asked.key}"}
        url = await asked.complete(client, idempotency_token=TOKEN)
        urls.append(url)
        # A repeat of the same request, the list and the manifest add no records.
        again = {**BODY, "idempotency_token": TOKEN}
        assert (await client.post("/api/v1/logs?type=query", json=again, headers=headers)).status_code == 200
        assert (await client.post("/api/v1/logs/_list?type=query", json={}, headers=headers)).status_code == 200
        got = await client.head(url)
        assert got.status_code == 200
        for span in ("bytes=0-9", "bytes=10-19", "bytes=20-"):  # one download in several ranges
            assert (await client.get(url, headers={"range": span})).status_code == 206
        assert (await client.get(got.headers["link"].partition("<")[2].partition(">")[0])).status_code == 200
        assert (await client.get(url)).status_code == 200  # another one
        forged = url.replace("signature=", "signature=0")
        assert (await client.get(forged)).status_code == 403

    asyncio.run(within_lifespan(build_api(asked.settings), work))
    found = [(r.account, r.service, r.principal, r.method, r.status) for r in journal_of(asked.settings)]
    mine = ("acme", "logs", f"key:{asked.key_id}")
    assert found == [
        (*mine, "POST", 200),
        (*mine, "GET", 206),
        (*mine, "GET", 200),
        ("asgi-audit", "logs", "", "GET", 403),
    ]
    signature = urls[0].partition("signature=")[2]
    assert all(signature.encode() not in r.data for r in journal_of(asked.settings))


def test_download_that_begins_in_the_middle_or_after_refusals_is_recorded(asked: Asked) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        url = await asked.complete(client)
        await client.head(url)
        assert (await client.get(url, headers={"range": "bytes=999999999-"})).status_code == 416
        assert (await client.get(url, headers={"range": "bytes=9-1"})).status_code == 400
        assert (await client.get(url, headers={"range": "bytes=1-"})).status_code == 206

    asyncio.run(within_lifespan(build_api(asked.settings), work))
    found = [(r.method, r.status) for r in journal_of(asked.settings)]
    assert found == [("POST", 200), ("GET", 416), ("GET", 400), ("GET", 206)]


def test_each_whole_download_is_recorded_whatever_range_it_names(asked: Asked) -> None:
    """A range of an unknown unit is ignored: the response is the whole file."""

    async def work(client: httpx.AsyncClient) -> None:
        url = await asked.complete(client)
        for _ in range(3):
            assert (await client.get(url, headers={"range": "lines=1-"})).status_code == 200

    asyncio.run(within_lifespan(build_api(asked.settings), work))
    assert [(r.method, r.status) for r in journal_of(asked.settings)] == [("POST", 200), *[("GET", 200)] * 3]


def test_manifest_is_recorded_when_it_is_refused(asked: Asked) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        url = await asked.complete(client)
        manifest = (await client.head(url)).headers["link"].partition("<")[2].partition(">")[0]
        assert (await client.get(manifest)).status_code == 200
        assert (await client.get(manifest.replace("signature=", "signature=0"))).status_code == 403

    asyncio.run(within_lifespan(build_api(asked.settings), work))
    assert [(r.method, r.status) for r in journal_of(asked.settings)] == [("POST", 200), ("GET", 403)]


def test_forged_urls_get_few_records_and_a_valid_one_from_the_same_address_its_own(asked: Asked) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        url = await asked.complete(client)
        for _ in range(100):
            assert (await client.get("/exports/x?signature=0")).status_code == 403
        assert (await client.get(url)).status_code == 200

    asyncio.run(within_lifespan(build_api(asked.settings), work))
    found = [r.status for r in journal_of(asked.settings)]
    assert found.count(200) == 2
    assert 1 <= found.count(403) <= 40


def test_refused_request_is_recorded(asked: Asked) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        headers = {"authorization": f"Bearer {asked.key}"}
        assert (await client.post("/api/v1/logs?type=query", json={}, headers=headers)).status_code == 400
        assert (await client.post("/api/v1/logs?type=query", json=BODY, headers=headers)).status_code == 503

    asyncio.run(within_lifespan(build_api(asked.settings), work))
    assert [r.status for r in journal_of(asked.settings)] == [400, 503]
