"""Secrets on neighbouring lines of text: blocks and lists of YAML, `name: password` above `value: x`, Secrets of
Kubernetes, a value on the line after its name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .alarms import NAME, Alarm
from .forms import made
from .names import YES
from .record import Record
from .tables import words

__all__ = ["block_end", "block_is_described", "is_marked_list", "label_edits", "line_end"]

_LINES_MAX = 2_000
_LINE_MAX = 200  # before a name that may be an item or a label
_NEAR = 4
_DESCRIBING = frozenset(
    word.encode() for word in (*words("describing"), "file", "external", "environment", "ttl", "expires", "timeout")
)
_KEY = re.compile(rb"^[ \t]*+(?:- [ \t]*+)?[\"']?([A-Za-z_$][\w.$ -]{0,60})[\"']?[ \t]*[:=]", re.M)
_PAIR = re.compile(rb"[ \t]*[\"']?[A-Za-z_][\w. -]{0,40}[\"']?[ \t]*[:=]|[ \t]*[\[<#]|[ \t]*[}\])]")
_LABEL = re.compile(
    rb"^([ \t]*+(?:- )?)[ ]*+(?i:key|name|field|id|param|parameter|header|property|variable|label)\"?[ ]?[:=][ ]?"
    rb"[\"']?([\w.-]{2,60})[\"']?[ \t\r,]*$",
    re.M,
)
_VALUE = re.compile(rb"[ \t-]*\"?(?i:value|content|default|data|val)\"?[ ]?[:=][ ]?([^\n]+)")
_ITEM = re.compile(rb"[ \t]*+(?:- )?- [\"']?([^\n\"']{2,200})[\"']?[ \t\r]{0,20}$", re.M)
_COMPLEX_KEY = re.compile(rb"^[ \t]*+\? *+([\w.-]{2,60})[ \t]*\r?\n[ \t]*: *([^\n]+)$", re.M)
_SECRET = re.compile(rb"^kind: *[\"']?Secret\b", re.M)
_DATA = re.compile(rb"^([ \t]*+)(?:data|stringData):[ \t\r]*$", re.M)


def line_end(text: bytes, at: int) -> int:
    """Where the line at `at` ends."""
    end = text.find(b"\n", at)
    return end if end >= 0 else len(text)


def block_end(record: Record, text: bytes, at: int, indent: int, *, dash: bool) -> int:
    """The end of the lines from `at` that stand deeper than `indent`; with `dash` also of list items that stand as
    deep, and of one line that stands as deep and is no pair itself."""
    end = at
    first = True
    for number in range(_LINES_MAX):
        if at >= len(text):
            break
        stop = line_end(text, at)
        line = text[at : min(stop, at + 300)]
        stripped = line.strip()
        if stripped:
            deep = len(line) - len(line.lstrip(b" \t"))
            if deep <= indent and not (dash and deep == indent and stripped[:1] == b"-" and stripped[:3] != b"---"):
                if not (dash and first and not _PAIR.match(line)):
                    break
                end = stop
                break
            end = stop
            first = False
        elif not dash and not first:
            break
        at = stop + 1
        if number & 15 == 0:
            record.spend(8)
    return end


def block_is_described(record: Record, block: bytes, *, named: bool = False) -> bool:
    """Whether lines below a sensitive name describe it: a schema, the names of secrets, and no value. named: its items
    are names of secrets, when they are words."""
    lines = [line.strip() for line in block[:4_000].split(b"\n") if line.strip()]
    keys = [m[1].strip() for m in _KEY.finditer(block[:4_000])]
    items = [line[2:].strip(b" \"'") for line in lines if line[:2] == b"- " and b":" not in line]
    told = [
        key in _DESCRIBING or (key[:8] == b"require_" and _REQUIRED.search(block)) or line_is_bare(block, key)
        for key in keys
    ]
    return (
        bool(lines)
        and len(keys) + len(items) >= len(lines)
        and all(told)
        and all(record.names.is_field(item) or _WORD.fullmatch(item) is not None for item in items)
        and (any(key in _DESCRIBING for key in keys) or named or any(record.names.is_field(item) for item in items))
    )


def is_marked_list(record: Record, block: bytes) -> bool:
    """Whether this is a list of Markdown that marks its names, `- **Password:** x`: each item is read on its own."""
    items = [_MARKED.match(line.strip()) for line in block[:4_000].split(b"\n") if line.strip()]
    names = [item[2] for item in items if item is not None]
    marked = any(item is not None and item[1] for item in items)
    return marked and len(names) == len(items) and any(record.names.kind(name) == YES for name in names)


_REQUIRED = re.compile(rb"require_\w{1,30}[\"']?[ ]?[:=][ \t]{0,9}(?i:true|false|yes|no|on|off|[0-9]{1,3})\b")
_MARKED = re.compile(rb"[-*+][ \t]{1,4}(\*{1,3}|_{2})?([A-Za-z][\w -]{0,40})(?:\*{1,3}|_{2})?:")
_WORD = re.compile(rb"[a-z]{2,20}(?:[_-][a-z]{2,20}){0,3}")


def line_is_bare(block: bytes, key: bytes) -> bool:
    """Whether nothing follows this key on its line."""
    at = block.find(key)
    return not block[at + len(key) : line_end(block, at)].strip(b" \t\r\"':=")


def label_edits(record: Record, text: bytes, alarms: list[Alarm]) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, plain) of values whose name is on a neighbouring line."""
    starts = [alarm.start for alarm in alarms if alarm.what == NAME]
    if not starts:
        return
    for start in starts:
        m = _LABEL.match(text, _line_begin(text, start))
        if m is not None and record.names.kind(m[2]) == YES and record.names.is_field(m[2]):
            record.spend(6)
            for begin, end in _values_near(text, m):
                yield begin, end, text[begin:end].strip(b" \t\r\"'")
    if text.find(b"? ") >= 0:
        for m in _COMPLEX_KEY.finditer(text):
            if record.names.kind(m[1]) == YES:
                yield *m.span(2), m[2].strip(b" \"'")
    if text.find(b"- ") >= 0:
        yield from _listed(record, text, starts)
    if text.find(b"Secret") >= 0 and _SECRET.search(text):
        for m in _DATA.finditer(text):
            yield from _data_of_secret(record, text, m.end() + 1, len(m[1]))


