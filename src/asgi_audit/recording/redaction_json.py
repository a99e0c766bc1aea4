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

import orjson

from .names import CLEAN, CODE, LABEL, LOOSE, SENSITIVE, VALUED, Found, Names
from .redaction_document import CONTAINERS_MAX, DOUBTFUL_MAX, INNER_MAX, PIECES_MAX, Document, Frame
from .redaction_kinds import Kinds, TooDense
from .redaction_labels import (
    COLUMNS,
    ROW,
    VALUE_KEYS,
    WEAK_LABELS,
    describes,
    is_empty,
    kept_beside,
    names_field,
    row_spans,
)
from .redaction_noted import hide
from .redaction_shapes import aws_secret_in, has_aws_id
from .redaction_short import (
    BRACKET,
    COLONS,
    COMMAS,
    SCALAR_END,
    SPACE,
    shortcut,
)  # fmt: skip
from .redaction_tables import TooWide, mask_list_items, mask_table
from .reflection import Redacted

__all__ = ["CONTAINERS_MAX", "PIECES_MAX", "TooDense", "hides_json", "redact_json", "speaks_oauth"]

_DESCRIBED_MAX = 6
_COLUMNS_MAX = 500
_WORD_MAX = 20
_DESCRIPTION_COST = 300  # what beginning one costs, in bytes
_WORD = re.compile(rb'"[A-Za-z_ -]{1,40}"')
_CODE_OF_OAUTH = re.compile(rb"\"code\\*\"[ \t\r\n]*+:[ \t\r\n]*+\\*\"[^\"\s\\]{12}")
# Without the quote at their end, which is escaped in JSON in a string.
_OAUTH_BESIDE = (
    b'"redirect_uri',
    b'"redirectUri',
    b'"code_verifier',
    b'"codeVerifier',
    b'"client_id',
    b'"clientId',
)


def speaks_oauth(data: bytes) -> bool:
    """Whether a `code` of this document, or of one in a string of it, is one of OAuth's, though no name in it is
    sensitive: beside what only OAuth has, or a long one beside `state`."""
    if data.find(b'"code') < 0:
        return False
    if any(data.find(name) >= 0 for name in _OAUTH_BESIDE):
        return True
    return data.find(b'"state') >= 0 and _CODE_OF_OAUTH.search(data) is not None


def redact_json(
    data: bytes,
    names: Names,
    base: str,
    redacted: list[str],
    found: Found | None = None,
    kinds: Kinds | None = None,
) -> bytes:
    """`data` with the sensitive values masked; their paths (`base.user.password`) are added to `redacted`.

    found: what `names.found` answered of these bytes. kinds: to be filled, for who has to look at the body again.
    Raises TooDense."""
    oauth = speaks_oauth(data)
    aws = has_aws_id(data)
    if not oauth and not aws and (short := shortcut(data, names, base, redacted, found)) is not None:
        return short
    walk = _Walk(data, Kinds(names) if kinds is None else kinds, base, redacted, oauth)
    walk.values_hit = aws or (oauth and walk.escaped)  # each string must be looked at
    if not walk.values_hit:
        if walk.few():
            return walk.spliced()
        if not walk.values_hit:
            walk.run(deep=False)
    if walk.values_hit or names.hit(walk.clean_values()):
        # A string that is no field of a sensitive name holds one (JSON in JSON, GraphQL, text): look at each.
        walk.run(deep=True)
    return walk.spliced()


def hides_json(raw: bytes, names: Names, redacted: list[str] | None, kinds: Kinds | None = None) -> bool | None:
    """Whether a text that is a JSON document of its own holds a secret: its fields tell more exactly than the rules of
    text. None: it is none. The secrets are noted in `redacted`, no paths."""
    inner = Redacted()
    if type(redacted) is Redacted:
        inner.values, inner.spans = redacted.values, redacted.spans
    try:
        orjson.loads(raw)
        redact_json(raw, names, "", inner, kinds=kinds)
    except TooDense:
        return True
    except orjson.JSONDecodeError:
        return None
    return bool(inner)


