"""Tables in JSON: `{"columns": ["id", "password"], "rows": [[1, "x"]]}`, `[["id", "password"], [1, "x"]]`,
`[["Authorization", "x"]]`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .json_tree import ARRAY, OBJECT, STRING, Node, Reading
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
    for low, item in zip(lows, node.items, strict=True):
        if low == "schema" and item.what == OBJECT and item.items:  # {"schema": {"fields": […]}, …}, of BigQuery
            item = next((part for part in item.items if part.what == ARRAY), item)
        if low in COLUMNS and item.what == ARRAY and reading.alarmed(item):
            found = _sensitive(reading, item, told=True)
            if found:
                return found
    return set()


def _sensitive(reading: Reading, row: Node, *, told: bool = False) -> set[int]:
    """Places of the cells that are the sensitive name of a column."""
    return {at for at, cell in enumerate(row.items) if _names_column(reading, cell, told=told)}


def _names_column(reading: Reading, cell: Node, *, told: bool = True) -> bool:
    """Whether this cell is the sensitive name of a column. told: a list of names, so that one may end in a number."""
    if not reading.alarmed(cell):
        return False
    is_field = reading.names.is_field
    if cell.what == STRING:
        return (is_field if told else reading.names.is_name)(reading.text(cell))
    return cell.what == OBJECT and any(
        reading.text(key) in _NAMES_COLUMN and item.what == STRING and is_field(reading.text(item))
        for key, item in zip(cell.keys, cell.items, strict=True)
    )


def _mask_cells(reading: Reading, row: Node, columns: Iterable[int], path: str) -> None:
    reading.record.spend(1)
    for column in columns:
        if column < len(row.items):
            reading.mask(row.items[column], path)


def mask_rows(reading: Reading, table: Node, columns: set[int], path: str) -> None:
    flat = bool(table.items) and table.items[0].what not in (ARRAY, OBJECT)
    for row in [table] if flat else table.items:
        if row.what == OBJECT and len(row.items) == 1:  # {"f": [{"v": "x"}]}, of BigQuery, {"c": […]}, of Google Charts
            row = row.items[0]
        if row.what == ARRAY:
            _mask_cells(reading, row, columns, path)


def pairs_or_table(reading: Reading, rows: list[Node], path: str) -> None:
    """`[["Authorization", "x"], …]`, and `[["id", "password"], [1, "x"]]` under a header."""
    # Names that end in a number only when no other is there: a value may read so.
    head = _sensitive(reading, rows[0]) or _sensitive(reading, rows[0], told=True)
    pairs = all(len(row.items) == 2 or row.open for row in rows) and head <= {0}
    if pairs and head and len(rows) > 1 and _HEADING.fullmatch(reading.text(rows[0].items[1])):
        pairs = False  # `[["password", "email"], ["x", "y"]]`: both are names, so that this is a header and no pair
    for number, row in enumerate(rows):
        cells = row.items
        masked: Iterable[int] = ()
        if head and not pairs and number:
            masked = head
        elif pairs and len(cells) == 2 and _names_column(reading, cells[0]):
            masked = (1,)
        elif len(cells) == 3 and reading.text(cells[1]).lower() in _OPERATORS and _names_column(reading, cells[0]):
            masked = (2,)
        _mask_cells(reading, row, masked, path)
