"""Masks sensitive values of a JSON document by splicing into its own bytes: numbers, duplicate keys, order and spacing
survive.

The document was accepted by orjson before. Escaped quotes are blanked (same length), then one `split` at the quotes
tells strings from structure, so every string is visited at most three times, in Python, and nothing is parsed or
backtracked: linear, 60 µs a kB with a hit, 1 ms for 32 KiB (m). A document of more than `PIECES_MAX` strings,
`CONTAINERS_MAX` containers or `SPANS_MAX` hits is given up, and the caller omits it: 64 KiB of brackets would hold the
thread for 50 ms.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any

import orjson

from .names import CLEAN, CODE, LABEL, LOOSE, SENSITIVE, VALUED, Found, Names
from .redaction_short import (
    BRACKET,
    COLONS,
    COMMAS,
    FEW,
    MASK,
    PATH_MAX,
    PATHS_MAX,
    SCALAR_END,
    SPACE,
    shortcut,
    shown,
)  # fmt: skip
from .reflection import Redacted, hidden_json, hidden_text

__all__ = ["CONTAINERS_MAX", "PIECES_MAX", "TooDense", "redact_json", "speaks_oauth"]

PIECES_MAX = 16_000
CONTAINERS_MAX = 8_000
SPANS_MAX = 1_000
INNER_MAX = 200  # JSON documents in strings: 60 µs each


_CODE_OF_OAUTH = re.compile(rb"\"code\"[ \t\r\n]*+:[ \t\r\n]*+\"[^\"\s]{12}")
_OAUTH_BESIDE = (
    b'"redirect_uri"',
    b'"redirectUri"',
    b'"code_verifier"',
    b'"codeVerifier"',
    b'"client_id"',
    b'"clientId"',
)


def speaks_oauth(data: bytes) -> bool:
    """Whether a `code` of this document is one of OAuth's, though no name in it is sensitive: beside what only OAuth
    has, or a long one beside `state`."""
    if data.find(b'"code"') < 0:
        return False
    if any(data.find(name) >= 0 for name in _OAUTH_BESIDE):
        return True
    return data.find(b'"state"') >= 0 and _CODE_OF_OAUTH.search(data) is not None


class TooDense(Exception):
    """More strings or brackets than may be walked in the recorder's slice."""


class _Frame:
    """An open container. `name` is the key that it stands under; None in an array or at the root."""

    __slots__ = (
        "count",
        "first_sensitive",
        "labelled",
        "labels",
        "name",
        "object",
        "second",
        "tainted",
        "valued",
        "valued_at",
    )

    def __init__(self, is_object: bool, name: bytes | None) -> None:
        self.object = is_object
        self.name = name
        self.tainted = False  # an object one of whose label keys names a sensitive field
        self.labels = False  # an array under a label key: its strings name fields of the object around it
        self.labelled = 0
        self.valued: list[tuple[int, int, bytes]] | None = None  # spans of values that a taint masks, and their key
        self.valued_at = -1  # where this container begins, when it is such a value itself
        self.count = 0
        self.first_sensitive = False
        self.second: tuple[int, int] | None = None


def redact_json(data: bytes, names: Names, base: str, redacted: list[str], found: Found | None = None) -> bytes:
    """`data` with the sensitive values masked; their paths (`base.user.password`) are added to `redacted`.

    found: what `names.found` answered of these bytes. Raises TooDense."""
    if not speaks_oauth(data) and (short := shortcut(data, names, base, redacted, found)) is not None:
        return short
    walk = _Walk(data, names, base, redacted)
    if walk.few():
        return walk.spliced()
    if not walk.values_hit:
        walk.run(deep=False)
    if walk.values_hit or names.hit(walk.clean_values()):
        # A string that is no field of a sensitive name holds one (JSON in JSON, GraphQL, text): look at each.
        walk.run(deep=True)
    return walk.spliced()


