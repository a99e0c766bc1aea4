"""The API inside another application: under a path, on a host, with a lifespan and without one, after fork, and over a
home that cannot be read."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route
from tests.support.records import batch, foreign
from tests.support.waiting import until
from tests.unit.wiring.test_wiring import journal_of, within_lifespan

import asgi_audit
from asgi_audit.errors import ConfigError
from asgi_audit.settings import Settings
from asgi_audit.wiring.environment import settings_from
from asgi_audit.wiring.exports import build_runner
from asgi_audit.wiring.operations import open_control, open_store_writer

NOON = 1_704_110_400_000
DAY = {"from": "2024-01-01T00:00:00Z", "to": "2024-01-02T00:00:00Z"}


class Client:
    """Calls `app` in one event loop, which ends with it; without `with`, in a loop of its own for each request. It has
    no lifespan, like a mounted application."""

    def __init__(self, app: Any, base_url: str = "http://api") -> None:
        self.headers: dict[str, str] = {}
        self._app = app
        self._base_url = base_url
        self._runner: asyncio.Runner | None = None

    def __enter__(self) -> Client:
        self._runner = asyncio.Runner()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._runner is not None
        self._runner.close()

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self._ask("GET", path, **given)

    def post(self, path: str, **given: Any) -> httpx.Response:
        return self._ask("POST", path, **given)

    def _ask(self, method: str, path: str, **given: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url=self._base_url, headers=self.headers) as client:
                return await client.request(method, path, **given)

        return asyncio.run(ask()) if self._runner is None else self._runner.run(ask())


class Home:
    """A home with an index of two services and a key for all of it."""

    def __init__(self, path: Path) -> None:
        self.settings: Settings = settings_from(home=path, query_wait_seconds=0)
        writer = open_store_writer(self.settings)
        writer.write(batch([foreign(NOON, name=s, service=s) for s in ("gateway", "records")]))
        writer.close()
        control = open_control(self.settings)
        self.key = control.create_key("auditor", "*")[1]
        control.close()

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def found(self, client: Client, start: str, result: str) -> int:
        """The number of records that an execution at these paths finds; the status when it does not start."""
        started = client.post(start, json=DAY, headers=self.headers)
        if started.status_code != 200:
            return -int(started.status_code)
        page = client.get(f"{result}/{started.json()['queryExecutionId']}", headers=self.headers)
        assert page.status_code == 200
        return len(page.json()["data"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ASGI_AUDIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASGI_AUDIT_QUERY_WAIT_SECONDS", "0")
    return Home(tmp_path / "home")


def of_queries() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith(("asgi-audit-query", "asgi-audit-keys"))}


def in_starlette(path: str, app: Any) -> Any:
    async def hello(_: Request) -> PlainTextResponse:
        return PlainTextResponse("the host")

    return Starlette(routes=[Route("/hello", hello), Mount(path, app)])


def in_fastapi(path: str, app: Any) -> Any:
    host = FastAPI()

    @host.get("/hello")
    def hello() -> str:
        return "the host"

    host.mount(path, app)
    return host


@pytest.mark.parametrize("made", [in_starlette, in_fastapi])
def test_mounted_api_answers_below_its_prefix_and_ends_with_its_host(home: Home, made: Callable[..., Any]) -> None:
    """Starlette and FastAPI run no lifespan for a mounted application: its threads end with the host's event loop."""
    host = made("/audit", asgi_audit.create_app())
    with Client(host) as client:
        assert client.get("/hello").status_code == 200
        assert home.found(client, "/audit/trail", "/audit/trail/query-result") == 2
        assert home.found(client, "/audit/usage/gateway/i1", "/audit/usage/gateway/i1/query-result") == 1
        assert home.found(client, "/audit/gateway/i1", "/audit/gateway/i1/query-result") == 1
        assert home.found(client, "/%61udit/trail", "/aud%69t/trail/query-result") == 2
        assert client.get("/audit/logs", headers=home.headers).status_code == 200
        assert client.get("/audit/health/ready").status_code == 200
        assert client.get("/audit/nothing").status_code == 404
        assert of_queries()
    assert not of_queries()


@pytest.mark.parametrize("path", ["/a b", "/ü", "/us", "/x/audit"])
def test_prefix_may_hold_what_a_url_encodes_and_begin_like_a_path_of_ours(home: Home, path: str) -> None:
    with Client(in_starlette(path, asgi_audit.create_app())) as client:
        assert home.found(client, f"{path}/usage/gateway/i1", f"{path}/usage/gateway/i1/query-result") == 1


@pytest.mark.parametrize("root_path", ["/us", "/audit", "/audit/"])
def test_root_path_that_the_server_cut_off_already_changes_nothing(home: Home, root_path: str) -> None:
    api = asgi_audit.create_app()

    async def behind_a_proxy(scope: Any, receive: Any, send: Any) -> None:
        await api({**scope, "root_path": root_path} if scope["type"] == "http" else scope, receive, send)

    with Client(behind_a_proxy) as client:
        assert home.found(client, "/usage/gateway/i1", "/usage/gateway/i1/query-result") == 1