class _Walk(Document):
    """Visits every string of the document."""

    deep = False
    pending = CLEAN  # the kind of the key whose value comes next
    skip_depth = -1  # depth of the container that is masked whole
    skip_from = 0
    depth = 0

    def run(self, deep: bool) -> None:
        pieces = self.pieces
        self.names.look(64 * len(pieces) + 128 * self.opened_count)
        self.deep = deep
        self.spans = []
        self.values = []
        self.paths_made = 0
        self.pending = CLEAN  # the kind of the key whose value comes next
        self.key = -1
        self.skip_depth = -1  # depth of the container that is masked whole
        self.skip_from = 0
        self.depth = 0
        self.stack = [Frame(False, None)]
        self.structure(0, 0)
        known = self.names._cache.get
        values = self.values
        for j in range(1, len(pieces), 2):
            p = pieces[j + 1]
            if self.skip_depth >= 0:
                if p not in COLONS and p not in COMMAS:
                    self.structure(j + 1, 0)
                continue
            if p in COLONS:
                kind = known(pieces[j])
                self.pending = self.kind_of(j) if kind is None else kind
                self.key = j
                if self.described and len(self.stack) == 2 and self.string(j) in VALUE_KEYS:
                    self.pending = SENSITIVE
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
                if self.described and len(self.stack) == 2 and self.string(j) in VALUE_KEYS:
                    self.pending = SENSITIVE
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
                label = self.string(self.key)
                if label == b"kind" and self.string(j) != b"Secret":  # of Kubernetes; other kinds are of anything
                    pass
                elif label in WEAK_LABELS:
                    frame.labelled = self.string(j)
                else:
                    frame.tainted = True
        elif kind == VALUED:
            self.note(frame, self.at(j) - 1, self.ends[j] + j + 1)
        if self.deep and self.suspicious(self.string(j)):
            self.mask(self.at(j) - 1, self.ends[j] + j + 1, self.key if frame.object else -1, is_secret=False)
            if frame.object and self.string(self.key) == b"query":
                frame.tainted = True  # GraphQL: `login(password:$p)`, and `variables` says what $p is
        else:
            self.values.append(j)

    def element(self, frame: Frame, j: int) -> None:
        """A string in an array: the field's name in `loc`, or half of a pair such as ["Authorization", "Bearer …"]."""
        frame.count += 1
        if frame.labels and self.names_field(j) and len(self.stack) > 1:
            self.stack[-2].tainted = True
        around = self.stack[-2] if len(self.stack) > 2 else None
        if around is None or frame.count > _COLUMNS_MAX:
            return
        pair = not around.object and frame.count == 1
        if pair or frame.name in COLUMNS or not (around.object or around.count):
            raw = self.string(j)
            known = self.names._cache.get(raw) is not None or (len(raw) <= 100 and self.names.hit(raw))
            if known and self.names_field(j):
                if frame.columns is None:
                    frame.columns = set()
                frame.columns.add(frame.count - 1)
                frame.first_sensitive |= pair
        if frame.count == 2 and frame.first_sensitive:
            frame.second = (self.at(j) - 1, self.ends[j] + j + 1)

    def suspicious(self, raw: bytes) -> bool:
        if len(raw) < _WORD_MAX and raw.replace(b"_", b"").isalpha():
            return False  # a word alone; the shortest secret that its form tells is an id of AWS
        if b"\\" in raw:
            raw = orjson.loads(b'"' + raw + b'"').encode()
        self.names.look(len(raw))
        if self.aws and aws_secret_in(raw):
            return True
        hit = self.names.hit(raw) or (self.oauth and speaks_oauth(raw))
        if hit or 37 in raw or (92 in raw and raw.find(b"\\u00") >= 0):
            self.doubtful += 2 if hit else 1
            if self.doubtful > DOUBTFUL_MAX:
                raise TooDense
        if not hit:
            return False
        if raw.lstrip()[:1] in (b"{", b"["):
            self.inner += 1
            if self.inner > INNER_MAX:
                raise TooDense
            told = hides_json(raw, self.names, self.redacted, self.kinds)
            if told is not None:
                return told
        if self.names.reveals(raw):
            hide(self.redacted, raw, self.names)
            return True
        if 10 in raw:
            try:
                return mask_list_items(mask_table(raw, self.names, self.redacted), self.names, self.redacted) != raw
            except TooWide:
                return True
        return False

    def names_field(self, j: int) -> bool:
        """Whether a string is the name of a sensitive field, and no sentence that mentions one."""
        raw = self.string(j)
        return len(raw) <= 100 and names_field(raw, self.kind_of(j))

    def note(self, frame: Frame, start: int, end: int) -> None:
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
        frame = Frame(is_object, self.string(self.key) if parent.object else None, at)
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
                if is_empty(self.data[self.skip_from : min(end, self.skip_from + 20)]):
                    return
                if self.data[self.skip_from] != 123 or not self.description(self.skip_from, end):
                    self.mask(self.skip_from, end, self.key)
            return
        self.pending = CLEAN
        frame = self.stack.pop()
        named = frame.tainted or frame.labelled is not None
        if named and frame.valued:
            self.taint(frame)
        elif frame.second is not None and frame.count == 2:
            self.mask(*frame.second, -1)
        if frame.columns is not None and frame.object and frame.arrays:
            self.rows(frame)
        if frame.header is not None:
            self.rows_under_header(frame, end)
        parent = self.stack[-1]
        if frame.valued_at >= 0 and self.stack:
            if parent.valued is None:
                parent.valued = []
            parent.valued.append((frame.valued_at, end, frame.name or b""))
        if not parent.object:
            parent.count += 1
            if named and frame.object:
                if parent.columns is None:
                    parent.columns = set()
                parent.columns.add(parent.count - 1)
            elif parent.count == 1 and not frame.object and frame.columns:
                parent.header = frame.columns, frame.count, end
        elif not frame.object:
            if parent.arrays is None:
                parent.arrays = []
            parent.arrays.append((frame.at, end, frame.name or b""))
            if frame.columns is not None and frame.name in COLUMNS:
                parent.columns = frame.columns

    def rows(self, frame: Frame) -> None:
        """`{"columns": ["id", "password"], "rows": [[1, "x"]]}`: the values under the sensitive columns."""
        for start, end, key in frame.arrays or ():
            if key in COLUMNS and key not in ROW:
                continue
            if not self.takes(end - start):
                self.stack.append(frame)
                self.mask(start, end, -1, key)
                self.stack.pop()
                continue
            flat = key in ROW and self.data[start + 1 : end].lstrip()[:1] not in (b"[", b"{")
            for span in row_spans(self.data, start, end, frame.columns or set(), 1 if flat else 2):
                self.stack.append(frame)
                self.mask(*span, -1, key)
                self.stack.pop()

    def rows_under_header(self, frame: Frame, end: int) -> None:
        """`[["id", "password"], [1, "x"]]`. Of pairs whose first is sensitive, the second was masked as its value."""
        assert frame.header is not None
        columns, count, header = frame.header
        if not self.takes(end - frame.at):
            self.mask(frame.at, end, -1)
            return
        pairs = count == 2 and columns == {0}
        for start, stop in row_spans(self.data, header, end, columns, 1):
            if not (pairs and _WORD.fullmatch(self.data, start, stop)):
                self.mask(start, stop, -1)

    def takes(self, size: int) -> bool:
        """Whether so many bytes may be walked again."""
        self.room[0] -= size
        return self.room[0] >= 0

    def description(self, start: int, end: int) -> bool:
        """A description of the sensitive field, not its value: only what stands under `example` and the like goes."""
        if self.described >= _DESCRIBED_MAX or not self.takes(end - start + _DESCRIPTION_COST):
            return False
        if not describes(self.data[start:end]):
            return False
        walk = _Walk(self.data[start:end], self.kinds, self.path(self.key), self.redacted, self.oauth)
        walk.described = self.described + 1
        walk.room = self.room
        walk.run(deep=True)
        self.spans += [(start + a, start + b) for a, b in walk.spans]
        return True

    def taint(self, frame: Frame) -> None:
        valued = frame.valued or []
        given = [
            self.data[start:end].strip(b'"') for start, end, key in valued if key not in (b"msg", b"message", b"detail")
        ]
        for start, end, key in valued:
            if not frame.tainted and frame.labelled is not None and kept_beside(frame.labelled, key):
                continue
            if key in (b"msg", b"message", b"detail"):
                # The text of a validation error is worth keeping, unless it repeats what was refused.
                text = self.data[start:end]
                if not any(g and g in text for g in given):
                    continue
            self.stack.append(frame)
            self.mask(start, end, -1, key)
            self.stack.pop()
