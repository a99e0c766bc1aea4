"""A JSON document as strings and what stands between them, for redaction_json: where its values are, their paths, and
the splicing of masks into its bytes.

Escaped quotes are blanked (same length), then one `split` at the quotes tells strings from structure.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import orjson

from .names import CODE, LOOSE, SENSITIVE, Names
from .redaction_kinds import Kinds, TooDense
from .redaction_labels import describes, is_empty
from .redaction_shapes import has_aws_id
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
    shown,
)  # fmt: skip
from .reflection import hidden_json, hidden_text

__all__ = ["CONTAINERS_MAX", "DOUBTFUL_MAX", "INNER_MAX", "PIECES_MAX", "Document", "Frame"]

PIECES_MAX = 16_000
CONTAINERS_MAX = 8_000
SPANS_MAX = 1_000
INNER_MAX = 200  # JSON documents in strings: 60 µs each
DOUBTFUL_MAX = 1_000  # strings with escapes of URLs or JSON in them, 15 µs each; twice as much with a sensitive name
ROOM = 32_768  # bytes of rows and descriptions that may be walked again


class Frame:
    """An open container. `name` is the key that it stands under; None in an array or at the root."""

    __slots__ = (
        "arrays", "at", "columns", "count", "first_sensitive", "header", "labelled", "labels", "name", "object",
        "second", "tainted", "valued", "valued_at",
    )  # fmt: skip

    def __init__(self, is_object: bool, name: bytes | None, at: int = 0) -> None:
        self.object = is_object
        self.name = name
        self.at = at
        self.tainted = False  # an object one of whose label keys names a sensitive field
        self.labelled: bytes | None = None  # the same by a weak label: its value
        self.labels = False  # an array under a label key: its strings name fields of the object around it
        self.valued: list[tuple[int, int, bytes]] | None = None  # spans of values that a taint masks, and their key
        self.valued_at = -1  # where this container begins, when it is such a value itself
        self.count = 0  # members of an array that are strings or containers
        self.first_sensitive = False
        self.second: tuple[int, int] | None = None
        self.columns: set[int] | None = None  # of an array: places of its sensitive names; of an object: its columns'
        # Of an array of rows: the sensitive columns of the first, their count, and where it ends.
        self.header: tuple[set[int], int, int] | None = None
        self.arrays: list[tuple[int, int, bytes]] | None = None  # of an object: spans of its arrays, and their keys


class Document:
    """oauth: whether a `code` in it is a secret. kinds: shared with the documents in its strings."""

    def __init__(self, data: bytes, kinds: Kinds, base: str, redacted: list[str], oauth: bool = False) -> None:
        self.data = data
        self.kinds = kinds
        self.names: Names = kinds.names
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
        self.opened_count = opened
        self.names.look(len(data) + 32 * len(self.pieces) + 128 * opened)
        self.ends = list(accumulate(map(len, self.pieces)))
        self.oauth = data.find(b"grant_type") >= 0 or oauth
        self.aws = has_aws_id(data)
        self.inner = 0  # JSON documents in strings
        self.doubtful = 0  # strings that need more than one look
        self.described = 0  # how many descriptions of fields this document stands in
        self.room = [ROOM]  # bytes of rows and descriptions that may be walked again
        self.spans: list[tuple[int, int]] = []
        self.values: list[int] = []
        self.stack: list[Frame] = [Frame(False, None)]
        self.paths_made = 0
        self.values_hit = False

    def at(self, piece: int) -> int:
        """Offset in the data of the first byte of a piece."""
        return self.ends[piece - 1] + piece if piece else 0

    def string(self, piece: int) -> bytes:
        """The string's own bytes, as they stand in the document."""
        string = self.pieces[piece]
        if 1 not in string:  # nothing in it was blanked
            return string
        return self.data[self.ends[piece - 1] + piece : self.ends[piece] + piece]

    def few(self) -> bool:
        """The common case, three times as fast as the walk: no string value holds a sensitive name, so that only the
        few sensitive keys matter. False: nothing was done, or not enough."""
        pieces = self.pieces
        known = self.names._cache.get
        keys: list[int] = []
        values: list[bytes] = []
        j = -1
        for string, after in zip(pieces[1::2], pieces[2::2], strict=True):
            j += 2
            if after not in COLONS and after.lstrip(SPACE)[:1] != b":":
                values.append(self.string(j) if 1 in string else string)
                continue
            kind = known(string)
            if kind is None:
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
            if first in (b"{", b"[") and end - start < 20 and is_empty(self.data[start:end]):
                continue
            if first == b"{" and describes(self.data[start:end]):
                return False
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
                        self.stack.append(Frame(m[0] == b"{", self.string(k - 1) if keyed else None))
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
        return self.kinds[self.string(key)]

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
            value = self.data[start:end]
            hidden_json(self.redacted, value)
            if value[1:8].lower() == b"bearer ":
                hidden_json(self.redacted, b'"' + value[8:].lstrip())
            elif value[:2] in (b'"{', b'"['):  # JSON in JSON: its parts too
                hidden_json(self.redacted, orjson.loads(value).encode())
        if len(self.spans) > SPANS_MAX:
            raise TooDense
        if len(self.redacted) >= PATHS_MAX or self.paths_made > 4 * PATHS_MAX:
            return
        self.paths_made += 1  # many masks may share one path
        path = self.path(key, name)
        if path not in self.redacted:
            self.redacted.append(path)

    def path(self, key: int, name: bytes | None = None) -> str:
        """Of the value of this key, or of this name, in the innermost container."""
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
        return path[:PATH_MAX]

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
