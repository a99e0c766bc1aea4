"""Goal: requests to the API are in its own trail exactly as often as designed: a read once, a successful poll never, a
refusal of either once, whatever its status; requests that need no key never.

Method: each row of the table of operations × each status that it can be made to return, over a store in memory,
with the recorder of `serve`. The recorder's counter shows how many records one request made, and the journal at the
end which ones. Preparations (an execution, an export, a cursor) are requested from an application that records
nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings, strategies
from tests.support.api import Api
from tests.support.operations import PATHS, TABLE, Asker, name_of
from tests.unit.wiring.test_wiring import journal_of

from asgi_audit.api.auth import Keys
from asgi_audit.api.head import TOO_LONG, refused_scope
from asgi_audit.api.operation import Operation
from asgi_audit.api.params import BODY_BYTES_MAX
from asgi_audit.api.throttle import FAILURES_MAX
from asgi_audit.errors import StoreError
from asgi_audit.query.admission import IN_FLIGHT_KEY_MAX
from asgi_audit.wiring import server
from asgi_audit.wiring.environment import settings_from

KEYED = [operation for operation in TABLE if operation.roles]
SIGNED = [operation for operation in TABLE if operation.signed]
AUDITED = [*KEYED, *SIGNED]
OPEN = [operation for operation in TABLE if not operation.roles and not operation.signed]


class Reads:
    """The API as `serve` builds it, and the number of records of its own requests."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.settings = settings_from(home=directory)
        self.api = Api(directory)
        self.wired = server.Api(
            self.settings, self.api.service, self.api.control, self.api.exports, Keys(self.api.control)
        )
        self.asker = Asker(self.api, self.wired)
        self.unrecorded = Asker(self.api)
        self.unrecorded.seed("acme")
        self.key_id, self.key = self.api.control.create_key("auditor", ["acme"])
        self.other = self.api.control.create_key("auditor", ["beta"])[1]
        self.reader = self.api.control.create_key("reader", ["acme"])[1]

    def sealed(self) -> int:
        recorder = self.wired._audited.recorder
        assert recorder is not None
        return recorder.stats()["sealed"]

    def made_by(self, ask: Callable[[], httpx.Response]) -> tuple[int, httpx.Response]:
        """The number of records that one request makes, and its response."""
        before = self.sealed()
        answer = ask()
        return self.sealed() - before, answer

    def journal(self) -> list[Any]:
        self.wired.flush(30)
        return journal_of(self.settings)

    def close(self) -> None:
        self.wired.flush(30)
        self.api.close()


@pytest.fixture
def reads(tmp_path: Path) -> Iterator[Reads]:
    made = Reads(tmp_path / "home")
    yield made
    made.close()


Ask = Callable[[], httpx.Response]


def _succeeds(reads: Reads, o: Operation, values: dict[str, str]) -> Ask:
    return lambda: reads.asker.ask(o, reads.key, values=values)


def _wrong(reads: Reads, o: Operation, values: dict[str, str]) -> Ask | None:
    if o.signed:
        return None  # none of their parameters has another error than a forged URL
    return lambda: reads.asker.ask(o, reads.key, values=values, query={"nonsense": "1"})


def _without_key(reads: Reads, o: Operation, values: dict[str, str]) -> Ask | None:
    return (lambda: reads.asker.ask(o, None, values=values)) if o.roles else None


def _not_allowed(reads: Reads, o: Operation, values: dict[str, str]) -> Ask | None:
    if o.signed:
        return lambda: reads.asker.ask(o, None, values=values, query={"signature": "0"})
    if "reader" in o.roles:
        return None
    return lambda: reads.asker.ask(o, reads.reader, values=values)


def _of_another_account(reads: Reads, o: Operation, values: dict[str, str]) -> Ask | None:
    """An execution, an export, a record, an instance that the key may not see."""
    if o.id == "exports.request":
        body = {**o.example.body, "database": "classic/acme"}
        return lambda: reads.asker.ask(o, reads.other, values=values, json=body)
    if not o.roles or not (o.link or o.path_values):
        return None
    return lambda: reads.asker.ask(o, reads.other, values=values)