def _line_begin(text: bytes, at: int) -> int:
    """Where the line around `at` begins; `at` when that is far away."""
    begin = text.rfind(b"\n", max(0, at - _LINE_MAX), at) + 1
    return begin if begin or at <= _LINE_MAX else at


def _values_near(text: bytes, label: re.Match[bytes]) -> Iterator[tuple[int, int]]:
    """Lines `value: x` below or above the label, inside of its block."""
    indent = len(label[1])
    at = label.end() + 1
    for _ in range(_NEAR):
        end = line_end(text, at)
        line = text[at : min(end, at + 4_000)]
        if at >= len(text) or line.lstrip().startswith(b"- ") or len(line) - len(line.lstrip()) < min(indent, 1):
            break
        value = _VALUE.match(line)
        if value is not None:
            yield at + value.start(1), at + value.end(1)
        at = end + 1
    if label[1].endswith(b"- "):
        return
    end = label.start() - 1
    for _ in range(_NEAR):
        if end < 0:
            break
        begin = text.rfind(b"\n", max(0, end - 4_000), end) + 1
        line = text[begin:end]
        value = _VALUE.match(line)
        if value is not None:
            yield begin + value.start(1), begin + value.end(1)
        if line.lstrip().startswith(b"- ") or not line.strip():
            break
        end = begin - 1


def _listed(record: Record, text: bytes, starts: list[int]) -> Iterator[tuple[int, int, bytes]]:
    """`- password` above `- Zk93…`: an item that a machine made after a sensitive name."""
    for start in starts:
        item = _ITEM.match(text, _line_begin(text, start))
        if item is None or not record.names.is_field(item[1]):
            continue
        following = _ITEM.match(text, item.end() + 1)
        if following is None:
            continue
        value = following[1]
        if (
            not record.names.is_field(value)
            and (made(value) or any(48 <= c <= 57 for c in value))
            and b": " not in value
        ):
            yield *following.span(1), value


def _data_of_secret(record: Record, text: bytes, at: int, indent: int) -> Iterator[tuple[int, int, bytes]]:
    end = block_end(record, text, at, indent, dash=False)
    for line in text[at:end].split(b"\n"):
        colon = line.find(b":")
        value = line[colon + 1 :].strip(b" \t\r\"'")
        if value and value not in (b"|", b"|-", b">", b">-"):
            begin = at + line.rfind(value)
            yield begin, begin + len(value), value
        at += len(line) + 1
