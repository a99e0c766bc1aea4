"""The grammar of tables in text: CSV with comma, semicolon, tab or bar, Markdown, what `psql` prints.

A table begins with a header: a line of short cells, one of them a sensitive name, which does not follow a line of the
same kind and has a row below it. The cells of the sensitive columns are masked; the rest is unchanged.
"""

from __future__ import annotations

import re

from .alarms import NAME, Alarm, Places
from .forms import made
from .layers import Edit, placed
from .lines import line_end
from .names import YES
from .record import Record

__all__ = ["grid_edits"]

_MARKS = (b"\t", b"|", b";", b",")
_HEADER_MAX = 2_000
_CELL = re.compile(rb"[\w .()/#*\x80-\xff-]{0,60}")
_TITLES = re.compile(rb"(?:[\w .()/#*\x80-\xff\"'`\r-]{0,80}[\t|;,])+[\w .()/#*\x80-\xff\"'`\r-]{0,80}")  # of any mark
_BLANK_LINE = re.compile(rb"(?:[ \t]{0,20}\r?\n){1,2}")
_RULE = re.compile(rb"[\s|:+=-]+")
_LABEL_CELLS = frozenset(b"key name field setting variable option parameter property column attribute param".split())
_VALUE_CELLS = frozenset(b"value val content data wert valeur valor".split())
# The cell `value` of a header such as `key,value`: begun with a mark, because a search for the words takes ten times as
# long.
_VALUE_CELL = re.compile(rb"([,;|\t])[ \"'*`]{0,9}(?:value|val|content|data|wert|valeur|valor)\b", re.I)
_CELLS = {
    mark: re.compile(rb'[ \t]{0,20}"[^"]*+(?:""[^"]*+)*"(?!")[^\n%b]*+|[^\n%b]*+'.replace(b"%b", re.escape(mark)), re.S)
    for mark in _MARKS
}
_CELLS[b"\t"] = re.compile(rb'"[^"\t]*+(?:""[^"\t]*+)*"(?!")[^\n\t]*+|[^\n\t]*+', re.S)


def grid_edits(record: Record, text: bytes, alarms: list[Alarm]) -> tuple[list[Edit], list[tuple[int, int]]]:
    """Edits of the cells under sensitive columns, and the spans of the tables they stand in."""
    edits: list[Edit] = []
    tables: list[tuple[int, int]] = []
    done = 0
    places = Places([alarm for alarm in alarms if alarm.what == NAME])
    for alarm in places.alarms:
        if alarm.start < done:
            continue
        start = text.rfind(b"\n", done, alarm.start) + 1 or done
        done = line_end(text, alarm.end)
        if done == len(text):
            break
        if done - start > _HEADER_MAX or _TITLES.fullmatch(text, start, done) is None:
            continue
        record.spend(3)
        header = _header(record, text, start, done)
        if header is not None:
            found, done = _rows(record, text, *header, places)
            edits += found
            tables.append((start, done))
    done = 0
    for head in _VALUE_CELL.finditer(text):  # rows such as `password,x` under `key,value`
        start, end, mark = text.rfind(b"\n", 0, head.start()) + 1, line_end(text, head.end()), head[1]
        if start < done or end - start > _HEADER_MAX:
            continue
        done = end
        record.spend(3)
        cells = [cell.strip(b" \t\r\"'*`").lower() for cell in text[start:end].split(mark)]
        label = next((k for k, cell in enumerate(cells) if cell in _LABEL_CELLS), None)
        if label is not None:
            values = {k: YES for k, cell in enumerate(cells) if cell in _VALUE_CELLS}
            edits += _rows(record, text, end + 1, mark, values, Places([]), label)[0]
    return edits, tables


def _header(record: Record, text: bytes, start: int, end: int) -> tuple[int, bytes, dict[int, int]] | None:
    """(where the rows begin, mark between cells, places of sensitive columns) of a line that is a header; None."""
    line = text[start:end]
    rows = end + 1
    if (blank := _BLANK_LINE.match(text, rows)) is not None:
        rows = blank.end()
    next_end = line_end(text, rows)
    below = text[rows:next_end][:_HEADER_MAX]
    above = text[max(0, start - 200) : max(0, start - 1)].rpartition(b"\n")[2]
    last = record.cut and next_end == len(text)
    for mark in _MARKS:
        count = line.count(mark)
        if not count or not below.strip():
            continue
        rule = _RULE.fullmatch(below) is not None
        like = below.count(mark) == count if mark == b"," else below.count(mark) >= count - (mark == b"|")
        if not (like or rule or last or b'"' in below):
            continue
        cells = [cell.strip(b" \t\r\"'*`") for cell in line.split(mark)]
        if not all(_CELL.fullmatch(cell) for cell in cells) or (
            cells[1:] == [b""] and line.strip().endswith(b'",')
        ):  # `"password",`
            continue
        columns = {k: record.names.kind(cell) for k, cell in enumerate(cells) if cell and record.names.is_field(cell)}
        if list(columns) == [0] and count == 1 and _is_made(cells[1]):  # `password<tab>x`: a column of names
            return None
        if above.count(mark) >= count:  # a row of another table, or a title
            values = below.split(mark)
            if not any(k < len(values) and _is_made(values[k].strip(b" \t\r\"'")) for k in columns):
                continue
        if columns:
            return rows, mark, columns
    return None


def _is_made(cell: bytes) -> bool:
    """Whether a cell is no title and no number: letters with digits, or made by a machine."""
    return made(cell) or (
        len(cell) >= 5 and cell.translate(None, b"0123456789") not in (b"", cell) and b" " not in cell
    )


def _rows(
    record: Record, text: bytes, at: int, mark: bytes, columns: dict[int, int], places: Places, label: int | None = None
) -> tuple[list[Edit], int]:
    """Edits of the rows from `at` on, to an empty line or one without the mark; and where that is. label: the column
    whose cell must be a sensitive name."""
    edits: list[Edit] = []
    cell_of = _CELLS[mark].match
    while at < len(text):
        end = line_end(text, at)
        rule = _RULE.fullmatch(text, at, end) is not None
        if not (rule or mark in text[at:end] or b'"' in text[at:end]) or not text[at:end].strip():
            break
        record.spend(2)
        if rule:
            at = end + 1
            continue
        cells: list[tuple[int, int]] = []
        while True:
            cell = cell_of(text, at)
            assert cell is not None  # it matches nothing
            cells.append(cell.span())
            at = cell.end() + 1
            if text[cell.end() : at] != mark:
                break
            if len(cells) & 255 == 0:  # as they come: a row of 30,000 would be paid for when it is too late
                record.spend(256)
        named = label is None or (
            label < len(cells) and record.names.is_field(text[slice(*cells[label])].strip(b" \t\r\"'*`"))
        )
        for column, (start, end) in enumerate(cells):
            value = text[start:end]
            if column in columns and named and (columns[column] == YES or _is_made(value.strip(b' \t\r"'))):
                edits += _cell(record, text, start, end)
            elif places.within(start, end):  # a URL, a document or a note with a pair in it
                edits += placed(record.inner(value, 2, places.of(start, end)), start)
    return edits, at


def _cell(record: Record, text: bytes, start: int, end: int) -> list[Edit]:
    value = text[start:end]
    plain = value.strip(b" \t\r")
    if plain[:1] == b'"' == plain[-1:] and len(plain) > 1:
        plain = plain[1:-1]
    if not plain:
        return []
    begin = start + value.find(plain)
    return [record.mask(begin, begin + len(plain), plain.replace(b'""', b'"'))]
