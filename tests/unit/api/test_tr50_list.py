"""`usage.api.list`: the effect of each parameter, refusals by name, and the bounds of the response."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.records import foreign, payload, read_until
from tests.unit.api.test_tr50 import DAY_MS, Tr50, is_root_failure, names, seed

from asgi_audit.api.dialects.tr50 import lists
from asgi_audit.api.dialects.tr50.item import Cut, item_of
from asgi_audit.api.dialects.tr50.lists import ANSWER_BYTES_MAX, RESULTS_MAX
from asgi_audit.store.base import Batch

NOW = DAY_MS / 1000 + 3600


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Tr50]:
    made = Tr50(tmp_path, clock=lambda: NOW)
    yield made
    made.close()


# -- parameters


def test_without_parameters_everything_kept_is_found_newest_first(api: Tr50) -> None:
    seed(api, 3)
    api.add(foreign(0, name="old", path="/old"))
    texts = ("who", "service", "command", "last", "start", "end")
    for params in (
        {},
        {"limit": 0},
        dict.fromkeys(texts, ""),
        dict.fromkeys((*texts, "offset", "limit", "showAll", "hasFailure")),
    ):
        listed = api.listed(params)
        assert listed["params"]["count"] == 4
        assert names(listed) == ["r2", "r1", "r0", "old"]


def test_start_and_end_are_inclusive_to_the_millisecond(api: Tr50) -> None:
    seed(api, 5)
    for start, end, found in (
        ("2024-01-01T00:00:00.001Z", "2024-01-01T00:00:00.003Z", ["r3", "r2", "r1"]),
        ("2024-01-01T00:00:00.001001Z", "2024-01-01T00:00:00.003Z", ["r3", "r2"]),
        ("2024-01-01T00:00:00.003Z", "2024-01-01T00:00:00.003Z", ["r3"]),
        ("2024-01-01T00:00:00.003Z", "2024-01-01T00:00:00.003999999Z", ["r3"]),
        ("2024-01-01T02:00:00.004+02:00", "", ["r4"]),
        ("", "2023-12-31T19:00:00.000-05:00", ["r0"]),
        ("2025-01-01T00:00:00Z", "", []),
    ):
        listed = api.listed({"start": start, "end": end})
        assert names(listed) == found
        assert listed["params"]["count"] == len(found)
        assert (listed["params"]["result"] is None) == (not found)


def test_last_is_from_so_long_ago_on(api: Tr50) -> None:
    now = int(NOW * 1000)
    api.add(
        *(foreign(now - ago, name=str(ago), path=f"/{ago}") for ago in (0, 999, 1_000, 1_001, 5_400_000, 86_400_000))
    )
    for last, found in (
        ("1s", 3), ("1000ms", 3), ("1000000us", 3), ("1000000µs", 3), ("1000000000ns", 3), ("0.999s", 2), ("1h30m", 5),
        ("1.5h", 5), ("90m", 5), ("24h", 6), ("1d", 6), ("23h59m59.999s", 5), ("0", 1), ("106751d", 6),
    ):  # fmt: skip
        assert api.listed({"last": last})["params"]["count"] == found, last
    api.add(foreign(now + 5_000, name="ahead", path="/ahead"))  # of a machine whose clock is ahead
    assert names(api.listed({"last": "1ms"})) == ["ahead", "0"]


def test_filters_find_what_they_name(api: Tr50) -> None:
    for n, more in enumerate(
        (
            {"principal": "mira", "service": "shop", "operation": "pay", "status": 500},
            {"principal": "mira", "service": "shop", "operation": "look"},
            {"principal": "Mira", "service": "shop", "operation": "pay", "status": 401},
            {"principal": "mira", "service": "logs", "operation": "pay", "status": 404},
        )
    ):
        api.add(foreign(DAY_MS + n, name=f"r{n}", path=f"/r{n}", **more))
    for params, found in (
        ({"who": "mira"}, ["r1", "r0"]),
        ({"who": "nobody"}, []),
        ({"service": "shop"}, ["r2", "r1", "r0"]),
        ({"service": "logs"}, ["r3"]),
        ({"service": "shop", "command": "pay"}, ["r2", "r0"]),
        ({"service": "shop", "command": "pay", "who": "mira"}, ["r0"]),
        ({"hasFailure": True}, ["r2", "r0"]),
        ({"hasFailure": False}, ["r2", "r1", "r0"]),
        ({"service": "sh*p"}, []),
        ({"who": "mira' OR 1=1"}, []),
    ):
        assert names(api.listed(params)) == found, params


def test_limit_and_offset_page_through_all(api: Tr50) -> None:
    seed(api, 7)
    pages: dict[int, list[str]] = {0: ["r6", "r5", "r4"], 3: ["r3", "r2", "r1"], 6: ["r0"], 7: [], 100_000: []}
    for offset, found in pages.items():
        listed = api.listed({"offset": offset, "limit": 3})
        assert names(listed) == found
        assert listed["params"]["count"] == 7
    assert len(names(api.listed({"limit": 2.0}))) == 2  # an integer, as JSON defines it


def test_limit_is_at_most_two_thousand(api: Tr50) -> None:
    seed(api, RESULTS_MAX + 1)
    for limit in ({}, {"limit": 0}, {"limit": 2_000}, {"limit": 2_001}, {"limit": 10**15}):
        listed = api.listed(limit)
        assert len(listed["params"]["result"]) == RESULTS_MAX
        assert listed["params"]["count"] == RESULTS_MAX + 1


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"limit": -1}, "limit"),
        ({"limit": 1.5}, "limit"),
        ({"limit": "10"}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": []}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": 100_001}, "shorter time range"),
        ({"offset": "0"}, "offset"),
        ({"last": "-1h"}, "last"),
        ({"last": "1w"}, "last"),
        ({"last": "24"}, "last"),
        ({"last": 24}, "last"),
        ({"last": "24 h"}, "last"),
        ({"last": "1h", "start": "2024-01-01T00:00:00Z"}, "last"),
        ({"last": "1h", "end": "2024-01-01T00:00:00Z"}, "last"),
        ({"start": "2024-01-02T00:00:00Z", "end": "2024-01-01T00:00:00Z"}, "start"),
        ({"start": "2024-01-01"}, "start"),
        ({"start": "yesterday"}, "start"),
        ({"start": 1704067200}, "start"),
        ({"end": "2024-02-30T00:00:00Z"}, "end"),
        ({"end": "2024-01-01T00:00:00"}, "end"),
        ({"hasFailure": "true"}, "hasFailure"),
        ({"hasFailure": 1}, "hasFailure"),
        ({"showAll": "false"}, "showAll"),
        ({"showAll": True}, "showAll"),
        ({"who": 1}, "who"),
        ({"who": "\ud800"}, "who"),
        ({"service": ["shop"]}, "service"),
        ({"command": "pay"}, "service"),
        ({"command": "pay", "service": ""}, "service"),
        ({"limits": 1}, "limits"),
        ({"Limit": 1}, "Limit"),
        ({"": 1}, "there is no such parameter"),
    ],
)  # fmt: skip
def test_what_is_wrong_fails_that_command_by_name(api: Tr50, params: dict[str, Any], word: str) -> None:
    body = {"1": {"command": "usage.api.list", "params": params}, "2": {"command": "usage.api.list"}}
    answer = api.call(body, {"X-API-Key": api.auditor})
    assert word in is_root_failure(answer["1"], -13 if params.get("showAll") is True else -22)
    assert answer["2"]["success"] is True


def test_show_all_is_for_a_key_of_all_accounts_and_changes_nothing_there(api: Tr50) -> None:
    _, everything = api.control.create_key("auditor", "*")
    seed(api, 1)
    api.add(foreign(DAY_MS + 9, account="beta", name="b", path="/b"))
    for show_all in (True, False, None):
        assert names(api.listed({"showAll": show_all}, everything)) == ["b", "r0"]
    assert names(api.listed({"showAll": False})) == ["r0"]


# -- several lists


def test_lists_of_one_request_wait_once_and_see_one_snapshot(tmp_path: Path) -> None:
    """While the request waits for its fence, records arrive; others arrive after the snapshot."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        seed(api, 1)
        api.store.write(Batch(source="t", positions={}, read_until=read_until(NOW + 10)))

    api = Tr50(tmp_path, wait_seconds=2.0, clock=lambda: NOW, sleep=sleep)
    try:
        asked = api.service.listings.count

        async def counting(*given: Any, **more: Any) -> int:
            counted = await asked(*given, **more)
            api.add(foreign(DAY_MS + 100 + api._count, name=f"late-{api._count}"))
            return counted

        api.service.listings.count = counting  # type: ignore[method-assign]
        commands = {str(n): {"command": "usage.api.list", "params": {"limit": 5}} for n in range(5)}
        answer = api.call(commands, {"X-API-Key": api.auditor})
        assert [len(names(answer[id])) for id in commands] == [1] * 5
        assert [answer[id]["params"]["count"] for id in commands] == [1] * 5
        assert len(waits) == 1
        past = {"start": "2023-01-01T00:00:00Z", "end": "2023-01-02T00:00:00Z"}
        api.call({"1": {"command": "usage.api.list", "params": past}}, {"X-API-Key": api.auditor})
        assert len(waits) == 1
    finally:
        api.close()


