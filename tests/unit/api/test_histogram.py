"""GET /histogram: its numbers equal those of GET /records for every window and filter; unsupported filters are refused
with the reason."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.api import DAY_MS, Api, SqliteApi
from tests.support.clock import Clock
from tests.support.records import foreign

from asgi_audit.query.service import QueryService
from asgi_audit.record.derived import LEVELS, level_of

MINUTE_MS = 60_000


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = SqliteApi(tmp_path, clock=Clock(DAY_MS / 1000 + 3_600.5))
    yield made
    made.close()


def ask(api: Api, *queries: str) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        async with api.client(api.beta) as client:
            return [await client.get(query) for query in queries]

    return asyncio.run(run())


facts = st.tuples(
    st.sampled_from(["beta", "beta", "acme"]),
    st.integers(-130, 130).map(lambda m: m * MINUTE_MS) | st.integers(-200_000, 200_000),
    st.sampled_from(["gateway", "billing", "logs"]),
    st.sampled_from(["GET", "POST", "HEAD"]),
    st.sampled_from([101, 200, 302, 404, 500, 999]),
)
instants = st.one_of(
    st.sampled_from(["2023-12-31", "2024-01-01"]),
    st.integers(-8_000_000, 8_000_000).map(lambda ms: instant(DAY_MS + ms)),
    st.integers(-130, 130).map(lambda m: instant(DAY_MS + m * MINUTE_MS)),
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "service": st.sampled_from(["gateway", "logs"]),
        "account": st.sampled_from(["beta", "acme"]),
        "level": st.sampled_from(["ERROR", "INFO,DEBUG"]),
        "failure": st.sampled_from(["true", "false"]),
        "method": st.sampled_from(["GET", "HEAD"]),
        "status": st.sampled_from(["404", "2xx,5xx", "100-499"]),
    },
)


def instant(ms: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


@settings(deadline=None)
@given(
    facts=st.lists(facts, max_size=40),
    asked=st.lists(
        st.tuples(instants, instants, filters, st.sampled_from([1, 7, 60, 90, 1440, None])), min_size=1, max_size=5
    ),
)
def test_sum_and_buckets_are_those_of_records(facts: list[Any], asked: list[Any]) -> None:
    with TemporaryDirectory() as directory:
        api = SqliteApi(Path(directory), clock=Clock(DAY_MS / 1000 + 3_600.5))
        try:
            api.add(
                *(
                    foreign(DAY_MS + ms, account=account, service=service, method=method, status=status, name=f"n{n}")
                    for n, (account, ms, service, method, status) in enumerate(facts)
                )
            )
            for start, end, more, minutes in asked:
                query = "&".join(f"{k}={v}" for k, v in {"start": start, "end": end, **more}.items())
                width = f"&minutes={minutes}" if minutes else ""
                records, level, status = ask(
                    api,
                    f"/records?{query}&limit=1000",
                    f"/histogram?{query}{width}",
                    f"/histogram?{query}&by=status{width}",
                )
                if level.status_code == 400 and " buckets; accepted" in level.json()["detail"]:
                    continue  # two days of minutes are more than a histogram has
                assert records.status_code == level.status_code == status.status_code
                if records.status_code == 400:
                    continue
                for answer, by in ((level, "level"), (status, "status")):
                    body = answer.json()
                    assert body["total"] == records.json()["total"]
                    found: dict[str, Counter[str]] = {}
                    step = body["minutes"] * MINUTE_MS
                    for r in records.json()["records"]:
                        label = label_of(r, by)
                        found.setdefault(instant(r["timestamp"] // step * step), Counter())[label] += 1
                    assert {b["start"]: b["counts"] for b in body["buckets"] if any(b["counts"].values())} == {
                        at: {**dict.fromkeys(body["buckets"][0]["counts"], 0), **counts} for at, counts in found.items()
                    }
        finally:
            api.close()


def label_of(r: dict[str, Any], by: str) -> str:
    status = int(r["response"]["statusCode"])
    if by == "status":
        return f"{status // 100}xx"
    return level_of(r["request"]["method"], status, r["context"]["outcome"], "", False)


def test_buckets_are_of_utc_and_empty_ones_are_there(api: Api) -> None:
    api.add(foreign(DAY_MS + 10 * MINUTE_MS, account="beta", status=404, name="a"))
    [answer] = ask(api, "/histogram?start=2023-12-31T23:58:30Z&end=2024-01-01T00:14:59.999Z&minutes=5")
    body = answer.json()
    assert (body["start"], body["end"]) == ("2023-12-31T23:58:30.000Z", "2024-01-01T00:15:00.000Z")
    assert (body["by"], body["minutes"], body["total"]) == ("level", 5, 1)
    zero = dict.fromkeys(LEVELS, 0)
    assert body["buckets"] == [
        {"start": "2023-12-31T23:55:00.000Z", "counts": zero},
        {"start": "2024-01-01T00:00:00.000Z", "counts": zero},
        {"start": "2024-01-01T00:05:00.000Z", "counts": zero},
        {"start": "2024-01-01T00:10:00.000Z", "counts": {**zero, "WARN": 1}},
    ]
    [answer] = ask(api, "/histogram?start=2024-01-01&end=2024-01-01&by=status&minutes=1440")
    assert answer.json()["buckets"] == [
        {"start": "2024-01-01T00:00:00.000Z", "counts": {"1xx": 0, "2xx": 0, "3xx": 0, "4xx": 1, "5xx": 0}}
    ]


@pytest.mark.parametrize(
    ("query", "minutes", "buckets"),
    [
        ("since=1h", 1, 61),
        ("since=24h", 5, 289),
        ("start=2024-01-01", 1, 61),
        ("since=30d", 360, 121),
        ("start=2000-01-01&end=2023-12-31", 10_080, 1253),
        ("start=2024-01-01&end=2024-01-01&minutes=1", 1, 1440),
        ("start=2024-01-01T00:00:00Z&end=2024-01-02T00:59:59Z&minutes=1", 1, 1500),
        ("start=2025-01-01", 1, 0),
    ],
)
def test_window_has_as_many_buckets_as_it_needs(api: Api, query: str, minutes: int, buckets: int) -> None:
    [answer] = ask(api, f"/histogram?{query}")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["minutes"], len(answer.json()["buckets"])) == (minutes, buckets)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "start: it is missing; accepted: start, with or without end, or since"),
        ("end=2024-01-01", "start: it is missing"),
        ("since=1h&start=2024-01-01", "since: it cannot be combined with"),
        ("start=2024-01-01T00:00:00Z&end=2024-01-02T01:00:00Z&minutes=1",
         "minutes: 1 would give 1501 buckets; accepted: at most 1500 buckets, so 2 minutes or more"),
        ("start=1970-01-01&end=2024-01-01", "minutes: 10080 would give 2818 buckets"),
        ("since=1h&minutes=0", "minutes: it is"),
        ("since=1h&by=service", "by: it is"),
        ("since=1h&by=", ""),
        ("since=1h&principal=alice", "principal: a histogram cannot be filtered by it"),
        ("since=1h&text=x", "text: a histogram cannot be filtered by it"),
        ("since=1h&path_prefix=/x", "path_prefix: a histogram cannot be filtered by it"),
        ("since=1h&limit=3", "limit: there is no such parameter"),
    ],
)  # fmt: skip
def test_what_it_cannot_count_is_refused_by_name(api: Api, query: str, said: str) -> None:
    [answer] = ask(api, f"/histogram?{query}")
    if not said:
        assert answer.status_code == 200
        return
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(said)


def test_most_minutes_that_a_refusal_names_are_taken(api: Api) -> None:
    for start in ("1970-01-01", "2001-01-01T00:00:01Z", "2023-12-01T11:59:59Z"):
        query = f"start={start}&end=2024-01-01&minutes=1"
        [refused] = ask(api, f"/histogram?{query}")
        named = refused.json()["detail"].split(", so ")[1].split(" ")[0]
        [answer] = ask(api, f"/histogram?{query[:-1]}{named}")
        assert answer.status_code == 200, answer.text


def test_histogram_is_one_of_the_keys_answers_in_flight(api: Api) -> None:
    assert isinstance(api.service, QueryService)
    assert ask(api, "/histogram?since=1h")[0].headers["audit-open"] == "0"
    assert api.service.admission.in_flight == 0
