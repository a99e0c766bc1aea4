"""Additions to schemathesis: the API's own rules, client addresses, and paths of existing objects.

It imports nothing of asgi_audit: it runs in the process of schemathesis.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

CREDENTIALS = {"X-API-Key": os.environ["AUDITOR"]}
# Reasons for which a request that fits the schema may be refused: each is a rule between fields.
RULES = (
    r"from: it is later than to",
    r"startDate: it is later than endDate",
    r"start: it is later than end",
    r"time_start: it is later than time_end",
    r"time_end: it is too late; accepted: at most 90 days after time_start",
    r"region_group: it is missing; accepted: one of region_group and database",
    r"region_group: it differs from regionGroup",
    r"start: it cannot be combined with after",
    r"offset: it cannot be combined with cursor",
    r"since: it cannot be combined with start or end",
    r"\w+: it differs from the query that the token",
    r"start: it is missing; accepted: start, with or without end, or since",
    r"minutes: \d+ make \d+ buckets",
    r"query string: it is longer than 8192 bytes",  # all of them together
    r"filters: they are too long together",
)
THERE = {
    "service": "gateway",
    "instanceResourceId": "acme-eu",
    "regionGroup": "classic",
    "region_group": "classic",
    "database": "classic/acme/gateway",
}
# Parameters that exclude others.
ALONE = {"since", "offset", "idempotency_token"}
# Sealed tokens, which no schema can describe. {parameter or field: where a response has it}
TOKENS = {"cursor": "cursor", "nextToken": "nextToken", "next_token": "next_token", "after": "cursor"}
DAY = ("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z")
_addresses = itertools.count(1)

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=40).map(lambda text: f"a{text}")
status = st.integers(100, 999)
ranges = st.lists(
    st.one_of(
        status.map(str),
        st.integers(1, 9).map("{}xx".format),
        st.tuples(status, status).map(lambda ends: f"{min(ends)}-{max(ends)}"),
    ),
    min_size=1,
    max_size=4,
).map(",".join)
schemathesis.openapi.format("words", words)
schemathesis.openapi.format("status-ranges", ranges)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Each request comes from an address of its own: otherwise the 31st without a key would be 429. Half of the
    requests that fit the schema are for existing objects: records, executions, exports and their files. Each token in
    one of them is real."""
    n = next(_addresses)
    case.headers = {**(case.headers or {}), "X-Forwarded-For": f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"}
    if not is_positive(case):
        return
    parts = [part for part in (case.path_parameters, case.query, case.body) if isinstance(part, dict)]
    for part in parts if n % 2 else ():
        for name, value in THERE.items():
            if name in part:
                part[name] = value
        for name in part.keys() & ALONE:
            del part[name]
    if n % 2 and case.path_parameters:
        follow(case)
    for part in parts:
        for name in part.keys() & TOKENS.keys():
            del part[name]
            if (token := real_token(case, TOKENS[name])) is not None:
                part[name] = token


def follow(case: Any) -> None:
    """Puts the id of an existing object into the path; for a signed URL, all of it."""
    if "queryExecutionId" in case.path_parameters:
        url = case.as_transport_kwargs()["url"].partition("/query-result/")[0]
        began = requests.post(url, json={"from": DAY[0], "to": DAY[1]}, headers=CREDENTIALS, timeout=60)
        case.path_parameters["queryExecutionId"] = find(began, "queryExecutionId") or "x"
    elif "requestId" in case.path_parameters:
        id, *urls = export(case.as_transport_kwargs()["url"].partition("/exports/")[0].partition("/api/")[0])
        case.path_parameters["requestId"] = id
        if case.path.startswith("/exports/"):
            url = urls[case.path.endswith("/manifest")]
            case.query = dict(parse_qsl(urlsplit(url).query))


@functools.cache
def export(base: str) -> tuple[str, str, str]:
    """The id of a complete one, the URL of its file and that of its manifest."""
    asked = {"region_group": "classic", "time_start": DAY[0], "time_end": DAY[1]}
    began = requests.post(f"{base}/api/v1/logs?type=query", json=asked, headers=CREDENTIALS, timeout=60)
    id = began.json()["request_id"]
    for _ in range(600):
        polled = requests.get(f"{base}/api/v1/logs/{id}", headers=CREDENTIALS, timeout=60)
        if url := find(polled, "presigned_url"):
            return id, url, polled.links["describedby"]["url"]
        time.sleep(0.1)
    raise AssertionError(polled.text)


def real_token(case: Any, name: str) -> str | None:
    """From the page before the requested one; None where there is none, or when the rest is refused."""
    asked = case.as_transport_kwargs()
    asked["headers"] = {**asked.get("headers", {}), **CREDENTIALS}
    if case.path == "/api/v1/logs/_list":
        asked["json"] = {**(case.body if isinstance(case.body, dict) else {}), "max_results": 1}
    elif case.method.upper() == "GET":
        asked["params"] = {**(asked.get("params") or {}), "limit": 1}
    answer = requests.request(**asked, timeout=60)
    if answer.ok and (execution := find(answer, "queryExecutionId")) is not None:
        url = f"{asked['url'].rstrip('/')}/query-result/{execution}"
        answer = requests.get(url, params={"limit": 1}, headers=CREDENTIALS, timeout=60)
    return find(answer, name) if answer.ok else None


def find(answer: requests.Response, name: str) -> str | None:
    found = re.search(rf'"{name}":"([^"]+)"', answer.text)
    return found[1] if found else None


@schemathesis.hook
def filter_query(context: Any, query: Any) -> bool:
    """null, an empty text, array or object, and an array of one text are sent as nothing, as an empty parameter (which
    counts as absent), or as that text: they would not be wrong."""
    return not query or not any(is_nothing(value) for value in query.values())


def is_nothing(value: Any) -> bool:
    if isinstance(value, dict):
        return all(name == "" for name in value)  # an object is sent as its names
    if isinstance(value, list):
        return len(value) < 2 or all(v == "" or is_nothing(v) for v in value)
    return value is None or value == ""


@schemathesis.check
def refusal_is_one_of_our_rules(context: Any, response: Any, case: Any) -> None:
    """A request that fits the schema is refused only by one of `RULES`."""
    if is_positive(case) and response.status_code == 400:
        text = response.text
        if not any(re.search(f'"(title":"Bad Request","status":400,"detail|message)":"{rule}', text) for rule in RULES):
            raise AssertionError(f"no rule between fields: {text[:500]}")


@schemathesis.check
def what_is_wrong_fails(context: Any, response: Any, case: Any) -> None:
    """A failure with status 200 is marked as one."""
    is_json = response.request.headers.get("content-type", "").startswith("application/json")  # others pass, too
    is_wrong = case.meta is not None and not is_positive(case) and is_json
    if is_wrong and case.path == "/api" and response.status_code == 200 and '"success":false' not in response.text:
        raise AssertionError(f"it was accepted: {response.text[:500]}")


@schemathesis.check
def answer_is_never_422(context: Any, response: Any, case: Any) -> None:
    if response.status_code == 422:
        raise AssertionError("422")


def is_positive(case: Any) -> bool:
    return case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
