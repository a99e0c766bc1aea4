"""The grammar of tables in text: CSV with comma, semicolon, tab or bar, Markdown, what `psql` prints.

A table begins with a header: a line of short cells, one of them a sensitive name, which does not follow a line of the
same kind and has a row below it. The cells of the sensitive columns are masked; the rest is unchanged.
"""

from __future__ import annotations

import re

from .alarms import NAME, Alarm, Places
from .forms import made
from .layers import Edit
from .names import YES
from .record import Record

__all__ = ["grid_edits", "labelled_rows"]

_MARKS = (b"\t", b"|", b";", b",")
_HEADER_MAX = 2_000
_HEADERS_MAX = 20
_CELL = re.compile(rb"[\w .()/#*\x80-\xff-]{0,60}")
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
    done = tried = 0
    places = Places([alarm for alarm in alarms if alarm.what == NAME])
    for alarm in places.alarms:
        if alarm.start < done:
            continue
        start = text.rfind(b"\n", done, alarm.start) + 1 or done
        end = text.find(b"\n", alarm.end)
        done = end if end >= 0 else len(text)
        if end < 0 or end - start > _HEADER_MAX or tried >= _HEADERS_MAX:
            if end < 0 or tried >= _HEADERS_MAX:
                break
            continue
        tried += 1
        header = _header(record, text, start, end)
        if header is not None:
            found, done = _rows(record, text, *header, places)
            edits += found
            tables.append((start, done))
    return edits, tables


def labelled_rows(record: Record, text: bytes) -> list[Edit]:
    """Edits of rows such as `password,x` under a header `key,value`."""
    edits: list[Edit] = []
    done = 0
    for number, head in enumerate(_VALUE_CELL.finditer(text)):
        if number >= _HEADERS_MAX:
            break
        start, end, mark = text.rfind(b"\n", 0, head.start()) + 1, text.find(b"\n", head.end()), head[1]
        if start < done or end < 0 or end - start > _HEADER_MAX:
            continue
        done = end
        cells = [cell.strip(b" \t\r\"'*`").lower() for cell in text[start:end].split(mark)]
        label = next((k for k, cell in enumerate(cells) if cell in _LABEL_CELLS), None)
        values = {k for k, cell in enumerate(cells) if cell in _VALUE_CELLS}
        if label is None or not values:
            continue
        at = end + 1
        while at < len(text):
            end = text.find(b"\n", at)
            end = len(text) if end < 0 else end
            if mark not in text[at:end]:
                break
            record.spend(3)
            found = _cells(text, at, mark)
            name = text[slice(*found[label])].strip(b" \t\r\"'*`") if label < len(found) else b""
            if name and record.names.is_field(name):
                for k in values:
                    if k < len(found):
                        edits += _cell(record, text, *found[k])
            at = end + 1
    return edits


def _cells(text: bytes, at: int, mark: bytes) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while len(found) < 100:
        cell = _CELLS[mark].match(text, at)
        assert cell is not None  # it matches nothing
        found.append(cell.span())
        at = cell.end() + 1
        if text[cell.end() : at] != mark:
            break
    return found


def _header(record: Record, text: bytes, start: int, end: int) -> tuple[int, bytes, dict[int, int]] | None:
    """(where the rows begin, mark between cells, places of sensitive columns) of a line that is a header; None."""
    line = text[start:end]
    rows = end + 1
    if (blank := _BLANK_LINE.match(text, rows)) is not None:
        rows = blank.end()
    next_end = text.find(b"\n", rows)
    below = text[rows : next_end if next_end >= 0 else len(text)][:_HEADER_MAX]
    above = text[max(0, start - 200) : max(0, start - 1)].rpartition(b"\n")[2]
    last = record.cut and next_end < 0
    for mark in _MARKS:
        count = line.count(mark)
        if not count or not below.strip():
            continue
        rule = _RULE.fullmatch(below) is not None
        if not rule and not last and below.count(mark) < count - (mark == b"|") and b'"' not in below:
            continue
        cells = [cell.strip(b" \t\r\"'*`") for cell in line.split(mark)]
        if not all(_CELL.fullmatch(cell) for cell in cells) or (cells[1:] == [b""] and b'"' in line):  # `"password",`
            continue
        columns = {k: record.names.kind(cell) for k, cell in enumerate(cells) if cell and record.names.is_field(cell)}
        if list(columns) == [0] and count == 1 and _is_made(cells[1]):  # `password<tab>x`: a column of names
            return None
        if above.count(mark) >= count:  # a row of another table, or a title
            values = below.split(mark)
            if not any(k < len(values) and _is_made(values[k].strip(b" \t\r\"'")) for k in columns):
                continue
        if columns and (rule or last or mark != b"," or below.count(mark) == count or b'"' in below):
            return rows, mark, columns
    return None


def _is_made(cell: bytes) -> bool:
    """Whether a cell is no title and no number: letters with digits, or made by a machine."""
    return made(cell) or (
        len(cell) >= 5 and cell.translate(None, b"0123456789") not in (b"", cell) and b" " not in cell
    )


def _rows(
    record: Record, text: bytes, at: int, mark: bytes, columns: dict[int, int], places: Places
) -> tuple[list[Edit], int]:
    """Edits of the rows from `at` on, to an empty line or one without the mark; and where that is."""
    edits: list[Edit] = []
    cell_of = _CELLS[mark].match
    while at < len(text):
        line_end = text.find(b"\n", at)
        line_end = len(text) if line_end < 0 else line_end
        rule = _RULE.fullmatch(text, at, line_end) is not None
        if not text[at:line_end].strip() or (
            mark not in text[at:line_end] and b'"' not in text[at:line_end] and not rule
        ):
            break
        record.spend(2)
        if rule:
            at = line_end + 1
            continue
        column = 0
        while True:
            cell = cell_of(text, at)
            assert cell is not None  # it matches nothing
            if column in columns and (columns[column] == YES or _is_made(cell[0].strip(b' \t\r"'))):
                edits += _cell(record, text, *cell.span())
            elif places.within(*cell.span()):  # a URL, a document or a note with a pair in it
                base = cell.start()
                inside = record.inner(cell[0], 2, places.of(*cell.span()))
                edits += [(base + start, base + end, plain) for start, end, plain in inside]
            column += 1
            at = cell.end() + 1
            if text[cell.end() : at] != mark:
                break
        if column > 500:
            record.spend(column)
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
