"""The usual case of JSON: an alarm in a key before a scalar, or in a string value, is decided at its position, without
a tree."""

from __future__ import annotations

import re

from .alarms import CODE_KEY, COMMAND, NAME, Alarm, Places
from .json_beside import FLAGS, may_bind
from .json_reading import BOOLEAN, QUOTED_MASK
from .layers import JSON_STRING, Edit, placed
from .names import ASKED, CODE, MADE, NO, YES, norm
from .record import Record, shown

__all__ = ["COUNT_MAX", "TOOLS", "near_edits"]

_ESCAPED = re.compile(rb"\\.", re.S)
_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_SCALAR_END = re.compile(rb"[,\]}\s]|\Z")
_BRACKET = re.compile(rb"[\[\]{}]")
_PATHS_NEAR = 200  # values whose paths are noted
_SEPARATORS = frozenset((b":", b": ", b",", b", ", b" : ", b" :", b",\n"))
_KEYS_OF_ACCOUNT = frozenset((b"key1", b"key2"))  # `{"keyName": "key1", "value": "x"}`, of Azure
COUNT_MAX = 9  # digits of a number that may count something
TOOLS = frozenset((b"curl", b"mysql", b"mysqldump", b"docker", b"sshpass", b"psql", b"wget", b"redis-cli", b"http"))


def near_edits(record: Record, data: bytes, alarms: list[Alarm], depth: int, base: str) -> list[Edit] | None:
    """The usual case: few alarms, each in a key with a scalar, or in a text of its own. None: context is needed."""
    blank = _ESCAPED.sub(b"__", data) if 92 in data else data
    names = record.names
    if data.find(b'"logprob"') >= 0 or data.find(b"rrors") >= 0:
        return None  # the text beside the name, or above it, shows that it holds no secret
    edits: list[Edit] = []
    hidden: list[tuple[int, bytes]] = []
    done = 0
    record.spend(2 * len(alarms))
    places = Places(alarms)
    for alarm in alarms:
        place = alarm.start
        if place < done:
            continue
        # Without escapes each quote begins or ends a string, and none is open where the last one was done.
        if alarm.what == CODE_KEY or not blank.count(b'"', done, place) & 1:
            return None
        quote = blank.rfind(b'"', done, place)
        end = blank.find(b'"', place)
        raw = data[quote + 1 : end]
        plain, layer = record.undone(raw, JSON_STRING)
        done = end + 1
        colon = _COLON.match(blank, done)
        if colon is None:
            if alarm.what == COMMAND and plain.lower() in TOOLS:
                return None
            if alarm.what == NAME and (plain.find(b"/secrets/") >= 0 or plain[-1:] in (b"?", b":")):
                return None
            if plain in _KEYS_OF_ACCOUNT or (
                len(plain) <= 60 and (alarm.what == NAME or layer is not None) and names.is_field(plain)
            ):
                return None  # a label
            if alarm.what == NAME and may_bind(plain):
                return None
            inside = None if layer is not None else places.of(quote + 1, end)
            found = record.inner(plain, depth + 1, inside)
            if found:
                edits += placed(found, quote + 1, layer)
                hidden.append((quote, b""))
            continue
        if alarm.what != NAME or 61 in plain or 58 in plain:
            return None
        kind = names.kind(plain)
        if plain == b"root_token" or (plain == b"pass" and data.find(b'"fail') >= 0):
            return None
        begin = colon.end()
        first = blank[begin : begin + 1]
        if kind in (ASKED, CODE) or first in (b"{", b"["):
            return None
        if kind == NO:
            continue
        if first == b'"':
            stop = blank.find(b'"', begin + 1)
            done = stop + 1
            found = record.escaped_value(data[begin + 1 : stop], begin + 1, JSON_STRING, kind, depth)
            if not found:
                continue
            edits += found
        else:
            scalar = _SCALAR_END.search(blank, begin)
            done = scalar.start() if scalar else len(data)
            value = data[begin:done]
            if value == b"true" and norm(plain.decode("utf-8", "replace")) in FLAGS:
                return None
            if value in BOOLEAN or (kind != YES and not (value.isdigit() and len(value) > COUNT_MAX and kind != MADE)):
                continue
            record.hide(value)
            edits.append((begin, done, QUOTED_MASK))
        hidden.append((quote, plain))
    if base:
        _note(record, blank, hidden, base)
    return edits


def _note(record: Record, blank: bytes, hidden: list[tuple[int, bytes]], base: str) -> None:
    """The paths of what was masked: of the quotes of a string, or of a key."""
    stack: list[str] = []
    done = 0
    for number, (quote, key) in enumerate(hidden):
        if number >= _PATHS_NEAR:
            record.note(base)
            return
        _walk_to(stack, blank, done, quote)
        done = quote
        record.note(base + "".join(stack) + ("." + shown(key) if key else ""))


def _walk_to(stack: list[str], blank: bytes, start: int, end: int) -> None:
    """Keeps the pieces of a path, of the containers that are open where a string begins, from one string to
    another."""
    if not stack and blank[start : start + 1] == b"{":
        stack.append("")
        start += 1
    if _BRACKET.search(blank, start, end) is None:
        return
    pieces = blank[start:end].split(b'"')
    for k in range(0, len(pieces), 2):
        piece = pieces[k]
        if piece in _SEPARATORS:
            continue
        keyed = k > 0 and piece.lstrip(b" \t\r\n")[:1] == b":"
        for m in _BRACKET.finditer(piece):
            if m[0] in b"]}":
                if stack:
                    stack.pop()
                continue
            key = "." + shown(pieces[k - 1]) if keyed and not piece[: m.start()].strip(b": \t\r\n") else ""
            stack.append(key + ("" if m[0] == b"{" else "[]"))
