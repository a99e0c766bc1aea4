"""GET /feed: every record once, in the order in which it was indexed; 410 where a feed cannot continue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from tests.support.api import DAY_MS, Api
from tests.support.clock import Clock
from tests.support.records import foreign
from tests.support.waiting import until_in_loop

from asgi_audit.query.feeds import WAITING_KEY_MAX

YEAR = 366 * 86_400


@pytest.fixture
def clock() -> Clock:
    return Clock(DAY_MS / 1000)


@pytest.fixture
def api(tmp_path: Path, clock: Clock) -> Iterator[Api]:
    made = Api(tmp_path, clock=clock)
    yield made
    made.close()


def ask(api: Api, query: str = "", *, path: str = "/feed", key: str | None = None, **headers: str) -> httpx.Response:
    async def run() -> httpx.Response:
        async with api.client(key or api.beta) as client:
            return await client.get(path + query, headers=headers)

    return asyncio.run(run())


def add(api: Api, *names: str, ms: int = 0, account: str = "beta", service: str = "gateway") -> None:
    api.add(*(foreign(DAY_MS + ms, account=account, service=service, name=name) for name in names))


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [r["metadata"]["id"] for r in answer.json()["records"]]


def is_gone(answer: httpx.Response) -> bool:
    assert answer.status_code == 410, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["title"] == "Gone"
    assert said["detail"].startswith("after: ")
    assert said["action"] == "Begin again without after, or with start, a time from which on nothing may be missing."
    return True


def test_late_records_stand_where_they_were_indexed_and_nothing_is_left_out(api: Api) -> None:
    add(api, "a", ms=50)
    add(api, "read", service="logs", ms=60)
    add(api, "theirs", account="acme")
    first = ask(api)
    assert ids(first) == ["a", "read"]
    assert first.json()["more"] is False
    add(api, "late", ms=-3 * 86_400_000)
    add(api, "b", ms=70)
    second = ask(api, f"?after={first.json()['cursor']}")
    assert ids(second) == ["late", "b"]
    third = ask(api, f"?after={second.json()['cursor']}")
    assert (ids(third), third.json()["more"]) == ([], False)
    assert ids(ask(api, f"?after={first.json()['cursor']}")) == ["late", "b"]  # again after a failure


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_link_leads_through_the_feed_and_on(api: Api, clock: Clock, accept: str) -> None:
    for n in range(5):
        add(api, f"n{2 * n}", f"n{2 * n + 1}", ms=-n)
        add(api, f"x{n}", account="acme")
    found: list[str] = []
    path = "/feed?limit=3"
    mores = []
    for _ in range(5):
        answer = ask(api, path=path, accept=accept)
        assert answer.headers["content-type"] == accept
        if accept == "application/json":
            found += ids(answer)
            assert (answer.json()["cursor"], answer.json()["more"]) == (
                answer.headers["audit-cursor"], answer.headers["audit-more"] == "true",
            )  # fmt: skip
        else:
            found += [json.loads(line)["metadata"]["id"] for line in answer.content.splitlines()]
        mores.append(answer.headers["audit-more"])
        path = urljoin("/feed", answer.links["next"]["url"])
        clock.now += 10 * YEAR  # it does not expire
    assert found == [f"n{n}" for n in range(10)]
    assert mores == ["true", "true", "true", "false", "false"]
    add(api, "last")
    answer = ask(api, path=path, accept=accept)
    assert b"last" in answer.content


def test_feed_begins_at_a_time(api: Api) -> None:
    add(api, "old", ms=-5000)
    add(api, "new", ms=1000)
    add(api, "late", ms=-9000)
    assert ids(ask(api, "?start=2024-01-01")) == ["new", "late"]
    assert ids(ask(api, "?start=2024-01-01T00:00:01.001Z")) == []
    cursor = ask(api, "?start=2024-01-01T00:00:01.001Z").json()["cursor"]
    add(api, "later", ms=-9001)
    assert ids(ask(api, f"?after={cursor}")) == ["later"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("after=x", "after: it is not of this API"),
        ("after=x&start=2024-01-01", "start: it cannot be combined with after"),
        ("start=now", "start: it is"),
        ("limit=0", "limit: it is"),
        ("limit=10001", "limit: it is"),
        ("wait=31", "wait: it is"),
        ("wait=-1", "wait: it is"),
        ("service=logs", "service: there is no such parameter"),
        ("fields=timestamp", "fields: there is no such parameter"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(api: Api, query: str, said: str) -> None:
    answer = ask(api, f"?{query}")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(said)
    assert ask(api, accept="text/csv").status_code == 406


def test_cursors_open_in_their_own_list_for_their_own_accounts(api: Api) -> None:
    add(api, "a", "b")
    feed = ask(api, "?limit=1").json()["cursor"]
    records = ask(api, "?limit=1", path="/records").json()["cursor"]
    both = api.control.create_key("auditor", ["acme", "beta"])[1]
    everything = api.control.create_key("auditor", "*")[1]
    for wrong in (records, feed[:-1], feed + "A", feed[:30] + ("A" if feed[30] != "A" else "B") + feed[31:]):
        answer = ask(api, f"?after={wrong}")
        assert (answer.status_code, answer.json()["detail"][:9]) == (400, "after: it")
    for key in (both, everything):
        assert ask(api, f"?after={feed}", key=key).json()["detail"] == "after: it belongs to another account"
    assert ask(api, f"?cursor={feed}", path="/records").status_code == 400
    # Another key of the same account continues, because keys are rotated.
    assert ids(ask(api, f"?after={feed}", key=api.control.create_key("auditor", ["beta"])[1])) == ["b"]


def test_feed_of_an_index_that_was_restored_or_replaced_is_gone(api: Api) -> None:
    add(api, "a", "b")
    cursor = ask(api, "?limit=1").json()["cursor"]
    at_end = ask(api).json()["cursor"]
    api.store.generation += 1
    for old in (cursor, at_end):
        assert is_gone(ask(api, f"?after={old}"))
        assert is_gone(ask(api, f"?after={old}&wait=1", accept="application/x-ndjson"))
    assert ids(ask(api)) == ["a", "b"]
    cursor = ask(api).json()["cursor"]
    api.store.id = "another"
    assert is_gone(ask(api, f"?after={cursor}"))


def test_feed_above_what_is_published_is_gone(api: Api) -> None:
    """As when an operator copied an older main.db into the place of the index."""
    add(api, "a")
    add(api, "b")
    cursor = ask(api).json()["cursor"]
    api.store._published -= 1
    assert is_gone(ask(api, f"?after={cursor}"))


def test_purge_of_what_was_not_read_is_gone_and_of_what_was_read_is_not(api: Api) -> None:
    add(api, "old", "older", ms=-86_400_000)
    add(api, "theirs", account="acme", ms=-86_400_000)
    add(api, "new")
    middle = ask(api, "?limit=1").json()["cursor"]
    past = ask(api, "?limit=2").json()["cursor"]
    acme = api.control.create_key("auditor", ["acme"])[1]
    theirs = ask(api, key=acme).json()["cursor"]
    api.store.purge(DAY_MS)
    assert is_gone(ask(api, f"?after={middle}"))
    assert ids(ask(api, f"?after={past}")) == ["new"]
    assert ids(ask(api, f"?after={theirs}", key=acme)) == []
    assert ids(ask(api)) == ["new"]


# -- waiting


def test_feed_waits_for_a_record_of_its_own(api: Api) -> None:
    add(api, "a")

    async def run() -> None:
        async with api.client(api.beta) as client:
            cursor = (await client.get("/feed")).json()["cursor"]
            waiting = asyncio.create_task(client.get(f"/feed?after={cursor}&wait=30"))
            await until_in_loop(lambda: api.service.feeds.waiting == 1)
            assert (api.service.admission.in_flight, api.service.admission.bytes) == (0, 0)
            add(api, "theirs", account="acme")
            asked = api.service._poll_began
            await until_in_loop(lambda: api.service._poll_began > asked + 0.5)
            assert not waiting.done()
            add(api, "b")
            answer = await waiting
            assert ids(answer) == ["b"]
            assert api.service.feeds.waiting == 0

    asyncio.run(run())


def test_wait_ends_with_an_empty_page_whose_cursor_goes_on(api: Api) -> None:
    answer = ask(api, "?wait=1")
    assert (ids(answer), answer.json()["more"]) == ([], False)
    add(api, "a")
    assert ids(ask(api, f"?after={answer.json()['cursor']}&wait=1")) == ["a"]


def test_who_waits_beyond_the_most_is_answered_at_once(api: Api) -> None:
    async def run() -> None:
        async with api.client(api.beta) as client:
            waiting = [asyncio.create_task(client.get("/feed?wait=30")) for _ in range(WAITING_KEY_MAX)]
            await until_in_loop(lambda: api.service.feeds.waiting == WAITING_KEY_MAX)
            assert (await client.get("/feed?wait=30")).json()["records"] == []
            await client.get("/records")
            add(api, "a")
            answers: list[Any] = await asyncio.gather(*waiting)
            assert [ids(a) for a in answers] == [["a"]] * WAITING_KEY_MAX

    asyncio.run(run())


def test_who_leaves_while_it_waits_is_forgotten(api: Api) -> None:
    async def run() -> None:
        async with api.client(api.beta) as client:
            waiting = asyncio.create_task(client.get("/feed?wait=30"))
            await until_in_loop(lambda: api.service.feeds.waiting == 1)
            waiting.cancel()
            await until_in_loop(lambda: api.service.feeds.waiting == 0)
        assert (api.service.admission.in_flight, api.service.admission.bytes) == (0, 0)

    asyncio.run(run())
