"""Goal: GET /logs sends exactly what its document shows: request, response, errors, parameters.

Method: the fixtures are the document's own texts. Records with the contents of its example are queried over HTTP,
from SQLite; names, types, presence and status are compared. Additions of ours: fields of `details` beyond the
example's, and `cursor`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.exports import exports_of
from tests.support.records import batch, record

from asgi_audit.api.app import create_app
from asgi_audit.api.dialects.logs import Found
from asgi_audit.control import Control
from asgi_audit.query.service import QueryService
from asgi_audit.settings import Settings
from asgi_audit.store.sqlite import SqliteReader, SqliteWriter

REQUEST = "/logs?limit=10&level=ERROR&service=user-service&startDate=2023-10-27T09:00:00Z"
ANSWER = json.loads("""
{"status": "success",
 "data": {
  "logs": [
   {"timestamp": "2023-10-27T10:35:15Z", "level": "ERROR", "service": "user-service",
    "message": "Failed to authenticate user: invalid credentials for user_id 12345",
    "details": {"user_id": 12345, "ip_address": "192.168.1.100"}},
   {"timestamp": "2023-10-27T10:30:01Z", "level": "INFO", "service": "product-service",
    "message": "Product with ID 9876 retrieved successfully.",
    "details": {"product_id": 9876, "user_agent": "PostmanRuntime/7.28.0"}}],
  "pagination": {"total": 150, "limit": 10, "offset": 0, "nextOffset": 10}}}
""")
ERRORS = {
    400: {
        "status": "error",
        "message": "Invalid date format for 'startDate'. Please use ISO 8601 format (YYYY-MM-DDTHH:MM:SSZ).",
    },
    401: {"status": "error", "message": "Authentication required. Please provide a valid API key or token."},
    403: {"status": "error", "message": "You do not have permission to access API logs."},
}
AT = 1_698_402_915_000  # 2023-10-27T10:35:15Z
DETAILS = {
    "record_id", "request_id", "account_id", "instance_id", "method", "path", "route", "status_code", "duration_ms",
    "user_id", "ip_address", "user_agent", "outcome", "error", "annotations",
}  # fmt: skip


class World:
    """The document's 150 failures of `user-service`, and its other entry; its requests are paths."""

    def __init__(self, directory: Path) -> None:
        said = ANSWER["data"]["logs"]
        failures = [
            record(
                n + 1,
                AT - n * 1000,
                service="user-service",
                principal="12345",
                client="192.168.1.100",
                level="ERROR",
                message=said[0]["message"],
            )
            for n in range(150)
        ]
        other = record(200, AT - 314_000, service="product-service", message=said[1]["message"])
        self.writer = SqliteWriter(directory / "index", clock=lambda: AT / 1000)
        self.writer.write(batch([*failures, other]))
        self.control = Control(directory / "control.db")
        self.auditor = self.control.create_key("auditor", ["acme"])[1]
        self.reader = self.control.create_key("reader", ["acme"])[1]
        self.service = QueryService(lambda: SqliteReader(directory / "index"), self.control.secret(), wait_seconds=0)
        self.app = create_app(self.service, self.control, Settings(), exports_of(self.control))

    def get(self, path: str, key: str | None = None, **params: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            headers = {"authorization": f"Bearer {self.auditor if key is None else key}"} if key != "" else {}
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
                return await client.get(path, params=params or None)

        return asyncio.run(run())

    def close(self) -> None:
        self.service.close()
        self.control.close()
        self.writer.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_documented_request_is_answered_as_documented(world: World) -> None:
    answer = world.get(REQUEST)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    Found.model_validate_json(answer.content)  # the model describes exactly what is sent
    assert list(body) == list(ANSWER)
    assert list(body["data"]) == list(ANSWER["data"])
    pagination = body["data"]["pagination"]
    assert isinstance(pagination.pop("cursor"), str)
    assert pagination == ANSWER["data"]["pagination"]
    assert len(body["data"]["logs"]) == 10
    first, documented = body["data"]["logs"][0], ANSWER["data"]["logs"][0]
    assert list(first) == list(documented)
    assert first["timestamp"] == documented["timestamp"].replace("Z", ".000Z")
    assert [first[name] for name in ("level", "service", "message")] == [
        documented[name] for name in ("level", "service", "message")
    ]
    assert first["details"]["user_id"] == "12345"
    assert first["details"]["ip_address"] == "192.168.1.100"
    assert set(first["details"]) == DETAILS - {"route", "user_agent", "error", "annotations"}


def test_every_page_by_offset_and_by_cursor_holds_all_of_it_once(world: World) -> None:
    expected = [f"id-{'0' * 0}{n}" for n in range(1, 151)]
    for by in ("offset", "cursor"):
        found: list[str] = []
        more: dict[str, Any] = {}
        while True:
            answer = world.get("/logs", limit=40, service="user-service", **more).json()["data"]
            found += [entry["details"]["record_id"].rpartition("-")[2] for entry in answer["logs"]]
            page = answer["pagination"]
            assert page["total"] == 150
            assert (page["offset"], page["nextOffset"]) == (None, None) or by == "offset" or not more
            if page["cursor"] is None:
                assert page["nextOffset"] is None
                break
            more = {"offset": page["nextOffset"]} if by == "offset" else {"cursor": page["cursor"]}
        assert found == [e.rpartition("-")[2] for e in expected]


@pytest.mark.parametrize(
    "wrong", ["yesterday", "2023-10-27T09:00:00", "2023-13-01", "2023-02-29T00:00:00Z", "1698402915"]
)
@pytest.mark.parametrize("name", ["startDate", "endDate"])
def test_a_wrong_date_is_the_documented_400(world: World, name: str, wrong: str) -> None:
    answer = world.get("/logs", **{name: wrong})
    assert answer.status_code == 400
    assert answer.json() == {**ERRORS[400], "message": ERRORS[400]["message"].replace("startDate", name)}


def test_missing_and_wrong_keys_are_the_documented_401_and_403(world: World) -> None:
    for key in ("", "nonsense"):
        answer = world.get("/logs", key)
        assert (answer.status_code, answer.json()) == (401, ERRORS[401])
        assert answer.headers["www-authenticate"].startswith("Bearer ")
    answer = world.get("/logs", world.reader)
    assert (answer.status_code, answer.json()) == (403, ERRORS[403])
    assert world.get("/logs?limit=x", world.reader).status_code == 403  # and no other information


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARN", "ERROR", "FATAL"])
def test_documented_levels_are_accepted(world: World, level: str) -> None:
    answer = world.get("/logs", level=level).json()["data"]
    assert answer["pagination"]["total"] == {"ERROR": 150, "INFO": 1}.get(level, 0)
    assert all(entry["level"] == level for entry in answer["logs"])


@pytest.mark.parametrize(
    ("search", "total"),
    [
        ("credentials", 150),
        ('"invalid credentials"', 150),
        ('"credentials invalid"', 0),
        ("RETRIEVED product", 1),
        ("cred", 0),
        ("9876", 1),
    ],
)
def test_search_finds_a_keyword_or_phrase_of_the_message(world: World, search: str, total: int) -> None:
    assert world.get("/logs", search=search).json()["data"]["pagination"]["total"] == total


def test_defaults_are_the_documented_ones(world: World) -> None:
    pagination = world.get("/logs").json()["data"]["pagination"]
    assert {k: pagination[k] for k in ("total", "limit", "offset", "nextOffset")} == {
        "total": 151, "limit": 50, "offset": 0, "nextOffset": 50,
    }  # fmt: skip