def _other_method(reads: Reads, o: Operation, values: dict[str, str]) -> Ask:
    return lambda: reads.asker.ask(o, reads.key, values=values, method="DELETE")


def _not_acceptable(reads: Reads, o: Operation, values: dict[str, str]) -> Ask | None:
    if not o.more_content_types:
        return None
    return lambda: reads.asker.ask(o, reads.key, values=values, headers={"accept": "image/png"})


def _gone(reads: Reads, o: Operation, values: dict[str, str]) -> Ask | None:
    if 410 not in o.more_failures:
        return None
    cursor = reads.unrecorded.ask(o, reads.key, values=values).json()["cursor"]
    reads.api.store.generation += 1
    return lambda: reads.asker.ask(o, reads.key, values=values, query={"after": cursor})


def _too_long(reads: Reads, o: Operation, values: dict[str, str]) -> Ask | None:
    if o.request is None:
        return None
    return lambda: reads.asker.ask(o, reads.key, values=values, content=b"{}" + b" " * BODY_BYTES_MAX)


def _no_such_part(reads: Reads, o: Operation, values: dict[str, str]) -> Ask | None:
    if not o.signed:
        return None
    return lambda: reads.asker.ask(o, reads.key, values=values, headers={"range": "bytes=99999999-"})


def _busy(reads: Reads, o: Operation, values: dict[str, str]) -> Ask:
    leases = [reads.api.service.admission.enter(reads.key_id) for _ in range(IN_FLIGHT_KEY_MAX)]

    def ask() -> httpx.Response:
        try:
            return reads.asker.ask(o, reads.key, values=values)
        finally:
            for lease in leases:
                lease.close()

    return ask


def _index_away(reads: Reads, o: Operation, values: dict[str, str]) -> Ask | None:
    if o.signed:
        return None  # a file, for which no index is read

    def ask() -> httpx.Response:
        reads.api.failure = StoreError("it is away", retriable=True)
        try:
            return reads.asker.ask(o, reads.key, values=values)
        finally:
            reads.api.failure = None

    return ask


CAUSES: dict[int, Callable[[Reads, Operation, dict[str, str]], Ask | None]] = {
    200: _succeeds,
    400: _wrong,
    401: _without_key,
    403: _not_allowed,
    404: _of_another_account,
    405: _other_method,
    406: _not_acceptable,
    410: _gone,
    413: _too_long,
    416: _no_such_part,
    429: _busy,
    503: _index_away,
}


def expected(operation: Operation, status: int) -> int:
    """The design: one record per execution, none per poll; reads and refusals once each."""
    return int(status >= 400 or operation.is_recorded)


def cause(reads: Reads, operation: Operation, status: int) -> Ask | None:
    return CAUSES[status](reads, operation, reads.unrecorded.followed(operation, reads.key))


@pytest.mark.parametrize("status", CAUSES)
def test_read_refusal_and_failure_make_as_many_records_as_the_design_says(reads: Reads, status: int) -> None:
    recorded: list[tuple[str, int, bool]] = []
    for operation in AUDITED:
        ask = cause(reads, operation, status)
        if ask is None:
            continue
        made, answer = reads.made_by(ask)
        assert answer.status_code == operation.dialect.sent_status(status), (operation.id, answer.text)
        assert made == expected(operation, status), operation.id
        is_unknown = status in (401, 405) or (operation.signed and status == 403)
        recorded += [(answer.request.url.path, answer.status_code, not is_unknown)] * made
    found = reads.journal()
    assert [(r.path, r.status, r.principal.startswith("key:")) for r in found] == recorded
    assert {r.service for r in found} == {"logs"}


