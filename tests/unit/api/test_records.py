"""GET /records and GET /records/{id}: each filter, the formats, selected fields, and paging."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urljoin

import httpx
import pytest
from tests.support.api import DAY_MS, Api
from tests.support.clock import Clock
from tests.support.records import foreign, payload, record

from asgi_audit.api.columns import FIELDS_MAX, all_columns, columns_of
from asgi_audit.api.filters import FILTERS_BYTES_MAX, Filters
from asgi_audit.query.tokens import TOKEN_MAX
from asgi_audit.record.codec import Decoded
from asgi_audit.record.derived import LEVELS
from asgi_audit.record.line import TIME_END

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def clock() -> Clock:
    return Clock(DAY_MS / 1000 + 3600)


@pytest.fixture
def api(tmp_path: Path, clock: Clock) -> Iterator[Api]:
    made = Api(tmp_path, clock=clock)
    yield made
    made.close()


def ask(api: Api, query: str = "", *, path: str = "/records", key: str | None = None, **headers: str) -> httpx.Response:
    async def run() -> httpx.Response:
        async with api.client(key or api.beta) as client:
            return await client.get(path + query, headers=headers)

    return asyncio.run(run())


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [r["metadata"]["id"] for r in answer.json()["records"]]


def made(name: str, ms: int = 0, **given: Any) -> Decoded:
    return foreign(DAY_MS + ms, account="beta", name=name, **given)


FACTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "method": {"method": "POST"},
    "instance": {"instance": "i2"},
    "service": {"service": "billing"},
    "own": {"service": "logs"},
    "status": {"status": 404},
    "error": {"status": 503},
    "region": {"region": "eu"},
    "principal": {"principal": "alice"},
    "operation": {"operation": "orders.read"},
    "client": {"client": "192.0.2.7"},
    "route": {"route": "/orders/{id}/items"},
    "trace": {"traceId": TRACE},
    "outcome": {"outcome": "disconnected"},
    "message": {"message": "paid the Naïve invoice"},
}


@pytest.fixture
def facts(api: Api) -> Api:
    api.add(*(made(name, n * 1000, **given) for n, (name, given) in enumerate(FACTS.items())))
    api.add(foreign(DAY_MS, name="hidden", account="acme", principal="alice", service="logs"))
    return api


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("method=POST", ["method"]),
        ("instance=i2", ["instance"]),
        ("service=billing", ["service"]),
        ("service=logs", ["own"]),
        ("status=404", ["status"]),
        ("status=4xx,503", ["error", "status"]),
        ("status=400-499", ["status"]),
        ("level=ERROR", ["error"]),
        ("level=WARN,ERROR", ["outcome", "error", "status"]),
        ("failure=true", ["error"]),
        ("failure=false&status=4xx", ["status"]),
        ("region=eu", ["region"]),
        ("principal=alice", ["principal"]),
        ("operation=orders.read", ["operation"]),
        ("client=192.0.2.7", ["client"]),
        ("route=/orders/%7Bid%7D/items", ["route"]),
        ("path_prefix=/orders", ["route"]),
        ("path_prefix=/orders/%7Bid%7D", ["route"]),
        ("path_prefix=/order", []),
        (f"trace_id={TRACE}", ["trace"]),
        ("request_id=r-client", ["client"]),
        ("outcome=disconnected", ["outcome"]),
        ("text=naive", ["message"]),
        ("text=%22the+naive%22", ["message"]),
        ("text=%22naive+the%22", []),
        ("principal=alice&method=POST", []),
        ("account=beta&principal=alice", ["principal"]),
        ("account=acme", []),
        ("account=nobody", []),
        ("start=2024-01-01T00:00:14Z", ["message"]),
        ("end=2024-01-01T00:00:00Z", ["plain"]),
        ("end=2023-12-31", []),
        ("since=59m46s", ["message"]),
        ("order=oldest&limit=2", ["plain", "method"]),
        ("limit=1&principal=&level=", ["message"]),
    ],
)
def test_filter_finds_its_record(facts: Api, query: str, expected: list[str]) -> None:
    answer = ask(facts, f"?{query}")
    assert ids(answer) == expected
    if "limit" not in query:
        assert answer.json()["total"] == len(expected)


def test_every_filter_has_a_case() -> None:
    asked = {
        p.partition("=")[0] for case in test_filter_finds_its_record.pytestmark[0].args[1] for p in case[0].split("&")
    }
    assert set(Filters.model_fields) <= asked


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("level=error", "level: it is"),
        ("level=ERROR,", "level: it is"),
        ("status=20", "status:"),
        ("method=get", "method: it is"),
        ("outcome=ok", "outcome: it is"),
        ("failure=1", "failure: it is"),
        ("since=1", "since: it is"),
        ("since=-1h", "since: it is"),
        ("since=1h&start=2024-01-01", "since: it cannot be combined with start or end"),
        ("since=1h&end=2024-01-01", "since: it cannot be combined with start or end"),
        ("start=2024-01-02&end=2024-01-01", "start: it is later than end"),
        ("start=2024-01-01T00:00:00", "start: it is"),
        ("order=random", "order: it is"),
        ("limit=0", "limit: it is"),
        ("limit=1001", "limit: it is"),
        ("text=!", "text: it has no word"),
        ("path_prefix=orders", "path_prefix: it is "),
        ("cursor=x", "cursor: it is not of this API"),
        ("fields=request.nothing", "fields: a record has no field 'request.nothing'"),
        ("fields=timestamp,", "fields: a record has no field ''"),
        ("fields=request.headers.", "fields: a record has no field"),
        ("offset=1", "offset: there is no such parameter"),
        ("principal=a&principal=a", "principal: it is given more than once"),
        (f"principal={'a' * 501}", "principal: it is"),
        ("&".join(f"{n}={'a' * 490}" for n in ("principal", "operation", "route", "text")) + f"&client={'b' * 100}",
         "filters: they are too long together"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_by_name(facts: Api, query: str, said: str) -> None:
    answer = ask(facts, f"?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith(said)


def test_record_is_answered_as_it_is_stored(api: Api) -> None:
    data = payload(1, DAY_MS, account="beta", body={"n": 1}, context_of_ours=[1])
    data = data.replace(b'{"n":1}', b'{"n":12345678901234567890123.50,"n":1e999,"a":"\\u00e9"}')
    from asgi_audit.record.codec import decode

    api.add(decode(data))
    assert ask(api).content == b'{"records":[' + data + b'],"total":1,"cursor":null}'
    assert ask(api, accept="application/x-ndjson").content == data + b"\n"
    body = b'{"n":12345678901234567890123.50,"n":1e999,"a":"\\u00e9"}'
    assert ask(api, "?fields=request.body").content.startswith(b'{"records":[{"request":{"body":' + body + b"}}]")


def test_fields_are_shown_in_the_records_own_shape(api: Api) -> None:
    api.add(made("a", principal="alice", annotations={"order": {"id": 7, "x.y": 1}}))
    answer = ask(
        api, "?fields=context.principal,metadata.id,request.headers.accept,request.auth,context.annotations.order.id"
    )
    assert answer.json()["records"] == [
        {
            "metadata": {"id": "a"},
            "request": {"auth": {"method": "none", "publicKey": ""}, "headers": {"accept": "*/*"}},
            "context": {"principal": "alice", "annotations": {"order": {"id": 7}}},
        }
    ]
    assert ask(api, "?fields=context.error.type").json()["records"] == [{}]
    assert ask(api, "?fields=request.body.a.b,response.body.ok").json()["records"] == [
        {"response": {"body": {"ok": True}}}
    ]


def test_fields_have_a_bound() -> None:
    with pytest.raises(ValueError, match=str(FIELDS_MAX)):
        columns_of(",".join(f"request.headers.h{n}" for n in range(FIELDS_MAX + 1)))


@pytest.mark.parametrize(
    ("accept", "sent"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/ndjson", "application/x-ndjson"),
        ("application/jsonl", "application/x-ndjson"),
        ("text/csv", "text/csv; charset=utf-8; header=present"),
        ("text/*", "text/csv; charset=utf-8; header=present"),
        ("TEXT/CSV;q=0.5", "text/csv; charset=utf-8; header=present"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("text/csv, */*", "text/csv; charset=utf-8; header=present"),
        ("application/json;q=0.5, text/csv;q=0.6", "text/csv; charset=utf-8; header=present"),
        ("application/json;q=0, */*;q=0.1", "application/x-ndjson"),
        (",,", "application/json"),
        ("text/html", None),
        ("application/json;q=0", None),
        ("application/json;q=nan", None),
        ("application/xml, image/*", None),
        ("json", None),
    ],
)
def test_format_is_what_the_client_takes(api: Api, accept: str, sent: str | None) -> None:
    api.add(made("a"))
    answer = ask(api, accept=accept)
    if sent is None:
        assert answer.status_code == 406
        assert answer.json()["detail"].endswith("accepted: application/json, application/x-ndjson, text/csv")
        assert answer.headers["content-type"] == "application/problem+json"
    else:
        assert (answer.status_code, answer.headers["content-type"]) == (200, sent)
        assert answer.headers["vary"] == "accept"
        assert int(answer.headers["content-length"]) == len(answer.content)


def rows_of(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_csv_has_the_same_columns_on_every_page(api: Api) -> None:
    api.add(made("a", principal='a "quoted",\r\nname'), made("b", 1, message="m", body={"k": [1, "ü"]}))
    answer = ask(api, accept="text/csv")
    assert answer.content.count(b"\r\n") == 4  # one is inside of a cell
    b, a = rows_of(answer)
    assert tuple(b) == tuple(a) == all_columns().names
    assert (a["context.principal"], a["metadata.id"]) == ('a "quoted",\r\nname', "a")
    assert (b["request.body"], b["request.headers"]) == ('{"k":[1,"ü"]}', '{"accept":"*/*"}')
    assert (b["context.error.type"], b["timestamp"]) == ("", str(DAY_MS + 1))
    assert rows_of(ask(api, "?fields=timestamp,metadata.id&limit=1", accept="text/csv")) == [
        {"timestamp": str(DAY_MS + 1), "metadata.id": "b"}
    ]


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_csv_has_no_formulas(api: Api, begin: str) -> None:
    text = f"{begin}cmd|' /C calc'!A0"
    api.add(made("a", principal=text, annotations={text: "1"}))
    [row] = rows_of(ask(api, "?fields=context.principal", accept="text/csv"))
    assert row["context.principal"] == f"'{text}"
    name = f"context.annotations.{text}"
    assert ask(api, "?" + urlencode({"fields": name}), accept="text/csv").status_code == 200


def test_csv_of_nothing_is_its_header(api: Api) -> None:
    answer = ask(api, accept="text/csv")
    assert answer.text == ",".join(all_columns().names) + "\r\n"
    assert ask(api, accept="application/x-ndjson").content == b""


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "text/csv"])
@pytest.mark.parametrize(
    "query", ["", "?level=INFO&order=oldest&fields=metadata.id", "?since=2h&count=false&service=gateway"]
)
def test_link_leads_through_all_pages(api: Api, clock: Clock, accept: str, query: str) -> None:
    api.add(*(made(f"n{n}", n) for n in range(7)))
    api.add(*(foreign(DAY_MS, name=f"hidden{n}", account="acme") for n in range(5)))
    answer = ask(api, (query or "?") + "&limit=3", accept=accept)
    found: list[str] = []
    for _ in range(3):
        assert answer.headers.get("audit-total") == (None if "count=false" in query else "7")
        if accept == "application/json":
            found += ids(answer)
            assert answer.json()["cursor"] == answer.headers.get("audit-cursor")
            assert answer.json()["total"] == (None if "count=false" in query else 7)
        elif accept == "text/csv":
            found += [row["metadata.id"] for row in rows_of(answer)]
        else:
            found += [json.loads(line)["metadata"]["id"] for line in answer.content.splitlines()]
        following = answer.links.get("next")
        if following is None:
            break
        clock.now += 600
        api.add(made(f"late{len(found)}", 3))
        answer = ask(api, path=urljoin("/records", following["url"]), accept=accept)
    names = [f"n{n}" for n in range(7)]
    assert found == (names if "oldest" in query else names[::-1])


def test_cursor_takes_its_own_filters_and_no_others(api: Api) -> None:
    api.add(*(made(f"n{n}", n, principal="alice") for n in range(5)))
    first = ask(api, "?limit=2&principal=alice&since=2h").json()["cursor"]
    for query in ("", "&principal=alice&since=2h", "&since=5m&principal=alice"):
        assert ids(ask(api, f"?limit=2&cursor={first}{query}")) == ["n2", "n1"]
    for query, name in (("&principal=bob", "principal"), ("&level=INFO", "level"), ("&order=oldest", "principal")):
        answer = ask(api, f"?limit=2&cursor={first}{query}")
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith(f"{name}: it differs")


def test_cursor_of_the_longest_filters_opens(api: Api) -> None:
    names = ("principal", "operation", "route", "path_prefix")
    query = dict.fromkeys(names, "/" + "é" * 240)
    size = sum(len(v.encode()) for v in query.values())
    query["text"] = "w" * (FILTERS_BYTES_MAX - size - len("logs"))
    answer = ask(api, "?" + urlencode(query))
    assert answer.status_code == 200, answer.text
    whole = {**query, "service": "s" * 4, "cursor": "x"}
    assert "cursor" in ask(api, "?" + urlencode(whole)).text
    from asgi_audit.query.tokens import Sealer, Token, TokenKind
    from asgi_audit.store.base import Query
    from asgi_audit.store.query import statuses_of

    asked = Query(
        accounts=None,
        start=0,
        end=TIME_END,
        levels=frozenset(LEVELS),
        statuses=statuses_of(",".join(["400-499"] * 20)),
        **query,
    )
    made_ = Token(
        kind=TokenKind.PAGE,
        dialect="records",
        query=asked,
        published=1,
        before=1,
        expires=1 << 33,
        index=b"i" * 8,
        total=1 << 40,
    )
    assert len(Sealer(b"s" * 32).seal(made_)) <= TOKEN_MAX


def test_account_narrows_a_key_of_several(api: Api) -> None:
    key = api.control.create_key("auditor", ["acme", "beta"])[1]
    api.add(made("b"), foreign(DAY_MS, name="a", account="acme"), foreign(DAY_MS, name="c", account="other"))
    assert sorted(ids(ask(api, key=key))) == ["a", "b"]
    assert ids(ask(api, "?account=acme", key=key)) == ["a"]
    assert ids(ask(api, "?account=other", key=key)) == []
    everything = api.control.create_key("auditor", "*")[1]
    assert ids(ask(api, "?account=other", key=everything)) == ["c"]
    cursor = ask(api, "?limit=1", key=key).json()["cursor"]
    assert ask(api, f"?cursor={cursor}&account=acme", key=key).status_code == 400


def test_one_record_is_found_by_its_id(api: Api) -> None:
    api.add(made("a/b c", principal="alice"), foreign(DAY_MS, name="theirs", account="acme"))
    path = f"/records/{quote('a/b c', safe='')}"
    answer = ask(api, path=path)
    assert answer.json()["context"]["principal"] == "alice"
    assert ask(api, "?fields=metadata.id", path=path).json() == {"metadata": {"id": "a/b c"}}
    assert ask(api, path=path, accept="application/x-ndjson").content == answer.content + b"\n"
    [row] = rows_of(ask(api, "?fields=context.principal", path=path, accept="text/csv"))
    assert row == {"context.principal": "alice"}
    assert ask(api, path=path, accept="text/html").status_code == 406
    none, theirs = (ask(api, path=f"/records/{name}") for name in ("nothing", "theirs"))
    assert (none.status_code, none.content) == (theirs.status_code, theirs.content) == (404, theirs.content)
    assert none.json()["detail"] == "id: there is no such record"
    assert ask(api, "?principal=alice", path=path).status_code == 400
    assert ask(api, path=f"/records/{'x' * 2_001}").status_code == 400


def test_record_of_a_process_is_found_by_the_time_in_its_id(api: Api) -> None:
    ms = DAY_MS + 7
    identity = f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-7000-8000-000000000001"
    api.add(record(1, ms, account="beta", identity=identity))
    assert ask(api, path=f"/records/{identity}").json()["timestamp"] == ms