def test_every_call_in_an_event_loop_of_its_own_is_answered(home: Home) -> None:
    """As test clients call it; also several at once."""
    host = in_starlette("/audit", asgi_audit.create_app())
    counts: list[int] = []

    def ask() -> None:
        for _ in range(3):
            counts.append(home.found(Client(host), "/audit/trail", "/audit/trail/query-result"))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert counts == [2] * 9
    assert not of_queries()


def test_loop_that_ends_without_a_word_is_noticed_at_the_next_opening(home: Home) -> None:
    host = in_starlette("/audit", asgi_audit.create_app())

    async def ask() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(host), base_url="http://api") as client:
            return (await client.post("/audit/trail", json=DAY, headers=home.headers)).status_code

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(ask()) == 200
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert of_queries()
    assert asyncio.run(ask()) == 200
    assert not of_queries()


def test_with_a_lifespan_of_its_own_it_closes_at_the_shutdown_and_opens_again(home: Home) -> None:
    api = asgi_audit.create_app()

    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.post("/trail", json=DAY, headers=home.headers)).status_code == 200
        assert of_queries()

    async def twice() -> None:
        for _ in range(2):
            await within_lifespan(api, work)
            assert not of_queries()

    asyncio.run(twice())


def test_nothing_is_opened_before_the_first_request(home: Home) -> None:
    before = set(threading.enumerate())
    with Client(in_starlette("/audit", asgi_audit.create_app())) as client:
        assert client.get("/hello").text == "the host"
        assert not of_queries()
        assert not {t.name for t in set(threading.enumerate()) - before if t.name.startswith("asgi-audit")}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_child_opens_what_it_uses_itself(home: Home) -> None:
    host = in_starlette("/audit", asgi_audit.create_app())
    with Client(host) as client:
        assert home.found(client, "/audit/trail", "/audit/trail/query-result") == 2
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            try:
                os._exit(10 + home.found(Client(host), "/audit/trail", "/audit/trail/query-result"))
            except BaseException:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 12
        assert home.found(client, "/audit/trail", "/audit/trail/query-result") == 2


def test_reads_are_recorded_once_where_the_host_is_audited_too(home: Home) -> None:
    """Without bodies: a record of a page of records would contain all of them again."""
    host = asgi_audit.install(in_starlette("/audit", asgi_audit.create_app()), service="shop")
    with Client(host) as client:
        client.get("/hello")
        assert home.found(client, "/audit/trail", "/audit/trail/query-result") == 2
    assert [(r.service, r.method, r.path, r.status) for r in journal_of(home.settings)] == [
        ("shop", "GET", "/hello", 200),
        ("logs", "POST", "/trail", 200),
    ]


def test_export_is_refused_while_nothing_runs_exports_and_taken_while_something_does(home: Home) -> None:
    """A mounted API runs no exports itself: a `serve`, or `asgi-audit export`, on the same control database does."""
    window = {"region_group": "us-std", "time_start": "2024-01-01T00:00:00Z", "time_end": "2024-01-02T00:00:00Z"}
    asked = {"params": {"type": "query"}, "json": window, "headers": home.headers}
    with Client(in_starlette("/audit", asgi_audit.create_app(dialects=["exports"]))) as client:
        refused = client.post("/audit/api/v1/logs", **asked)
        assert refused.status_code == 503
        assert "export" in refused.json()["message"]
        control = open_control(home.settings)
        stop = threading.Event()
        runner = threading.Thread(target=build_runner(home.settings, control).run, args=(stop,))
        runner.start()
        try:
            until(lambda: client.post("/audit/api/v1/logs", **asked).status_code == 200)
        finally:
            stop.set()
            runner.join(60)
            control.close()


# One dialect alone.


def test_dialect_alone_has_the_root_for_itself(home: Home) -> None:
    """`records` is not a service at the literal root of the whole API, because another dialect has that path."""
    routes = [
        Mount("/u", asgi_audit.create_app(dialects=["usage"])),
        Mount("/t", asgi_audit.create_app(dialects=["trail"])),
        Mount("/l", asgi_audit.create_app(dialects="logs")),
        Mount("/all", asgi_audit.create_app()),
    ]
    with Client(Starlette(routes=routes)) as client:
        assert home.found(client, "/u/records/i1", "/u/records/i1/query-result") == 1
        assert home.found(client, "/all/records/i1", "/all/records/i1/query-result") == -405
        assert home.found(client, "/t/", "/t/query-result") == 2
        assert home.found(client, "/t/trail", "/t/trail/query-result") == 2
        assert client.get("/l/logs", headers=home.headers).status_code == 200
        for path in ("/u/trail", "/u/", "/t/gateway/i1", "/t/usage/gateway/i1", "/l/trail", "/l/gateway/i1"):
            assert home.found(client, path, "") == -404, path
        # Each has its own error format, and names the existing paths.
        assert client.get("/l/nothing").json()["status"] == "error"
        assert "POST /trail" in client.get("/t/nothing").json()["action"]
        assert "usage" not in client.get("/t/nothing").text
        for path in ("/u", "/t", "/l"):
            assert client.get(f"{path}/health/ready").status_code == 200
            assert "asgi_audit_index_records" in client.get(f"{path}/metrics").text


