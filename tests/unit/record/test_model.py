"""`AuditRecord` is the schema of `asgi-audit schema`, and reads real messages of a topic or journal."""

from __future__ import annotations

import asyncio
import copy
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from tests.support.exchanges import make_builder, make_exchange

from asgi_audit import AuditMiddleware, AuditRecord
from asgi_audit.record.model import _OTHERS
from asgi_audit.record.schema import json_schema
from asgi_audit.settings import make_settings
from asgi_audit.transport.base import Kind
from asgi_audit.transport.kafka.partition import kind_of
from asgi_audit.wiring.operations import follow_journal

CORPUS = (Path(__file__).parents[2] / "corpus" / "records-1.0.ndjson").read_bytes().splitlines()
README = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
VALIDATOR = Draft202012Validator(json_schema())
RECORD: dict[str, Any] = orjson.loads(
    make_builder().build(
        make_exchange("POST", body=b"{}", annotations={"a": 1}, org_id="o", error_type="E", level="WARN", message="m")
    )
)


def plain(node: Any, defs: dict[str, Any]) -> Any:
    """The schema with references replaced, and without parts that add nothing: titles, equivalent alternatives."""
    if isinstance(node, list):
        return [plain(n, defs) for n in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return plain({**defs[node["$ref"].rpartition("/")[2]], **{k: v for k, v in node.items() if k != "$ref"}}, defs)
    found = {
        key: {name: plain(child, defs) for name, child in value.items()} if key == "properties" else plain(value, defs)
        for key, value in node.items()
        if key not in ("$defs", "$schema", "$id", "title", "default")
    }
    if len(choice := found.get("allOf", [])) == 1:  # pydantic before 2.10 adds keywords so
        found = {**choice[0], **{key: value for key, value in found.items() if key != "allOf"}}
    if "enum" in found:
        found.pop("type", None)
    if found.get("additionalProperties") is True:
        del found["additionalProperties"]
    if found.get("required") == []:
        del found["required"]
    if "exclusiveMaximum" in found:
        found["maximum"] = found.pop("exclusiveMaximum") - 1
    return found


def test_model_and_schema_are_one() -> None:
    model, schema = AuditRecord.model_json_schema(), json_schema()
    assert plain(model, model["$defs"]) == plain(schema, schema["$defs"])


def is_valid(record: Any) -> bool:
    """Both must give the same verdict."""
    try:
        AuditRecord.from_message(json.dumps(record).encode())
        taken = True
    except ValidationError:
        taken = False
    assert taken == VALIDATOR.is_valid(record)
    return taken


@pytest.mark.parametrize("line", CORPUS)
def test_record_of_the_corpus_is_taken_and_given_back(line: bytes) -> None:
    if not is_valid(json.loads(line)):
        assert b'"level": "LOUD"' in line or b"foreign" in line
        return
    record = AuditRecord.from_message(line)
    assert record is not None
    assert json.loads(record.model_dump_json(by_alias=True, exclude_unset=True)) == json.loads(line)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(node, dict):
        for name, child in node.items():
            found += places(child, (*path, name))
    return found


PLACES = [place for place in places(RECORD) if place]
ODD = st.sampled_from(
    [None, True, 0, -1, 1, 99, 1000, 1 << 63, "", "x", "global", "0" * 16, "0" * 32, "1.9", "2.0", [], ["a"],
     ["a", "b"], ["a", 1], {}, {"a": "b"}, {"type": "E"}, {"bytes": 1, "captured": "full"}, 1.5,
     {"bytes": 1, "captured": "odd"}]
)  # fmt: skip


@given(st.sampled_from(PLACES), st.sampled_from(["set", "remove", "add"]), ODD)
def test_model_and_schema_give_the_same_verdict_when_a_record_is_changed(
    place: tuple[Any, ...], how: str, value: Any
) -> None:
    record = copy.deepcopy(RECORD)
    node = record
    for name in place[:-1]:
        node = node[name]
    if how == "remove":
        del node[place[-1]]
    else:
        node[place[-1] + ("More" if how == "add" else "")] = value
    is_valid(record)


def test_attributes_are_spelled_as_in_python() -> None:
    record = AuditRecord.from_message(orjson.dumps(RECORD))
    assert record is not None
    assert record.metadata.request_id == RECORD["metadata"]["requestId"]
    assert record.response.status_code == RECORD["response"]["statusCode"]
    assert record.context.capture is not None
    assert record.context.capture.sequence == RECORD["context"]["capture"]["sequence"]
    assert record.context.annotations == {"a": 1}
    assert (record.context.trace_id, record.context.level) == (None, "WARN")
    assert AuditRecord.from_message(orjson.dumps({k: v for k, v in RECORD.items() if k != "context"})) is not None


def test_what_is_no_record_is_none_and_what_should_be_one_is_refused() -> None:
    for head in _OTHERS:
        assert kind_of(head) is not Kind.RECORD
        assert AuditRecord.from_message(head + b'"1.0"}') is None
    assert AuditRecord.from_message(None) is None
    for wrong in (b"", b"{", b"[]", b"null", b"{}", b"\xff", b"[" * 100_000):
        with pytest.raises(ValueError, match="AuditRecord"):
            AuditRecord.from_message(wrong)


@pytest.mark.parametrize(
    "body",
    [b"12345678901234567890123", b"1.50", b'"\\ud800"', b"[" * 300 + b"]" * 300, b'"\\u0000"', b'{"a":{"b":null}}'],
)
def test_body_is_what_the_record_holds(body: bytes) -> None:
    data = orjson.dumps(RECORD).replace(b'"body":{}', b'"body":' + body, 1)
    record = AuditRecord.from_message(data)
    assert record is not None
    assert record.request.body == json.loads(body)


def test_all_that_stands_in_a_journal_is_taken_or_known_to_be_no_record(tmp_path: Path) -> None:
    """The bytes that an application writes to disk, which go to the topic, with each state that a body can have."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/raises":
            raise KeyError("x")
        headers = [(b"content-type", b"application/json"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"deep":' + b"[" * 150 + b"]" * 150 + b"}"})

    bodies = [b"", b'{"n":12345678901234567890123,"password":"p"}', b"a=1&a=2", b"\xff\xfe", b"x" * 100_000]

    async def ask(audited: Any) -> None:
        transport = httpx.ASGITransport(app=audited, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://app.example:81") as client:
            for content in bodies:
                for path in ("/p?q=1&q=2&x=%F0%9F%98%80", "/raises"):
                    await client.post(path, content=content, headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})

    audited = AuditMiddleware(app, home=tmp_path, account_id="acme")
    asyncio.run(ask(audited))
    audited.recorder.flush(30)
    kinds: Counter[str] = Counter()
    for message in follow_journal(make_settings({}, home=tmp_path), from_beginning=True, stop=lambda: True):
        record = AuditRecord.from_message(message.payload)
        kinds["record" if record else "other"] += 1
        assert (record is not None) == (message.kind is Kind.RECORD)
        if record is not None:
            assert json.loads(record.model_dump_json(by_alias=True, exclude_unset=True)) == json.loads(message.payload)
            assert record.account_id == "acme"
            assert record.context.capture is not None
    assert kinds["record"] == 2 * len(bodies)
    assert kinds["other"] >= 1  # statements


def test_without_pydantic_the_extra_is_named() -> None:
    code = "import sys; sys.modules['pydantic'] = None\nfrom asgi_audit import AuditRecord"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "asgi_audit.AuditRecord needs pydantic: pip install 'asgi-audit[models]'" in done.stderr


def test_consumer_of_the_readme_is_right() -> None:
    shown = README[README.index("from asgi_audit import AuditRecord") :].partition("```")[0]
    printed: list[object] = []
    message = SimpleNamespace(value=orjson.dumps(RECORD))

    async def consumer() -> AsyncIterator[SimpleNamespace]:
        yield message
        yield SimpleNamespace(value=b'{"statement":"1.0"}')

    scope: dict[str, Any] = {"print": lambda *words: printed.append(words)}
    exec("from __future__ import annotations\nfrom typing import Any\n" + shown, scope)
    asyncio.run(scope["show"](consumer()))
    assert len(printed) == 1
