"""GET /logs beyond its document: what each parameter accepts, snapshots, cursors, entries, the README's line."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.api import DAY_MS, Api
from tests.support.records import foreign, payload, record

from asgi_audit.api.dialects.logs import OFFSET_MAX, _pagination
from asgi_audit.api.dialects.logs_entry import entry_of
from asgi_audit.api.filters import SEARCH_BYTES_MAX
from asgi_audit.errors import QueryError
from asgi_audit.query.listing import Listed
from asgi_audit.record.slices import Cuts
from asgi_audit.store.base import Query, Row
from asgi_audit.store.state import Completeness

README = (Path(__file__).parents[3] / "README.md").read_text("utf-8")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path)
    yield made
    made.close()


def ask(
    api: Api, query: str = "", *, key: str | None = None, method: str = "GET", path: str = "/logs"
) -> httpx.Response:
    async def run() -> httpx.Response:
        async with api.client(key or api.beta) as client:
            return await client.request(method, path + query)

    return asyncio.run(run())


def found(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [entry["details"]["record_id"] for entry in answer.json()["data"]["logs"]]


def page_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    pagination: dict[str, Any] = answer.json()["data"]["pagination"]
    return pagination


def add(api: Api, *at: int, **given: Any) -> None:
    api.add(*(foreign(DAY_MS + ms, account="beta", name=given.pop("name", f"n{ms}"), **given) for ms in at))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("startDate=2024-01-01T00:00:00.002Z", ["n3", "n2"]),
        ("startDate=2024-01-01T00:00:00.0020001Z", ["n3"]),
        ("endDate=2024-01-01T00:00:00.002Z", ["n2", "n1", "n-1"]),
        ("endDate=2024-01-01T00:00:00.0029Z", ["n2", "n1", "n-1"]),
        ("startDate=2024-01-01T00:00:00.002Z&endDate=2024-01-01T00:00:00.002Z", ["n2"]),
        ("startDate=2024-01-01T02:00:00.002%2B02:00", ["n3", "n2"]),
        ("startDate=2024-01-01T02:00:00.002+02:00", ["n3", "n2"]),
        ("startDate=2024-01-01T02:00:00.002+0200", ["n3", "n2"]),
        ("startDate=2023-12-31T22:00:00.002-02:00", ["n3", "n2"]),
        ("startDate=2024-01-01", ["n3", "n2", "n1"]),
        ("endDate=2023-12-31", ["n-1"]),
        ("startDate=2023-12-31&endDate=2024-01-01", ["n3", "n2", "n1", "n-1"]),
        ("startDate=2024-01-01&endDate=2024-01-01&limit=1", ["n3"]),
        ("startDate=0001-01-01&endDate=9999-12-31", ["n3", "n2", "n1", "n-1"]),
        ("startDate=9999-12-31", []),
        ("endDate=1969-12-31", []),
        ("startDate=&endDate=&level=&service=&search=&limit=&offset=&cursor=", ["n3", "n2", "n1", "n-1"]),
        ("limit=1000&offset=3", ["n-1"]),
        ("offset=100000", []),
        ("level=INFO", ["n3", "n2", "n1", "n-1"]),
        ("level=FATAL", []),
        ("service=gateway", ["n3", "n2", "n1", "n-1"]),
        ("service=gate", []),
        ("service=logs", ["own"]),
        ("search=get", ["n3", "n2", "n1", "n-1"]),
        ("search=%22200+ok%22", ["n3", "n2", "n1", "n-1"]),
        ("search=%22ok+200%22", []),
    ],
)
def test_parameters_select(api: Api, query: str, expected: list[str]) -> None:
    add(api, -1, 1, 2, 3)
    add(api, 2, service="logs", name="own")
    answer = ask(api, "?" + query)
    assert found(answer) == expected
    if "limit" not in query and "offset" not in query:
        assert page_of(answer)["total"] == len(expected)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "limit: .*1 to 1000"),
        ("limit=1001", "limit: .*1 to 1000"),
        ("limit=-1", "limit: "),
        ("limit=1.5", "limit: "),
        ("limit=ten", "limit: "),
        ("limit=+5", "limit: "),
        ("limit=%D9%A1", "limit: "),
        ("limit=99999999999999999999", "limit: "),
        ("offset=-1", "offset: .*0 to 100000"),
        (f"offset={OFFSET_MAX + 1}", "offset: .*cursor"),
        ("level=error", "level: .*DEBUG, INFO, WARN, ERROR, FATAL"),
        ("level=ERROR,WARN", "level: "),
        ("level=TRACE", "level: "),
        ("service=%00", "service: "),
        ("service=" + "x" * 201, "service: "),
        ("search=%21%21", "search: .*word"),
        ("search=%22%22", "search: .*word"),
        ("search=" + "a+" * 501, f"search: .*{SEARCH_BYTES_MAX}"),
        ("startDate=2024-01-02&endDate=2024-01-01", "startDate: .*endDate"),
        ("startDate=2024-01-01T00:00:00.0002Z&endDate=2024-01-01T00:00:00.0001Z", "startDate: .*endDate"),
        ("startDate=2024-01-01+00:00:00Z", "Invalid date format for 'startDate'"),
        ("endDate=2024-01-01T24:00:00Z", "Invalid date format for 'endDate'"),
        ("endDate=%F0%9F%98%80", "Invalid date format for 'endDate'"),
        ("limit=1&limit=1", "limit: .*more than once"),
        ("level=&level=INFO", "level: .*more than once"),
        ("Limit=1", "Limit: .*accepted: limit, offset"),
        ("start=1", "start: .*accepted: limit, offset"),
        ("page=1", "page: "),
        ("%ff=1", "accepted: limit"),
        ("cursor=x", "cursor: "),
        ("cursor=x&offset=0", "offset: .*cursor"),
        ("search=" + "a" * 9000, "query string: "),
    ],
)
def test_what_is_not_accepted_is_400_and_named(api: Api, query: str, says: str) -> None:
    answer = ask(api, "?" + query)
    body = answer.json()
    assert answer.status_code == 400, answer.text
    assert list(body) == ["status", "message"]
    assert body["status"] == "error"
    assert re.match(says, body["message"]) or re.search(says, body["message"]), body
    assert len(answer.content) < 600


def test_pages_of_a_cursor_are_of_one_snapshot_and_repeat_its_total(api: Api) -> None:
    add(api, *range(0, 50, 10))
    first = ask(api, "?limit=2")
    assert page_of(first) == {
        "total": 5, "limit": 2, "offset": 0, "nextOffset": 2, "cursor": page_of(first)["cursor"],
    }  # fmt: skip
    assert page_of(first)["cursor"]
    add(api, *range(5, 55, 10))  # newer, older and between
    second = ask(api, f"?limit=2&cursor={page_of(first)['cursor']}")
    third = ask(api, f"?limit=2&cursor={page_of(second)['cursor']}")
    assert found(first) + found(second) + found(third) == ["n40", "n30", "n20", "n10", "n0"]
    assert page_of(second)["total"] == page_of(third)["total"] == 5
    assert page_of(third) == {"total": 5, "limit": 2, "offset": None, "nextOffset": None, "cursor": None}
    assert page_of(ask(api, "?limit=1"))["total"] == 10


def test_a_page_by_offset_brings_a_cursor_that_goes_on_after_it(api: Api) -> None:
    add(api, *range(5))
    page = ask(api, "?limit=2&offset=1")
    assert found(page) == ["n3", "n2"]
    assert page_of(page)["nextOffset"] == 3
    assert found(ask(api, f"?limit=2&cursor={page_of(page)['cursor']}")) == ["n1", "n0"]


def test_next_offset_may_exceed_the_greatest_offset() -> None:
    rows = [Row(n, b"", Cuts(0, 0, 0, 0, 0)) for n in range(2)]
    page = _pagination(Listed(rows, "cursor", 200_000, Completeness(None, 0, 0)), 2, OFFSET_MAX)
    assert page.nextOffset == OFFSET_MAX + 2  # a request with it is refused, and the error names the cursor


def test_cursor_of_another_query_scope_or_dialect_is_400(api: Api) -> None:
    add(api, 1, 2, 3)
    api.add(foreign(DAY_MS, name="a1"), foreign(DAY_MS + 1, name="a2"))
    cursor = page_of(ask(api, "?limit=1&service=gateway"))["cursor"]
    assert cursor is not None
    other = api.control.create_key("auditor", ["acme"])[1]
    same = api.control.create_key("auditor", ["beta"])[1]
    assert found(ask(api, f"?service=gateway&cursor={cursor}", key=same)) == ["n2", "n1"]
    for query, key, field in (
        (f"?cursor={cursor}", api.beta, "service"),
        (f"?service=gateway&level=INFO&cursor={cursor}", api.beta, "level"),
        (f"?service=gateway&search=get&cursor={cursor}", api.beta, "search"),
        (f"?service=gateway&startDate=2024-01-01&cursor={cursor}", api.beta, "startDate"),
        (f"?service=gateway&endDate=2024-01-01&cursor={cursor}", api.beta, "endDate"),
        (f"?service=gateway&cursor={cursor}", other, "cursor"),
        (f"?service=gateway&cursor={cursor[:-2]}", api.beta, "cursor"),
        (f"?service=gateway&cursor={cursor[:-1]}{'A' if cursor[-1] != 'A' else 'B'}", api.beta, "cursor"),
    ):
        answer = ask(api, query, key=key)
        assert answer.status_code == 400, answer.text
        assert answer.json()["message"].startswith(f"{field}: "), answer.text

    async def of_trail() -> tuple[httpx.Response, httpx.Response]:
        async with api.client(other) as client:
            window = {"from": "2024-01-01T00:00:00Z", "to": "2024-01-02T00:00:00Z"}
            execution = (await client.post("/trail", json=window)).json()["queryExecutionId"]
            page = (await client.get(f"/trail/query-result/{execution}?limit=1")).json()
            logs = page_of(await client.get("/logs?limit=1"))["cursor"]
            return (
                await client.get(f"/logs?cursor={page['nextToken']}"),
                await client.get(f"/trail/query-result/{execution}?nextToken={logs}"),
            )

    assert [answer.status_code for answer in asyncio.run(of_trail())] == [400, 400]


def test_cursor_of_the_longest_filters_opens(api: Api) -> None:
    service, search = "é" * 199 + "x", "é" * (SEARCH_BYTES_MAX // 2)
    api.add(*(record(n, DAY_MS - n, account="beta", service=service, message=search, level="ERROR") for n in (1, 2)))
    query = f"?limit=1&level=ERROR&service={service}&search={search}&startDate=2023-01-01T00:00:00Z&endDate=2024-12-31"
    first = ask(api, query)
    assert page_of(first)["total"] == 2
    assert len(found(ask(api, f"{query}&cursor={page_of(first)['cursor']}"))) == 1


def test_what_takes_too_long_to_count_is_503_and_says_what_to_do(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(query: Query, **_: Any) -> int:
        raise QueryError("too many records to count within 2 s; use a shorter time range", kind="too_costly")

    monkeypatch.setattr(api.store, "count", count)
    answer = ask(api)
    assert answer.status_code == 503
    assert answer.json()["status"] == "error"
    assert "use a shorter time range" in answer.json()["message"]
    assert api.service.admission.in_flight == 0


def test_head_other_methods_and_completeness_headers(api: Api) -> None:
    add(api, 1)
    get, head = ask(api), ask(api, method="HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))
    assert get.headers["audit-incidents"] == head.headers["audit-incidents"] == "0"
    assert get.headers["audit-open"] == "0"
    assert get.headers["cache-control"] == "no-store"
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = ask(api, method=method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert list(answer.json()) == ["status", "message"]
    assert found(ask(api, path="/logs/")) == ["n1"]
    assert api.service.admission.in_flight == api.service.admission.bytes == 0


def test_entry_holds_all_details_and_no_body() -> None:
    data = json.loads(
        payload(
            7,
            DAY_MS + 5,
            account="beta",
            method="POST",
            path="/orders/1",
            status=500,
            principal="alice",
            body={"secret": 1},
            client="192.0.2.1",
            route="/orders/{id}",
            durationNs=12_345_678,
            outcome="failed",
            error={"type": "ValueError"},
            annotations={"b": [1, None], "a": "é"},
        )
    )
    data["request"]["headers"]["user-agent"] = ["curl/8", "x"]
    assert json.loads(entry_of(json.dumps(data).encode())) == {
        "timestamp": "2024-01-01T00:00:00.005Z",
        "level": "ERROR",
        "service": "gateway",
        "message": "POST /orders/1 → 500 Internal Server Error, alice, 12 ms, ValueError",
        "details": {
            "record_id": data["metadata"]["id"],
            "request_id": "req-7",
            "account_id": "beta",
            "instance_id": "i1",
            "method": "POST",
            "path": "/orders/1",
            "route": "/orders/{id}",
            "status_code": 500,
            "duration_ms": 12.346,
            "user_id": "alice",
            "ip_address": "192.0.2.1",
            "user_agent": "curl/8, x",
            "outcome": "failed",
            "error": "ValueError",
            "annotations": {"b": [1, None], "a": "é"},
        },
    }


@pytest.mark.parametrize("headers", [5, "x", None, [], {"user-agent": 5}, {"user-agent": [1]}, {}])
@pytest.mark.parametrize("annotations", [5, None, [], "x"])
def test_entry_of_a_foreign_record_leaves_out_what_it_cannot_read(headers: Any, annotations: Any) -> None:
    data = json.loads(payload(1, process=None, identity="f", annotations=annotations))
    data["request"]["headers"] = headers
    del data["context"]["durationNs"]
    details = json.loads(entry_of(json.dumps(data).encode()))["details"]
    assert set(details) == {
        "record_id", "request_id", "account_id", "instance_id", "method", "path", "status_code", "outcome",
    }  # fmt: skip


def test_request_of_the_readme_is_answered_as_it_shows(api: Api) -> None:
    line = re.search(r'^curl -s "localhost:8400(/logs\?[^"]+)" -H "Authorization: Bearer \$KEY"$', README, re.MULTILINE)
    shown = re.search(r'^# (\{"status":"success".*)$', README, re.MULTILINE)
    assert line is not None
    assert shown is not None
    api.add(record(1, DAY_MS, account="beta", service="shop", method="POST", path="/login", status=401))
    answer = ask(api, path=line[1])
    (entry,) = answer.json()["data"]["logs"]
    assert f'"message":"{entry["message"]}"' in shown[1]
    assert page_of(answer)["total"] == 1
