"""The operator's own names, forms and paths of secrets: which are accepted, and why none of them can slow down a
recorder.

A form is a restricted regular expression. It begins with fixed characters (`acme_`), which redaction searches for in
all bytes of a record at once; the rest is matched only after them. An accepted form can match in one way only (no
backtracking), so the time of a match is proportional to the text that it consumes:

* characters, classes (`[A-Za-z0-9_-]`), `\\d`, `\\w`, `\\s` and escaped marks;
* `?`, `*`, `+`, `{3}`, `{3,}`, `{3,40}` after one of them; without an upper bound the maximum is `LONGEST` characters;
* `(a|b|c)` of fixed words, none of which begins another one, with or without `?`.

Refused: expressions that may end at more than one place (`[a-z]+[a-z0-9]`, `a?ab`), `.`, `^`, `$`, `\\b`, look-around,
references, repeated groups, and text that is not ASCII. `(?i)` at the beginning is accepted.

A path is a template of whole segments: `/share/{token}` masks the segment after `share`, anywhere in a path; `*`
matches any one segment, which is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["LONGEST", "OwnForm", "PathRule", "own_form", "own_name", "own_path"]

LONGEST = 4_096
_FORMS_LENGTH_MAX = 200
_FIXED_MIN = 3
_SHORTEST = 8
_NAME_MAX = 40
_TRIGGERS_MAX = 50
_SEGMENTS_MAX = 20
_DIGITS = frozenset(b"0123456789")
_WORD = _DIGITS | frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_SETS = {"d": _DIGITS, "w": _WORD, "s": frozenset(b" \t\r\n")}
_LETTERS = {"n": 10, "r": 13, "t": 9}
_REPEAT = re.compile(r"\{([0-9]{1,4})(,?)([0-9]{0,4})\}")
_HEX = re.compile(r"x([0-9a-fA-F]{2})")
_SEGMENT = re.compile(r"[^/?#\s{}*]+|\*|\{[A-Za-z_][A-Za-z0-9_]*\}")
PathRule = tuple[str | None, ...]
"""Segments: a fixed one, `*` for any, None for one to mask."""


class OwnForm(NamedTuple):
    """A form that is safe to run. `triggers`: every match begins with one of them, in any letter case. `longest`:
    maximum length of a match, bytes."""

    triggers: tuple[bytes, ...]
    expression: bytes
    longest: int


class _Part(NamedTuple):
    """A part of a form: one of these characters, `low` to `high` times; or one of `words`."""

    characters: frozenset[int]
    low: int = 1
    high: int = 1
    words: tuple[bytes, ...] = ()

    def firsts(self) -> frozenset[int]:
        return frozenset(word[0] for word in self.words) if self.words else self.characters


def own_name(text: str) -> str:
    """Checks a name of fields and headers. Raises ValueError whose text describes what is accepted."""
    letters = sum(c.isalnum() for c in text)
    if not letters or len(text.encode()) > _NAME_MAX:
        raise ValueError(f"a name needs a letter or digit and has at most {_NAME_MAX} bytes")
    return text


def own_path(text: str) -> PathRule:
    """Parses a path template. Raises ValueError whose text describes what is accepted."""
    segments = [s for s in text.strip("/").split("/") if s]
    if not all(_SEGMENT.fullmatch(s) for s in segments) or len(segments) > _SEGMENTS_MAX:
        raise ValueError("a segment is fixed text, `*`, or `{name}` for a segment to mask: /share/{token}")
    rule = tuple(None if s[0] == "{" else s for s in segments)
    if None not in rule or all(s in (None, "*") for s in rule):
        raise ValueError("a path needs a fixed segment and a `{name}` to mask: /share/{token}")
    return rule


def own_form(text: str) -> OwnForm:
    """Parses a form of secrets. Raises ValueError whose text describes what is accepted."""
    if not text.isascii() or len(text) > _FORMS_LENGTH_MAX:
        raise ValueError(f"a form is ASCII text of at most {_FORMS_LENGTH_MAX} characters")
    any_case = text.startswith("(?i)")
    parts = _Reader(text[4:] if any_case else text, any_case).parts()
    for at, part in enumerate(parts):
        if part.low != part.high and not part.firsts().isdisjoint(_after(parts, at)):
            raise ValueError("a repeated or optional part must not be followed by a character that it also matches")
    if sum(part.low * (min(map(len, part.words)) if part.words else 1) for part in parts) < _SHORTEST:
        raise ValueError(f"a form must match at least {_SHORTEST} characters")
    longest = sum(part.high * (max(map(len, part.words)) if part.words else 1) for part in parts)
    if longest > 4 * LONGEST:
        raise ValueError(f"a form matches at most {4 * LONGEST} characters")
    return OwnForm(_triggers(parts), b"".join(map(_expression, parts)), longest)


def _after(parts: list[_Part], at: int) -> frozenset[int]:
    """The characters that may follow this part."""
    found: frozenset[int] = frozenset()
    for part in parts[at + 1 :]:
        found |= part.firsts()
        if part.low:
            break
    return found


def _triggers(parts: list[_Part]) -> tuple[bytes, ...]:
    """The fixed characters at the beginning of the form, in lower case."""
    found = [b""]
    for part in parts:
        small = frozenset(bytes(part.characters).lower())
        if part.words and part.low == part.high:
            if len(found) * len(part.words) > _TRIGGERS_MAX:
                break
            found = [begun + word.lower() for begun in found for word in part.words]
        elif not part.words and part.low == part.high and len(small) == 1:
            found = [begun + bytes(small) * part.low for begun in found]
        else:
            break
        if all(len(begun) >= 24 for begun in found):
            break
    for begun in found:
        if len(begun) < _FIXED_MIN or not 97 <= begun[0] <= 122:
            raise ValueError(f"a form begins with at least {_FIXED_MIN} fixed characters, the first of them a letter")
    return tuple(dict.fromkeys(begun[:24] for begun in found))


def _expression(part: _Part) -> bytes:
    if part.words:
        return b"(?:" + b"|".join(map(re.escape, part.words)) + b")" + b"?" * (part.low != part.high)
    inside = b"".join(b"\\x%02x" % c for c in sorted(part.characters))
    if part.low == part.high:
        return b"[" + inside + b"]" + (b"{%d}" % part.low if part.low != 1 else b"")
    # Possessive: it is followed by no character that it matches, so it never needs to backtrack.
    return b"[" + inside + b"]" + b"{%d,%d}+" % (part.low, part.high)


class _Reader:
    """Parses an expression of the grammar above. Raises ValueError for anything else."""

    def __init__(self, text: str, any_case: bool) -> None:
        self.text = text
        self.any_case = any_case
        self.at = 0

    def parts(self) -> list[_Part]:
        found: list[_Part] = []
        while self.at < len(self.text):
            if self.text[self.at] == "(":
                words = self.words()
                optional = self.take("?")
                if self.text[self.at : self.at + 1] in tuple("*+{?"):
                    raise ValueError("a group of words must not be repeated")
                found.append(_Part(frozenset(), 0 if optional else 1, 1, words))
            else:
                found.append(_Part(self.characters(), *self.repeat()))
        return found

    def take(self, mark: str) -> bool:
        there = self.text.startswith(mark, self.at)
        self.at += len(mark) * there
        return there

    def words(self) -> tuple[bytes, ...]:
        end = self.text.find(")", self.at)
        inside = self.text[self.at + 1 : end].removeprefix("?:")
        words = inside.split("|")
        if end < 0 or not all(re.fullmatch(r"[A-Za-z0-9_:/-]+", word) for word in words):
            raise ValueError("a group contains only fixed words: (live|test)")
        self.at = end + 1
        if self.any_case:
            raise ValueError("(?i) cannot be combined with groups")
        if any(a != b and b.startswith(a) for a in words for b in words) or len(set(words)) < len(words):
            raise ValueError("no word of a group may be the beginning of another")
        return tuple(word.encode() for word in words)

    def characters(self) -> frozenset[int]:
        c = self.text[self.at]
        self.at += 1
        if c == "[":
            found = self.inside_class()
        elif c == "\\":
            found = self.escape()
        elif c in ".^$*+?{}|)]":
            raise ValueError(f"`{c}` must be written as `\\{c}`" if c not in ".^$" else _NO_PLACE.format(c))
        else:
            found = frozenset((ord(c),))
        return _both_cases(found) if self.any_case else found

    def escape(self) -> frozenset[int]:
        c = self.text[self.at : self.at + 1]
        self.at += 1
        if c in _SETS and c:
            return _SETS[c]
        if c in _LETTERS and c:
            return frozenset((_LETTERS[c],))
        code = _HEX.match(self.text, self.at - 1)
        if code is not None:
            self.at = code.end()
            return frozenset((int(code[1], 16),))
        if not c or c.isalnum():
            raise ValueError(f"of escapes \\d, \\w, \\s, \\n, \\r, \\t, \\xNN and marks are accepted, not `\\{c}`")
        return frozenset((ord(c),))

    def inside_class(self) -> frozenset[int]:
        if self.take("^"):
            raise ValueError("a class lists its characters: `[^…]` is not accepted")
        found: set[int] = set()
        while not self.take("]"):
            if self.at >= len(self.text):
                raise ValueError("a class must end with `]`")
            first = self.one()
            if self.text[self.at : self.at + 1] == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                last = self.one()
                if len(first) != 1 or len(last) != 1 or min(last) < min(first):
                    raise ValueError("a range goes from a character to a later one: a-z")
                found.update(range(min(first), min(last) + 1))
            else:
                found |= first
        if not found:
            raise ValueError("a class must not be empty")
        return frozenset(found)

    def one(self) -> frozenset[int]:
        c = self.text[self.at]
        self.at += 1
        return self.escape() if c == "\\" else frozenset((ord(c),))

    def repeat(self) -> tuple[int, int]:
        low, high = 1, 1
        if self.take("?"):
            low = 0
        elif self.take("*"):
            low, high = 0, LONGEST
        elif self.take("+"):
            high = LONGEST
        elif self.text[self.at : self.at + 1] == "{":
            m = _REPEAT.match(self.text, self.at)
            if m is None:
                raise ValueError("a repeat is written {3}, {3,} or {3,40}")
            self.at = m.end()
            low = int(m[1])
            high = (int(m[3]) if m[3] else LONGEST) if m[2] else low
            if not low <= high <= LONGEST or high == 0:
                raise ValueError(f"a repeat goes from a number to a greater one, at most {LONGEST}")
        if self.text[self.at : self.at + 1] in ("?", "+", "*", "{"):
            raise ValueError("one repeat must not follow another")
        return low, high


_NO_PLACE = "`{0}` is not accepted; as a character it is written `\\{0}`"


def _both_cases(characters: Iterable[int]) -> frozenset[int]:
    given = bytes(characters)
    return frozenset(given.lower() + given.upper())
