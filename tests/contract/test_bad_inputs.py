"""Goal: a wrong request gets the documented error of its dialect, which names the mistake; never 422, never 500.

Method: the table of `support/bad_inputs.py`; and, for each parameter and field of each row of the operations'
table, values that its schema excludes, a repeated value, and an unknown name. Errors that depend on the key or on
earlier requests (401, 403, 429) are in `test_operations.py`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from tests.support.api import Api
from tests.support.bad_inputs import BAD_DATES, BAD_INPUTS, BAD_NUMBERS, BAD_TEXTS, Bad
from tests.support.operations import TABLE, Asker, is_failure, name_of

from asgi_audit.api.operation import Operation
from asgi_audit.api.schemas import Components, parameters_in

DIALECTS = {operation.dialect.name: operation.dialect for operation in TABLE}
KEYED = [operation for operation in TABLE if operation.roles]
WITH_PARAMETERS = [operation for operation in KEYED if operation.parameters is not None]
# `tr50` has its fields in commands, so they are in the written table.
WITH_FIELDS = [o for o in KEYED if o.request is not None and not o.credentials_in_body]


@pytest.fixture(scope="module")
def asker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    api = Api(tmp_path_factory.mktemp("api"))
    made = Asker(api)
    made.seed("acme")
    yield made
    api.close()


@pytest.fixture(scope="module")
def key(asker: Asker) -> str:
    return asker.api.control.create_key("auditor", ["acme"])[1]


def message_of(body: Any) -> str:
    """Of any dialect, of the request or of its first failed command."""
    found = [body] if "success" not in str(list(body)) and not all(isinstance(v, dict) for v in body.values()) else []
    for said in found or [body, *body.values()]:
        if isinstance(said, dict):
            for name in ("message", "detail"):
                if isinstance(said.get(name), str):
                    return str(said[name])
            if said.get("errorMessages"):
                return str(said["errorMessages"][0])
    return ""


KINDS = sorted({(bad.dialect, bad.status) for bad in BAD_INPUTS})


def test_table_has_many_inputs_of_every_dialect() -> None:
    count = Counter(bad.dialect for bad in BAD_INPUTS)
    print(dict(count))
    assert set(count) >= {o.dialect.name for o in KEYED}
    assert count["exports"] + count["tr50"] > 400
    assert {bad.status for bad in BAD_INPUTS} >= {400, 403, 404, 405, 413}


@pytest.mark.parametrize(("name", "status"), KINDS)
def test_wrong_request_is_refused_in_the_words_of_its_dialect(asker: Asker, key: str, name: str, status: int) -> None:
    for bad in BAD_INPUTS:
        if (bad.dialect, bad.status) == (name, status):
            answer = asker.send(bad.method, bad.target, key, content=bad.content)
            try:
                check(answer, bad)
            except Exception as e:
                raise AssertionError(f"{bad.method} {bad.target} {bad.content!r}: {answer.text}"[:2_000]) from e


def check(answer: httpx.Response, bad: Bad) -> None:
    if not bad.status:  # either status, but never an internal error
        assert answer.status_code in (200, 400)
        return
    dialect = DIALECTS[bad.dialect]
    body = answer.json()
    if "1" in body:  # a command of TR50 fails alone
        assert answer.status_code == 200
        dialect.error.model_validate_json(json.dumps(body["1"]))
    else:
        assert is_failure(answer, dialect, bad.status)
    assert bad.says in answer.text.replace('\\"', '"') or bad.says in answer.text
    assert len(answer.content) < 2_000


def refused(schema: dict[str, Any], root: dict[str, Any], values: tuple[Any, ...], *, is_text: bool) -> list[Any]:
    """Values that the schema excludes; for a number as text, texts that are not numbers."""
    validator = Draft202012Validator({**schema, **root}, format_checker=FormatChecker())
    found = []
    for value in values:
        sent = value
        if is_text and "integer" in json.dumps(schema) and value.isascii() and value.isdigit():
            sent = int(value)
        if not validator.is_valid(sent) and value != "":
            found.append(value)
    return found


def candidates(schema: dict[str, Any]) -> tuple[str, ...]:
    said = json.dumps(schema)
    if '"date' in said:
        return BAD_DATES
    if '"integer"' in said:
        return BAD_NUMBERS
    if '"enum"' in said or '"boolean"' in said:
        return ("x", "TRUE", "1", " ", "\x00", "null", "é", "get,post", "x" * 300)
    return BAD_TEXTS


@pytest.mark.parametrize("operation", WITH_PARAMETERS, ids=name_of)
def test_wrong_value_of_each_parameter_is_refused_by_name(asker: Asker, key: str, operation: Operation) -> None:
    count = 0
    values = asker.followed(operation, key)
    for parameter in parameters_in(operation.parameters, "query"):
        name, schema = parameter["name"], parameter["schema"]
        for value in refused(schema, {}, candidates(schema), is_text=True):
            answer = asker.ask(operation, key, values=values, query={name: value})
            assert is_failure(answer, operation.dialect, 400), value
            assert name in message_of(answer.json()), (value, answer.text)
            count += 1
        where = operation.path
        for segment, given in {**operation.example.path, **values}.items():
            where = where.replace(f"{{{segment}}}", quote(given, safe=""))
        body = None if operation.example.body is None else json.dumps(operation.example.body).encode()
        answer = asker.send(operation.method, f"{where}?{name}=1&{name}=2", key, content=body)
        assert is_failure(answer, operation.dialect, 400)
        assert message_of(answer.json()).startswith(f"{name}: it is given more than once")
        count += 1
    assert count


@pytest.mark.parametrize("operation", WITH_FIELDS, ids=name_of)
def test_wrong_value_of_each_field_is_refused_by_name(asker: Asker, key: str, operation: Operation) -> None:
    assert operation.request is not None
    components = Components()
    reference = components.reference(operation.dialect.name, operation.request, is_sent=False)
    schema = components.schemas[reference["$ref"].rpartition("/")[2]]
    root = {"components": {"schemas": components.schemas}}
    wrong: tuple[Any, ...] = (5, -1, 1.5, 10**30, True, [], {}, [[]], [5], {"a": 1}, "", "x" * 3_000, "\x00", "\ud800")
    count = 0
    for name, field in schema["properties"].items():
        for value in [
            *refused(field, root, wrong, is_text=False),
            *(BAD_DATES if '"date' in json.dumps(field) else ()),
        ]:
            body = {**operation.example.body, name: value}
            answer = asker.ask(operation, key, content=json.dumps(body).encode())
            assert is_failure(answer, operation.dialect, 400), (name, value)
            assert message_of(answer.json()).startswith(name), (name, value, answer.text)
            count += 1
        if name in schema.get("required", ()):
            body = {n: v for n, v in operation.example.body.items() if n != name}
            answer = asker.ask(operation, key, content=json.dumps(body).encode())
            assert is_failure(answer, operation.dialect, 400)
            assert message_of(answer.json()).startswith(f"{name}: it is missing")
        twice = json.dumps(operation.example.body).encode()[:-1] + f',"{name}":1,"{name}":1}}'.encode()
        answer = asker.ask(operation, key, content=twice)
        assert is_failure(answer, operation.dialect, 400)
        assert message_of(answer.json()).startswith(f"{name}: it is given more than once")
        count += 1
    assert count
