"""`docs/formats.md` is true: its examples are valid, and its numbers equal those in the code."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import orjson
from jsonschema import Draft202012Validator

from asgi_audit.record.loss import Loss, decode_loss
from asgi_audit.record.merkle import EMPTY_ROOT, Tree, leaf_hash
from asgi_audit.record.statement import decode_statement
from asgi_audit.record.statement_schema import statement_schema
from asgi_audit.transport.base import Entry, Kind
from asgi_audit.transport.journal.format import encode_entries
from asgi_audit.transport.kafka.forwarder import KIND_HEADER

TEXT = (Path(__file__).parents[3] / "docs" / "formats.md").read_text("utf-8")
STATEMENT, LOSS = re.findall(r"```json\n(.*?)\n```", TEXT, re.DOTALL)


def test_examples_are_valid() -> None:
    assert list(Draft202012Validator(statement_schema()).iter_errors(orjson.loads(STATEMENT))) == []
    said = decode_statement(STATEMENT.encode())
    assert (said.first, said.last, said.count, said.lost[0].first) == (2, 4, 2, 3)
    assert isinstance(decode_loss(LOSS.encode()), Loss)
    assert list(orjson.loads(STATEMENT)) == list(statement_schema()["properties"])


def test_root_of_the_example_is_the_root() -> None:
    tree = Tree()
    for value in (b"one", b"two"):
        tree.append(leaf_hash(value))
    assert f"`{tree.root().hex()}`" in TEXT
    assert f"`{EMPTY_ROOT.hex()[:8]}…`" in TEXT


def test_header_and_entry_are_as_described() -> None:
    assert f"`{KIND_HEADER}`" in TEXT
    numbers = dict(re.findall(r"(\d) (record|statement|loss)\b", TEXT.split("kind: ")[1].splitlines()[0]))
    assert {int(number): name for number, name in numbers.items()} == {
        int(kind): kind.name.lower() for kind in Kind if kind is not Kind.INTENT
    }
    data = encode_entries([Entry(Kind.LOSS, 7, b"payload")])
    head = b"\xff\x04" + (7).to_bytes(8, "little") + (7).to_bytes(4, "little")
    assert data == head + zlib.crc32(head + b"payload").to_bytes(4, "little") + b"payload"
