"""The Python client over the real API, without a socket; the synchronous client is tested in
`tests/e2e/test_ask.py`."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from tests.support.api import DAY, DAY_MS, Api
from tests.support.records import extent, record

from asgi_audit.client import ApiError, AsyncClient, NotReachable, ProtocolError
from asgi_audit.errors import ConfigError
from asgi_audit.store.base import Batch
from asgi_audit.store.state import Completion
from asgi_audit.transport.base import Position

T = TypeVar("T")
COUNT = 25


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path)
    made.add(
        *(record(n, DAY_MS + n * 1000, account="acme", status=500 if n % 5 == 0 else 200) for n in range(1, COUNT))
    )
    made.add(*(record(n, DAY_MS + n * 1000, account="beta") for n in range(COUNT, COUNT + 3)))
    until = DAY_MS + 86_400_000
    positions = {"p": Position(COUNT + 2, b"")}
    made.store.write(
        Batch(source="t", positions=positions, completion=Completion(extent(until, begins=DAY_MS), [], []))
    )
    _, made.everything = made.control.create_key("auditor", "*")
    yield made
    made.close()


def asking(app: Any, ask: Callable[[AsyncClient], Awaitable[T]], key: str = "", **given: Any) -> T:
    async def run() -> T:
        transport = httpx.ASGITransport(app=app)
        async with AsyncClient("http://api", key or None, transport=transport, **given) as client:
            return await ask(client)

    return asyncio.run(run())


async def listed(rows: AsyncIterator[T]) -> list[T]:
    return [row async for row in rows]


def test_each_record_comes_once_when_pages_are_small(api: Api) -> None:
    found = asking(api.app, lambda c: listed(c.records(page=4, order="oldest")), api.everything)
    times = [row["timestamp"] for row in found]
    assert len(times) == COUNT + 2
    assert times == sorted(times)
    assert found[0]["context"]["outcome"]  # whole records


def test_filters_fields_and_counts_are_those_of_the_api(api: Api) -> None:
    async def ask(client: AsyncClient) -> tuple[Any, ...]:
        histogram = await client.histogram(by="status", minutes=1440, start="2024-01-01", end="2024-01-01")
        assert histogram["total"] == await client.count(start="2024-01-01", end="2024-01-01") == COUNT + 2
        failed = await listed(client.records(status="5xx", fields=["response.statusCode"]))
        start = datetime.datetime.fromtimestamp(DAY_MS / 1000 + COUNT, datetime.UTC)
        return failed, await client.count(account="acme"), await client.count(start=start)

    failed, acme, late = asking(api.app, ask, api.everything)
    assert failed == [{"response": {"statusCode": 500}}] * 4
    assert (acme, late) == (COUNT - 1, 3)


def test_lines_are_the_stored_bytes_and_end_at_the_most_that_is_asked_for(api: Api) -> None:
    async def ask(client: AsyncClient) -> tuple[list[str], list[str], dict[str, Any]]:
        lines = await listed(client.lines(most=7))
        csv = await listed(client.lines(csv=True, fields="timestamp,service", most=3))
        return lines, csv, await client.record(json.loads(lines[0])["metadata"]["id"])

    lines, csv, one = asking(api.app, ask, api.everything)
    assert len(lines) == 7
    assert json.loads(lines[0]) == one
    assert [len(csv), csv[0]] == [4, "timestamp,service"]


def test_the_feed_goes_on_where_it_was_left(api: Api) -> None:
    async def ask(client: AsyncClient) -> tuple[int, int, int]:
        pages = await listed(client.feed(page=10))
        api.add(record(COUNT + 3, DAY_MS, account="acme"))  # a late one
        late = await listed(client.feed(pages[-1].cursor, page=10))
        with pytest.raises(ApiError) as caught:
            await listed(client.feed("nonsense"))
        return sum(len(page.records) for page in pages), sum(len(page.records) for page in late), caught.value.status

    assert asking(api.app, ask, api.everything) == (COUNT + 2, 1, 400)


def test_a_feed_that_is_followed_shows_what_comes(api: Api) -> None:
    async def ask(client: AsyncClient) -> int:
        feed = client.feed(follow=True)
        assert len((await anext(feed)).records) == COUNT + 2
        coming = asyncio.ensure_future(anext(feed))
        await asyncio.sleep(0)
        api.add(record(COUNT + 3, DAY_MS, account="acme"))
        return len((await coming).records)

    assert asking(api.app, ask, api.everything) == 1


def test_the_documented_dialects_are_paged_to_their_end(api: Api) -> None:
    made = record(1, DAY_MS)

    async def ask(client: AsyncClient) -> tuple[int, ...]:
        usage = client.usage(made.service, made.instance, DAY["from"], DAY["to"])
        trail = client.trail(DAY["from"], DAY["to"], method=made.method)
        logs = client.logs(start="2024-01-01", end="2024-01-01")
        tr50 = await client.command("usage.api.list", start=DAY["from"], end=DAY["to"])
        return len(await listed(usage)), len(await listed(trail)), len(await listed(logs)), tr50["count"]

    assert asking(api.app, ask, api.everything) == (COUNT + 2,) * 4


def test_an_export_is_downloaded_and_checked(api: Api, tmp_path: Path) -> None:
    to = tmp_path / "export.ndjson.gz"

    async def ask(client: AsyncClient) -> Any:
        export = await client.request_export(DAY["from"], DAY["to"], group="classic")
        api.run_exports()
        seen: list[str] = []
        export = await client.wait_for_export(export.id, seconds=60, on_state=lambda e: seen.append(e.state))
        assert seen[-1] == "Complete"
        return await client.download(export, to)

    api.control.exports.beat(api.runner.id)
    done = asking(api.app, ask, api.everything)
    assert (done.records, done.path) == (COUNT + 2, to)
    assert done.manifest["records"] == COUNT + 2


def test_a_download_that_is_not_what_its_manifest_states_leaves_no_file(api: Api, tmp_path: Path) -> None:
    to = tmp_path / "export.ndjson.gz"

    async def ask(client: AsyncClient) -> str:
        export = await client.request_export(DAY["from"], DAY["to"], group="classic")
        api.run_exports()
        export = await client.wait_for_export(export.id, seconds=60)
        (stored,) = (tmp_path / "exports").glob("*.gz")
        whole = stored.read_bytes()
        said = []
        for broken in (whole + whole, whole[:-9], b"not gzip at all"):
            stored.write_bytes(broken)
            with pytest.raises(ProtocolError) as caught:
                await client.download(export, to)
            said.append(str(caught.value))
            assert not [name for name in os.listdir(tmp_path) if name.startswith(to.name)]
        return "; ".join(said)

    api.control.exports.beat(api.runner.id)
    said = asking(api.app, ask, api.everything)
    assert "records is 54, stated is 27" in said
    assert "bytes_compressed is" in said
    assert "not a gzip file" in said


def test_an_export_without_records_has_nothing_to_download(api: Api, tmp_path: Path) -> None:
    async def ask(client: AsyncClient) -> None:
        export = await client.request_export(DAY["from"], DAY["from"], group="classic")
        assert (export.state, export.is_final) == ("DoesNotExist", True)
        await client.download(export, tmp_path / "none")

    api.control.exports.beat(api.runner.id)
    with pytest.raises(ProtocolError, match="DoesNotExist"):
        asking(api.app, ask, api.everything)


@pytest.mark.parametrize("what", ["records", "logs", "usage", "command", "export"])
def test_a_refusal_is_an_error_with_the_words_of_the_api(api: Api, what: str) -> None:
    async def ask(client: AsyncClient) -> Any:
        if what == "records":
            return await listed(client.records(status="teapot"))
        if what == "logs":
            return await listed(client.logs(level="LOUD"))
        if what == "usage":
            return await listed(client.usage("gateway", "nowhere", DAY["from"], DAY["to"]))
        if what == "command":
            return await client.command("usage.api.list", nonsense=1)
        return await client.export("0" * 32)

    with pytest.raises(ApiError) as caught:
        asking(api.app, ask, api.everything)
    status = {"usage": 404, "export": 404, "command": 200}.get(what, 400)
    named = {"records": "status", "logs": "level", "usage": "nowhere", "command": "nonsense", "export": "export"}[what]
    assert caught.value.status == status
    assert named in str(caught.value)


def test_a_missing_key_is_said_with_what_to_do(api: Api) -> None:
    with pytest.raises(ApiError) as caught:
        asking(api.app, lambda c: listed(c.records()))
    assert caught.value.status == 401
    assert "keys create" in str(caught.value) + caught.value.hint


def answering(*answers: tuple[int, dict[str, str], bytes]) -> tuple[Any, list[dict[str, str]]]:
    """An application that returns these responses in turn, and the list of request headers that it received."""
    left, asked = list(answers), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append({name.decode(): value.decode() for name, value in scope["headers"]})
        status, headers, body = left.pop(0)
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    return app, asked


def test_a_call_is_sent_again_when_the_api_says_when_to_come() -> None:
    busy = (429, {"retry-after": "0"}, b"{}")
    app, asked = answering(busy, (503, {"retry-after": "0"}, b"{}"), (200, {}, b'{"total": 3}'))
    assert asking(app, lambda c: c.count()) == 3
    assert len(asked) == 3
    app, asked = answering(*[busy] * 9)
    with pytest.raises(ApiError) as caught:
        asking(app, lambda c: c.count())
    assert (caught.value.status, len(asked)) == (429, 5)


def test_a_call_is_not_sent_again_without_a_time_to_come() -> None:
    app, asked = answering((503, {}, b'{"detail": "use a shorter time range"}'))
    with pytest.raises(ApiError, match="use a shorter time range"):
        asking(app, lambda c: c.count())
    assert len(asked) == 1


@pytest.mark.parametrize("content", [b"<html>welcome</html>", b"[]", b'{"other": 1}', b"null"])
def test_another_server_is_seen_as_such(content: bytes) -> None:
    def ask(client: AsyncClient) -> Any:
        return listed(client.trail(DAY["from"], DAY["to"]))

    with pytest.raises(ProtocolError) as caught:
        asking(answering((200, {}, content))[0], ask)
    assert "address" in caught.value.hint
    with pytest.raises(ProtocolError, match="redirects"):
        asking(answering((302, {"location": "http://elsewhere/"}, b""))[0], ask)


def test_the_key_goes_to_the_api_and_not_to_the_store_of_downloads(tmp_path: Path) -> None:
    export = {"request_id": "x", "state": "Complete", "presigned_url": "http://store/object?signature=1"}
    app, asked = answering((200, {}, json.dumps(export).encode()), (403, {}, b"no"))

    async def ask(client: AsyncClient) -> None:
        await client.download(await client.export("x"), tmp_path / "to")

    with pytest.raises(ApiError):
        asking(app, ask, "aa_secret")
    assert asked[0]["authorization"] == "Bearer aa_secret"
    assert "aa_secret" not in str(asked[1])
    assert asked[1]["host"] == "store"


def test_the_manifest_is_the_one_that_the_api_names_when_the_store_names_none(tmp_path: Path) -> None:
    text = b'{"a":1}\n'
    stated = {"records": 1, "sha256": hashlib.sha256(text).hexdigest(), "bytes_compressed": len(gzip.compress(text))}
    manifest = json.dumps(stated).encode()
    export = {"request_id": "x", "state": "Complete", "presigned_url": "http://store/object?signature=1"}
    headers = {
        "link": '<http://store/manifest?signature=2>; rel="describedby"; type="application/json"',
        "audit-manifest-sha256": hashlib.sha256(manifest).hexdigest(),
    }
    stored = gzip.compress(text)
    answers = ((200, headers, json.dumps(export).encode()), (200, {}, stored), (200, {}, manifest))
    app, asked = answering(*answers)

    async def ask(client: AsyncClient) -> Any:
        return await client.download(await client.export("x"), tmp_path / "to")

    assert asking(app, ask, "aa_secret").manifest == stated
    assert [headers["host"] for headers in asked] == ["api", "store", "store"]
    with pytest.raises(ProtocolError, match="manifest is not the one"):
        asking(answering(answers[0], answers[1], (200, {}, manifest + b" "))[0], ask)
    assert sorted(os.listdir(tmp_path)) == ["to"]  # the first one


def test_no_connection_is_said_with_what_to_do() -> None:
    async def ask() -> None:
        async with AsyncClient("http://127.0.0.1:9", "aa_secret") as client:
            await client.count()

    with pytest.raises(NotReachable) as caught:
        asyncio.run(ask())
    assert "serve" in caught.value.hint
    assert "aa_secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8400", "ftp://host", "http://", "http://ann:pw@host", "http://host/?a=1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AsyncClient(url)
    assert "ann:pw" not in str(caught.value) + caught.value.hint or "@" not in url


def test_an_instant_without_a_zone_is_refused(api: Api) -> None:
    naive = datetime.datetime(2024, 1, 1)  # noqa: DTZ001 - on purpose
    with pytest.raises(ValueError, match="zone"):
        asking(api.app, lambda c: c.count(start=naive), api.everything)
