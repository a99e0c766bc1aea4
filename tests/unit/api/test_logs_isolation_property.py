"""Goal: nothing of one account reaches the other through GET /logs, by any parameter, total, cursor, header or error.

Method: both accounts hold records with the same few values, each marked with its account's name in every text.
hypothesis queries with one account's key, reads all pages, and compares them with a plain list of that account's
records; then the other account's records are removed, and the same queries must return the same bytes."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st
from tests.support.api import DAY_MS, Api
from tests.support.records import record

from asgi_audit.record.codec import Decoded
from asgi_audit.record.derived import LEVELS
from asgi_audit.record.words import words

ACCOUNTS = ("acme", "beta")
LEVEL = st.sampled_from(LEVELS)
records = st.lists(
    st.tuples(st.sampled_from(ACCOUNTS), st.integers(0, 5), st.sampled_from(["gateway", "logs"]), LEVEL), max_size=25
)
queries = st.fixed_dictionaries(
    {},
    optional={
        "limit": st.sampled_from(["1", "2", "1000", "0", "x"]),
        "offset": st.sampled_from(["0", "1", "7", "100001"]),
        "startDate": st.sampled_from(["2024-01-01", "2024-01-01T00:00:00.003Z", "2025-01-01", "soon"]),
        "endDate": st.sampled_from(["2024-01-01", "2024-01-01T00:00:00.003Z", "2023-01-01"]),
        "level": LEVEL | st.just("error"),
        "service": st.sampled_from(["gateway", "logs", "other"]),
        "search": st.sampled_from(["of-acme", "of-beta", '"of beta"', "of", "word", "!"]),
    },
)


def made(number: int, account: str, ms: int, service: str, level: str) -> Decoded:
    return record(
        number,
        DAY_MS + ms,
        account=account,
        service=service,
        instance=f"of-{account}",
        path=f"/of-{account}",
        principal=f"of-{account}",
        request_id=f"of-{account}-{number}",
        identity=f"id-of-{account}-{number}",
        client=f"of-{account}",
        route=f"/of-{account}",
        level=level,
        message=f"word of-{account}",
        annotations={"of": f"of-{account}"},
    )


def walk(api: Api, key: str, query: dict[str, str]) -> list[httpx.Response]:
    """All pages: the first one, and those that its cursor leads to."""

    async def run() -> list[httpx.Response]:
        async with api.client(key) as client:
            answers = [await client.get("/logs", params=query)]
            while answers[-1].status_code == 200:
                cursor = answers[-1].json()["data"]["pagination"]["cursor"]
                if cursor is None:
                    break
                following = {k: v for k, v in query.items() if k != "offset"} | {"cursor": cursor}
                answers.append(await client.get("/logs", params=following))
            return answers

    return asyncio.run(run())


def told(answers: list[httpx.Response]) -> list[tuple[int, list[tuple[str, str]], Any]]:
    """Everything in the responses but the cursors, whose seal and snapshot differ between two indexes."""
    found = []
    for answer in answers:
        body = answer.json()
        if answer.status_code == 200:
            body["data"]["pagination"]["cursor"] = body["data"]["pagination"]["cursor"] is not None
        headers = [(k, v) for k, v in answer.headers.multi_items() if k != "content-length"]
        found.append((answer.status_code, headers, body))
    return found


def expected(query: dict[str, str], own: list[Decoded]) -> list[str]:
    start = {"2024-01-01T00:00:00.003Z": DAY_MS + 3, "2025-01-01": 1 << 42}.get(query.get("startDate", ""), 0)
    end = {"2024-01-01T00:00:00.003Z": DAY_MS + 3, "2023-01-01": 0}.get(query.get("endDate", ""), 1 << 42)
    left = [
        d
        for d in own
        if start <= d.timestamp <= end
        and query.get("level", d.level) == d.level
        and (d.service == query["service"] if "service" in query else d.service != "logs")
        and set(words(query.get("search", ""))) <= set(words(d.message))
    ]
    return [d.request_id for d in left]


@given(records, st.lists(queries, min_size=1, max_size=4))
def test_no_byte_of_one_account_reaches_the_other(facts: list[Any], asked: list[dict[str, str]]) -> None:
    every = [made(n, *fact) for n, fact in enumerate(facts, 1)]
    own = [d for d in every if d.account == "acme"]
    with tempfile.TemporaryDirectory() as both, tempfile.TemporaryDirectory() as alone:
        together, apart = Api(Path(both)), Api(Path(alone))
        try:
            together.add(*every)
            apart.add(*own)
            key, same = (api.control.create_key("auditor", ["acme"])[1] for api in (together, apart))
            foreign = walk(together, together.beta, {"limit": "1"})
            for query in asked:
                answers = walk(together, key, query)
                assert told(answers) == told(walk(apart, same, query))
                for answer in answers:
                    assert answer.status_code in (200, 400)
                    if "beta" not in query.get("search", ""):
                        assert b"beta" not in answer.content
                    assert not any("beta" in value for value in answer.headers.values())
                if answers[0].status_code == 200:
                    rows = [e["details"]["request_id"] for a in answers for e in a.json()["data"]["logs"]]
                    wanted = expected(query, own)
                    assert len(rows) == max(0, len(wanted) - int(query.get("offset", "0")))
                    assert set(rows) <= set(wanted)
                    assert all(a.json()["data"]["pagination"]["total"] == len(wanted) for a in answers)
            for answer in foreign:
                assert b"acme" not in answer.content
            cursor = foreign[0].json()["data"]["pagination"]["cursor"]
            if cursor is not None:
                stolen = walk(together, key, {"limit": "1", "cursor": cursor})[0]
                assert (stolen.status_code, b"beta" in stolen.content) == (400, False)
        finally:
            together.close()
            apart.close()
