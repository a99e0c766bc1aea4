"""Masks the few sensitive values of a usual JSON document without looking at its other strings.

A document with a password in it has a hundred strings and one that matters. The strings are found in which the scan
for names hit; only these are looked at, and the scan is repeated over all the rest, which proves that nothing else is
there. What cannot be proven so (escapes, labels, pairs, containers under a sensitive name) is left to the walk of
redaction_json. The property tests hold both to the same.
"""

from __future__ import annotations

import re

from .names import CLEAN, LOOSE, REDACTED, SENSITIVE, Found, Names
from .reflection import hidden_json

__all__ = [
    "BRACKET", "COLONS", "COMMAS", "FEW", "MASK", "PATHS_MAX", "PATH_MAX", "SCALAR_END", "SPACE", "shortcut", "shown",
]  # fmt: skip

PATHS_MAX = 64
MASK = b'"' + REDACTED.encode() + b'"'
COLONS = frozenset((b":", b": ", b" : ", b" :"))
COMMAS = frozenset((b",", b", ", b",\n", b" ,", b" , "))
BRACKET = re.compile(rb"[\[\]{}]")
SCALAR_END = re.compile(rb"[,\]}\s]|\Z")
SPACE = b" \t\r\n"
FEW = 8  # more sensitive keys than these: the walk is cheaper than going back from each
_KEY_SHOWN_MAX = 40
PATH_MAX = 200
_COLON = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")
_KEY_WITH_VALUE = re.compile(rb"[=:]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def shortcut(data: bytes, names: Names, base: str, redacted: list[str], found: Found | None) -> bytes | None:
    """The common case: a few keys are sensitive and nothing else. None: not proven.

    The strings are found in which the scan hit. When each is a sensitive key with a scalar, or holds no secret, and
    the scan finds nothing in all the rest, no label, pair or value is left that the walk would look at."""
    if 92 in data or data.find(b"grant_type") >= 0:  # beside it `code` is a secret
        return None
    found = names.found(data) if found is None else found
    if found is None or len(found) > FEW:
        return None
    spans: list[tuple[int, int, int, bytes]] = []  # values to mask, the place of their keys, and these
    rest: list[bytes] = []
    done = 0
    for place in names.places(data, found):
        if place < done:
            continue
        # Without backslashes each quote begins or ends a string, and none is open where the last one was done.
        if not data.count(b'"', done, place) & 1:
            return None
        quote = data.rfind(b'"', done, place)
        end = data.find(b'"', place)
        text = data[quote + 1 : end]
        rest.append(data[done:quote])
        done = end + 1
        colon = _COLON.match(data, done)
        if colon is None:
            if text.lstrip()[:1] in (b"{", b"[") or names.reveals(text):
                return None
            if text.count(b" ") <= 1 and names.classify(text.decode()) in (SENSITIVE, LOOSE):
                return None
            continue
        kind = names.classify_bytes(text)
        if kind == CLEAN:
            continue
        value = colon.end()
        first = data[value : value + 1]
        if kind not in (SENSITIVE, LOOSE) or first in (b"{", b"[") or _KEY_WITH_VALUE.search(text) or len(text) > 200:
            return None
        if first == b'"':
            done = data.find(b'"', value + 1) + 1
        else:
            scalar = SCALAR_END.search(data, value)
            done = scalar.start() if scalar else len(data)
            if kind == LOOSE or data[value:done] == b"null":
                continue
        spans.append((value, done, quote, text))
    rest.append(data[done:])
    if names.hit(b'""'.join(rest)):
        return None
    parts: list[bytes] = []
    last = 0
    for start, end, quote, key in spans:
        hidden_json(redacted, data[start:end])
        path = (base + _path_to(data[:quote]) + "." + shown(key))[:PATH_MAX]
        if len(redacted) < PATHS_MAX and path not in redacted:
            redacted.append(path)
        parts += (data[last:start], MASK)
        last = end
    parts.append(data[last:])
    return b"".join(parts)


def _path_to(before: bytes) -> str:
    """The path of the innermost container that is open after these bytes, in which no quote is escaped."""
    pieces = before.split(b'"')
    if b"".join(pieces[::2]).translate(None, _NO_BRACKETS) == b"{":
        return ""
    stack: list[str] = []
    for k in range(0, len(pieces), 2):
        p = pieces[k]
        if p in COLONS or p in COMMAS:
            continue
        for m in BRACKET.finditer(p):
            if m[0] in b"]}":
                stack.pop()
                continue
            keyed = k > 0 and not p[: m.start()].strip(b": \t\r\n") and p.lstrip(SPACE)[:1] == b":"
            stack.append(("." + shown(pieces[k - 1]) if keyed else "") + ("" if m[0] == b"{" else "[]"))
    return "".join(stack)


def shown(name: bytes) -> str:
    """A key as it stands in a path: cut, without what is not printable, and without what could be a value."""
    text = name.decode("utf-8", "replace")
    if "=" in text or ":" in text:
        return REDACTED
    if len(text) > _KEY_SHOWN_MAX:
        text = text[:_KEY_SHOWN_MAX] + "…"
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
