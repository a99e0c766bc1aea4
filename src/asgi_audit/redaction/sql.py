"""The grammar of SQL statements with named columns: INSERT and COPY."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .lines import line_end
from .names import YES
from .record import CANDIDATE, Record

__all__ = ["column_values"]

_INSERT = re.compile(
    rb"(?i:insert|replace)[ \t\r\n]{1,9}(?i:into)[ \t\r\n]{1,9}[^\s(]{1,100}[ \t\r\n]{0,9}"
    rb"\(([^()]{1,2000})\)[ \t\r\n]{0,9}(?i:(values)|select)[ \t\r\n]{0,9}"
)
_COPY = re.compile(rb"^COPY[ \t]{1,9}[^\s(]{1,100}[ \t]{0,9}\(([^()\n]{1,2000})\)[ \t]{1,9}FROM[^\n]{0,100}\n", re.M)
_TUPLE_VALUE = re.compile(
    rb"[ \t\r\n]{0,40}(?:'([^']*+(?:''[^']*+)*)'(?!')|([^\s,()'][^,()']{0,400}))[ \t\r\n]{0,40}([,)]?)"
)
_TUPLE_NEXT = re.compile(rb"[ \t\r\n]{0,40},?[ \t\r\n]{0,40}\(")
_OPEN = re.compile(rb"[ \t\r\n]{0,40}'")


def column_values(record: Record, text: bytes) -> Iterator[tuple[int, int]]:
    """Spans of the values under the sensitive columns of these statements."""
    if b"into" in text.lower():
        for m in _INSERT.finditer(text):
            record.spend(2)
            yield from _inserted(record, text, m)
    if b"COPY" in text:
        for m in _COPY.finditer(text):
            record.spend(2)
            yield from _copied(record, text, m)


def _columns(record: Record, names: bytes) -> set[int]:
    return {k for k, name in enumerate(names.split(b",")) if record.names.kind(name.strip(b' \t\r\n`"[]')) == YES}


def _inserted(record: Record, text: bytes, m: re.Match[bytes]) -> Iterator[tuple[int, int]]:
    columns = _columns(record, m[1])
    at = m.end()
    while columns:
        if m[2] is not None:
            opened = _TUPLE_NEXT.match(text, at)
            if opened is None:
                return
            at = opened.end()
        record.spend(CANDIDATE)
        begin = at
        column = 0
        while (value := _TUPLE_VALUE.match(text, at)) is not None:
            if column in columns:
                group = 1 if value[1] is not None else 2
                if not record.is_holder_in_prose(value[group].strip()):
                    yield value.span(group)
            column += 1
            at = value.end()
            if value[3] != b",":
                break
        if column in columns and record.cut and (open_value := _OPEN.match(text, at)) is not None:
            yield open_value.end(), len(text)
        if at == begin or m[2] is None:
            return


def _copied(record: Record, text: bytes, m: re.Match[bytes]) -> Iterator[tuple[int, int]]:
    """Lines of values between tabs, to one that holds `\\.`."""
    columns = _columns(record, m[1])
    at = m.end()
    while columns and at < len(text) and not text.startswith(b"\\.", at):
        end = line_end(text, at)
        record.spend(2)
        for column, cell in enumerate(text[at:end].split(b"\t", 500)):
            if column in columns and cell.rstrip(b"\r") not in (b"\\N", b""):
                yield at, at + len(cell)
            at += len(cell) + 1
        at = end + 1