class _Walk:
    def __init__(self, data: bytes, names: Names, base: str, redacted: list[str]) -> None:
        self.data = data
        self.names = names
        self.base = base
        self.redacted = redacted
        self.escaped = 92 in data
        plain = data
        if self.escaped:
            # Pairs in a run of backslashes are aligned from its begin, so two replacements find every escaped quote.
            plain = data.replace(b"\\\\", b"\x01\x01").replace(b'\\"', b"\x01\x01")
        self.pieces = plain.split(b'"')
        structure = b"".join(self.pieces[::2])
        opened = structure.count(b"{") + structure.count(b"[")
        if len(self.pieces) > 2 * PIECES_MAX or opened > CONTAINERS_MAX:
            raise TooDense
        self.ends = list(accumulate(map(len, self.pieces)))
        self.oauth = data.find(b"grant_type") >= 0 or speaks_oauth(data)
        self.inner = 0  # JSON documents in strings
        self.spans: list[tuple[int, int]] = []
        self.values: list[int] = []
        self.stack: list[_Frame] = [_Frame(False, None)]
        self.paths_made = 0
        self.values_hit = False

    def at(self, piece: int) -> int:
        """Offset in the data of the first byte of a piece."""
        return self.ends[piece - 1] + piece if piece else 0

    def string(self, piece: int) -> bytes:
        """The string's own bytes, as they stand in the document."""
        if not self.escaped:
            return self.pieces[piece]
        at = self.at(piece)
        return self.data[at : at + len(self.pieces[piece])]

    def few(self) -> bool:
        """The common case, three times as fast as the walk: no string value holds a sensitive name, so that only the
        few sensitive keys matter. False: nothing was done, or not enough."""
        pieces = self.pieces
        known = self.names._cache.get
        escaped = self.escaped
        keys: list[int] = []
        values: list[bytes] = []
        j = -1
        for string, after in zip(pieces[1::2], pieces[2::2], strict=True):
            j += 2
            if after not in COLONS and after.lstrip(SPACE)[:1] != b":":
                values.append(self.string(j) if escaped else string)
                continue
            kind = known(string)
            if kind == CLEAN and not escaped:
                continue
            if kind is None or escaped:
                kind = self.kind_of(j)
            if kind in (SENSITIVE, LOOSE) or (kind == CODE and self.oauth):
                if len(keys) == FEW:
                    return False
                keys.append(j)
        if self.names.hit(b"\n".join(values)):
            self.values_hit = True
            return False
        found: list[tuple[int, int, int]] = []
        last = 0
        for j in keys:
            start, end = self.span_after(j)
            kind = self.kind_of(j)
            first = self.data[start : start + 1]
            if start < last or self.data[start:end] == b"null" or (kind == LOOSE and first not in (b'"', b"[")):
                continue
            last = end
            found.append((start, end, j))
        self.note_all(found)
        return True

    def note_all(self, found: list[tuple[int, int, int]]) -> None:
        """Mask these values. One pass over the brackets up to the last of them keeps the containers for their paths."""
        pieces = self.pieces
        done = 0
        for start, end, j in found:
            for k in range(done, j, 2):
                p = pieces[k]
                if p in COLONS or p in COMMAS:
                    continue
                for m in BRACKET.finditer(p):
                    if m[0] in b"]}":
                        self.stack.pop()
                    else:
                        keyed = k > 0 and not p[: m.start()].strip(b": \t\r\n") and p.lstrip(SPACE)[:1] == b":"
                        self.stack.append(_Frame(m[0] == b"{", self.string(k - 1) if keyed else None))
            done = j + 1
            self.sensitive_key(j)
            self.mask(start, end, j)

    def span_after(self, key: int) -> tuple[int, int]:
        """Span of the value of the key in this piece."""
        pieces = self.pieces
        p = pieces[key + 1]
        offset = p.index(b":") + 1
        rest = p[offset:].lstrip(SPACE)
        at = self.at(key + 1)
        if not rest:
            return self.at(key + 2) - 1, self.ends[key + 2] + key + 3
        start = len(p) - len(rest)
        if rest[0] not in b"[{":
            end = SCALAR_END.search(rest)
            return at + start, at + start + (end.start() if end else len(rest))
        depth = 0
        for k in range(key + 1, len(pieces), 2):
            for m in BRACKET.finditer(pieces[k], start if k == key + 1 else 0):
                depth += 1 if m[0] in b"[{" else -1
                if depth == 0:
                    return at + start, self.at(k) + m.end()
        raise AssertionError("a document that orjson accepted closes its brackets")

    def clean_values(self) -> bytes:
        if not self.escaped:
            return b"\n".join([self.pieces[piece] for piece in self.values])
        return b"\n".join([self.string(piece) for piece in self.values])

    def kind_of(self, key: int) -> int:
        raw = self.string(key)
        if b"\\" in raw:
            name: str = orjson.loads(b'"' + raw + b'"')
            return self.names.classify(name.replace("\n", "").replace("\r", ""))
        return self.names.classify_bytes(raw)

    def run(self, deep: bool) -> None:
        pieces = self.pieces
        self.deep = deep
        self.spans = []
        self.values = []
        self.paths_made = 0
        self.pending = CLEAN  # the kind of the key whose value comes next
        self.key = -1
        self.skip_depth = -1  # depth of the container that is masked whole
        self.skip_from = 0
        self.depth = 0
        self.stack = [_Frame(False, None)]
        self.structure(0, 0)
        known = self.names._cache.get
        escaped = self.escaped
        values = self.values
        for j in range(1, len(pieces), 2):
            p = pieces[j + 1]
            if self.skip_depth >= 0:
                if p not in COLONS and p not in COMMAS:
                    self.structure(j + 1, 0)
                continue
            if p in COLONS:
                kind = None if escaped else known(pieces[j])
                self.pending = self.kind_of(j) if kind is None else kind
                self.key = j
                if self.pending == SENSITIVE:
                    self.sensitive_key(j)
                continue
            if p in COMMAS:
                if self.pending == CLEAN and not deep and self.stack[-1].object:
                    values.append(j)
                else:
                    self.value(j)
                continue
            t = p.lstrip(SPACE)
            if t[:1] == b":":
                self.pending = self.kind_of(j)
                self.key = j
                if self.pending == SENSITIVE:
                    self.sensitive_key(j)
                self.structure(j + 1, len(p) - len(t) + 1)
            else:
                self.value(j)
                self.structure(j + 1, 0)

    def value(self, j: int) -> None:
        """A string value."""
        kind, self.pending = self.pending, CLEAN
        frame = self.stack[-1]
        if kind in (SENSITIVE, LOOSE) or (kind == CODE and self.oauth):
            self.mask(self.at(j) - 1, self.ends[j] + j + 1, self.key)
            return
        if not frame.object:
            self.element(frame, j)
        elif kind == LABEL:
            if self.names_field(j):
                frame.tainted = True
        elif kind == VALUED:
            self.note(frame, self.at(j) - 1, self.ends[j] + j + 1)
        if self.deep and self.suspicious(self.string(j)):
            self.mask(self.at(j) - 1, self.ends[j] + j + 1, self.key if frame.object else -1, is_secret=False)
            if frame.object and self.string(self.key) == b"query":
                frame.tainted = True  # GraphQL: `login(password:$p)`, and `variables` says what $p is
        else:
            self.values.append(j)

    def element(self, frame: _Frame, j: int) -> None:
        """A string in an array: the field's name in `loc`, or half of a pair such as ["Authorization", "Bearer …"]."""
        if frame.labels:
            if self.names_field(j) and len(self.stack) > 1:
                self.stack[-2].tainted = True
        elif len(self.stack) > 2 and not self.stack[-2].object:
            frame.count += 1
            if frame.count == 1:
                frame.first_sensitive = self.names_field(j)
            elif frame.count == 2 and frame.first_sensitive:
                frame.second = (self.at(j) - 1, self.ends[j] + j + 1)

    def suspicious(self, raw: bytes) -> bool:
        if b"\\" in raw:
            raw = orjson.loads(b'"' + raw + b'"').encode()
        if not self.names.hit(raw):
            return False
        if raw.lstrip()[:1] in (b"{", b"["):
            # JSON in JSON: its own fields tell more exactly than text rules.
            self.inner += 1
            if self.inner > INNER_MAX:
                raise TooDense
            inner = Redacted()
            if type(self.redacted) is Redacted:
                inner.values, inner.spans = self.redacted.values, self.redacted.spans
            try:
                orjson.loads(raw)
                redact_json(raw, self.names, "", inner)
            except TooDense:
                return True
            except orjson.JSONDecodeError:
                pass
            else:
                return bool(inner)
        if self.names.reveals(raw):
            hidden_text(self.redacted, raw, self.names)
            return True
        return False

    def names_field(self, j: int) -> bool:
        """Whether a string is the name of a sensitive field, and no sentence that mentions one."""
        raw = self.string(j)
        return len(raw) <= 100 and raw.count(b" ") <= 1 and self.kind_of(j) in (SENSITIVE, LOOSE)

    def note(self, frame: _Frame, start: int, end: int) -> None:
        if frame.valued is None:
            frame.valued = []
        frame.valued.append((start, end, self.string(self.key) if self.key >= 0 else b""))

    def structure(self, piece: int, offset: int) -> None:
        """What stands between two strings: brackets, and scalars after a key's colon."""
        p = self.pieces[piece]
        start = self.at(piece)
        if self.pending != CLEAN and self.skip_depth < 0 and offset:
            rest = p[offset:].lstrip(SPACE)
            at = len(p) - len(rest)
            if rest and rest[0] not in b"[{":
                self.scalar(start + at, rest)
        for m in BRACKET.finditer(p, offset):
            c = m[0]
            if c == b"{" or c == b"[":
                self.opened(c == b"{", start + m.start())
            else:
                self.closed(start + m.end())

    def scalar(self, at: int, rest: bytes) -> None:
        """A number, true, false or null under a key that is not clean."""
        kind, self.pending = self.pending, CLEAN
        end = SCALAR_END.search(rest)
        text = rest[: end.start() if end else len(rest)]
        if text == b"null":
            return
        if kind == SENSITIVE:
            self.mask(at, at + len(text), self.key)
        elif kind == VALUED:
            self.note(self.stack[-1], at, at + len(text))

    def opened(self, is_object: bool, at: int) -> None:
        self.depth += 1
        if self.skip_depth >= 0:
            return
        kind, self.pending = self.pending, CLEAN
        if kind == SENSITIVE or (kind == LOOSE and not is_object):
            self.skip_depth = self.depth
            self.skip_from = at
            return
        parent = self.stack[-1]
        frame = _Frame(is_object, self.string(self.key) if parent.object else None)
        if kind == LABEL and not is_object:
            frame.labels = True
        elif kind == VALUED:
            frame.valued_at = at
        self.stack.append(frame)

    def closed(self, end: int) -> None:
        self.depth -= 1
        if self.skip_depth >= 0:
            if self.depth < self.skip_depth:
                self.skip_depth = -1
                self.mask(self.skip_from, end, self.key)
            return
        self.pending = CLEAN
        frame = self.stack.pop()
        if frame.tainted and frame.valued:
            self.taint(frame)
        elif frame.second is not None and frame.count == 2:
            self.mask(*frame.second, -1)
        if frame.valued_at >= 0 and self.stack:
            parent = self.stack[-1]
            if parent.valued is None:
                parent.valued = []
            parent.valued.append((frame.valued_at, end, frame.name or b""))

    def taint(self, frame: _Frame) -> None:
        valued = frame.valued or []
        given = [
            self.data[start:end].strip(b'"') for start, end, key in valued if key not in (b"msg", b"message", b"detail")
        ]
        for start, end, key in valued:
            if key in (b"msg", b"message", b"detail"):
                # The text of a validation error is worth keeping, unless it repeats what was refused.
                text = self.data[start:end]
                if not any(g and g in text for g in given):
                    continue
            self.stack.append(frame)
            self.mask(start, end, -1, key)
            self.stack.pop()

    def sensitive_key(self, j: int) -> None:
        """`{"password=hunter2": ""}`: the key itself holds the value."""
        raw = self.string(j)
        if b"=" in raw or b":" in raw or len(raw) > 200:
            self.spans.append((self.at(j) - 1, self.ends[j] + j + 1))
            hidden_text(self.redacted, raw, self.names)

    def mask(self, start: int, end: int, key: int, name: bytes | None = None, *, is_secret: bool = True) -> None:
        """is_secret: False when the span only holds one, which was collected before."""
        self.spans.append((start, end))
        if is_secret:
            hidden_json(self.redacted, self.data[start:end])
        if len(self.spans) > SPANS_MAX:
            raise TooDense
        if len(self.redacted) >= PATHS_MAX or self.paths_made > 4 * PATHS_MAX:
            return
        self.paths_made += 1  # many masks may share one path
        path = self.base
        for frame in self.stack[1:]:
            if frame.name is not None:
                path += "." + shown(frame.name)
            if not frame.object:
                path += "[]"
            if len(path) > PATH_MAX:
                break
        if name is None and key >= 0 and self.stack[-1].object:
            name = self.string(key)
        if name is not None:
            path += "." + shown(name)
        path = path[:PATH_MAX]
        if path not in self.redacted:
            self.redacted.append(path)

    def spliced(self) -> bytes:
        parts: list[Any] = []
        last = 0
        for start, end in sorted(self.spans):
            if start < last:  # inside a value that is masked whole
                continue
            parts += (self.data[last:start], MASK)
            last = end
        parts.append(self.data[last:])
        return b"".join(parts)
