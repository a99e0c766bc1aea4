"""Fields of a record by dotted names (`request.headers.user-agent`), as JSON and as cells of CSV.

Values are sliced from the record's bytes: numbers keep their digits, objects the order of their keys. Names are those
of the record's JSON Schema; below headers, query, bodies and annotations any name may follow.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import msgspec

from ..record.schema import json_schema

__all__ = ["FIELDS_MAX", "Columns", "all_columns", "columns_of", "pattern"]

FIELDS_MAX = 64
_FLAT = ("request.headers", "request.query", "response.headers")  # flat maps: a dot in a name is not a separator
_OPEN = (*_FLAT, "request.body", "response.body", "context.annotations")
# A spreadsheet treats a cell that begins with one of these as a formula (OWASP, CSV Injection), including full-width
# forms.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode


class _Node:
    """`column`: the number of the column for this field, if requested. `below`: requested fields inside it."""

    __slots__ = ("below", "column")

    def __init__(self) -> None:
        self.column: int | None = None
        self.below: dict[str, _Node] = {}


class Columns:
    """`names`: dotted, in the requested order, each once."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._root = _Node()
        for number, name in enumerate(self.names):
            node = self._root
            for part in _path(name):
                node = node.below.setdefault(part, _Node())
            node.column = number

    def as_json(self, record: bytes) -> bytes:
        """The record with only these fields, in the record's order; missing fields are omitted."""
        return _cut(record, self._root)

    def as_csv(self, record: bytes) -> bytes:
        """One line of CSV. Objects and arrays are JSON, null and missing fields are empty, and no cell is a formula."""
        cells = [""] * len(self.names)
        _fill(record, self._root, cells)
        return _line(cells)

    @property
    def header(self) -> bytes:
        """The first line of CSV."""
        return _line(self.names)


def columns_of(text: str) -> Columns:
    """Parses names separated by commas. Raises ValueError with the problem."""
    names = [name.strip() for name in text.split(",")]
    if len(names) > FIELDS_MAX:
        raise ValueError(f"it names more than {FIELDS_MAX} fields")
    for name in names:
        if not _is_known(name):
            raise ValueError(f"a record has no field {name[:60]!r}")
    return Columns(names)


@cache
def all_columns() -> Columns:
    """Every field with a fixed name; headers, bodies and similar maps are one cell each."""
    return Columns(name for name, schema in _known().items() if "properties" not in schema)


@cache
def _known() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}

    def walk(schema: dict[str, Any], before: str) -> None:
        for name, inner in schema.get("properties", {}).items():
            found[before + name] = inner
            walk(inner, f"{before}{name}.")

    walk(json_schema(), "")
    return found


def _is_known(name: str) -> bool:
    return name in _known() or any(name.startswith(f"{base}.") and len(name) > len(base) + 1 for base in _OPEN)


def pattern() -> str:
    """The regular expression of what `columns_of` accepts, for a JSON Schema."""
    known = "|".join(re.escape(name) for name in _known())
    below = "|".join(re.escape(base) for base in _OPEN)
    name = rf"\s*({known}|({below})\.[^,]*[^,\s])\s*"
    return f"^{name}(,{name})*$"


def _path(name: str) -> list[str]:
    for base in _FLAT:
        if name.startswith(f"{base}."):
            return [*base.split("."), name[len(base) + 1 :]]
    return name.split(".")


def _cut(data: bytes | msgspec.Raw, node: _Node) -> bytes:
    pieces = []
    for name, value in _inside(data).items():
        found = node.below.get(name)
        if found is not None:
            inner = bytes(value) if found.column is not None else _cut(value, found)
            if found.column is not None or inner != b"{}":
                pieces.append(msgspec.json.encode(name) + b":" + inner)
    return b"{" + b",".join(pieces) + b"}"


def _fill(data: bytes | msgspec.Raw, node: _Node, cells: list[str]) -> None:
    for name, value in _inside(data).items():
        found = node.below.get(name)
        if found is not None:
            if found.column is not None:
                cells[found.column] = _cell(bytes(value))
            if found.below:
                _fill(value, found, cells)


def _inside(data: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The fields of an object; {} for any other value."""
    try:
        return _parts(data)
    except msgspec.MsgspecError:
        return {}


def _cell(value: bytes) -> str:
    if value == b"null":
        return ""
    if value[:1] == b'"':
        try:
            return _string(value)
        except msgspec.MsgspecError:  # a lone surrogate, which CSV cannot contain
            pass
    return value.decode(errors="replace")


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(
        [f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells]
    )
    return text.getvalue().encode(errors="replace")
