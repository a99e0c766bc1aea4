"""Decodes escapes with a map back, so that a secret found in the decoded text is masked in the original bytes.

A `Layer` is made from raw bytes and knows for each position of its decoded text the position in the raw bytes. An edit
of the decoded text becomes an edit of the raw bytes: its span is extended to whole escapes, and its replacement is
escaped like the layer.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64decode
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from .budget import Budget
from .tables import REDACTED

__all__ = [
    "BASE64_WORD", "ENTITIES", "JSON_STRING", "PERCENT", "UNICODE", "Edit", "Escapes", "Layer", "base64_text", "placed",
    "splice",
]  # fmt: skip

BASE64_WORD = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")


Edit = tuple[int, int, bytes]
"""(start, end, new): the bytes from start to end become others."""


def splice(data: bytes, edits: list[Edit]) -> bytes:
    """The bytes with the edits done; of two that overlap the later is part of the earlier."""
    if not edits:
        return data
    if len(edits) == 1:
        start, end, new = edits[0]
        return data[:start] + new + data[end:]
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


class Escapes(NamedTuple):
    """A way to escape. mark: the byte that each escape begins with."""

    mark: int
    pattern: re.Pattern[bytes]
    undo: Callable[[bytes], bytes]
    escape: Callable[[bytes], bytes] = bytes


class Layer:
    """plain: the bytes without escapes."""

    __slots__ = ("_ends", "_escape", "_raw_ends", "_raw_starts", "_starts", "plain")

    def __init__(self, raw: bytes, escapes: Escapes, budget: Budget) -> None:
        """Each escape is paid for as it comes: thousands of them would be when it is too late. Raises TooCostly."""
        budget.spend(3)
        undo = escapes.undo
        self._escape = escapes.escape
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._raw_starts: list[int] = []
        self._raw_ends: list[int] = []
        parts: list[bytes] = []
        done = size = 0
        for m in escapes.pattern.finditer(raw):
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
            if len(self._starts) & 63 == 0:
                budget.spend(96)
        parts.append(raw[done:])
        self.plain = b"".join(parts)
        budget.spend(3 * (len(self._starts) & 63) >> 1)

    def back(self, edits: list[Edit], base: int = 0) -> list[Edit]:
        """The edits of the plain text as edits of the raw bytes, which begin at `base`. See `placed`."""
        return [(base + self._start(s), base + self._end(e), self._escape(new)) for s, e, new in edits]

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


def placed(edits: list[Edit], base: int, layer: Layer | None = None) -> list[Edit]:
    """Edits of a piece that begins at `base`, of its plain text when it is a layer, as edits of the whole."""
    if layer is not None:
        return layer.back(edits, base)
    return [(base + start, base + end, new) for start, end, new in edits]


_SHORT = {b"\\n": b"\n", b"\\r": b"\r", b"\\t": b"\t", b"\\b": b"\b", b"\\f": b"\f"}
_MASK = REDACTED.encode()


def _json_undo(raw: bytes) -> bytes:
    if raw[1] != 117:  # u
        return _SHORT.get(raw, raw[1:])
    if len(raw) < 6:
        return raw[1:]
    text: str = json.loads(b'"' + raw + b'"')
    return text.encode("utf-8", "replace")


JSON_STRING = Escapes(
    92, re.compile(rb"(?:\\u[0-9a-fA-F]{4})+|\\.", re.S), _json_undo,
    lambda new: new.replace(b"\\", b"\\\\").replace(b'"', b'\\"'),
)  # fmt: skip
PERCENT = Escapes(
    37, re.compile(rb"(?:%[0-9a-fA-F]{2})+"), lambda m: bytes.fromhex(m.replace(b"%", b"").decode()),
    lambda new: new if new == _MASK else quote(new, safe="[]").encode(),
)  # fmt: skip
# `\\u0070` however often escaped, in what is no JSON.
UNICODE = Escapes(92, re.compile(rb"(?<!\\)\\+u00[2-7][0-9a-fA-F]"), lambda m: bytes((int(m[-2:], 16),)))
ENTITIES = Escapes(  # character references of HTML and XML
    38, re.compile(rb"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"),
    lambda m: html.unescape(m.decode()).encode("utf-8", "replace"), lambda new: new.replace(b'"', b"&quot;"),
)  # fmt: skip


def base64_text(word: bytes) -> bytes | None:
    """What a word is in base64, when that is printable text; None."""
    word = word.strip()
    if not 16 <= len(word) <= 100_000 or BASE64_WORD.fullmatch(word) is None:
        return None
    word = word.rstrip(b"=")
    word = word[: len(word) - (len(word) % 4 == 1)]  # cut
    try:
        plain = b64decode(word + b"==", altchars=b"-_")
        return plain if "".join(plain.decode().split()).isprintable() else None
    except ValueError:
        return None
