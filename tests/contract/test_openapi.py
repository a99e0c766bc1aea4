"""Goal: `/openapi.json` is valid OpenAPI 3.1 and describes the real responses, for each row of the table.

Method: an independent validator for the document; each row is called with its own example, and failures are caused.
Each response is validated against the schema that the document has for that path, method, status and content type.
`/docs` shows the same on one self-contained page."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.support.api import Api
from tests.support.operations import NOBODY, PATHS, TABLE, Asker, find, name_of

from asgi_audit import __version__
from asgi_audit.api.app import application, operations
from asgi_audit.api.auth import Keys
from asgi_audit.api.docs import DOCS, Documentation
from asgi_audit.api.docs_page import page_of
from asgi_audit.api.failure import STATUSES
from asgi_audit.api.health import Health
from asgi_audit.api.models import alias_of
from asgi_audit.api.operation import Operation
from asgi_audit.api.params import BODY_BYTES_MAX
from asgi_audit.api.request_metrics import RequestMetrics
from asgi_audit.api.responses import failures_of
from asgi_audit.api.routing import names_in
from asgi_audit.errors import QueryError

ROWS = [operation for operation in TABLE if operation.dialect is not DOCS]
DOCUMENT: dict[str, Any] = json.loads(Documentation(TABLE).openapi)
OPERATIONS = [said for item in DOCUMENT["paths"].values() for said in item.values()]
every_row = pytest.mark.parametrize("operation", ROWS, ids=name_of)
every_row_with_key = pytest.mark.parametrize("operation", [o for o in ROWS if o.roles], ids=name_of)
every_path = pytest.mark.parametrize(("operation", "path"), [(o, p) for o, p in PATHS if o in ROWS])


@pytest.fixture
def asker(tmp_path: Path) -> Iterator[Asker]:
    api = Api(tmp_path)
    made = Asker(api)
    made.seed("acme")
    yield made
    api.close()


def shown(operation: Operation, path: str) -> dict[str, Any]:
    """The document's description of a row at one of its paths."""
    for name in names_in(path):
        path = path.replace(f"{{{name}}}", f"{{{alias_of(operation.path_values, name)}}}")
    found: dict[str, Any] = DOCUMENT["paths"][path][operation.method.lower()]
    return found


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def check(schema: dict[str, Any], value: Any) -> None:
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}, format_checker=FormatChecker()).validate(
        value
    )


def is_as_said(answer: httpx.Response, said: dict[str, Any]) -> bool:
    response = said["responses"][str(answer.status_code)]
    content_type = answer.headers["content-type"].partition(";")[0]
    assert content_type in response["content"], answer.text
    schema = response["content"][content_type]["schema"]
    check(schema, answer.json() if content_type.endswith("json") else answer.text)
    for name, header in response.get("headers", {}).items():
        if name not in answer.headers:
            assert not resolved(header).get("required"), name
        else:
            value = answer.headers[name]
            check(resolved(header)["schema"], int(value) if resolved(header)["schema"]["type"] == "integer" else value)
    return True


