"""The schema itself: valid, complete, closed except for `context`."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator
from tests.support.exchanges import make_builder, make_exchange

from asgi_audit.record.schema import CAPTURED, OUTCOMES, json_schema

RECORD = orjson.loads(
    make_builder().build(
        make_exchange("POST", body=b"{}", annotations={"a": 1}, org_id="o", error_type="E", level="WARN", message="m")
    )
)


def problems(record: Any) -> list[str]:
    return [e.json_path for e in Draft202012Validator(json_schema()).iter_errors(record)]


def test_schema_is_valid_and_every_property_is_described() -> None:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"

    def walk(node: dict[str, Any], path: str) -> None:
        for name, child in node.get("properties", {}).items():
            assert child.get("description"), f"{path}.{name}"
            walk(child, f"{path}.{name}")

    walk(schema, "")
    schema["properties"].clear()
    assert json_schema()["properties"]


def test_record_of_ours_is_valid_with_and_without_context() -> None:
    assert problems(RECORD) == []
    assert problems({k: v for k, v in RECORD.items() if k != "context"}) == []


@pytest.mark.parametrize("name", [n for n in RECORD if n != "context"])
def test_field_is_required_at_the_top(name: str) -> None:
    assert problems({k: v for k, v in RECORD.items() if k != name})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("extra",), 1), (("metadata", "extra"), 1), (("request", "extra"), 1), (("response", "extra"), 1),
        (("metadata", "region"), "mars"), (("metadata", "version"), "2.0"), (("response", "statusCode"), 99),
        (("request", "headers", "x"), 5), (("request", "headers", "x"), ["one"]), (("request", "query", "x"), [1, 2]),
        (("timestamp",), "now"), (("timestamp",), -1), (("context", "outcome"), "odd"), (("context", "level"), "LOUD"),
        (("context", "requestBody", "captured"), "odd"), (("context", "capture", "sequence"), 0),
        (("context", "redacted"), ["x"] * 65), (("context", "traceId"), "x"),
    ],
)  # fmt: skip
def test_wrong_value_is_refused(path: tuple[str, ...], value: Any) -> None:
    record = copy.deepcopy(RECORD)
    node = record
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    assert problems(record)


@pytest.mark.parametrize(
    "path", [("context",), ("context", "capture"), ("context", "error"), ("context", "requestBody")]
)
def test_unknown_key_of_the_context_is_accepted(path: tuple[str, ...]) -> None:
    record = copy.deepcopy(RECORD)
    node = record
    for name in path:
        node = node[name]
    node["somethingNew"] = {"a": [1]}
    assert problems(record) == []


def test_words_of_the_contract_are_in_the_schema() -> None:
    context = json_schema()["properties"]["context"]["properties"]
    assert context["outcome"]["enum"] == list(OUTCOMES)
    assert context["requestBody"]["properties"]["captured"]["enum"] == list(CAPTURED)