def test_command_beyond_two_thousand_results_of_a_request_fails_alone(api: Tr50) -> None:
    seed(api, 1_500)
    body = {
        "a": {"command": "usage.api.list"},
        "b": {"command": "usage.api.list", "params": {"limit": 501}},
        "c": {"command": "usage.api.list", "params": {"limit": 400}},
        "d": {"command": "usage.api.list", "params": {"offset": 1_450}},
        "e": {"command": "usage.api.list", "params": {"offset": 1_449}},
        "f": {"command": "usage.api.list", "params": {"end": "2023-01-01T00:00:00Z"}},
    }
    answer = api.call(body, {"X-API-Key": api.auditor})
    assert [len(names(answer[id])) for id in "acdf"] == [1_500, 400, 50, 0]
    assert [answer[id]["params"]["count"] for id in "acdf"] == [1_500, 1_500, 1_500, 0]
    assert "2,000 for one request" in is_root_failure(answer["b"], -22)
    assert "50" in is_root_failure(answer["e"], -22)


# -- bodies


def shown(record: bytes, cut: Cut) -> tuple[dict[str, Any], dict[str, Any]]:
    item = json.loads(item_of(record, cut))
    return json.loads(item["request"]), json.loads(item["response"])


TEXTS = {
    "object": {"a": ["ü" * 3_000, '"\\\n' * 500, 5e300, None]},
    "text": "€" * 5_000,
    "astral": "a" + "\U0001f600" * 2_000,
    "quotes": '"' * 9_000,
    "number": 12_345,
    "short": "as it is",
    "list": [[]] * 3_000,
}