def test_tokens_of_one_dialect_open_wherever_it_is_served(home: Home) -> None:
    routes = [Mount("/u", asgi_audit.create_app(dialects=["usage"])), Mount("/all", asgi_audit.create_app())]
    with Client(Starlette(routes=routes)) as client:
        assert home.found(client, "/u/gateway/i1", "/all/usage/gateway/i1/query-result") == 1


def test_dialect_on_a_host_of_the_hosts_routing(home: Home) -> None:
    host = Starlette(routes=[Host("trail.example.com", asgi_audit.create_app(dialects=["trail"]))])
    with Client(host, base_url="http://trail.example.com") as client:
        assert home.found(client, "/", "/query-result") == 2
    with Client(host, base_url="http://elsewhere.example.com") as client:
        assert client.post("/").status_code == 404


def test_hosts_of_single_dialects_are_a_setting(home: Home) -> None:
    hosts = (
        "usage.eu.example.com=usage, Trail.example.com=trail,both.example.com=trail,both.example.com=logs,[::1]=logs"
    )
    app = asgi_audit.create_app(dialect_hosts=hosts)
    ask: dict[str, Callable[[Any], list[int]]] = {
        "usage.eu.example.com": lambda c: [home.found(c, "/records/i1", "/records/i1/query-result")],
        "TRAIL.example.com.:8400": lambda c: [home.found(c, "/", "/query-result"), home.found(c, "/gateway/i1", "")],
        "both.example.com": lambda c: [
            home.found(c, "/trail", "/trail/query-result"),
            c.get("/logs", headers=home.headers).status_code,
            home.found(c, "/gateway/i1", ""),
        ],
        "[::1]:8400": lambda c: [c.get("/logs", headers=home.headers).status_code, home.found(c, "/trail", "")],
        "other.example.com": lambda c: [
            home.found(c, "/gateway/i1", "/gateway/i1/query-result"),
            home.found(c, "/", "/query-result"),
        ],
    }
    with Client(app) as client:
        found = {}
        for name, questions in ask.items():
            client.headers["host"] = name
            found[name] = questions(client)
    assert found == {
        "usage.eu.example.com": [1],
        "TRAIL.example.com.:8400": [2, -404],
        "both.example.com": [2, 200, -404],
        "[::1]:8400": [200, -404],
        "other.example.com": [1, 2],
    }


# The error.


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"dialects": ["usge"]}, r"setting dialects names 'usge'; accepted: usage, trail, logs.*did you mean usage\?"),
        ({"dialect_hosts": "a.example.com=trial"}, r"setting dialect_hosts names 'trial'; .*did you mean trail\?"),
        ({"dialect_hosts": "a.example.com"}, "accepted: host=dialect"),
        ({"dialect_hosts": {"a b": "trail"}}, "accepted: host=dialect"),
        ({"dialect_hosts": 7}, "accepted: host=dialect"),
        ({"detail": "bodies"}, "'detail' is not a setting"),
        ({"hom": "x"}, "did you mean home"),
    ],
)
def test_wrong_setting_stops_the_start(home: Home, given: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        asgi_audit.create_app(**given)


def test_home_that_cannot_be_read_is_503_in_each_dialects_words_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host starts, and continues."""
    monkeypatch.setattr("asgi_audit.wiring.mounted._AGAIN_SECONDS", 0.0)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "control.db").write_bytes(b"no database, but long enough to be looked at" * 50)
    with Client(in_starlette("/audit", asgi_audit.create_app(home=tmp_path / "home"))) as client:
        assert client.get("/hello").text == "the host"
        headers = {"x-api-key": "aa_000000000000_x"}
        usage = client.post("/audit/usage/gateway/i1", json=DAY, headers=headers)
        assert (usage.status_code, usage.json()["type"]) == (503, "service_unavailable")
        logs = client.get("/audit/logs", headers=headers)
        assert (logs.status_code, logs.json()["status"]) == (503, "error")
        assert client.get("/audit/health/ready").status_code == 503
        assert client.get("/audit/health/live").status_code == 200
        (tmp_path / "home" / "control.db").unlink()
        made = Home(tmp_path / "home")
        assert made.found(client, "/audit/trail", "/audit/trail/query-result") == 2
