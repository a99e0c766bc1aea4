"""Tables in JSON: `{"columns": ["id", "password"], "rows": [[1, "x"]]}`, `[["id", "password"], [1, "x"]]`,
`[["Authorization", "x"]]`."""

from __future__ import annotations

import re

from .json_reading import Reading
from .json_tree import ARRAY, OBJECT, STRING, Node
from .tables import words

__all__ = ["COLUMNS", "columns_of", "mask_rows", "pairs_or_table"]

COLUMNS = frozenset(words("columns"))
_NAMES_COLUMN = frozenset((b"name", b"field", b"key", b"label", b"title"))
_OPERATORS = frozenset((b"=", b"==", b"eq", b"!=", b"ne", b"like", b"in", b"is", b"contains", b"~", b"equals"))
_HEADING = re.compile(
    rb"(?i:e?-?mail|user(?:_?name)?|name|id|login|role|city|phone|email_?address|created_?at|[a-z]+_id)"
)


def columns_of(reading: Reading, node: Node, lows: list[str]) -> set[int]:
    """Places of the sensitive columns that a member of this object names."""
    for at, (_, item) in enumerate(node.items):
        if lows[at] == "schema" and item.what == OBJECT and item.items:  # {"schema": {"fields": […]}, …}, of BigQuery
            item = next((part for _, part in item.items if part.what == ARRAY), item)
        if lows[at] in COLUMNS and item.what == ARRAY and reading.alarmed(item):
            found = {k for k, (_, cell) in enumerate(item.items[:500]) if names_column(reading, cell, told=True)}
            if found:
                return found
    return set()


def names_column(reading: Reading, cell: Node, *, told: bool = False) -> bool:
    """Whether this cell is the sensitive name of a column. told: a list of names, so that one may end in a number."""
    if cell.what == STRING:
        names = reading.names
        return reading.alarmed(cell) and (names.is_field if told else names.is_name)(reading.text(cell))
    if cell.what != OBJECT or not reading.alarmed(cell):
        return False
    return any(
        key is not None and item.what == STRING and reading.text(key) in _NAMES_COLUMN
        and reading.names.is_field(reading.text(item))
        for key, item in cell.items
    )  # fmt: skip


def mask_rows(reading: Reading, table: Node, columns: set[int], path: str) -> None:
    flat = bool(table.items) and table.items[0][1].what not in (ARRAY, OBJECT)
    for row in [table] if flat else [item for _, item in table.items]:
        if row.what == OBJECT and len(row.items) == 1:  # {"f": [{"v": "x"}]}, of BigQuery, {"c": […]}, of Google Charts
            row = row.items[0][1]
        if row.what == ARRAY:
            reading.record.spend(1)
            for column in columns:
                if column < len(row.items):
                    reading.mask(row.items[column][1], path)


def pairs_or_table(reading: Reading, rows: list[Node], path: str) -> None:
    """`[["Authorization", "x"], …]`, and `[["id", "password"], [1, "x"]]` under a header."""
    first = rows[0].items
    head = {k for k, (_, cell) in enumerate(first[:500]) if names_column(reading, cell)}
    if not head:  # names that end in a number, unless a value reads so
        head = {k for k, (_, cell) in enumerate(first[:500]) if names_column(reading, cell, told=True)}
    pairs = all(len(row.items) == 2 or row.open for row in rows) and head <= {0}
    if pairs and len(rows) > 1 and head == {0} and _heads(reading, first[1][1]):
        pairs = False
    for number, row in enumerate(rows):
        reading.record.spend(1)
        cells = [cell for _, cell in row.items]
        if head and not pairs and number:
            for column in head:
                if column < len(cells):
                    reading.mask(cells[column], path)
        elif pairs and len(cells) == 2 and names_column(reading, cells[0], told=True):
            reading.mask(cells[1], path)
        elif (
            len(cells) == 3
            and cells[1].what == STRING
            and reading.text(cells[1]).lower() in _OPERATORS
            and names_column(reading, cells[0], told=True)
        ):
            reading.mask(cells[2], path)


def _heads(reading: Reading, cell: Node) -> bool:
    """`[["password", "email"], ["x", "y"]]`: both are names, so that this is a header and no pair."""
    return cell.what == STRING and _HEADING.fullmatch(reading.text(cell)) is not None