@pytest.mark.parametrize("body", TEXTS.values(), ids=list(TEXTS))
@pytest.mark.parametrize("cut", Cut)
def test_text_of_a_request_parses_however_its_body_is_cut(body: Any, cut: Cut) -> None:
    request, response = shown(payload(1, body=body), cut)
    most = {Cut.WHOLE: None, Cut.LONG: 4_096, Cut.SHORT: 1_024, Cut.NONE: 0, Cut.BARE: 0}[cut]
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    if most == 0:
        assert "body" not in request
        assert request["bodyTruncated"] is True
        assert response["bodyTruncated"] is True
    elif most is None or len(text.encode()) <= most:
        assert request["body"] == body
        assert "bodyTruncated" not in request
    else:
        assert isinstance(request["body"], str)
        assert most - 4 < len(request["body"].encode()) <= most
        assert isinstance(body, str) is text.startswith(request["body"]) or not isinstance(body, str)
        assert request["bodyTruncated"] is True
    assert request["method"] == "GET"
    assert response["statusCode"] == 200
    assert ("headers" in request) == (cut is not Cut.BARE)


def test_body_that_was_cut_when_it_was_captured_says_so() -> None:
    facts = {"bytes": 100_000, "captured": "truncated"}
    for cut in (Cut.WHOLE, Cut.LONG):
        request, response = shown(payload(1, body="begin", requestBody=facts), cut)
        assert (request["body"], request["bodyTruncated"]) == ("begin", True)
        assert "bodyTruncated" not in response
    request, _ = shown(payload(1, body=None, requestBody=facts), Cut.SHORT)
    assert request["body"] is None
    for odd in ("text", 5, [], {"captured": 5}):
        request, _ = shown(payload(1, body="x", requestBody=odd), Cut.WHOLE)
        assert "bodyTruncated" not in request


