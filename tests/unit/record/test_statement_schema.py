"""The schema of a statement: valid, every property described, correct for real statements and for refused ones."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from asgi_audit.cli import main
from asgi_audit.errors import RecordError
from asgi_audit.record.line import TIME_END
from asgi_audit.record.statement import Lost, OpenOf, Statement, decode_statement, encode_statement
from asgi_audit.record.statement_schema import statement_schema
from asgi_audit.recording.ledger import Ledger, Tally

SAID = Statement(
    process="p", number=2, at=5, first=1, last=3, count=1, lost=[Lost(2, 3, "queue")], watermark=5,
    open_count=4, open_long=3, open_accounts=[OpenOf("a", 1)], open_oldest=1, open_long_newest=2,
    root="0" * 64, previous="f" * 64, policy="0" * 16,
)  # fmt: skip


def problems(said: Any) -> list[str]:
    return [e.json_path for e in Draft202012Validator(statement_schema()).iter_errors(said)]


def test_schema_is_valid_and_every_property_is_described() -> None:
    schema = statement_schema()
    Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]) == list(orjson.loads(encode_statement(SAID)))
    assert all(one["description"] for one in schema["properties"].values())


def test_command_prints_the_schema_that_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--statement"]) == 0
    assert orjson.loads(capsys.readouterr().out) == statement_schema()
    assert main(["schema"]) == 0
    assert orjson.loads(capsys.readouterr().out)["title"] == "Audit record"


def test_statement_of_a_ledger_is_valid() -> None:
    ledger = Ledger(process="p", host="h", service="s", started=0)
    for n in range(1, 4000, 2):  # enough ranges to need several statements
        ledger.losses.add(n, n, "queue")
    made = ledger.make(Tally(9, 1, 3, 3, 4000, 0, 0, 0, open_of={"acme": 1}), "final")
    assert len(made) > 1
    for said in made:
        assert problems(orjson.loads(encode_statement(said))) == []


def test_statement_with_every_field_is_valid_and_an_unknown_key_too() -> None:
    wire = orjson.loads(encode_statement(SAID))
    assert problems(wire) == []
    assert problems(wire | {"later": [1]}) == []
    del wire["open_accounts"]  # as version 0.1.0 wrote it
    assert problems(wire) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("statement", "2.0"), ("number", 0), ("first", 0), ("last", -1), ("last", 1 << 40), ("at", TIME_END),
        ("count", "1"), ("lost", [[1, 2]]), ("lost", [[0, 1, "queue"]]), ("lost", [[1, 2, 3]]),
        ("open_accounts", [["a", 0]]), ("closed", "maybe"), ("watermark", -1), ("proven", 1),
    ],
)  # fmt: skip
def test_wrong_value_is_refused_by_the_schema_and_by_the_index(name: str, value: Any) -> None:
    wire = orjson.loads(encode_statement(SAID)) | {name: value}
    assert problems(wire)
    with pytest.raises(RecordError):
        decode_statement(orjson.dumps(wire))


@pytest.mark.parametrize("name", ["root", "previous"])
def test_digest_that_is_none_is_refused(name: str) -> None:
    wire = orjson.loads(encode_statement(SAID))
    assert problems(wire | {name: None}) == []
    assert problems(wire | {name: "x"})