def test_document_is_valid_openapi() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["version"] == __version__
    assert [str(e) for e in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_validator_finds_a_mistake() -> None:
    """Tests the validator itself."""
    broken = json.loads(json.dumps(DOCUMENT))
    broken["paths"]["/trail"]["post"]["operationId"] = "logs.list"
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


@every_path
def test_each_path_of_a_row_is_described(operation: Operation, path: str) -> None:
    said = shown(operation, path)
    assert said["operationId"].removesuffix(".root") == operation.id
    assert said["summary"], f"{operation.id} lacks a summary: see Operation"
    assert operation.dialect.about, f"{operation.dialect.name} lacks a sentence about it: see Dialect"
    assert bool(said["security"]) == bool(operation.roles)
    named = {p["name"] for p in said.get("parameters", ()) if p["in"] == "path"}
    assert named == {alias_of(operation.path_values, name) for name in names_in(path)}
    for parameter in said.get("parameters", ()):
        assert parameter["in"] == "path" or "null" not in json.dumps(parameter["schema"])
        if "example" in parameter:
            check(parameter["schema"], parameter["example"])
    if operation.request is not None:
        content = said["requestBody"]["content"]["application/json"]
        check(content["schema"], content["example"])
        is_closed = operation.request.model_config["extra"] == "forbid"
        assert (resolved(content["schema"]).get("additionalProperties") is False) == is_closed
    for response in said["responses"].values():
        for content in response["content"].values():
            if "example" in content:
                check(content["schema"], content["example"])


def test_operation_ids_are_unique() -> None:
    ids = [said["operationId"] for said in OPERATIONS]
    assert len(ids) == len(set(ids)) == len([path for o, path in PATHS if o in ROWS])


@every_row_with_key
def test_answer_of_a_row_is_shown(operation: Operation) -> None:
    assert operation.example.answer is not None, f"{operation.id} lacks an example of its answer"
    assert operation.answer is not None
    operation.answer.model_validate_json(json.dumps(operation.example.answer))


@every_path
def test_answer_is_as_the_document_says(asker: Asker, operation: Operation, path: str) -> None:
    key = asker.key(operation, ["acme"])
    answer = asker.ask(operation, key, path=path, values=asker.followed(operation, key))
    assert answer.status_code == 200
    assert is_as_said(answer, shown(operation, path))


@every_row_with_key
def test_refusal_is_as_the_document_says(asker: Asker, operation: Operation) -> None:
    key, said = asker.key(operation, ["acme"]), shown(operation, operation.path)
    answers = [
        asker.ask(operation, None, values={}),
        asker.ask(operation, key, query={"nonsense": "1"}),
        asker.ask(operation, key, values={"execution": "x"}),
    ]
    if operation.request is not None:
        answers.append(asker.ask(operation, key, content=b"{" + b" " * BODY_BYTES_MAX))
        answers.append(asker.ask(operation, key, content=b"{"))
    for answer in answers:
        assert is_as_said(answer, said)


@every_row
def test_every_failure_of_a_row_is_as_the_document_says(asker: Asker, operation: Operation) -> None:
    """Each failure is raised in place of the row's handler."""
    key, said = asker.key(operation, "*"), shown(operation, operation.path)
    errors: list[Exception] = [QueryError(f"it is {kind}", kind=kind) for kind in STATUSES]
    for error in (*errors, RuntimeError("x")):
        status = STATUSES[error.kind] if isinstance(error, QueryError) else 500
        if status not in failures_of(operation) or status in operation.failures:
            continue

        async def failing(*_: Any, error: Exception = error) -> NoReturn:
            raise error

        row = dataclasses.replace(operation, handle=failing)
        failed = Asker(asker.api, application([row], Keys(asker.api.control), RequestMetrics(dict)))
        answer = failed.ask(row, key, values={})
        assert is_as_said(answer, said)


def test_every_parameter_field_and_header_has_a_description() -> None:
    """A name alone tells a client neither unit nor default."""
    bare = [
        f"{operation['operationId']}: {parameter['name']}"
        for item in DOCUMENT["paths"].values()
        for operation in item.values()
        for parameter in operation.get("parameters", ())
        if not parameter.get("description")
    ]
    components = DOCUMENT["components"]
    for name, schema in components["schemas"].items():
        for field, node in schema.get("properties", {}).items():
            if not (node.get("description") or resolved(node).get("description")):
                bare.append(f"{name}.{field}")
    bare += [name for name, header in components["headers"].items() if not header.get("description")]
    assert bare == []


@every_row
def test_links_lead_from_an_answer_to_what_goes_on_with_it(operation: Operation) -> None:
    if operation.link is None or not operation.link.path_fields:  # a URL leads there by itself
        return
    [before] = [o for o in ROWS if o.id == operation.link.operation]
    for path in (before.path, *before.literal_roots):
        said = shown(before, path)
        link = said["responses"]["200"]["links"][operation.id]
        [target] = [
            s for item in DOCUMENT["paths"].values() for s in item.values() if s["operationId"] == link["operationId"]
        ]
        assert target["operationId"].endswith(".root") == said["operationId"].endswith(".root")
        named = {p["name"] for p in target["parameters"] if p["in"] == "path"}
        assert set(link["parameters"]) == named
        keys = "a key for the same accounts" if operation.link.is_sealed else "every key that may read the record"
        assert link["description"] == f"Works with {keys}."
        for name, field in operation.link.path_fields.items():
            value: Any = before.example.answer
            pointer = link["parameters"][alias_of(operation.path_values, name)].removeprefix("$response.body#/")
            for step in pointer.split("/"):
                value = value[int(step)] if isinstance(value, list) else value[step]
            assert value == find(before.example.answer, field)


def test_document_describes_what_is_served(asker: Asker) -> None:
    app = application(TABLE, Keys(asker.api.control), RequestMetrics(dict), ["usage"])
    one = Asker(asker.api, app)
    document = one.send("GET", "/openapi.json").json()
    assert {tag["name"] for tag in document["tags"]} == {"usage", "health", "metrics"}
    assert "/usage/{service}/{instanceResourceId}" in document["paths"]
    assert "/trail" not in document["paths"]
    whole = asker.send("GET", "/openapi.json")
    rows = operations(NOBODY, asker.api.exports, Health(NOBODY, NOBODY), RequestMetrics(dict))
    assert whole.json() == json.loads(Documentation(rows).openapi)
    assert whole.headers["content-type"] == "application/json"


def test_region_groups_of_the_settings_are_in_the_document(asker: Asker) -> None:
    groups = ["classic", "eu-std", "us-std"]
    document = asker.send("GET", "/openapi.json").json()
    [parameter] = [p for p in document["paths"]["/api/v1/logs"]["post"]["parameters"] if p["name"] == "regionGroup"]
    fields = document["components"]["schemas"]["exports.Ask"]["properties"]
    assert parameter["schema"]["enum"] == fields["region_group"]["anyOf"][0]["enum"] == groups
    pattern = fields["database"]["anyOf"][0]["pattern"]
    for database, is_one in (
        ("us-std/acme", True),
        ("us-std/a%2Fb/c/d", True),
        ("mars/acme", False),
        ("us-std", False),
    ):
        assert bool(re.search(pattern, database)) == is_one


# -- the page


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src", "action"):
                self.targets.append(value or "")
            if name == "id":
                self.ids.add(value or "")


def test_page_shows_each_operation_and_loads_nothing(asker: Asker) -> None:
    answer = asker.send("GET", "/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Links()
    page.feed(answer.text)
    assert not {"script", "link", "img", "iframe", "form", "base"} & page.tags
    for target in page.targets:
        assert target.startswith("#")
        assert target[1:] in page.ids
    assert {operation.id for operation in ROWS} <= page.ids
    for path in DOCUMENT["paths"]:
        assert path in answer.text
    for schema in DOCUMENT["components"]["schemas"].values():
        for name in schema.get("properties", {}):
            assert name in answer.text
    policy = answer.headers["content-security-policy"]
    [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in policy
    assert " style=" not in answer.text


def test_page_escapes_all_that_it_shows() -> None:
    """Descriptions are our own text; escaping everything needs no exceptions."""
    evil = "<script>alert(1)</script>\"'&"
    kept = ("$ref", "operationId", "tags", "name", "in", "type")

    def poisoned(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: value if key in kept else poisoned(value) for key, value in node.items()}
        if isinstance(node, list):
            return [poisoned(n) for n in node]
        return node + evil if isinstance(node, str) else node

    document = poisoned(DOCUMENT)
    document["tags"], names = poisoned(DOCUMENT["tags"]), [tag["name"] for tag in DOCUMENT["tags"]]
    assert [tag["name"] for tag in document["tags"]] == names
    text = page_of(document)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
