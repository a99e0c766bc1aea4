"""Text in which names and values stand in places, not beside each other: tables with a header line (CSV and its kin),
and lists whose item is a name and whose next is its value (YAML).

What else such text holds is left to redaction_text. Linear; a table of more than `FIELDS_MAX` fields is given up.
"""

from __future__ import annotations

import re
from itertools import islice

from .names import REDACTED, Names
from .redaction_labels import names_field
from .reflection import hidden_word

__all__ = ["FIELDS_MAX", "TooWide", "mask_list_items", "mask_table"]

FIELDS_MAX = 8_000  # 1 µs each
_HEADER_LINES = 10  # a table may begin after a title
_ITEMS_MAX = 300
_MASK = REDACTED.encode()
_FIELDS = {
    mark: re.compile(rb'("[^"]*+(?:""[^"]*+)*"(?!")[^%b\r\n]*+|[^%b\r\n]*+)(%b|\r?\n|\r|\Z)' % ((re.escape(mark),) * 3))
    for mark in (b",", b";", b"\t", b"|")
}
_NAME = re.compile(rb"[^:=<>{}()\[\]]{1,60}")
_ITEM = re.compile(
    rb"^([ \t]*+(?:- (?=- ))*)- [ \t]*+[\"']?([A-Za-z][\w .-]{1,60}?)[\"']?[ \t]*+\r?\n"
    rb"(?=[ \t]*+- [ \t]*+([^\r\n]++)(\r?\n[ \t]*+- )?)",
    re.M,
)
_WORD = re.compile(rb"[A-Za-z][A-Za-z_. -]*[0-9]?")


class TooWide(Exception):
    """More fields than may be walked in the recorder's slice."""


def mask_table(text: bytes, names: Names, redacted: list[str]) -> bytes:
    """The text with the sensitive columns of its table masked; the very same object when it is none, or has none."""
    at = 0
    for _ in range(_HEADER_LINES):
        end = text.find(b"\n", at)
        if end < 0:
            break
        line = text[at:end].strip(b"\r")
        for mark, field in _FIELDS.items():
            if mark in line and len(line) <= 4_096 and text.find(mark, end) >= 0:
                columns, count = _columns(line, field, names)
                if columns:
                    rows = _masked(text, end + 1, field, columns, count, redacted)
                    if rows is not None:
                        return text[: end + 1] + rows
        at = end + 1
    return text


def _columns(line: bytes, field: re.Pattern[bytes], names: Names) -> tuple[set[int], int]:
    """Places of the sensitive names in a header line, and how many names it has; none when it is no such line."""
    found: set[int] = set()
    count = 0
    for m in field.finditer(line):
        name = m[1].strip(b" \t\"'")
        if not name and line.startswith(b"|"):
            pass  # Markdown has marks at both ends
        elif not _NAME.fullmatch(name) or name.count(b" ") > 2:
            return set(), 0
        if names.hit(name) and names_field(name, names.classify_bytes(name)):
            found.add(count)
        count += 1
        if not m[2]:
            break
    return found, count


def _masked(
    text: bytes, at: int, field: re.Pattern[bytes], columns: set[int], count: int, redacted: list[str]
) -> bytes | None:  # fmt: skip
    """The rows with these columns masked; None when no row has as many fields as the header. Of a row with another
    number everything from the first of the columns on is masked: a value may hold the mark."""
    first = min(columns)
    out: list[bytes] = []
    row: list[tuple[bytes, bytes]] = []
    alike = False
    for number, m in enumerate(field.finditer(text, at)):
        if number >= FIELDS_MAX:
            raise TooWide
        row.append((m[1], m[2]))
        if m[2] and m[2] not in (b"\n", b"\r\n", b"\r"):
            continue
        whole = len(row) == count
        alike = alike or whole
        for place, (value, mark) in enumerate(row):
            if (place in columns if whole else place >= first) and value.strip(b" -:"):
                hidden_word(redacted, value)
                value = _MASK
            out += (value, mark)
        row.clear()
        if not m[2]:
            break
    return b"".join(out) if alike else None


def mask_list_items(text: bytes, names: Names, redacted: list[str]) -> bytes:
    """`- password` and on the next line `- hunter2`: that one masked. A list of names (`required:`) is left alone: a
    word after a name stays unless the two are a list by themselves."""
    parts: list[bytes] = []
    last = 0
    for m in islice(_ITEM.finditer(text), _ITEMS_MAX):
        name, value = m[2], m[3].strip(b" \t\"'")
        if not names.hit(name) or not names_field(name, names.classify_bytes(name)):
            continue
        pair = m[1].endswith(b"- ") or (m[4] is None and not _is_item(text, m.start()))
        if _WORD.fullmatch(value) and not (pair and not value.islower()):
            continue
        hidden_word(redacted, value)
        parts += (text[last : m.start(3)], _MASK)
        last = m.end(3)
    parts.append(text[last:])
    return b"".join(parts)


def _is_item(text: bytes, at: int) -> bool:
    """Whether the line before this offset is an item of a list."""
    return text[text.rfind(b"\n", 0, max(at - 1, 0)) + 1 : at].lstrip().startswith(b"- ")
