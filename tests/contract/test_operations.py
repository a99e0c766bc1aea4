"""Properties of every operation of every dialect, tested for each row of the table: a new row is tested without another
line.

Method: the row's own example, with values from the operation that it follows, over a store in memory; failures that
cannot be caused from outside are raised in place of the row's handler. An error is right when its status is the
dialect's for it and its body is exactly the dialect's model."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, get_args

import httpx
import pytest
from pydantic import ValidationError
from tests.support.api import Api
from tests.support.clock import Clock
from tests.support.operations import MARK, PATHS, SECRET, TABLE, Asker, is_failure, name_of, page_token_of

from asgi_audit.api.app import application
from asgi_audit.api.auth import Keys
from asgi_audit.api.failure import STATUSES, Failure, phrase_of
from asgi_audit.api.head import TOO_LONG, refused_scope
from asgi_audit.api.models import Model
from asgi_audit.api.operation import Dialect, Operation
from asgi_audit.api.params import BODY_BYTES_MAX, QUERY_BYTES_MAX
from asgi_audit.api.request_metrics import RequestMetrics
from asgi_audit.api.routing import names_in, operation_of
from asgi_audit.control.keys import ROLES
from asgi_audit.errors import QueryError, QueryErrorKind, StoreError
from asgi_audit.query.admission import IN_FLIGHT_KEY_MAX
from asgi_audit.query.tokens import Sealer, TokenKind
from asgi_audit.store.base import Query

KEYED = [operation for operation in TABLE if operation.roles]
FOLLOWING = [operation for operation in KEYED if operation.link and operation.link.is_sealed]
WITH_BODY = [operation for operation in TABLE if operation.example.body is not None]
DIALECTS = {operation.dialect.name: operation.dialect for operation in TABLE}
every_operation = pytest.mark.parametrize("operation", TABLE, ids=name_of)
every_keyed_operation = pytest.mark.parametrize("operation", KEYED, ids=name_of)
every_path = pytest.mark.parametrize(("operation", "path"), PATHS, ids=lambda v: name_of(v) or str(v))


@pytest.fixture
def clock() -> Clock:
    return Clock(1_704_100_000.0)


@pytest.fixture
def api(tmp_path: Path, clock: Clock) -> Iterator[Api]:
    made = Api(tmp_path, clock=clock)
    yield made
    made.close()


@pytest.fixture
def asker(api: Api) -> Asker:
    made = Asker(api)
    made.seed("acme")
    return made


def is_answer(answer: httpx.Response, operation: Operation) -> bool:
    """Success; a dialect may send failures with status 200 as well."""
    assert answer.status_code == 200, answer.text
    with pytest.raises(ValidationError):
        operation.dialect.error.model_validate_json(answer.content)
    return True


# -- the table itself


def test_rows_are_distinct_and_their_examples_are_whole() -> None:
    assert len({o.id for o in TABLE}) == len(TABLE)
    assert len({(o.method, path) for o, path in PATHS}) == len(PATHS)
    for operation, path in PATHS:
        given = set(operation.example.path) | set(operation.link.path_fields if operation.link else ())
        has_all = operation.link is not None and operation.link.url
        assert has_all or names_in(path) <= given, f"{path}: the example lacks values"
        assert operation.id.startswith(operation.dialect.name + ".")
        assert operation.roles <= set(ROLES)
        if operation.link:
            [before] = [o for o in TABLE if o.id == operation.link.operation]
            assert before.dialect is operation.dialect


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
def test_words_stand_for_names_of_ours(dialect: Dialect) -> None:
    ours = {f.name for f in dataclasses.fields(Query)} | {"execution", "export", "page_token", "limit"}
    assert set(dialect.field_names) <= ours


def test_every_kind_of_query_error_has_a_status() -> None:
    assert set(STATUSES) == set(get_args(QueryErrorKind))


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=list(DIALECTS))
def test_dialect_says_every_status(dialect: Dialect) -> None:
    for status in range(400, 600):
        answer = dialect.fail(Failure(status, "it went wrong", headers={"x-more": "1"}))
        assert answer.status_code == dialect.sent_status(status)
        assert answer.headers["x-more"] == "1"
        said = dialect.error.model_validate_json(bytes(answer.body))
        assert dialect.fixed_messages.get(status, "it went wrong") in said.model_dump_json()
        assert phrase_of(status)


# -- responses


@every_path
def test_example_is_answered(asker: Asker, operation: Operation, path: str) -> None:
    key = asker.key(operation, ["acme"])
    values = asker.followed(operation, key)
    for slash in ("", "/") if path != "/" else ("",):
        answer = asker.ask(operation, key, path=path, values=values, beyond=slash)
        assert is_answer(answer, operation)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        if operation.answer is not None:
            operation.answer.model_validate_json(answer.content)
        if operation.method == "GET":
            head = asker.ask(operation, key, path=path, values=values, beyond=slash, method="HEAD")
            assert (head.status_code, head.content) == (200, b"")
            same = ("content-type", "cache-control", "audit-open")
            assert [head.headers.get(n) for n in same] == [answer.headers.get(n) for n in same]


@every_keyed_operation
def test_successful_answer_says_how_complete_it_is(asker: Asker, operation: Operation) -> None:
    answer = asker.ask(operation, asker.key(operation, "*"))
    assert is_answer(answer, operation)
    headers = answer.headers
    assert headers["audit-complete-from"] == "2024-01-01T00:00:00.000Z"
    assert headers["audit-complete-until"] == "2024-01-01T00:00:01.000Z"
    assert (headers["audit-incidents"], headers["audit-open"]) == ("0", "0")


@every_path
def test_row_is_found_for_its_paths(api: Api, operation: Operation, path: str) -> None:
    """Wiring decides by this whether a call is recorded."""
    where = path
    for name, value in {**operation.example.path, "execution": "x", "export": "x"}.items():
        where = where.replace("{" + name + "}", value)
    for root in ("", "/mounted"):
        scope = {"type": "http", "method": operation.method, "path": root + where, "root_path": root}
        found = operation_of(api.app.routes, scope)
        assert found is not None
        assert (found.id, found.is_recorded) == (operation.id, operation.is_recorded)
    assert operation_of(api.app.routes, {"type": "http", "method": "DELETE", "path": where}) is None


# -- roles


@every_path
def test_key_is_required_and_a_wrong_one_is_no_better_than_none(asker: Asker, operation: Operation, path: str) -> None:
    revoked_id, revoked = asker.api.control.create_key("auditor", "*")
    asker.api.control.revoke(revoked_id)
    values = asker.followed(operation, asker.key(operation, ["acme"]))
    keys = [None, "", "wrong", "aa_0_0", f"aa_{revoked_id}_wrong", revoked, revoked[:-1], "x" * 10_000]
    answers = [asker.ask(operation, key, path=path, values=values) for key in keys]
    if not operation.roles:
        assert {a.status_code for a in answers} == {200}
        return
    for answer in answers:
        assert is_failure(answer, operation.dialect, 401)
        assert (answer.content, answer.headers) == (answers[0].content, answers[0].headers)
    # Without a key, a client learns neither the mistakes in its request nor what exists.
    for answer in (
        asker.ask(operation, "wrong", path=path, values={}),
        asker.ask(operation, "wrong", path=path, values={}, content=b"no JSON"),
        asker.ask(operation, "wrong", path=path, values={}, query={"x": "y" * QUERY_BYTES_MAX}),
    ):
        assert (answer.status_code, answer.content) == (answers[0].status_code, answers[0].content)


@every_keyed_operation
def test_role_is_required(asker: Asker, operation: Operation) -> None:
    # Each role is refused in turn, whether or not the row accepts it today.
    for role in ROLES:
        key = asker.api.control.create_key(role, "*")[1]
        without = dataclasses.replace(operation, roles=frozenset({"another"}))
        app = application([without], Keys(asker.api.control), RequestMetrics(dict))
        assert is_failure(Asker(asker.api, app).ask(without, key, values={}), operation.dialect, 403)
        if role not in operation.roles:
            assert is_failure(asker.ask(operation, key, values={}), operation.dialect, 403)


@pytest.mark.parametrize("operation", FOLLOWING, ids=name_of)
def test_what_another_account_began_is_as_if_it_did_not_exist(asker: Asker, operation: Operation) -> None:
    asker.seed("beta")
    theirs = asker.followed(operation, asker.key(operation, ["acme"]))
    nonsense = dict.fromkeys(theirs, "x")
    for accounts in (["beta"], ["acme", "beta"], "*"):
        key = asker.key(operation, accounts)
        answer, none = (asker.ask(operation, key, values=values) for values in (theirs, nonsense))
        assert is_failure(answer, operation.dialect, 404)
        assert (answer.content, answer.headers) == (none.content, none.headers)


@every_keyed_operation
def test_records_of_another_account_are_as_if_they_did_not_exist(
    asker: Asker, operation: Operation, tmp_path: Path
) -> None:
    """The same request to an index that has them and to one that does not."""
    other = Api(tmp_path / "other")
    try:
        empty = Asker(other)
        for seeded in (False, True):
            if seeded:
                asker.seed("beta", 1)
                empty.seed("beta", 1)
            elif operation.link:
                continue
            answers = [a.ask(operation, a.key(operation, ["beta"])) for a in (asker, empty)]
            assert answers[0].status_code == answers[1].status_code
            assert MARK not in answers[0].text + str(answers[0].headers)
            if not answers[0].is_success:
                assert answers[0].content == answers[1].content
    finally:
        other.close()


# -- empty results


@every_path
def test_another_method_is_405_with_what_is_allowed(asker: Asker, operation: Operation, path: str) -> None:
    methods = {o.method for o, p in PATHS if p == path}
    allow = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    dialect = next(o.dialect for o, p in PATHS if p == path)
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "X-OTHER"} - set(allow.split(", ")):
        answer = asker.ask(operation, None, path=path, values={}, method=method)
        assert is_failure(answer, dialect, 405)
        assert answer.headers["allow"] == allow


@every_path
def test_unknown_path_is_404_in_words_of_its_first_segment(asker: Asker, operation: Operation, path: str) -> None:
    beyond = "nothing/at/all/here" if path == "/" else "/nothing/at/all/here"
    first = path.split("/")[1]
    is_literal = bool(first) and not first.startswith("{")
    # Two dialects may share a first segment; at the literal roots an unknown path is most likely misspelled usage.
    near = [o.dialect for o, p in PATHS if is_literal and p.split("/")[1] == first] or [DIALECTS["usage"]]
    for method in ("GET", "POST", "HEAD", "DELETE"):
        answer = asker.ask(operation, None, path=path, values={}, method=method, beyond=beyond)
        assert answer.headers.get("location") is None
        said_by = next((d for d in near if d.content_type == answer.headers["content-type"]), near[0])
        assert is_failure(answer, said_by, 404)
        if is_literal and len(set(map(id, near))) == 1 and method != "HEAD":
            assert f"{operation.method} /{operation.path.split('/')[1]}" in answer.text  # the paths that exist


@every_path
def test_literal_first_segment_is_never_a_service(asker: Asker, operation: Operation, path: str) -> None:
    first = path.split("/")[1]
    if first and not first.startswith("{") and first not in ("logs", "trail"):
        key = asker.api.control.create_key("auditor", "*")[1]
        taken = operation_of(asker.api.app.routes, {"type": "http", "method": "POST", "path": f"/{first}/acme-eu"})
        assert taken is None or "{service}" not in taken.literal_roots[0]
        assert asker.send("PUT", f"/{first}/acme-eu", key).status_code in (404, 405)


# -- failures


FAILURES = [
    *((QueryError(f"field: it is wrong ({kind})", field="field", kind=kind), STATUSES[kind]) for kind in STATUSES),
    (StoreError(f"{SECRET} is gone", retriable=True), 503),
    (StoreError(f"{SECRET} is gone", retriable=False), 500),
    (RuntimeError(SECRET), 500),
    (RecursionError(SECRET), 500),
    (MemoryError(SECRET), 500),
    (UnicodeEncodeError("utf-8", SECRET, 0, 1, SECRET), 500),
    (ExceptionGroup(SECRET, [ValueError(SECRET)]), 500),
]


@every_operation
def test_whatever_goes_wrong_is_said_in_the_shape_of_the_dialect(
    asker: Asker, operation: Operation, caplog: pytest.LogCaptureFixture
) -> None:
    key = asker.key(operation, "*")
    for error, status in FAILURES:

        async def failing(*_: Any, error: Exception = error) -> NoReturn:
            raise error from KeyError(SECRET)

        row = dataclasses.replace(operation, handle=failing)
        failed = Asker(asker.api, application([row], Keys(asker.api.control), RequestMetrics(dict)))
        with caplog.at_level(logging.DEBUG, logger="asgi_audit"):
            answer = failed.ask(row, key, values={})
        assert is_failure(answer, operation.dialect, status)
        again = status == 429 or (status == 503 and isinstance(error, StoreError))
        assert answer.headers.get("retry-after") == ("1" if again else None)
        assert ("www-authenticate" in answer.headers) == (status == 401)
        if isinstance(error, QueryError):
            assert operation.dialect.fixed_messages.get(status, f"field: it is wrong ({error.kind})") in answer.text
    assert SECRET not in caplog.text


@every_keyed_operation
@pytest.mark.parametrize(("error", "status"), [(StoreError(SECRET), 503), (RuntimeError(SECRET), 500)])
def test_index_that_fails_is_said_in_the_shape_of_the_dialect(
    asker: Asker, operation: Operation, error: Exception, status: int
) -> None:
    key = asker.key(operation, "*")
    values = asker.followed(operation, key)
    asker.api.failure = error
    assert is_failure(asker.ask(operation, key, values=values), operation.dialect, status)


@every_keyed_operation
def test_key_with_too_many_answers_in_flight_is_429(asker: Asker, operation: Operation) -> None:
    key_id, key = asker.api.control.create_key(min(operation.roles), "*")
    values = asker.followed(operation, key)
    leases = [asker.api.service.admission.enter(key_id) for _ in range(IN_FLIGHT_KEY_MAX)]
    answer = asker.ask(operation, key, values=values)
    assert is_failure(answer, operation.dialect, 429)
    assert int(answer.headers["retry-after"]) > 0
    leases.pop().close()
    assert is_answer(asker.ask(operation, key, values=values), operation)


@pytest.mark.parametrize("operation", WITH_BODY, ids=name_of)
def test_body_that_is_wrong_is_400_and_one_that_is_too_long_413(asker: Asker, operation: Operation) -> None:
    key = asker.key(operation, "*")
    assert operation.request is not None
    is_needed = operation.credentials_in_body or any(f.is_required() for f in operation.request.model_fields.values())
    for body in (
        *([b""] if is_needed else []),
        b" ",
        b"[]",
        b"{",
        b"null",
        b'"x"',
        b"\xff\xfe{}",
        b"[" * 60_000,
        b'{"a":NaN}',
        b'{"a":1,"a":2}',
    ):
        answer = asker.ask(operation, key, content=body)
        assert is_failure(answer, operation.dialect, 400)
    answer = asker.ask(operation, key, content=b"{}" + b" " * BODY_BYTES_MAX)
    assert is_failure(answer, operation.dialect, 413)


@pytest.mark.parametrize("operation", [o for o in KEYED if o.method == "GET"], ids=name_of)
def test_query_string_that_is_too_long_is_400(asker: Asker, operation: Operation) -> None:
    answer = asker.ask(operation, asker.key(operation, "*"), query={"x": "y" * QUERY_BYTES_MAX})
    assert is_failure(answer, operation.dialect, 400)


def names_of(model: type[Model] | None) -> list[str]:
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


@every_keyed_operation
def test_parameter_that_a_row_does_not_take_is_refused_by_name(asker: Asker, operation: Operation) -> None:
    """If a filter were ignored, the response would be for another query; and the parameters of a row are those that its
    handler reads."""
    model = operation.parameters
    if model is not None and model.model_config.get("extra") == "ignore":
        return
    accepted = ", ".join(names_of(model)) or "none"
    for query in ({"nonsense": "1"}, {"nonsense": ""}):
        answer = asker.ask(operation, asker.key(operation, "*"), query=query)
        assert is_failure(answer, operation.dialect, 400)
        assert f"nonsense: there is no such parameter; accepted: {accepted}" in answer.text


@pytest.mark.parametrize("operation", [o for o in WITH_BODY if o.request is not None], ids=name_of)
def test_field_that_a_row_does_not_take_is_refused_by_name(asker: Asker, operation: Operation) -> None:
    assert operation.request is not None
    if operation.request.model_config.get("extra") != "forbid":
        return
    answer = asker.ask(operation, asker.key(operation, "*"), json={**operation.example.body, "nonsense": 1})
    assert is_failure(answer, operation.dialect, 400)
    accepted = ", ".join(names_of(operation.request))
    assert f"nonsense: there is no such field; accepted: {accepted}" in answer.text


@every_path
def test_row_has_models_of_all_that_it_takes(operation: Operation, path: str) -> None:
    assert (operation.request is not None) == (operation.example.body is not None)
    assert set(operation.path_values.model_fields if operation.path_values else ()) == names_in(path)
    assert set(operation.example.query) <= set(names_of(operation.parameters))
    assert operation.answer is not None or not operation.roles


# -- tokens


PAGED = [o for o in KEYED if o.method == "GET" and o.dialect.field_names.get("page_token") in names_of(o.parameters)]


@pytest.mark.parametrize("operation", PAGED, ids=name_of)
def test_page_token_opens_only_where_it_was_sealed(asker: Asker, operation: Operation, clock: Clock) -> None:
    asker.seed("beta")
    key = asker.key(operation, ["acme"])
    word = operation.dialect.field_names["page_token"]
    values = asker.followed(operation, key)
    limit = operation.dialect.field_names.get("limit", "limit")
    token = page_token_of(operation, asker.ask(operation, key, values=values, query={limit: "1"}))
    if token is None:
        return  # one response has it all
    assert is_answer(asker.ask(operation, key, values=values, query={word: token}), operation)
    sealer = Sealer(asker.api.control.secret())
    for text in (token, *values.values()):
        for kind, name in itertools.product(TokenKind, set(DIALECTS) - {operation.dialect.name}):
            with pytest.raises(QueryError):
                sealer.open(text, kind, name, frozenset({"acme"}), clock.now)

    def is_refused(by: Operation, with_key: str | None, with_values: dict[str, str], wrong: str) -> bool:
        answer = asker.ask(by, with_key, values=with_values, query={word: wrong})
        assert by.dialect.field_names["page_token"] in answer.text
        return is_failure(answer, by.dialect, 400)

    for wrong in ("x", token[:-1], token + "A", token[:40] + ("A" if token[40] != "A" else "B") + token[41:]):
        assert is_refused(operation, key, values, wrong)
    for accounts in (["beta"], ["acme", "beta"], "*"):
        other = asker.key(operation, accounts)
        assert is_refused(operation, other, asker.followed(operation, other), token)
    if operation.link:
        asker.seed("acme", 1)  # another snapshot, and so another query
        assert is_refused(operation, key, asker.followed(operation, key), token)
        for by in (o for o in FOLLOWING if o.dialect is not operation.dialect):
            for begun in values.values():
                answer = asker.ask(
                    by, asker.key(by, ["acme"]), values=dict.fromkeys(by.link.path_fields if by.link else (), begun)
                )
                assert is_failure(answer, by.dialect, 404)
    for by in PAGED:
        if by.dialect is not operation.dialect:
            own = asker.key(by, ["acme"])
            answer = asker.ask(by, own, query={by.dialect.field_names["page_token"]: token})
            assert is_failure(answer, by.dialect, 400)
    clock.now += 10 * 86_400
    fresh = asker.followed(operation, key)
    assert is_refused(operation, key, fresh, token)


@every_keyed_operation
def test_tokens_of_an_index_that_was_restored_since_are_refused(asker: Asker, operation: Operation) -> None:
    """Their numbers refer to other rows then."""
    key = asker.key(operation, ["acme"])
    values = asker.followed(operation, key)
    word = operation.dialect.field_names.get("page_token")
    token = page_token_of(operation, asker.ask(operation, key, values=values, query={"limit": "1"})) if word else None
    asker.api.store.generation += 1
    if operation in FOLLOWING and operation.dialect.name != "exports":  # whose ids are not tokens
        assert is_failure(asker.ask(operation, key, values=values), operation.dialect, 404)
        values = asker.followed(operation, key)
    if token is not None and word is not None:
        answer = asker.ask(operation, key, values=values, query={word: token})
        assert is_failure(answer, operation.dialect, 400)


@pytest.mark.parametrize("operation", FOLLOWING, ids=name_of)
def test_what_was_begun_is_missing_when_it_has_expired(asker: Asker, operation: Operation, clock: Clock) -> None:
    key = asker.key(operation, ["acme"])
    values = asker.followed(operation, key)
    clock.now += 10 * 86_400
    assert is_failure(asker.ask(operation, key, values=values), operation.dialect, 404)


@pytest.mark.parametrize("operation", WITH_BODY, ids=name_of)
def test_body_is_refused_by_the_name_of_its_coding_and_before_it_is_sent_when_it_is_declared_too_long(
    asker: Asker, operation: Operation
) -> None:
    key = asker.key(operation, "*")
    body = json.dumps(operation.example.body).encode()
    for coding in ("gzip", "br", "identity, deflate", "x" * 1_000):
        answer = asker.ask(operation, key, content=body, headers={"content-encoding": coding})
        assert is_failure(answer, operation.dialect, 400)
        assert "Content-Encoding: it is " in answer.text
    for coding in ("", "identity", " Identity , identity"):
        assert is_answer(asker.ask(operation, key, content=body, headers={"content-encoding": coding}), operation)
    for length in ("65537", "9" * 20, "9" * 4_000):
        answer = asker.ask(operation, key, content=body, headers={"content-length": length})
        assert is_failure(answer, operation.dialect, 413)
    for length in ("²", "-1", "x", "", "0" * 10 + "9"):
        headers = {"content-length": length.encode("latin-1")}
        assert asker.ask(operation, key, content=body, headers=headers).status_code == 200


@pytest.mark.parametrize("operation", [o for o in WITH_BODY if o.id == "exports.list"], ids=name_of)
def test_absent_body_counts_as_an_object_without_fields_where_none_is_required(
    asker: Asker, operation: Operation
) -> None:
    key = asker.key(operation, "*")
    asker.followed(next(o for o in TABLE if o.id == "exports.result"), key)
    found = [asker.ask(operation, key, content=body) for body in (b"", b"{}")]
    assert found[0].status_code == 200
    assert found[0].content == found[1].content
    assert found[0].json()["results"]


@every_path
def test_what_the_server_refuses_is_said_in_words_of_the_path_whatever_the_method(
    asker: Asker, operation: Operation, path: str
) -> None:
    """`connection` makes such a scope for a head that is not HTTP/1.1."""
    where = path.replace("{", "").replace("}", "")
    dialect = next(o.dialect for o, p in PATHS if p == path)
    for target in (where, f"http://x{where}", f"{where}?a=1"):
        scope = refused_scope(f"GET {target} HTTP/1.1\r\nHost: x".encode(), TOO_LONG, client=None)
        assert is_failure(answered(asker.app, scope), dialect, 400)


@pytest.mark.parametrize("head", [b"", b"\r\n", b"GET", b"GET  HTTP/1.1", b"\xff" * 9_000, b"GET /" + b"x" * 9_000])
def test_what_the_server_refuses_is_said_in_words_of_usage_when_it_has_no_path(asker: Asker, head: bytes) -> None:
    assert is_failure(answered(asker.app, refused_scope(head, TOO_LONG, client=None)), DIALECTS["usage"], 400)


def answered(app: Any, scope: dict[str, Any]) -> httpx.Response:
    """The response to an unchanged scope."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    start, *rest = sent
    body = b"".join(message.get("body", b"") for message in rest)
    request = httpx.Request("GET", "http://x")
    return httpx.Response(start["status"], headers=start["headers"], content=body, request=request)
