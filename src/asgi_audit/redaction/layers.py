"""Escapes undone, with the way back: what is found in the plain text is masked in the bytes as they were.

A `Layer` is made of raw bytes and knows for each place of its plain text where that stands in the raw bytes. An edit of
the plain text becomes one of the raw bytes: its span mapped to whole escapes, its replacement escaped as the layer is.
"""

from __future__ import annotations

import html
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from .tables import REDACTED

__all__ = ["Edit", "Layer", "entities", "json_string", "percent", "splice", "unicode_escapes"]


class Edit(NamedTuple):
    """Bytes from start to end become others."""

    start: int
    end: int
    new: bytes


def splice(data: bytes, edits: list[Edit]) -> bytes:
    """The bytes with the edits done; of two that overlap the later is part of the earlier."""
    parts: list[bytes] = []
    done = 0
    for start, end, new in sorted(edits):
        if start < done:
            done = max(done, end)
            continue
        parts += (data[done:start], new)
        done = end
    parts.append(data[done:])
    return b"".join(parts)


class Layer:
    """plain: the bytes without escapes. `base` is where the raw bytes begin in what the edits are for."""

    __slots__ = ("_ends", "_escape", "_raw_ends", "_raw_starts", "_starts", "plain")

    def __init__(
        self, raw: bytes, pattern: re.Pattern[bytes], undo: Callable[[bytes], bytes], escape: Callable[[bytes], bytes]
    ) -> None:
        self._escape = escape
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._raw_starts: list[int] = []
        self._raw_ends: list[int] = []
        parts: list[bytes] = []
        done = size = 0
        for m in pattern.finditer(raw):
            before = raw[done : m.start()]
            plain = undo(m[0])
            size += len(before)
            parts += (before, plain)
            self._starts.append(size)
            size += len(plain)
            self._ends.append(size)
            self._raw_starts.append(m.start())
            done = m.end()
            self._raw_ends.append(done)
        parts.append(raw[done:])
        self.plain = b"".join(parts)

    @property
    def escapes(self) -> int:
        return len(self._starts)

    def back(self, edits: list[Edit], base: int = 0) -> list[Edit]:
        """The edits of the plain text as edits of the raw bytes, which begin at `base`."""
        return [Edit(base + self._start(s), base + self._end(e), self._escape(new)) for s, e, new in edits]

    def _start(self, at: int) -> int:
        k = bisect_right(self._starts, at) - 1
        if k < 0:
            return at
        return self._raw_starts[k] if at < self._ends[k] else self._raw_ends[k] + at - self._ends[k]

    def _end(self, at: int) -> int:
        k = bisect_left(self._starts, at) - 1
        if k < 0:
            return at
        return self._raw_ends[k] if at <= self._ends[k] else self._raw_ends[k] + at - self._ends[k]


_JSON = re.compile(rb"(?:\\u[0-9a-fA-F]{4})+|\\.", re.S)
_SHORT = {b"\\n": b"\n", b"\\r": b"\r", b"\\t": b"\t", b"\\b": b"\b", b"\\f": b"\f"}
_MASK = REDACTED.encode()
_PERCENT = re.compile(rb"(?:%[0-9a-fA-F]{2})+")
_FORM = re.compile(rb"(?:%[0-9a-fA-F]{2})+|\+")
_UNICODE = re.compile(rb"(?<!\\)\\+u00[2-7][0-9a-fA-F]")
_ENTITY = re.compile(rb"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def _json_undo(raw: bytes) -> bytes:
    if raw[1] != 117:  # u
        return _SHORT.get(raw, raw[1:])
    if len(raw) < 6:
        return raw[1:]
    text: str = json.loads(b'"' + raw + b'"')
    return text.encode("utf-8", "replace")


def _json_escape(new: bytes) -> bytes:
    return new.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def json_string(raw: bytes) -> Layer:
    """raw: between the quotes."""
    return Layer(raw, _JSON, _json_undo, _json_escape)


def percent(raw: bytes, *, form: bool = False) -> Layer:
    """form: a plus is a space."""
    return Layer(
        raw,
        _FORM if form else _PERCENT,
        lambda m: b" " if m == b"+" else bytes.fromhex(m.replace(b"%", b"").decode()),
        lambda new: new if new == _MASK else quote(new, safe="[]").encode(),
    )


def unicode_escapes(raw: bytes) -> Layer:
    """`\\u0070` however often escaped, in what is no JSON."""
    return Layer(raw, _UNICODE, lambda m: bytes((int(m[-2:], 16),)), lambda new: new)


def entities(raw: bytes) -> Layer:
    """Character references of HTML and XML."""
    return Layer(
        raw,
        _ENTITY,
        lambda m: html.unescape(m.decode()).encode("utf-8", "replace"),
        lambda new: new.replace(b'"', b"&quot;"),
    )