@pytest.mark.parametrize("operation", OPEN, ids=name_of)
def test_what_needs_no_key_is_never_recorded_but_for_a_method_that_it_has_not(
    reads: Reads, operation: Operation
) -> None:
    for query in ({}, {"nonsense": "1"}):
        made, _ = reads.made_by(partial(reads.asker.ask, operation, None, values={}, query=query))
        assert made == 0
    made, answer = reads.made_by(partial(reads.asker.ask, operation, None, values={}, method="DELETE"))
    assert (answer.status_code, made) == (405, 1)


def test_another_accounts_id_and_none_at_all_are_recorded_alike(reads: Reads) -> None:
    """Attempts to guess ids are in the trail, and their responses do not differ."""
    polls = [o for o in KEYED if o.link and not o.is_recorded]
    assert {o.dialect.name for o in polls} == {"usage", "trail", "exports"}
    for operation, path in PATHS:
        theirs = reads.unrecorded.followed(operation, reads.key) if operation in polls else {}
        for values in (theirs, dict.fromkeys(theirs, "x")) if theirs else ():
            for method in ("GET", "HEAD"):
                ask = partial(reads.asker.ask, operation, reads.other, values=values, path=path, method=method)
                made, answer = reads.made_by(ask)
                assert (answer.status_code, made) == (404, 1)
    assert {(r.account, r.status, r.level) for r in reads.journal()} >= {("beta", 404, "WARN")}


def test_refusals_of_a_valid_key_are_recorded_however_many_they_are(reads: Reads) -> None:
    """Refusals of strangers are bounded, see `test_wiring`; here also at unknown paths and with unknown methods."""
    asked = [("GET", "/trail/query-result/x", 404), ("GET", "/nothing/that/is/here", 404), ("PUT", "/logs", 405)]
    for method, path, _ in asked:
        for _ in range(FAILURES_MAX + 1):
            reads.asker.send(method, path, "wrong")
    for method, path, status in asked * 2:
        made, answer = reads.made_by(partial(reads.asker.send, method, path, reads.key))
        assert (answer.status_code, made) == (status, 1)


def test_what_is_no_request_is_not_recorded(reads: Reads) -> None:
    """Its key is not read, so its caller would be unknown."""
    head = f"GET /logs HTTP/1.1\r\nAuthorization: Bearer {reads.key}\r\n\r\n".encode()
    before = reads.sealed()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    asyncio.run(reads.wired(refused_scope(head, TOO_LONG, client=("192.0.2.1", 1)), receive, send))
    assert sent[0]["status"] == 400
    assert reads.sealed() == before


def test_client_that_leaves_before_its_poll_is_answered_makes_no_record(reads: Reads) -> None:
    [poll] = [o for o in TABLE if o.id == "trail.result"]
    execution = reads.unrecorded.followed(poll, reads.key)["execution"]
    path = f"/trail/query-result/{execution}"

    async def leave(key: str) -> None:
        left = asyncio.Event()

        async def receive() -> Any:
            if not left.is_set():
                left.set()
                return {"type": "http.request", "body": b"", "more_body": False}
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            raise OSError("the client has left")

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "server": None,
            "client": ("192.0.2.1", 1), "headers": [(b"x-api-key", key.encode())],
        }  # fmt: skip
        await reads.wired(scope, receive, send)

    before = reads.sealed()
    asyncio.run(leave(reads.key))
    assert reads.sealed() == before


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=strategies.data())
def test_any_row_of_requests_makes_as_many_records_as_each_of_them_alone(tmp_path: Path, data: Any) -> None:
    reads = Reads(tmp_path / data.draw(strategies.uuids()).hex)
    pairs = strategies.tuples(strategies.sampled_from(AUDITED), strategies.sampled_from(list(CAUSES)))
    try:
        count = 0
        for operation, status in data.draw(strategies.lists(pairs, min_size=5, max_size=15)):
            ask = cause(reads, operation, status)
            if ask is not None:
                made, answer = reads.made_by(ask)
                assert answer.status_code == operation.dialect.sent_status(status)
                assert made == expected(operation, status)
                count += made
        assert len(reads.journal()) == count
    finally:
        reads.close()