def test_bare_item_is_short_whatever_the_record_holds() -> None:
    record = payload(
        1, path="/" + "p" * 50_000, account="a" * 50_000, principal="w" * 50_000, host="h" * 50_000, body="b" * 50_000
    )
    item = item_of(record, Cut.BARE)
    assert len(item) < 10_000
    assert json.loads(json.loads(item)["request"]) == {
        "method": "GET", "path": "/" + "p" * 1_023, "originalUrl": "/" + "p" * 1_023, "bodyTruncated": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("size", "count", "cut"),
    [(3_000, 2_000, Cut.WHOLE), (6_000, 1_700, Cut.LONG), (60_000, 2_000, Cut.SHORT), (60_000, 300, Cut.LONG)],
)
def test_answer_fits_into_its_bound_with_as_much_of_the_bodies_as_can_be(
    api: Tr50, size: int, count: int, cut: Cut
) -> None:
    seed(api, count, body="b" * size)
    answer = api.post({"1": {"command": "usage.api.list"}}, {"X-API-Key": api.auditor})
    assert len(answer.content) <= ANSWER_BYTES_MAX
    assert int(answer.headers["content-length"]) == len(answer.content)
    results = answer.json()["1"]["params"]["result"]
    assert len(results) == count
    lengths = {len(json.loads(item["request"])["body"]) for item in results}
    assert lengths == {{Cut.WHOLE: size, Cut.LONG: 4_096, Cut.SHORT: 1_024}[cut]}
    assert (api.service.admission.in_flight, api.service.admission.bytes) == (0, 0)


