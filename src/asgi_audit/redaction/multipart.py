"""The fields of multipart/form-data: in a body that is omitted, and in text that contains such a body."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from .alarms import NAME, Alarm
from .layers import Edit, placed
from .names import NO
from .record import Record, TooCostly

__all__ = ["hide_fields", "part_edits"]

_BOUNDARY = re.compile(rb'boundary="?([^";\s]{1,200})', re.I)
_BEGUN = re.compile(rb"--([^\r\n]{1,200})")
_NAME = re.compile(rb"[; ]name=(?:\"([^\"]*)|([^;]*))")
_HEADERS_MAX = 1_500
_PARTS_MAX = 200
_FIELD_MAX = 20_000


def hide_fields(record: Record, data: bytes, content_type: bytes) -> None:
    """A multipart body is left out; the secrets in its fields are searched for in the record."""
    boundary = _BOUNDARY.search(content_type) or _BEGUN.match(data)
    if boundary is None:
        return
    for number, (name, is_file, start, end) in enumerate(_fields(record, data, b"\n--" + boundary[1])):
        if number >= _PARTS_MAX:
            break
        if not is_file:
            record.value(data[start : min(end, start + _FIELD_MAX)], record.names.kind(name), 0)


def part_edits(record: Record, text: bytes, alarms: list[Alarm], depth: int) -> list[Edit]:
    """Edits of the sensitive fields of such a body that no label tells."""
    edits: list[Edit] = []
    if text.find(b"form-data") < 0 or not any(alarm.what == NAME for alarm in alarms):
        return edits
    for number, (name, _, start, end) in enumerate(_fields(record, text, b"\n--")):
        if number > _PARTS_MAX:
            raise TooCostly
        record.spend(4)
        kind = record.names.kind(name)
        if kind != NO:
            edits += placed(record.value(text[start:end], kind, depth), start)
    return edits


def _fields(record: Record, text: bytes, mark: bytes) -> Iterator[tuple[bytes, bool, int, int]]:
    """(name, whether it is a file, start and end of the value) of each part with `Content-Disposition: form-data;
    name="x"`. mark: what a part ends with."""
    at = text.find(b"form-data;")
    while at >= 0:
        record.spend(2)  # also of one that no empty line follows
        begun = text.find(b"\n", at, at + 300)
        begun = begun if begun >= 0 else min(len(text), at + 300)
        blank = text.find(b"\n\r\n", begun, begun + _HEADERS_MAX)
        lone = text.find(b"\n\n", begun, blank + 1 if blank >= 0 else begun + _HEADERS_MAX)
        start = lone + 2 if lone >= 0 else blank + 3
        if start >= 3:
            line = text[at:begun]
            told = _NAME.search(line)
            name = (told[1] if told[2] is None else told[2].strip()) if told is not None else b""
            name = unquote_to_bytes(name) if 37 in name else name
            end = text.find(mark, start - 1)
            begun = end if end >= 0 else len(text)
            yield name, b"filename" in line.lower(), start, start + len(text[start:begun].rstrip(b"\r\n"))
        at = text.find(b"form-data;", begun)
