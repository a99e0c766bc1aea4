"""The document of exports, request by request: names, types, presence and status; and the other calls that its client
makes.

Named deviations: the document's example has equal times, for which no record can exist, and gets Complete; here it
is DoesNotExist. Responses have `reason` in addition to the documented fields, when there is one."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from tests.support.api import DAY_MS, Api
from tests.support.clock import Clock
from tests.support.records import extent, foreign

from asgi_audit.control.exports import UNFINISHED_MAX, State
from asgi_audit.exporting.base import TargetError
from asgi_audit.exporting.links import LINK_SECONDS
from asgi_audit.store.base import Batch
from asgi_audit.store.state import Completion

STATES = {"Complete", "CreatingNewUrl", "DoesNotExist", "Failed", "Pending", "Requested", "TimedOut"}
DOCUMENTED = {
    "request_id", "database", "region_group", "time_start", "time_end", "state", "presigned_url",
    "presigned_url_expiration_time",
}  # fmt: skip
EXAMPLE = {
    "database": "classic/parent-db/child-db",
    "region_group": "classic",
    "time_start": "2022-09-19T20:42:16.828Z",
    "time_end": "2022-09-19T20:42:16.828Z",
    "idempotency_token": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
}
TOKEN = EXAMPLE["idempotency_token"]
WINDOW = {"time_start": "2024-01-01T00:00:00.000Z", "time_end": "2024-01-02T00:00:00.000Z"}


@pytest.fixture
def clock() -> Clock:
    return Clock(DAY_MS / 1000 + 86_400)


@pytest.fixture
def api(tmp_path: Path, clock: Clock) -> Iterator[Api]:
    made = Api(tmp_path, clock=clock)
    made.acme = made.control.create_key("auditor", ["acme"])[1]
    made.everything = made.control.create_key("auditor", "*")[1]
    for n, region in enumerate(("global", "eu", "global")):
        made.add(foreign(DAY_MS + n, account="acme", region=region, name=f"acme-{n}"))
    made.add(foreign(DAY_MS + 9, account="acme", service="billing", instance="a/b", name="acme-9"))
    made.add(foreign(DAY_MS + 5, account="beta", name="beta-5"))
    complete(made, DAY_MS + 86_400_000)
    made.run_exports()
    yield made
    made.close()


def complete(api: Api, until: int | None) -> None:
    api.store.write(Batch(source="t", positions={}, completion=Completion(extent(until, begins=DAY_MS), [], [])))


def send(api: Api, method: str, url: str, key: str | None = None, **given: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        headers |= given.pop("headers", {})
        transport = httpx.ASGITransport(app=cast(Any, api.app))
        async with httpx.AsyncClient(transport=transport, base_url="http://internal", headers=headers) as client:
            return await client.request(method, url, **given)

    return asyncio.run(run())


def ask(api: Api, body: dict[str, Any] | None = None, *, key: str = "", query: str = "?type=query") -> httpx.Response:
    return send(api, "POST", f"/api/v1/logs{query}", key or api.acme, json=body)


def result(api: Api, id_: str, *, key: str = "", query: str = "?regionGroup=us-std&type=query") -> httpx.Response:
    return send(api, "GET", f"/api/v1/logs/{id_}{query}", key or api.acme)


def listed(api: Api, body: dict[str, Any], *, key: str = "", query: str = "?type=query") -> httpx.Response:
    return send(api, "POST", f"/api/v1/logs/_list{query}", key or api.acme, json=body)


def exported(api: Api, body: dict[str, Any], *, key: str = "") -> dict[str, Any]:
    """The response when the export has ended."""
    asked = ask(api, {**WINDOW, **body}, key=key)
    assert asked.status_code == 200, asked.text
    api.run_exports()
    found: dict[str, Any] = result(api, asked.json()["request_id"], key=key).json()
    return found


def fetch(api: Api, answer: dict[str, Any], **given: Any) -> httpx.Response:
    return send(api, given.pop("method", "GET"), answer["presigned_url"], **given)


def ids(api: Api, answer: dict[str, Any]) -> list[str]:
    assert answer["state"] == "Complete", answer
    lines = gzip.decompress(fetch(api, answer).content).splitlines()
    return [json.loads(line)["metadata"]["id"] for line in lines]


def is_error(answer: httpx.Response, status: int, *words: str) -> bool:
    body = answer.json()
    assert answer.status_code == status, answer.text
    assert set(body) == {"message", "reason", "code"}
    assert all(isinstance(value, str) and value for value in body.values())
    for word in words:
        assert word in body["message"]
    return True


# -- the document


def test_documented_request_is_answered_with_the_documented_fields(api: Api) -> None:
    key = api.control.create_key("auditor", ["parent-db"])[1]
    answer = ask(api, EXAMPLE, key=key)
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert {name: body[name] for name in ("database", "region_group", "time_start", "time_end")} == {
        name: EXAMPLE[name] for name in ("database", "region_group", "time_start", "time_end")
    }
    assert isinstance(body["request_id"], str)
    # Named deviation: Complete in the document, but the window is empty.
    assert body["state"] == "DoesNotExist"
    assert set(body) == DOCUMENTED - {"presigned_url", "presigned_url_expiration_time"}
    again = send(api, "GET", f"/api/v1/logs/{body['request_id']}?type=query", key)
    assert (again.status_code, again.json()) == (200, body)


def test_complete_export_has_every_documented_field(api: Api) -> None:
    answer = exported(api, {"database": "classic/acme", "region_group": "classic"})
    assert set(answer) - {"reason"} == DOCUMENTED
    assert answer["state"] == "Complete"
    assert all(isinstance(value, str) for value in answer.values())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer["presigned_url_expiration_time"])
    assert answer["presigned_url"].startswith(f"http://api/exports/{answer['request_id']}?")


def test_states_are_the_documented_ones() -> None:
    assert {state.value for state in State} == STATES


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ({"regionGroup": "us-std"}, {"region_group": "us-std"}),
        ({"region_group": "us-std"}, {"region_group": "us-std"}),
        ({"region_group": "us-std", "regionGroup": "us-std"}, {"region_group": "us-std"}),
        ({"database": "us-std/acme"}, {"database": "us-std/acme"}),
        ({"database": "us-std/acme", "region_group": "eu-std"}, {"database": "us-std/acme", "region_group": "us-std"}),
        ({"database": "us-std/acme", "regionGroup": "nothing"}, {"database": "us-std/acme", "region_group": "us-std"}),
        ({"database": None, "region_group": "us-std"}, {"region_group": "us-std"}),
    ],
)
def test_answer_repeats_what_was_sent(api: Api, sent: dict[str, str], answered: dict[str, str]) -> None:
    body = ask(api, {**sent, **WINDOW}).json()
    assert {name: body[name] for name in ("database", "region_group") if name in body} == answered
    assert (body["time_start"], body["time_end"]) == (WINDOW["time_start"], WINDOW["time_end"])


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"region_group": "classic"}, ["acme-0", "acme-1", "acme-2", "acme-9"]),
        ({"region_group": "us-std"}, ["acme-0", "acme-2", "acme-9"]),
        ({"region_group": "eu-std"}, ["acme-1"]),
        ({"database": "eu-std/acme", "region_group": "us-std"}, ["acme-1"]),
        ({"database": "classic/acme/gateway"}, ["acme-0", "acme-1", "acme-2"]),
        ({"database": "classic/acme/billing/a%2Fb"}, ["acme-9"]),
        ({"database": "classic/%61cme/billing/a%2fb"}, ["acme-9"]),
    ],
)
def test_object_holds_what_database_or_region_group_means(api: Api, body: dict[str, str], found: list[str]) -> None:
    assert ids(api, exported(api, body)) == found


def test_key_for_everything_exports_every_account_and_our_own_reads(api: Api) -> None:
    api.add(foreign(DAY_MS + 20, account="asgi-audit", service="logs", name="read"))
    found = ids(api, exported(api, {"region_group": "classic"}, key=api.everything))
    assert found == ["acme-0", "acme-1", "acme-2", "beta-5", "acme-9", "read"]


def test_window_is_inclusive_and_exclusive_and_finer_than_a_millisecond(api: Api) -> None:
    def window(start: str, end: str) -> list[str]:
        return ids(api, exported(api, {"region_group": "classic", "time_start": start, "time_end": end}))

    assert window("2024-01-01T00:00:00.001Z", "2024-01-01T00:00:00.009Z") == ["acme-1", "acme-2"]
    assert window("2024-01-01T00:00:00.000001Z", "2024-01-01T00:00:00.0090001Z") == ["acme-1", "acme-2", "acme-9"]
    assert window("2024-01-01T00:00:00.002+00:00", "2024-01-01T01:00:00.003+01:00") == ["acme-2"]


# -- refusals


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "region_group"),
        ({"region_group": None, "database": None}, "region_group"),
        ({"region_group": "mars"}, "mars"),
        ({"region_group": "us-std", "regionGroup": "eu-std"}, "regionGroup"),
        ({"database": "mars/acme"}, "mars"),
        ({"database": "classic"}, "database"),
        ({"database": "classic/"}, "database"),
        ({"database": "/classic/acme"}, "database"),
        ({"database": "classic/acme/a/b/c"}, "database"),
        ({"database": "classic/acme/%ff"}, "database"),
        ({"database": "classic/" + "x" * 201}, "database"),
        ({"database": 7}, "database"),
        ({"region_group": "classic", "time_start": None}, "time_start"),
        ({"region_group": "classic", "time_start": "yesterday"}, "time_start"),
        ({"region_group": "classic", "time_start": "2024-01-01T00:00:00"}, "time_start"),
        ({"region_group": "classic", "time_start": "2024-02-30T00:00:00Z"}, "time_start"),
        ({"region_group": "classic", "time_start": 1704067200}, "time_start"),
        ({"region_group": "classic", "time_start": "2024-01-02T00:00:00.001Z"}, "time_start"),
        ({"region_group": "classic", "time_end": "2024-03-31T00:00:00.001Z"}, "90 days"),
        ({"region_group": "classic", "idempotency_token": "x"}, "idempotency_token"),
        ({"region_group": "classic", "idempotency_token": ""}, "idempotency_token"),
        ({"region_group": "classic", "nonsense": 1}, "nonsense"),
    ],
)
def test_wrong_body_is_400(api: Api, body: dict[str, Any], words: str) -> None:
    assert is_error(ask(api, {**WINDOW, **body}), 400, words)


@pytest.mark.parametrize("query", ["", "?type=", "?type=change", "?type=query&type=query", "?type=query&x=1"])
def test_type_is_required_to_ask(api: Api, query: str) -> None:
    assert is_error(ask(api, {**WINDOW, "region_group": "classic"}, query=query), 400)
    assert is_error(listed(api, {}, query=query), 400)


def test_90_days_are_accepted(api: Api) -> None:
    assert ask(api, {"region_group": "classic", **WINDOW, "time_end": "2024-03-31T00:00:00.000Z"}).status_code == 200


def test_account_that_the_key_does_not_reach_is_404_whether_or_not_it_exists(api: Api) -> None:
    answers = [ask(api, {**WINDOW, "database": f"classic/{name}"}) for name in ("beta", "nobody")]
    assert all(is_error(answer, 404) for answer in answers)
    assert answers[0].content == answers[1].content
    assert exported(api, {"database": "classic/nobody"}, key=api.everything)["state"] == "DoesNotExist"


def test_polling_takes_no_parameter_or_those_of_the_client(api: Api) -> None:
    id_ = ask(api, {**WINDOW, "region_group": "classic"}).json()["request_id"]
    for query in ("", "?type=query", "?regionGroup=us-std", "?regionGroup=eu-std&type=query"):
        assert result(api, id_, query=query).status_code == 200
    for query in ("?type=change", "?regionGroup=mars", "?regiongroup=us-std"):
        assert is_error(result(api, id_, query=query), 400)
    for wrong in ("0" * 32, "x", id_[:-1], id_.upper(), "..", "_list"):
        assert result(api, wrong).status_code in (404, 405)


# -- idempotency


def test_token_is_one_request_for_a_day_whatever_became_of_it(api: Api, clock: Clock) -> None:
    body = {**WINDOW, "region_group": "classic", "idempotency_token": TOKEN}
    first = ask(api, body).json()
    other_window = {**body, "time_end": "2024-01-01T12:00:00Z", "idempotency_token": TOKEN.upper()}
    assert ask(api, other_window).json() == first
    api.control.exports.end(first["request_id"], State.FAILED, "no room")
    clock.now += 86_399
    api.control.exports.beat("x")
    failed = ask(api, other_window).json()
    assert failed == {**first, "state": "Failed", "reason": "no room"}
    clock.now += 1
    api.control.exports.beat("x")
    assert ask(api, body).json()["request_id"] != first["request_id"]


def test_token_belongs_to_the_accounts_of_the_key(api: Api) -> None:
    body = {**WINDOW, "region_group": "classic", "idempotency_token": TOKEN}
    first = ask(api, body).json()["request_id"]
    same = api.control.create_key("auditor", ["acme"])[1]
    assert ask(api, body, key=same).json()["request_id"] == first
    for accounts in (["beta"], ["acme", "beta"], "*"):
        assert ask(api, body, key=api.control.create_key("auditor", accounts)[1]).json()["request_id"] != first


def test_known_token_is_answered_and_a_new_request_is_503_while_nothing_runs_exports(api: Api, clock: Clock) -> None:
    body = {**WINDOW, "region_group": "classic", "idempotency_token": TOKEN}
    first = ask(api, body).json()
    clock.now += 60
    assert ask(api, body).json() == first
    answer = ask(api, {**WINDOW, "region_group": "classic"})
    assert is_error(answer, 503, "no process runs exports", "asgi-audit serve")
    assert int(answer.headers["retry-after"]) > 0
    assert result(api, first["request_id"]).status_code == 200


def test_accounts_have_a_bound_of_exports_that_have_not_ended(api: Api) -> None:
    body = {"region_group": "classic", "time_start": "2024-02-01T00:00:00Z", "time_end": "2024-02-02T00:00:00Z"}
    for _ in range(UNFINISHED_MAX):
        assert ask(api, body).status_code == 200
    answer = ask(api, body)
    assert is_error(answer, 429)
    assert int(answer.headers["retry-after"]) > 0
    assert ask(api, body, key=api.everything).status_code == 200


# -- states


def test_window_in_the_future_is_pending_with_a_reason(api: Api, clock: Clock) -> None:
    answer = ask(api, {"region_group": "classic", **WINDOW, "time_end": "2024-01-02T00:00:01Z"}).json()
    assert answer["state"] == "Requested"
    api.run_exports()
    found = result(api, answer["request_id"]).json()
    assert found["state"] == "Pending"
    assert "2024-01-02T00:00:01" in found["reason"]
    assert "presigned_url" not in found
    clock.now += 901
    api.run_exports()
    found = result(api, answer["request_id"]).json()
    assert found["state"] == "TimedOut"
    assert "the index is complete until 2024-01-02T00:00:00.000Z" in found["reason"]


# -- the list


def test_list_pages_through_all_newest_first_without_urls(api: Api, clock: Clock) -> None:
    made = []
    for n in range(5):
        clock.now += n % 2  # two are of one moment
        api.control.exports.beat("x")
        made.append(ask(api, {**WINDOW, "region_group": "classic"}).json()["request_id"])
    api.run_exports()
    whole = listed(api, {}).json()
    assert set(whole) == {"next_token", "results"}
    assert whole["next_token"] is None
    assert sorted(r["request_id"] for r in whole["results"]) == sorted(made)
    assert all("presigned_url" not in r and r["state"] == "Complete" for r in whole["results"])
    found: list[dict[str, Any]] = []
    token = None
    for _ in range(3):
        page = listed(api, {"max_results": 2, **({"next_token": token} if token else {})}).json()
        found += page["results"]
        token = page["next_token"]
    assert token is None
    assert found == whole["results"]
    order = [api.control.exports.get(r["request_id"], days=7) for r in found]
    created = [e.created_ms for e in order if e is not None]
    assert created == sorted(created, reverse=True)


def test_list_filters_by_state_and_region_group_and_sees_its_own_accounts_alone(api: Api) -> None:
    a = exported(api, {"region_group": "us-std"})["request_id"]
    b = exported(api, {"database": "eu-std/acme/nothing"})["request_id"]

    def found(body: dict[str, Any], key: str = "", query: str = "?type=query") -> list[str]:
        return sorted(r["request_id"] for r in listed(api, body, key=key, query=query).json()["results"])

    assert found({"states": ["DoesNotExist"]}) == [b]
    assert found({"states": ["DoesNotExist", "Complete"]}) == found({"states": []}) == sorted([a, b])
    assert found({"states": ["Failed"]}) == []
    # A value that a client did not set.
    assert found({"states": None, "next_token": None, "max_results": None}) == sorted([a, b])
    assert found({}, query="?type=query&regionGroup=us-std") == [a]
    assert found({}, query="?type=query&regionGroup=eu-std") == [b]
    assert found({}, key=api.everything) == []


@pytest.mark.parametrize(
    "body",
    [{"states": ["Done"]}, {"states": "Failed"}, {"max_results": 0}, {"max_results": 101}, {"max_results": "5"},
     {"next_token": "x"}, {"next_token": ""}, {"nonsense": 1}],
)  # fmt: skip
def test_wrong_list_is_400(api: Api, body: dict[str, Any]) -> None:
    assert is_error(listed(api, body), 400, next(iter(body)))


def test_wrong_state_is_refused_with_those_that_there_are(api: Api) -> None:
    for wrong in (["complete"], "Complete"):
        assert is_error(listed(api, {"states": wrong}), 400, "states", "Complete, CreatingNewUrl, DoesNotExist")


def test_path_is_told_with_the_name_that_the_document_has_for_its_id(api: Api) -> None:
    assert is_error(send(api, "GET", "/api/v1/other", api.acme), 404, "GET /api/v1/logs/{requestId}")
    assert "/api/v1/logs/{requestId}" in send(api, "GET", "/openapi.json").json()["paths"]


def test_token_of_a_list_is_refused_when_changed_or_of_other_accounts(api: Api) -> None:
    for _ in range(2):
        ask(api, {**WINDOW, "region_group": "classic"})
    token = listed(api, {"max_results": 1}).json()["next_token"]
    assert listed(api, {"next_token": token}).status_code == 200
    assert is_error(listed(api, {"next_token": token}, key=api.everything), 400, "next_token")
    for wrong in (token[:-1], "1" + token, token.upper()):
        assert is_error(listed(api, {"next_token": wrong}), 400, "next_token")


# -- the object


def test_download_is_gzip_that_no_client_unpacks_by_itself(api: Api) -> None:
    answer = exported(api, {"region_group": "classic"})
    got = fetch(api, answer)
    assert got.status_code == 200
    assert got.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in got.headers
    assert got.headers["cache-control"] == "no-store"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["accept-ranges"] == "bytes"
    assert int(got.headers["content-length"]) == len(got.content)
    text = gzip.decompress(got.content)
    assert text.endswith(b"\n")
    head = fetch(api, answer, method="HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


def test_manifest_is_named_by_the_download_and_fits_it(api: Api) -> None:
    got = fetch(api, exported(api, {"region_group": "classic"}))
    match = re.fullmatch(r'<(.*)>; rel="describedby"; type="application/json"', got.headers["link"])
    assert match is not None
    beside = send(api, "GET", match[1])
    assert beside.headers["content-type"] == "application/json"
    assert hashlib.sha256(beside.content).hexdigest() == got.headers["audit-manifest-sha256"]
    manifest = beside.json()
    text = gzip.decompress(got.content)
    assert manifest["sha256"] == hashlib.sha256(text).hexdigest()
    assert manifest["records"] == len(text.splitlines()) == 4
    assert {"complete_from", "complete_until", "incidents", "lost"} <= set(manifest)


def test_ranges_are_answered(api: Api) -> None:
    answer = exported(api, {"region_group": "classic"})
    whole = fetch(api, answer).content
    first = fetch(api, answer, headers={"range": "bytes=0-9"})
    rest = fetch(api, answer, headers={"range": "bytes=10-"})
    assert (first.status_code, rest.status_code) == (206, 206)
    assert first.headers["content-range"] == f"bytes 0-9/{len(whole)}"
    assert first.content + rest.content == whole
    assert fetch(api, answer, headers={"range": "bytes=-5"}).content == whole[-5:]
    beyond = fetch(api, answer, headers={"range": f"bytes={len(whole)}-"})
    assert is_error(beyond, 416)
    assert beyond.headers["content-range"] == f"bytes */{len(whole)}"
    assert is_error(fetch(api, answer, headers={"range": "bytes=9-1"}), 400)
    head = fetch(api, answer, method="HEAD", headers={"range": "bytes=9-1"})
    assert (head.status_code, head.content) == (400, b"")
    # A unit that we do not know is not a range (RFC 9110, 14.2).
    for unknown in ("lines=1", "lines", "", "x=0-9"):
        other = fetch(api, answer, headers={"range": unknown})
        assert (other.status_code, other.content) == (200, whole)
    assert api.service.admission.in_flight == 0


def test_conditions_are_kept(api: Api) -> None:
    answer = exported(api, {"region_group": "classic"})
    whole = fetch(api, answer)
    tag, modified = whole.headers["etag"], whole.headers["last-modified"]
    before, other = "Thu, 01 Jan 1970 00:00:01 GMT", '"other"'
    for header, value, status in (
        ("if-none-match", tag, 304), ("if-none-match", f"{other}, W/{tag}", 304), ("if-none-match", "*", 304),
        ("if-none-match", other, 200), ("if-modified-since", modified, 304), ("if-modified-since", before, 200),
        ("if-modified-since", "yesterday", 200), ("if-match", tag, 200), ("if-match", f"{other},{tag}", 200),
        ("if-match", "*", 200), ("if-match", other, 412), ("if-match", f"W/{tag}", 412),
        ("if-unmodified-since", modified, 200), ("if-unmodified-since", before, 412), ("if-unmodified-since", "", 200),
    ):  # fmt: skip
        got = fetch(api, answer, headers={header: value})
        assert got.status_code == status, (header, value)
        assert got.content == whole.content if status == 200 else True
        if status == 304:
            assert (got.content, got.headers["etag"]) == (b"", tag)
        if status == 412:
            assert is_error(got, 412)
    both = {"if-none-match": other, "if-modified-since": modified, "range": "bytes=0-9"}
    assert fetch(api, answer, headers=both).status_code == 206
    assert api.service.admission.in_flight == 0


def test_each_answer_mints_a_fresh_url_for_an_hour(api: Api, clock: Clock) -> None:
    answer = exported(api, {"region_group": "classic"})
    again = result(api, answer["request_id"]).json()
    assert again["presigned_url"] != answer["presigned_url"]
    clock.now += LINK_SECONDS - 1
    assert fetch(api, answer).status_code == 200
    clock.now += 1
    assert is_error(fetch(api, answer), 403)
    assert fetch(api, result(api, answer["request_id"]).json()).status_code == 200


def test_url_is_403_as_soon_as_its_key_is_revoked(api: Api) -> None:
    id_, key = api.control.create_key("auditor", ["acme"])
    answer = exported(api, {"region_group": "classic"}, key=key)
    manifest = fetch(api, answer).headers["link"].split(">")[0][1:]
    api.control.revoke(id_)
    assert is_error(fetch(api, answer), 403, "revoked")
    assert is_error(fetch(api, answer, headers={"range": "bytes=0-9"}), 403)
    assert is_error(send(api, "GET", manifest), 403)
    # A holder of another key with the same accounts continues with a URL of its own.
    assert fetch(api, result(api, answer["request_id"]).json()).status_code == 200


def test_url_that_was_altered_or_forged_is_403(api: Api) -> None:
    one, other = exported(api, {"region_group": "us-std"}), exported(api, {"region_group": "eu-std"})
    url = urlsplit(one["presigned_url"])
    given = dict(parse_qsl(url.query))
    assert send(api, "GET", f"{url.path}?{urlencode(given)}").status_code == 200
    later = str(int(given["expires"]) + 1)
    for wrong in (
        {}, {**given, "expires": later}, {**given, "expires": "0" + given["expires"]}, {**given, "key": "x"},
        {**given, "nonce": "0" * 16}, {**given, "signature": "0" * 64}, {**given, "signature": ""},
        {**given, "signature": given["signature"].upper()}, {**given, "x": "1"}, {**given, "expires": "-1"},
        {**given, "expires": "٣"}, {n: v for n, v in given.items() if n != "nonce"},
    ):  # fmt: skip
        assert is_error(send(api, "GET", f"{url.path}?{urlencode(wrong)}"), 403)
    assert is_error(send(api, "GET", f"{url.path}?{url.query}&key={given['key']}"), 403)
    assert is_error(send(api, "GET", f"{urlsplit(other['presigned_url']).path}?{url.query}"), 403)
    assert is_error(send(api, "GET", f"{url.path}/manifest?{url.query}"), 403)
    for path in ("/exports/x", "/exports/..%2Fcontrol.db", f"/exports/{'0' * 32}"):
        assert is_error(send(api, "GET", f"{path}?{url.query}"), 403)
    # A key gives no access here, and a wrong one does not matter.
    assert is_error(send(api, "GET", url.path, api.acme), 403)
    assert send(api, "GET", f"{url.path}?{url.query}", "wrong").status_code == 200


def test_url_is_under_the_public_url_whatever_host_a_client_names(api: Api) -> None:
    id_ = exported(api, {"region_group": "classic"})["request_id"]
    answer = send(
        api,
        "GET",
        f"/api/v1/logs/{id_}",
        api.acme,
        headers={"host": "evil.example", "x-forwarded-host": "evil.example"},
    )
    assert answer.json()["presigned_url"].startswith("http://api/exports/")
    assert "evil" not in answer.text


def test_export_is_gone_some_days_after_its_end(api: Api, clock: Clock) -> None:
    answer = exported(api, {"region_group": "classic"})
    clock.now += 7 * 86_400 - 1
    url = result(api, answer["request_id"]).json()
    assert fetch(api, url).status_code == 200
    clock.now += 1
    assert is_error(result(api, answer["request_id"]), 404)
    assert listed(api, {}).json()["results"] == []
    assert is_error(fetch(api, url), 404)
    api.runner._swept = float("-inf")
    api.run_exports()
    assert list((api.control.path.parent / "exports").iterdir()) == []


def test_object_that_somebody_removed_is_404(api: Api) -> None:
    answer = exported(api, {"region_group": "classic"})
    path = api.control.path.parent / "exports" / f"{answer['request_id']}.ndjson.gz"
    path.unlink()
    assert is_error(fetch(api, answer), 404)


def test_object_that_goes_while_it_is_asked_for_is_404(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = exported(api, {"region_group": "classic"})
    monkeypatch.setattr(api.exports._target, "open_path", lambda *_, **__: Path("/nowhere/at/all"))
    assert is_error(fetch(api, answer), 404)
    assert api.service.admission.in_flight == 0


def test_storage_that_signs_no_url_is_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = exported(api, {"region_group": "classic"})["request_id"]

    def fail(*_: Any, **__: Any) -> Any:
        raise TargetError("signing a URL failed: NoCredentialsError")

    monkeypatch.setattr(api.exports._target, "presign", fail)
    answer = result(api, id_)
    assert is_error(answer, 503, "storage")
    assert "Credentials" not in answer.text


def test_metrics_say_how_many_exports_are_in_which_state(api: Api) -> None:
    exported(api, {"region_group": "classic"})
    text = send(api, "GET", "/metrics").text
    assert 'asgi_audit_exports{state="Complete"} 1.0' in text
    assert 'asgi_audit_exports{state="Failed"} 0.0' in text
    assert "asgi_audit_exports_running 1.0" in text
    assert "asgi_audit_exports_writing_records 0.0" in text
