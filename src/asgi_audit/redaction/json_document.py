"""The grammar of JSON: valid, and cut at the end.

The usual cases are decided near the alarm, without a tree: a scalar after its key, or a text that contains a secret by
form. A tree is built only when context is needed: containers under a sensitive name, labels, tables, GraphQL variables,
cut documents. Only parts of the tree with an alarm are visited.

A cut document is closed where it ends. A value is masked when a name that was cut off might make it a secret: a `value`
whose label is missing, `rows` without their `columns`, `variables` without their query.
"""

from __future__ import annotations

import re

from .alarms import CODE_KEY, COMMAND, NAME, Alarm, Places
from .budget import MISS
from .json_beside import FLAGS, may_bind
from .json_tree import BOOLEAN, QUOTED_MASK, parse
from .json_walk import COUNT_MAX, TOOLS, Walk
from .layers import JSON_STRING, Edit, placed
from .names import ASKED, CODE, MADE, NO, YES, norm
from .record import Record, shown

__all__ = ["json_edits", "may_need_partner"]

_NEAR_MAX = 2_000  # alarms
_PARTNER = re.compile(rb'"(?:value|values|val|answer|input|inputValue|default|rows|variables|params|bindings)\\{0,7}"')
_ESCAPED = re.compile(rb"\\.", re.S)
_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_SCALAR_END = re.compile(rb"[,\]}\s]|\Z")
_BRACKET = re.compile(rb"[\[\]{}]").search
# To the next bracket, and the key before it; strings are passed over.
_STEP = re.compile(rb'[^"{}\[\]]*+(?:"[^"]*+"(?!\s*+:\s*+[{\[])[^"{}\[\]]*+)*(?:"([^"]*+)"\s*+:\s*+)?([{}\[\]])').match
_PATHS_NEAR = 200  # values whose paths are noted
_KEYS_OF_ACCOUNT = frozenset((b"key1", b"key2"))  # `{"keyName": "key1", "value": "x"}`, of Azure


def may_need_partner(data: bytes) -> bool:
    """Whether a cut document has a value whose name may have been cut off."""
    return _PARTNER.search(data) is not None


def json_edits(
    record: Record, data: bytes, alarms: list[Alarm], depth: int, base: str, *, cut: bool = False
) -> list[Edit] | None:
    """Edits of a JSON document; None when it is broken. base: paths are noted when it is not empty."""
    if not cut and len(alarms) <= _NEAR_MAX:
        edits = _near_edits(record, data, alarms, depth, base)
        if edits is not None:
            return edits
    root = parse(record, data, cut)
    if root is None:
        return None
    walk = Walk(record, data, alarms, depth)
    walk.visit(root, NO, base)
    return walk.edits


def _near_edits(record: Record, data: bytes, alarms: list[Alarm], depth: int, base: str) -> list[Edit] | None:
    """The usual case: few alarms, each in a key with a scalar, or in a text of its own. None: context is needed."""
    blank = _ESCAPED.sub(b"__", data) if 92 in data else data
    names = record.names
    if data.find(b'"logprob"') >= 0 or data.find(b"rrors") >= 0 or data.find(b'"start_offset"') >= 0:
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
            named = alarm.what == NAME
            if (
                (alarm.what == COMMAND and plain.lower() in TOOLS)
                or (named and (plain.find(b"/secrets/") >= 0 or plain[-1:] in (b"?", b":") or may_bind(plain)))
                or plain in _KEYS_OF_ACCOUNT
                or ((named or layer is not None) and names.is_field(plain))  # a label
            ):
                return None
            inside = None if layer is not None else places.of(quote + 1, end)
            found = record.inner(plain, depth + 1, inside)
            if found:
                edits += placed(found, quote + 1, layer)
                hidden.append((quote, b""))
            continue
        misses = names.misses
        kind = names.kind(plain)
        record.spend(MISS * (names.misses - misses))  # the same key each time, when none like it is cached
        begin = colon.end()
        first = blank[begin : begin + 1]
        if alarm.what != NAME or kind in (ASKED, CODE) or first in (b"{", b"[") or 61 in plain or 58 in plain:
            return None
        if plain == b"root_token" or (plain == b"pass" and data.find(b'"fail') >= 0):
            return None
        if kind == NO:
            continue
        if first == b'"':
            stop = blank.find(b'"', begin + 1)
            done = stop + 1
            if plain == b"token" and stop - begin < 8 and data[begin + 1 : stop].isupper():
                return None
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
    stack: list[str] = []  # the pieces of the path, of the containers that are open
    done = 0
    for quote, key in hidden[:_PATHS_NEAR]:
        while _BRACKET(blank, done, quote) is not None and (m := _STEP(blank, done, quote)) is not None:
            done = m.end()
            if m[2] in b"]}":
                del stack[-1:]  # none is open in a broken line
            else:
                stack.append(("" if m[1] is None else "." + shown(m[1])) + ("" if m[2] == b"{" else "[]"))
        done = quote
        record.note(base + "".join(stack) + ("." + shown(key) if key else ""))
