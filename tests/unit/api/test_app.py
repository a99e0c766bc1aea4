"""The API through HTTP, without a socket: routes and their overlaps, keys, scopes, every documented error."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from tests.support.api import DAY, DAY_MS, Api
from tests.support.memory_store import MemoryStore
from tests.support.records import extent, foreign

from asgi_audit.api.auth import Keys
from asgi_audit.api.health import Health
from asgi_audit.api.routing import routes_of
from asgi_audit.errors import StoreError
from asgi_audit.store.base import Batch
from asgi_audit.store.state import NO_PROCESS, Completion, Incident, ProcessState

Work = Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path)
    yield made
    made.close()


def with_client(api: Api, key: str | None, work: Work) -> None:
    async def run() -> None:
        async with api.client(key) as client:
            await work(client)

    asyncio.run(run())


def ask(api: Api, method: str, path: str, key: str | None = None, **given: Any) -> httpx.Response:
    answers: list[httpx.Response] = []

    async def work(client: httpx.AsyncClient) -> None:
        answers.append(await client.request(method, path, **given))

    with_client(api, key, work)
    return answers[0]


def query(api: Api, path: str, key: str, **body: Any) -> str:
    answer = ask(api, "POST", path, key, json=DAY | body)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["queryExecutionId"]
    execution: str = answer.json()["queryExecutionId"]
    return execution


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [r["metadata"]["id"] for r in answer.json()["data"]]


def is_error(answer: httpx.Response, status: int, type_: str, word: str = "") -> bool:
    """Asserts the documented form of an error: exactly {type, message, action}."""
    body = answer.json()
    assert (answer.status_code, body["type"]) == (status, type_), answer.text
    assert set(body) <= {"type", "message", "action"}
    assert body["message"]
    assert word in body["message"], body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    return True


# (method, path with {id} for an execution) -> what responds: a dialect, or a status
USAGE, TRAIL = "usage", "trail"


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("prefix", "service", "instance"),
    [
        ("/usage/gateway/i1", "gateway", "i1"),
        ("/usage/trail/i1", "trail", "i1"),
        ("/usage/logs/i1", "logs", "i1"),
        ("/usage/usage/i1", "usage", "i1"),
        ("/usage/usage/query-result", "usage", "query-result"),
        ("/usage/query-result/x", "query-result", "x"),
        ("/gateway/i1", "gateway", "i1"),
        ("/logs/i1", "logs", "i1"),
        ("/trail/i1", "trail", "i1"),
        ("/trail/query-result", "trail", "query-result"),
        ("/gateway/query-result", "gateway", "query-result"),
        ("/gateway/a%20b%3Fc%25%C3%A9%26", "gateway", "a b?c%é&"),
        ("/usage/gateway/" + "%C3%A9" * 200, "gateway", "é" * 200),
        ("/g%61teway/i1", "gateway", "i1"),
    ],
)
def test_usage_is_answered_under_its_path(api: Api, prefix: str, service: str, instance: str, slash: str) -> None:
    api.add(
        foreign(DAY_MS, service=service, instance=instance, name="right"),
        foreign(DAY_MS, service=service, instance="else", name="wrong"),
    )
    execution = query(api, prefix + slash, api.acme)
    result = f"{prefix}/query-result/{execution}{slash}"
    assert ids(ask(api, "GET", result, api.acme)) == ["right"]
    for wrong, path in [("GET", prefix), ("DELETE", prefix + slash)]:
        answer = ask(api, wrong, path, api.acme)
        assert is_error(answer, 405, "method_not_allowed", wrong)
        assert answer.headers["allow"] == "POST"
    answer = ask(api, "POST", result, api.acme)
    assert is_error(answer, 405, "method_not_allowed", "POST")
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(("root", "base"), [("/trail", "/trail"), ("/trail/", "/trail"), ("/", ""), ("", "")])
def test_trail_is_answered_under_its_path(api: Api, root: str, base: str) -> None:
    api.add(foreign(DAY_MS, name="a"), foreign(DAY_MS, service="logs", name="b"), foreign(DAY_MS, account="beta"))
    execution = query(api, root, api.acme)
    for slash in ("", "/"):
        assert ids(ask(api, "GET", f"{base}/query-result/{execution}{slash}", api.acme)) == ["b", "a"]
    answer = ask(api, "GET", root, api.acme)
    assert is_error(answer, 405, "method_not_allowed", "GET")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/usage/i1", 404),
        ("POST", "/usage", 404),
        ("POST", "/query-result/x", 405),
        ("POST", "/query-result", 404),
        ("GET", "/usage/x/query-result/y", 404),
        ("GET", "/favicon.ico", 404),
        ("POST", "/a/b/c", 404),
        ("POST", "//a/b", 404),
        ("POST", "/a//b", 404),
        ("POST", "/a/b//", 404),
        ("POST", "/trail//", 404),
        ("GET", "/a/b/query-result/x/y", 404),
        ("OPTIONS", "/trail", 405),
        ("TRACE", "/trail", 405),
    ],
)
def test_reserved_and_unknown_paths_are_never_a_service(api: Api, method: str, path: str, status: int) -> None:
    answer = ask(api, method, path, api.everything, json=DAY)
    assert is_error(answer, status, {404: "not_found", 405: "method_not_allowed"}[status])
    assert answer.headers.get("location") is None


@pytest.mark.parametrize("path", ["/api/i1", "/api/v1/query-result/x"])
def test_paths_beside_those_of_exports_are_never_a_service(api: Api, path: str) -> None:
    answer = ask(api, "POST", path, api.everything, json=DAY)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "status", "title"),
    [
        ("POST", "/health/x", 404, "Not Found"),
        ("GET", "/health", 404, "Not Found"),
        ("POST", "/health/live", 405, "Method Not Allowed"),
        ("POST", "/metrics/x", 404, "Not Found"),
        ("DELETE", "/metrics", 405, "Method Not Allowed"),
        ("POST", "/openapi.json/x", 404, "Not Found"),
        ("POST", "/docs/x", 404, "Not Found"),
        ("POST", "/docs", 405, "Method Not Allowed"),
    ],
)
def test_what_no_document_prescribes_says_errors_as_problem_details(
    api: Api, method: str, path: str, status: int, title: str
) -> None:
    answer = ask(api, method, path, api.everything, json=DAY)
    assert answer.status_code == answer.json()["status"] == status
    assert answer.json()["title"] == title
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/usage/g%20w/i1", "service"),
        ("/usage/" + "x" * 65 + "/i1", "service"),
        ("/usage/gw%2Fx/i1", "service"),
        ("/usage/gw/a%2Fb", "instanceResourceId"),
        ("/gw/a%2Fquery-result%2Fb", "instanceResourceId"),
        ("/usage/gw/%2E%2E", "instanceResourceId"),
        ("/usage/gw/%2E", "instanceResourceId"),
        ("/usage/gw/%FF", "instanceResourceId"),
        ("/usage/gw/a%00", "instanceResourceId"),
        ("/usage/gw/" + "x" * 201, "instanceResourceId"),
    ],
)
def test_name_in_path_is_refused_by_name_when_wrong(api: Api, path: str, field: str) -> None:
    assert is_error(ask(api, "POST", path, api.acme, json=DAY), 400, "bad_request", field)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"{}", "from"),
        (json.dumps(DAY | {"to": "2024-01-01"}).encode(), "to"),
        (json.dumps(DAY | {"to": "2023-01-01T00:00:00Z"}).encode(), "from"),
        (json.dumps(DAY | {"method": "get"}).encode(), "method"),
        (json.dumps(DAY | {"nextToken": "x"}).encode(), "nextToken"),
        (json.dumps(DAY | {"nextToken": ""}).encode(), "nextToken"),
        (json.dumps(DAY | {"nextToken": 5}).encode(), "nextToken"),
        (json.dumps(DAY)[:-1].encode() + b', "from": 1}', "from"),
    ],
)
@pytest.mark.parametrize("path", ["/usage/gateway/i1", "/trail"])
def test_body_is_refused_by_name_when_wrong(api: Api, path: str, body: bytes, word: str) -> None:
    api.add(foreign(DAY_MS))
    assert is_error(ask(api, "POST", path, api.acme, content=body), 400, "bad_request", word)


def test_body_is_taken_when_its_type_is_missing_and_fields_are_null(api: Api) -> None:
    api.add(foreign(DAY_MS))
    body = json.dumps(DAY | {"method": None, "nextToken": None}).encode()
    for headers in ({}, {"content-type": "text/plain"}):
        assert ask(api, "POST", "/trail", api.acme, content=body, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/usage/gateway/i1", "/trail", "/"])
def test_unknown_field_or_parameter_is_refused_by_name_when_it_would_be_ignored(api: Api, path: str) -> None:
    """When a filter is ignored, the response is for another query than the requested one."""
    api.add(foreign(DAY_MS))
    answer = ask(api, "POST", path, api.acme, json=DAY | {"status": 500})
    assert is_error(answer, 400, "bad_request", "status: there is no such field; accepted: from, to, method, nextToken")
    answer = ask(api, "POST", path + "?status=500", api.acme, json=DAY)
    assert is_error(answer, 400, "bad_request", "status: there is no such parameter; accepted: none")
    execution = query(api, path, api.acme)
    answer = ask(api, "GET", f"{path.rstrip('/')}/query-result/{execution}?method=GET", api.acme)
    assert is_error(answer, 400, "bad_request", "method: there is no such parameter; accepted: limit, nextToken")


def test_body_is_too_large_when_longer_than_64_kib(api: Api) -> None:
    answer = ask(api, "POST", "/trail", api.acme, content=json.dumps(DAY).encode() + b" " * 65_536)
    assert is_error(answer, 413, "content_too_large", "65536")


def test_window_is_inclusive_then_exclusive_and_empty_when_equal(api: Api) -> None:
    api.add(*(foreign(DAY_MS + n, name=str(n)) for n in range(4)))

    def found(start: str, end: str) -> list[str]:
        execution = query(
            api, "/trail", api.acme, **{"from": f"2024-01-01T00:00:{start}Z", "to": f"2024-01-01T00:00:{end}Z"}
        )
        return ids(ask(api, "GET", f"/trail/query-result/{execution}", api.acme))

    assert found("00.001", "00.003") == ["2", "1"]
    assert found("00.0011", "00.0031") == ["3", "2"]
    assert found("00.001", "00.001") == []


def test_method_filters(api: Api) -> None:
    api.add(
        foreign(DAY_MS, name="g"), foreign(DAY_MS, method="POST", name="p"), foreign(DAY_MS, method="HEAD", name="h")
    )
    for method, expected in [("POST", ["p"]), ("HEAD", ["h"]), ("DELETE", [])]:
        execution = query(api, "/gateway/i1", api.acme, method=method)
        assert ids(ask(api, "GET", f"/gateway/i1/query-result/{execution}", api.acme)) == expected


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, "none"),
        ({"authorization": "Bearer"}, "empty"),
        ({"authorization": "Bearer wrong"}, "wrong"),
        ({"authorization": "Basic {acme}"}, "scheme"),
        ({"authorization": "{acme}"}, "no scheme"),
        ({"x-api-key": "{acme}x"}, "wrong"),
        ({"authorization": "Bearer {acme}", "x-api-key": "{beta}"}, "two that differ"),
        ({"authorization": "Bearer aa_\xe9"}, "not ASCII"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/usage/gateway/i1"), ("POST", "/"), ("GET", "/trail/query-result/x"), ("POST", "/a/%2F")],
)
def test_key_is_required(api: Api, method: str, path: str, headers: dict[str, str], why: str) -> None:
    sent = {k: v.format(acme=api.acme, beta=api.beta).encode("latin-1") for k, v in headers.items()}
    answer = ask(api, method, path, headers=sent, content=b"not even JSON")
    assert is_error(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_key_is_taken_from_either_header_or_both_when_equal(api: Api) -> None:
    api.add(foreign(DAY_MS))
    for headers in (
        {"authorization": f"Bearer {api.acme}"},
        {"authorization": f"bearer   {api.acme} "},
        {"x-api-key": api.acme},
        {"authorization": f"Bearer {api.acme}", "x-api-key": api.acme},
        {"authorization": "Basic dTpw", "x-api-key": api.acme},
    ):
        assert ask(api, "POST", "/trail", headers=headers, json=DAY).status_code == 200


def test_key_opens_nothing_when_revoked(api: Api) -> None:
    api.add(foreign(DAY_MS))
    execution = query(api, "/trail", api.acme)
    api.control.revoke(api.acme_id)
    assert is_error(ask(api, "GET", f"/trail/query-result/{execution}", api.acme), 401, "unauthorized")
    # The execution belongs to the account, not to the key.
    _, new = api.control.create_key("reader", ["acme"])
    assert ask(api, "GET", f"/trail/query-result/{execution}", new).status_code == 200


def test_accounts_never_see_each_other(api: Api) -> None:
    api.add(
        foreign(DAY_MS, name="a"),
        foreign(DAY_MS + 1, account="beta", name="b"),
        foreign(DAY_MS + 2, account="beta", service="vault", name="v"),
    )
    for key, usage, trail in [
        (api.acme, ["a"], ["a"]),
        (api.beta, ["b"], ["v", "b"]),
        (api.both, ["b", "a"], ["v", "b", "a"]),
        (api.everything, ["b", "a"], ["v", "b", "a"]),
    ]:
        mine = query(api, "/usage/gateway/i1", key)
        whole = query(api, "/trail", key)
        assert ids(ask(api, "GET", f"/usage/gateway/i1/query-result/{mine}", key)) == usage
        assert ids(ask(api, "GET", f"/trail/query-result/{whole}", key)) == trail
        for other in {api.acme, api.beta, api.both, api.everything} - {key}:
            for path in (f"/usage/gateway/i1/query-result/{mine}", f"/query-result/{whole}"):
                assert is_error(ask(api, "GET", path, other), 404, "not_found", "queryExecutionId")
    assert is_error(ask(api, "POST", "/usage/vault/i1", api.acme, json=DAY), 404, "not_found", "vault")
    # The same response as for an unknown id.
    assert is_error(ask(api, "POST", "/usage/nothing/i1", api.acme, json=DAY), 404, "not_found", "nothing")


def test_page_token_of_another_account_is_refused(api: Api) -> None:
    api.add(*(foreign(DAY_MS + n, account=a, name=f"{a}{n}") for n in range(3) for a in ("acme", "beta")))
    theirs = query(api, "/trail", api.acme)
    token = ask(api, "GET", f"/trail/query-result/{theirs}?limit=1", api.acme).json()["nextToken"]
    mine = query(api, "/trail", api.beta)
    params = {"nextToken": token}
    assert is_error(
        ask(api, "GET", f"/trail/query-result/{mine}", api.beta, params=params), 400, "bad_request", "nextToken"
    )
    assert is_error(ask(api, "POST", "/trail", api.beta, json=DAY | params), 400, "bad_request", "nextToken")


def test_execution_is_found_only_in_its_dialect_and_under_its_instance(api: Api) -> None:
    api.add(foreign(DAY_MS, name="x"), foreign(DAY_MS, instance="i2"))
    usage, trail = query(api, "/usage/gateway/i1", api.acme), query(api, "/trail", api.acme)
    for path in (f"/usage/gateway/i1/query-result/{usage}", f"/gateway/i1/query-result/{usage}"):
        assert ids(ask(api, "GET", path, api.acme)) == ["x"]
    for path in (
        f"/usage/gateway/i2/query-result/{usage}",
        f"/usage/other/i1/query-result/{usage}",
        f"/trail/query-result/{usage}",
        f"/usage/gateway/i1/query-result/{trail}",
        "/usage/gateway/i1/query-result/nonsense",
        "/trail/query-result/%FF",
        f"/trail/query-result/{trail}x",
    ):
        assert is_error(ask(api, "GET", path, api.acme), 404, "not_found", "queryExecutionId")


def test_paging_by_get_and_by_post_reaches_the_same_end(api: Api) -> None:
    api.add(*(foreign(DAY_MS + n, name=str(n)) for n in range(7)))
    base = "/usage/gateway/i1"
    execution = query(api, base, api.acme)
    answer = ask(api, "GET", f"{base}/query-result/{execution}?limit=3", api.acme)
    assert list(answer.json()) == ["data", "nextToken"]
    assert ids(answer) == ["6", "5", "4"]
    token = answer.json()["nextToken"]
    by_get = ask(api, "GET", f"{base}/query-result/{execution}", api.acme, params={"limit": 9, "nextToken": token})
    second = query(api, "/gateway/i1", api.acme, nextToken=token)
    by_post = ask(api, "GET", f"{base}/query-result/{second}", api.acme)
    assert ids(by_get) == ids(by_post) == ["3", "2", "1", "0"]
    assert list(by_get.json()) == list(by_post.json()) == ["data"]
    for change, field in [
        ({"from": "2024-01-01T00:00:01Z"}, "from"),
        ({"to": "2024-01-01T00:00:01Z"}, "to"),
        ({"method": "GET"}, "method"),
    ]:
        answer = ask(api, "POST", base, api.acme, json=DAY | change | {"nextToken": token})
        assert is_error(answer, 400, "bad_request", field)
    # The same instant in another spelling is the same window.
    query(api, base, api.acme, **{"from": "2024-01-01T01:00:00+01:00", "nextToken": token})


@pytest.mark.parametrize("params", ["limit=0", "limit=1001", "limit=a", "limit=1&limit=2", "nextToken=x"])
def test_parameter_of_get_is_refused_by_name_when_wrong(api: Api, params: str) -> None:
    api.add(foreign(DAY_MS))
    execution = query(api, "/trail", api.acme)
    answer = ask(api, "GET", f"/trail/query-result/{execution}?{params}", api.acme)
    assert is_error(answer, 400, "bad_request", params.partition("=")[0])


def test_limit_defaults_to_100(api: Api) -> None:
    api.add(*(foreign(DAY_MS + n, name=str(n)) for n in range(101)))
    execution = query(api, "/trail", api.acme)
    path = f"/trail/query-result/{execution}"
    assert len(ids(ask(api, "GET", path, api.acme))) == 100
    assert len(ids(ask(api, "GET", path + "?limit=&nextToken=", api.acme))) == 100  # empty is absent
    assert len(ids(ask(api, "GET", path + "?limit=1000", api.acme))) == 101


def test_head_answers_as_get_without_the_body(api: Api) -> None:
    api.add(foreign(DAY_MS))
    path = f"/trail/query-result/{query(api, '/trail', api.acme)}"
    get, head = ask(api, "GET", path, api.acme), ask(api, "HEAD", path, api.acme)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))
    assert ask(api, "HEAD", "/nothing/at/all", api.acme).content == b""


def test_unexpected_error_is_500_with_a_reference_and_no_secret(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"hunter2 {api.acme}")

    execution = query(api, "/trail", api.acme)
    monkeypatch.setattr(MemoryStore, "page", broken)
    with caplog.at_level(logging.DEBUG, logger="asgi_audit"):
        answer = ask(api, "GET", f"/trail/query-result/{execution}", api.acme)
    assert is_error(answer, 500, "internal_server_error", "reference ")
    reference = answer.json()["message"].split("reference ")[1].rstrip(")")
    [line] = [r.getMessage() for r in caplog.records if r.name.startswith("asgi_audit")]
    assert reference in line
    assert "RuntimeError" in line
    assert "broken" in line  # the name of the function that raised
    for text in (line, answer.text):
        assert "hunter2" not in text
        assert api.acme not in text
        assert "Traceback" not in text


@pytest.mark.parametrize(("retriable", "status"), [(True, 503), (False, 500)])
def test_store_error_is_503_when_trying_again_can_help(
    api: Api, monkeypatch: pytest.MonkeyPatch, retriable: bool, status: int
) -> None:
    def failing(*_: object) -> None:
        raise StoreError("the disk /secret/path is gone", retriable=retriable)

    monkeypatch.setattr(MemoryStore, "snapshot", failing)
    answer = ask(api, "POST", "/trail", api.acme, json=DAY)
    assert is_error(answer, status, {503: "service_unavailable", 500: "internal_server_error"}[status])
    assert "/secret" not in answer.text
    assert answer.headers.get("retry-after") == ("1" if retriable else None)


def test_health_needs_no_key_and_says_why_it_is_not_ready(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/health/live", "/health/ready", "/health/ready/"):
        answer = ask(api, "GET", path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    def failing(_: object) -> None:
        raise StoreError("gone")

    monkeypatch.setattr(MemoryStore, "snapshot", failing)
    api.control.close()
    answer = ask(api, "GET", "/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "unavailable",
        "reasons": ["the index cannot be read", "the keys cannot be read"],
    }
    assert ask(api, "GET", "/health/live").status_code == 200


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?max_age=", 200),  # empty: absent
        ("?max_age=90s", 200),
        ("?max_age=60", 200),
        ("?max_age=1m", 200),
        ("?max_age=59.9s", 503),
        ("?max_age=0", 503),
        ("?max_age=-1s", 400),
        ("?max_age=soon", 400),
        ("?max_age=1m&max_age=2m", 400),
        ("?age=1m", 400),
    ],
)
def test_fresh_when_complete_until_is_at_most_max_age_ago(api: Api, query: str, status: int) -> None:
    """T is a minute ago."""
    now = DAY_MS / 1000 + 3600
    health = Health(api.service, api.control, clock=lambda: now)
    until = int((now - 60) * 1000)
    api.store.write(Batch(source="t", positions={}, completion=Completion(extent=extent(until)), read_until=None))
    app = Starlette(routes=routes_of(health.operations(), Keys(api.control), rest=health.operations()[0].dialect))
    api.app = app
    answer = ask(api, "GET", f"/health/fresh{query}")
    assert answer.status_code == status, answer.text
    if status == 200:
        known = {"complete_until": "2024-01-01T00:59:00.000Z", "age_seconds": 60.0}
        assert answer.json() == {"status": "ok", **known}
    elif status == 503:
        assert answer.json()["reasons"][0].startswith("the index is complete only until 60.0 s ago; max_age is ")
        assert answer.headers["retry-after"] == "1"
    else:
        assert answer.headers["content-type"] == "application/problem+json"


def test_not_fresh_while_nothing_is_known(api: Api) -> None:
    answer = ask(api, "GET", "/health/fresh?max_age=9999h")
    assert (answer.status_code, answer.json()["reasons"]) == (
        503,
        ["it is not known yet up to which time the index is complete"],
    )


def test_not_fresh_while_the_index_cannot_be_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise StoreError("gone")

    monkeypatch.setattr(MemoryStore, "completeness", failing)
    assert ask(api, "GET", "/health/fresh").json()["reasons"] == ["the index cannot be read"]


def test_no_answer_is_sent_when_client_leaves_while_sending_its_body(api: Api) -> None:
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/trail",
        "raw_path": b"/trail",
        "query_string": b"",
        "headers": [(b"x-api-key", api.acme.encode())],
    }
    asyncio.run(api.app(scope, receive, send))
    assert sent == []


def test_path_is_found_below_a_root_path_and_without_raw_path(api: Api) -> None:
    for scope in (
        {"path": "/audit/health/live", "raw_path": b"/audit/health/live", "root_path": "/audit"},
        {"path": "/a b/health/live", "raw_path": b"/a%20b/health/live", "root_path": "/a b"},
        {"path": "/health/live", "root_path": ""},
    ):
        sent: list[Any] = []

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        asyncio.run(
            api.app({"type": "http", "method": "GET", "query_string": b"", "headers": [], **scope}, receive, send)
        )
        assert sent[0]["status"] == 200


@pytest.mark.parametrize("path", ["/usage/gateway/i1", "/trail", "/"])
def test_answers_say_how_complete_they_are(api: Api, path: str) -> None:
    api.add(foreign(DAY_MS + 5))
    execution = query(api, path, api.acme)
    result = f"{path.rstrip('/')}/query-result/{execution}"
    before = ask(api, "GET", result, api.acme)
    assert "audit-complete-until" not in before.headers  # no process has written a statement yet
    assert (before.headers["audit-incidents"], before.headers["audit-open"]) == ("0", "0")
    process = bytes(16)
    incidents = [
        Incident(id=n, kind="missing", process=NO_PROCESS, opened_at=0, start=DAY_MS + at, end=DAY_MS + at + 10)
        for n, at in ((1, 0), (2, 500), (3, 86_400_000))
    ]
    state = ProcessState(
        process=process, partition="p", started=0, open_count=3, open_from=DAY_MS + 7, open_to=DAY_MS + 9
    )
    completion = Completion(extent(DAY_MS + 1234), [state], incidents)
    api.store.write(Batch(source="t", positions={}, completion=completion))
    for answer in (ask(api, "GET", result, api.acme), ask(api, "POST", path, api.acme, json=DAY)):
        assert answer.status_code == 200, answer.text
        assert answer.headers["audit-complete-until"] == "2024-01-01T00:00:01.234Z"
        assert (answer.headers["audit-incidents"], answer.headers["audit-open"]) == ("2", "3")
    state.open_accounts = [("other", 2)]
    api.store.write(Batch(source="t", positions={}, completion=Completion(extent(DAY_MS + 1234), [state], [])))
    for answer in (ask(api, "GET", result, api.acme), ask(api, "POST", path, api.acme, json=DAY)):
        assert answer.headers["audit-open"] == "1", "those of another account are no business of this key"


@pytest.mark.parametrize("path", ["/records/" + "x" * 9_000, "/records//", "/records/a//b", "/records/x/y/z"])
def test_path_of_any_form_is_unknown_in_words_of_its_first_segment(api: Api, path: str) -> None:
    answer = ask(api, "GET", path, api.everything)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["detail"] == "there is nothing at this path"