def test_answer_that_is_full_leaves_out_bodies_then_ends_early(api: Tr50, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bound at the size at which each cut is needed."""
    seed(api, 100, body='"' * 2_000)
    headers = {"X-API-Key": api.auditor}
    sizes = {}
    for bound in (200_000, 70_000, 50_000, 30_000, 3_000, 1_800):
        monkeypatch.setattr("asgi_audit.api.dialects.tr50.ANSWER_BYTES_MAX", bound)
        answer = api.post({"1": {"command": "usage.api.list"}, "2": {"command": "usage.api.list"}}, headers)
        assert len(answer.content) <= bound
        found = answer.json()
        sizes[bound] = [len(found[id]["params"]["result"]) if found[id]["success"] else 0 for id in "12"]
        request = json.loads(found["1"]["params"]["result"][0]["request"])
        assert found["1"]["params"]["count"] == 100
        assert "body" not in request or len(request["body"]) <= 1_024
    assert sizes[200_000] == [100, 100]
    assert sizes[70_000] == [100, 100]
    assert 1 <= sizes[1_800][0] < 100
    assert sizes[1_800][1] == 0
    assert "do not fit" in is_root_failure(found["2"], -22)


def test_list_whose_records_are_purged_while_it_is_made_is_empty(api: Tr50, monkeypatch: pytest.MonkeyPatch) -> None:
    seed(api, 3)
    monkeypatch.setattr(api.store, "page", lambda *_, **__: ([], False))  # between its count and its first part
    assert api.listed() == {"success": True, "params": {"count": 3, "result": None}}


def test_parts_are_small_and_no_more_than_a_part_is_read_at_once(api: Tr50, monkeypatch: pytest.MonkeyPatch) -> None:
    """Method: the requests to the reader are recorded, because they determine the memory beside the response."""
    seed(api, 700, body="b" * 6_000)
    asked: list[tuple[int, int]] = []
    page = api.store.page

    def counting(query: Any, **given: Any) -> Any:
        rows, more = page(query, **given)
        asked.append((sum(len(row.record) for row in rows), given["bytes_max"]))
        return rows, more

    monkeypatch.setattr(api.store, "page", counting)
    assert len(names(api.listed())) == 700
    assert len(asked) > 3
    assert max(size for size, _ in asked) <= lists._PART_BYTES
    assert {most for _, most in asked} == {lists._PART_BYTES}


def test_items_are_made_in_the_readers_threads(api: Tr50, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()

    def making(record: bytes, cut: Cut) -> bytes:
        threads.add(threading.current_thread().name)
        return item_of(record, cut)

    monkeypatch.setattr(lists, "item_of", making)
    seed(api, 3)
    assert len(names(api.listed())) == 3
    assert threads == {"asgi-audit-query"}


def test_list_that_cannot_be_counted_in_time_fails_alone(api: Tr50, monkeypatch: pytest.MonkeyPatch) -> None:
    from asgi_audit.errors import QueryError

    count = api.store.count

    def counting(query: Any, **given: Any) -> int:
        if query.service == "slow":
            raise QueryError("too many records to count", kind="too_costly", hint="Use a shorter time range.")
        return count(query, **given)

    monkeypatch.setattr(api.store, "count", counting)
    seed(api, 1)
    body = {"1": {"command": "usage.api.list", "params": {"service": "slow"}}, "2": {"command": "usage.api.list"}}
    answer = api.call(body, {"X-API-Key": api.auditor})
    assert "too many records" in is_root_failure(answer["1"], -11)
    assert names(answer["2"]) == ["r0"]


def test_lists_beyond_the_time_for_counting_fail_alone(api: Tr50, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "_COUNTING_SECONDS", -1.0)
    seed(api, 1)
    answer = api.call({"1": {"command": "usage.api.list"}, "2": {"command": "diag.ping"}}, {"X-API-Key": api.auditor})
    assert "no time" in is_root_failure(answer["1"], -11)
    assert answer["2"] == {"success": True}


def test_answer_is_sent_in_pieces_and_its_lease_is_given_back_when_the_client_leaves(api: Tr50) -> None:
    seed(api, 1_000, body="b" * 6_000)
    sent: list[Any] = []

    async def run() -> None:
        body = json.dumps({"1": {"command": "usage.api.list"}}).encode()
        incoming = iter([{"type": "http.request", "body": body}])

        async def receive() -> Any:
            return next(incoming, None) or await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 5:
                raise OSError("the client left")

        scope = {
            "type": "http", "method": "POST", "path": "/api", "raw_path": b"/api", "query_string": b"",
            "headers": [(b"x-api-key", api.auditor.encode())],
        }  # fmt: skip
        with pytest.raises(OSError, match="left"):
            await api.app(scope, receive, send)

    asyncio.run(run())
    pieces = [len(m["body"]) for m in sent[1:]]
    assert max(pieces) < 2 * 65_536
    assert (api.service.admission.in_flight, api.service.admission.bytes) == (0, 0)
