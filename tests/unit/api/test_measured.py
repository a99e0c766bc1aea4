"""`/metrics`, and the readiness of the processes beside the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.api import DAY, Api

from asgi_audit.api.app import create_app
from asgi_audit.settings import Settings


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    api = Api(tmp_path)
    yield api
    api.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def counted(client: httpx.AsyncClient) -> dict[tuple[str, str], float]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (s.labels["dialect"], s.labels["status"]): s.value
        for family in text_string_to_metric_families(answer.text)
        for s in family.samples
        if s.name == "asgi_audit_api_request_seconds_count"
    }


@pytest.mark.anyio
async def test_requests_are_counted_by_dialect_and_status_without_a_key_and_without_a_name(api: Api) -> None:
    """Paths, services and accounts of requests must not become labels: they reveal contents of records and are
    unbounded."""
    async with api.client() as nobody, api.client(api.acme) as acme:
        await acme.post("/trail", json=DAY)
        await acme.post("/usage/secret-service/i1", json=DAY)
        await acme.post("/secret-service/i1", json=DAY)
        await nobody.post("/trail", json=DAY)
        await nobody.get("/trail")
        for n in range(20):
            await nobody.get(f"/a/b/c/d/{n}")
        await nobody.get("/health/live")
        found = await counted(nobody)
        assert found == {
            ("trail", "200"): 1,
            ("usage", "404"): 2,
            ("trail", "401"): 1,
            ("trail", "405"): 1,
            ("none", "404"): 20,
            ("health", "200"): 1,
        }
        text = (await nobody.get("/metrics")).text
        assert "secret" not in text
        assert "acme" not in text
        assert (await nobody.post("/metrics")).status_code == 405
        head = await nobody.head("/metrics")
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.anyio
async def test_metrics_show_what_is_measured_beside(api: Api) -> None:
    values = {"asgi_audit_index_records": 7.0, "asgi_audit_index_readable": 1.0}
    app = create_app(api.service, api.control, Settings(), api.exports, measures=lambda: values)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api") as client:
        text = (await client.get("/metrics")).text
    assert "asgi_audit_index_records_total 7.0" in text
    assert "asgi_audit_index_readable 1.0" in text


@pytest.mark.anyio
async def test_ready_says_why_when_what_stands_beside_is_not(api: Api) -> None:
    why = ""
    app = create_app(api.service, api.control, Settings(), api.exports, unready=lambda: why)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api") as client:
        assert (await client.get("/health/ready")).status_code == 200
        why = "the indexer process is not running"
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["reasons"]) == (503, [why])
        assert (await client.get("/health/live")).status_code == 200
