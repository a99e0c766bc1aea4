"""The grammar of JSON: valid, and cut at the end.

Where the usual case allows it the decision falls near the alarm: a scalar behind its key, a text that holds a secret by
its own form. A tree is made only where context is needed: containers under a sensitive name, labels, tables, GraphQL
variables, cut documents. Of the tree only what holds an alarm is visited.

A cut document is closed where it ends. What a name that was cut off might have told about is masked: a `value` beside a
label that did not come yet, `rows` without their `columns`, `variables` without their query.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Any

from .forms import cards
from .layers import Edit, json_string
from .names import CODE, COUNT, MADE, MANY, NO, TEXT, YES, norm
from .record import MASK, Record, TooCostly, shown
from .scan import CODE_KEY, COMMAND, NAME, Alarm
from .tables import words

__all__ = ["json_edits", "may_need_partner"]

# Matched where the last one ended, never searched for: a search that failed would begin again at each space before.
_TOKEN = re.compile(
    rb'[\s,]*+(?:("[^"\\]*+(?:\\.[^"\\]*+)*")([ \t\r\n]*+:)?|([{\[])|([}\]])|([^\s{}\[\],:"]+))', re.S
).match
_OPEN_STRING = re.compile(rb'[\s,]*+("[^"\\]*+(?:\\.[^"\\]*+)*\\?)\Z', re.S)
_BLANK_END = re.compile(rb"[\s,]*+:?\s*+\Z")
_SCALAR = re.compile(rb"-?[0-9][0-9.eE+-]*|true|false|null")
_BOOLEAN = frozenset((b"true", b"false", b"null"))
_ESCAPED = re.compile(rb"\\.", re.S)
_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_ERRORS = frozenset(["errors", "error", "fielderrors", "validationerrors", "messages", "violations", "invalid"])
_SAID = frozenset(
    b"is isn't was must has have should required too invalid not cannot can't needs contain match expired least".split()
)
_MIXED = re.compile(rb"[0-9][A-Za-z]|[A-Za-z][0-9]|[0-9]{4}|[^\s]{20}|[a-z][A-Z]|[!$%&=@#/\\\\]")
_PLAIN_WORD = re.compile(rb"[ \xe2\x96\x81#]*[A-Za-z]{0,11}[.,;:!?'-]?")  # a token of a language
_SCALAR_END = re.compile(rb"[,\]}\s]|\Z")
_BRACKET = re.compile(rb"[\[\]{}]")
_QUOTED_MASK = b'"' + MASK + b'"'
_NEAR_MAX = 2_000  # alarms
_PATHS_NEAR = 200  # values whose paths are noted
_SEPARATORS = frozenset((b":", b": ", b",", b", ", b" : ", b" :", b",\n"))
_DEEP_MAX = 150
_COUNT_MAX = 9  # digits of a number that may count something

_LABELS, _WEAK_LABELS, _VALUED, _MEANT = (frozenset(words(t)) for t in ("labels", "weak_labels", "valued", "meant"))
_COLUMNS = frozenset(words("columns"))
_DESCRIBING, _VALUE_KEYS = frozenset(words("describing")), frozenset(words("value_keys"))
_OAUTH = frozenset(map(norm, words("oauth")))
_LAST = re.compile(rb"[/.\[\]]+")
_PATHS = frozenset(("path", "pointer", "instancepath", "datapath", "propertypath", "field", "name", "location"))
_NOT_BESIDE_WEAK = frozenset(("instance", "context", "ctx", "from", "to", "current", "previous", "received"))
_OFTEN_SOMETHING_ELSE = frozenset(
    ["token", "tokens", "session", "auth", "cookie", "signature", "credential", "credentials"]
)
_NAMES_COLUMN = frozenset((b"name", b"field", b"key", b"label", b"title"))
_ROW = frozenset(("values", "row", "data", "cells", "record", "body"))
_PARTNERED = frozenset(("rows", "variables", "params", "bindings"))
_QUERIES = frozenset(("query", "sql", "statement", "mutation", "text", "q"))
_BOUND = frozenset(("variables", "params", "parameters", "args", "bindings", "values"))
_PLACEHOLDER = re.compile(
    rb"\b([A-Za-z_]\w{0,60})\b[\"'`\])]{0,3}\s{0,3}(?:[:=]|=>|like|in)\s{0,3}\(?\s?[$:@]([A-Za-z_]\w{0,60})", re.I
)
_POSITIONAL = re.compile(rb"\?|%s|[$:][0-9]")
_OPERATORS = frozenset((b"=", b"==", b"eq", b"!=", b"ne", b"like", b"in", b"is", b"contains", b"~", b"equals"))
_PARTNER = re.compile(rb'"(?:value|values|val|answer|input|inputValue|default|rows|variables|params|bindings)\\{0,7}"')
_TOOLS = frozenset((b"curl", b"mysql", b"mysqldump", b"docker", b"sshpass", b"psql", b"wget", b"redis-cli", b"http"))
_TOOLS_GLUED = frozenset((b"mysql", b"mysqldump", b"mysqladmin", b"sshpass"))
_KEY_PARTS = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))  # RFC 7518, section 6
_TOOL_FLAGS = frozenset((b"-u", b"-p", b"--user", b"-P", b"-a"))


def may_need_partner(data: bytes) -> bool:
    """Whether a cut document has a value whose name may have been cut off."""
    return _PARTNER.search(data) is not None


def json_edits(
    record: Record, data: bytes, alarms: list[Alarm], depth: int, base: str, *, cut: bool = False
) -> list[Edit] | None:
    """Edits of a JSON document; None when it is broken. base: paths are noted when it is not empty."""
    if not cut and len(alarms) <= _NEAR_MAX:
        edits = _near(record, data, alarms, depth, base)
        if edits is not None:
            return edits
    root = _parse(record, data, cut)
    if root is None:
        return None
    walk = _Walk(record, data, alarms, depth)
    walk.visit(root, NO, base)
    return walk.edits


# Near the alarm


def _near(record: Record, data: bytes, alarms: list[Alarm], depth: int, base: str) -> list[Edit] | None:
    """The usual case: few alarms, each in a key with a scalar, or in a text of its own. None: context is needed."""
    blank = _ESCAPED.sub(b"__", data) if 92 in data else data
    names = record.names
    if data.find(b'"logprob"') >= 0 or data.find(b"rrors") >= 0:
        return None  # what stands beside a name, or above it, says that it holds no secret
    edits: list[Edit] = []
    hidden: list[tuple[int, bytes]] = []
    done = 0
    record.spend(len(alarms))
    starts = [alarm.start for alarm in alarms]
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
        layer = record.charged(json_string(raw)) if 92 in raw else None
        plain = raw if layer is None else layer.plain
        done = end + 1
        colon = _COLON.match(blank, done)
        if colon is None:
            if alarm.what == COMMAND and plain.lower() in _TOOLS:
                return None
            if alarm.what == NAME and (plain.find(b"/secrets/") >= 0 or plain[-1:] in (b"?", b":")):
                return None
            if len(plain) <= 60 and (alarm.what == NAME or layer is not None) and names.is_field(plain):
                return None  # a label
            if alarm.what == NAME and _may_bind(plain):
                return None
            inside = None if layer is not None else _within(alarms, starts, quote + 1, end)
            found = record.inner(plain, depth + 1, inside)
            if found:
                edits += layer.back(found, quote + 1) if layer is not None else _moved(found, quote + 1)
                hidden.append((quote, b""))
            continue
        if alarm.what != NAME or 61 in plain or 58 in plain:
            return None
        kind = names.kind(plain)
        begin = colon.end()
        first = blank[begin : begin + 1]
        if kind == CODE or first in (b"{", b"["):
            return None
        if kind == NO:
            continue
        if first == b'"':
            stop = blank.find(b'"', begin + 1)
            value = data[begin + 1 : stop]
            done = stop + 1
            under = record.charged(json_string(value)) if 92 in value else None
            found = record.value(value if under is None else under.plain, kind, depth)
            if not found:
                continue
            edits += under.back(found, begin + 1) if under is not None else _moved(found, begin + 1)
        else:
            scalar = _SCALAR_END.search(blank, begin)
            done = scalar.start() if scalar else len(data)
            value = data[begin:done]
            if value in _BOOLEAN or (
                kind != YES and not (value.isdigit() and len(value) > _COUNT_MAX and kind != MADE)
            ):
                continue
            record.hide(value)
            edits.append(Edit(begin, done, _QUOTED_MASK))
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


def _moved(edits: list[Edit], base: int) -> list[Edit]:
    return [Edit(base + s, base + e, new) for s, e, new in edits]


def _within(alarms: list[Alarm], starts: list[int], start: int, end: int) -> list[Alarm]:
    here = alarms[bisect_left(starts, start) : bisect_left(starts, end)]
    return [Alarm(a.start - start, a.end - start, a.what, a.kind) for a in here]


def _may_bind(plain: bytes) -> bool:
    """Whether this may be a query whose variables stand elsewhere: `login(password:$p)`, `password = ?`."""
    return (36 in plain or 58 in plain or 63 in plain or b"%s" in plain) and (
        _PLACEHOLDER.search(plain) is not None or _POSITIONAL.search(plain) is not None
    )


def _walk_to(stack: list[str], blank: bytes, start: int, end: int) -> None:
    """Keeps the pieces of a path, of the containers that are open where a string begins, from one string to
    another."""
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


# The tree


_LEAF: list[Any] = []  # of strings and numbers, never added to: a list for each took a third of the time


class _Node:
    """A value. what: its first byte, a quote or a bracket; `#` for a number or word. Items of an object have keys."""

    __slots__ = ("end", "items", "open", "start", "what")

    def __init__(self, what: int, start: int, end: int) -> None:
        self.what = what
        self.start = start
        self.end = end
        self.open = False
        self.items: list[tuple[_Node | None, _Node]] = [] if what in (123, 91) else _LEAF


_STRING, _OTHER, _OBJECT, _ARRAY = 34, 35, 123, 91


def _parse(record: Record, data: bytes, cut: bool) -> _Node | None:
    """The tree; None when it is broken. cut: what is open at the end is closed there."""
    top = _Node(_ARRAY, 0, len(data))
    stack = [top]
    key: _Node | None = None
    done = 0
    budget = 0
    while (m := _TOKEN(data, done)) is not None:
        what = m.lastindex
        done = m.end()
        budget += 1
        if budget == 1_000:
            record.spend(budget >> 1)
            budget = 0
        holder = stack[-1]
        if what == 2:
            if holder.what != _OBJECT or key is not None:
                return None
            key = _Node(_STRING, *m.span(1))
            continue
        if what == 4:
            if len(stack) == 1 or key is not None or (holder.what == _OBJECT) != (data[done - 1] == 125):
                return None
            stack.pop().end = done
            continue
        if holder.what == _OBJECT and key is None:
            if cut and what == 1 and _BLANK_END.match(data, done):
                break  # cut between a key and its colon
            return None
        if what == 3:
            node = _Node(data[done - 1], done - 1, len(data))
            stack.append(node)
        elif what == 1:
            node = _Node(_STRING, *m.span(1))
        else:
            node = _Node(_OTHER, *m.span(5))
            if not _SCALAR.fullmatch(data, node.start, node.end) and not (cut and done == len(data)):
                return None
        holder.items.append((key, node))
        key = None
    record.spend(budget >> 1)
    if done < len(data):
        m_open = _OPEN_STRING.match(data, done)
        if m_open is not None and cut:
            node = _Node(_STRING, m_open.start(1), len(data))
            node.open = True
            if stack[-1].what != _OBJECT or key is not None:
                stack[-1].items.append((key, node))
        elif not _BLANK_END.match(data, done):
            return None
    if len(stack) > 1:
        if not cut:
            return None
        for node in stack[1:]:
            node.open = True
    return top.items[0][1] if len(top.items) == 1 else top


_TELLING = _LABELS | _WEAK_LABELS | _COLUMNS | _MEANT | _PARTNERED | _QUERIES | {"kind", "code", "logprob", "kty"}
_KEY_MAY_HOLD = re.compile(rb"[:={%&<@?/ ]")


class _Shape:
    """The keys of an object. told: one of them may tell what a member is. long: the key may hold a secret itself."""

    __slots__ = ("kinds", "long", "lows", "names", "shown", "told")

    def __init__(self, names: list[bytes], kinds: list[int], form_min: int) -> None:
        self.names = names
        self.kinds = kinds
        self.lows = [norm(name.decode("utf-8", "replace")) for name in names]
        self.shown = [shown(name) for name in names]
        self.told = not _TELLING.isdisjoint(self.lows)
        self.long = [len(name) >= form_min or _KEY_MAY_HOLD.search(name) is not None for name in names]


class _Walk:
    """Visits what holds an alarm."""

    def __init__(self, record: Record, data: bytes, alarms: list[Alarm], depth: int) -> None:
        self.record = record
        self.names = record.names
        self.data = data
        self.starts = [alarm.start for alarm in alarms]
        self.depth = depth
        self.edits: list[Edit] = []
        self.said = False  # the object that is visited next tells errors by field
        self.shapes: dict[tuple[bytes, ...], _Shape] = {}

    def alarmed(self, node: _Node) -> bool:
        at = bisect_left(self.starts, node.start)
        return at < len(self.starts) and self.starts[at] < node.end

    def text(self, node: _Node) -> bytes:
        """A string, decoded."""
        raw = self.data[node.start + 1 : node.end - (not node.open)]
        return self.record.charged(json_string(raw)).plain if 92 in raw else raw

    def leaves(self, node: _Node) -> None:
        """All strings and numbers below are searched for in the record."""
        todo = [node]
        while todo:
            node = todo.pop()
            if node.what == _STRING:
                self.record.hide(self.text(node))
            elif node.what == _OTHER:
                self.record.hide(self.data[node.start : node.end])
            else:
                todo += [item for _, item in node.items]

    def mask(self, node: _Node, path: str) -> None:
        """All of a value, but true, false, null and what is empty."""
        if node.what == _OTHER:
            if self.data[node.start : node.end] in _BOOLEAN:
                return
        elif node.what == _STRING:
            if not self.text(node):
                return
        elif not node.items:
            return
        self.leaves(node)
        self.edits.append(Edit(node.start, node.end, _QUOTED_MASK))
        if path:
            self.record.note(path)

    def visit(self, node: _Node, kind: int, path: str, deep: int = 0) -> None:
        if kind == NO and not node.open and not self.alarmed(node):
            return
        if deep > _DEEP_MAX:
            raise TooCostly
        if node.what == _STRING:
            self.string(node, kind, path)
        elif node.what == _OTHER:
            raw = self.data[node.start : node.end]
            long = kind in (COUNT, MANY, TEXT) and len(raw) > _COUNT_MAX and raw.isdigit()
            if kind == YES or long or (len(raw) > 12 and next(cards(raw.lstrip(b"-")), None)):
                self.mask(node, path)
        elif node.what == _OBJECT:
            if kind == YES and node.items:
                if self.describes(node):
                    for key, item in node.items:
                        name = self.text(key) if key is not None else b""
                        self.visit(
                            item,
                            YES if name.decode("utf-8", "replace") in _VALUE_KEYS else NO,
                            f"{path}.{shown(name)}" if path else "",
                            deep + 1,
                        )
                    return
                self.mask(node, path)
                return
            if kind in (COUNT, MANY) and self.has_text(node):
                self.mask(node, path)
                return
            self.object(node, path, deep)
        else:
            if kind == YES or (kind in (TEXT, MANY, COUNT) and self.has_text(node)):
                self.mask(node, path)
                return
            self.array(node, path + "[]" if path else "", deep)

    def has_text(self, node: _Node) -> bool:
        """Whether a string, or a number too long for a count, stands in this container."""
        todo = [item for _, item in node.items]
        while todo:
            node = todo.pop()
            if node.what in (_OBJECT, _ARRAY):
                todo += [item for _, item in node.items]
            elif (node.what == _STRING and not _PLAIN_WORD.fullmatch(self.text(node))) or (
                node.end - node.start > _COUNT_MAX and self.data[node.start : node.end].isdigit()
            ):
                return True
        return False

    def string(self, node: _Node, kind: int, path: str) -> None:
        raw = self.data[node.start + 1 : node.end - (not node.open)]
        if node.open:
            raw = raw[: raw.rfind(b"\\")] if raw[-6:].find(b"\\") >= 0 else raw
        layer = self.record.charged(json_string(raw)) if 92 in raw else None
        found = self.record.value(raw if layer is None else layer.plain, kind, self.depth)
        if found:
            self.edits += layer.back(found, node.start + 1) if layer is not None else _moved(found, node.start + 1)
            if path:
                self.record.note(path)

    def describes(self, node: _Node) -> bool:
        """Whether this object under a sensitive name describes the field: a schema of it, its label and errors."""
        keys = {self.text(key).decode("utf-8", "replace") for key, _ in node.items if key is not None}
        return not keys.isdisjoint(_DESCRIBING) and all(
            key in _DESCRIBING or key in _VALUE_KEYS or key.startswith("x-") for key in keys
        )

    # Objects

    def object(self, node: _Node, path: str, deep: int) -> None:
        shape = self.shape(node)
        said, self.said = self.said, False
        kinds = shape.kinds
        columns: set[int] = set()
        if shape.told or node.open:
            told = self.told(node, shape.lows)
            if told:
                kinds = [told.get(at, kind) for at, kind in enumerate(kinds)]
            columns = self.columns(node, shape.lows)
        for at, (key, item) in enumerate(node.items):
            kind = kinds[at]
            name = shape.shown[at]
            if shape.long[at] and key is not None and self.alarmed(key) and self.key(key, shape.names[at], path):
                name = MASK.decode()
            if kind == NO and not item.open and not self.alarmed(item) and not columns:
                continue
            here = f"{path}.{name}" if path else ""
            if kind == YES and said and self.sentences(item):
                kind = NO
            if columns and item.what == _ARRAY and (shape.lows[at] not in _COLUMNS or shape.lows[at] in _ROW):
                self.rows(item, columns, here)
            self.said = shape.lows[at] in _ERRORS and item.what == _OBJECT
            self.visit(item, kind, here, deep + 1)

    def sentences(self, node: _Node) -> bool:
        """Whether this is what a validation says of a field: sentences, and no word that a machine made."""
        items = [item for _, item in node.items] if node.what == _ARRAY else [node]
        for item in items:
            if item.what != _STRING:
                return False
            words = self.text(item).lower().split()
            if _SAID.isdisjoint(words) or any(_MIXED.search(word) for word in self.text(item).split()):
                return False
        return bool(items)

    def shape(self, node: _Node) -> _Shape:
        """What the keys of this object are; rows of a list have the same."""
        raw = tuple([self.data[key.start : key.end] if key is not None else b"" for key, _ in node.items])
        known = self.shapes.get(raw)
        if known is None:
            names = [self.text(key) if key is not None else b"" for key, _ in node.items]
            kinds = [self.names.kind(name) for name in names]
            self.record.spend(4 * len(names))
            kinds = [NO if kind == CODE else kind for kind in kinds]
            known = self.shapes[raw] = _Shape(names, kinds, self.record.scan.form_min)
        return known

    def key(self, key: _Node, name: bytes, path: str) -> bool:
        """Masks what is secret in a key; returns whether something is."""
        found = self.record.inner(name, self.depth + 1)
        if not found:
            return False
        raw = self.data[key.start + 1 : key.end - 1]
        self.edits += json_string(raw).back(found, key.start + 1) if 92 in raw else _moved(found, key.start + 1)
        if path:
            self.record.note(path + "." + MASK.decode())
        return True

    def told(self, node: _Node, lows: list[str]) -> dict[int, int]:
        """Kinds of members, by their place, that something beside them tells."""
        kinds: dict[int, int] = {}
        strong, weak = self.label(node, lows)
        if node.open and strong is None:
            cut_label = any(low in _LABELS and item.open for low, (_, item) in zip(lows, node.items, strict=True))
            for at, low in enumerate(lows):
                if low in _MEANT or low in _PARTNERED or (cut_label and low in _VALUED):
                    kinds[at] = YES
        if strong is not None or weak is not None:
            vague = strong is None and weak is not None and norm(weak.decode()) in _OFTEN_SOMETHING_ELSE
            for at, low in enumerate(lows):
                if low in (_MEANT if vague else _VALUED) and (strong is not None or low not in _NOT_BESIDE_WEAK):
                    kinds[at] = YES
        present = set(lows)
        if "logprob" in present and "token" in present:  # of a language model
            kinds[lows.index("token")] = NO
        if "code" in present and (present & _OAUTH):
            at = lows.index("code")
            item = node.items[at][1]
            if present & _OAUTH > {"state"} or present & (_OAUTH - {"state", "scope", "iss"}) or self.long(item):
                kinds[at] = YES
        if "kty" in present:  # a JSON web key: its private parts
            kinds.update({at: YES for at, low in enumerate(lows) if low in _KEY_PARTS})
        for at, (_, item) in enumerate(node.items):
            if item.what != _STRING:
                continue
            if lows[at] == "kind" and self.text(item) == b"Secret":  # of Kubernetes
                kinds.update({k: YES for k, low in enumerate(lows) if low in ("data", "stringdata")})
            elif lows[at] in _QUERIES and self.alarmed(item):
                self.bind(node, lows, self.text(item), kinds)
        return kinds

    def long(self, node: _Node) -> bool:
        """`code` beside `state` alone: one of OAuth's is long."""
        return node.what == _STRING and node.end - node.start >= 14 and 32 not in self.data[node.start : node.end]

    def label(self, node: _Node, lows: list[str]) -> tuple[bytes | None, bytes | None]:
        """The sensitive names that members of this object say it is about: surely, and perhaps."""
        strong = weak = None
        for low, (_, item) in zip(lows, node.items, strict=True):
            sure = low in _LABELS
            if not sure and low not in _WEAK_LABELS:
                continue
            text = None
            if item.what == _STRING and not item.open and self.alarmed(item):
                text = self.text(item)
                if low in ("question", "prompt") and text[-1:] in (b"?", b":") and self.alarmed(item):
                    weak = b"password"
                if low == "id" and text.find(b"/secrets/") >= 0:  # of a vault
                    strong = b"secret"
                if low in _PATHS and len(text) <= 200:
                    text = _LAST.split(text.strip(b"/.[]#"))[-1]
            elif item.what == _ARRAY and low in ("loc", "path", "location"):
                text = next((self.text(part) for _, part in reversed(item.items) if part.what == _STRING), None)
            if text and self.names.is_field(text):
                if sure:
                    strong = text
                else:
                    weak = text
        return strong, weak

    def bind(self, node: _Node, lows: list[str], query: bytes, kinds: dict[int, int]) -> None:
        """The variables of a query: those that a sensitive name takes, or all when they go by place."""
        if len(query) > 20_000:
            raise TooCostly
        bound = {m[2] for m in _PLACEHOLDER.finditer(query) if self.names.kind(m[1]) in (YES, TEXT)}
        by_place = _POSITIONAL.search(query) is not None
        for at, low in enumerate(lows):
            item = node.items[at][1]
            if low not in _BOUND or not (bound or by_place):
                continue
            if item.what == _ARRAY and by_place:
                kinds[at] = YES
            elif item.what == _OBJECT:
                for key, member in item.items:
                    if key is not None and (self.text(key) in bound):
                        self.mask(member, "")
            elif item.what == _STRING:
                kinds[at] = YES

    # Tables

    def columns(self, node: _Node, lows: list[str]) -> set[int]:
        """Places of the sensitive columns that a member of this object names."""
        for at, (_, item) in enumerate(node.items):
            if lows[at] in _COLUMNS and item.what == _ARRAY and self.alarmed(item):
                found = {k for k, (_, cell) in enumerate(item.items[:500]) if self.names_column(cell)}
                if found:
                    return found
        return set()

    def names_column(self, cell: _Node) -> bool:
        if cell.what == _STRING:
            return self.alarmed(cell) and self.names.is_field(self.text(cell))
        if cell.what != _OBJECT or not self.alarmed(cell):
            return False
        return any(
            key is not None and item.what == _STRING and self.text(key) in _NAMES_COLUMN
            and self.names.is_field(self.text(item))
            for key, item in cell.items
        )  # fmt: skip

    def rows(self, table: _Node, columns: set[int], path: str) -> None:
        flat = bool(table.items) and table.items[0][1].what not in (_ARRAY, _OBJECT)
        for row in [table] if flat else [item for _, item in table.items]:
            if row.what == _ARRAY:
                self.record.spend(1)
                for column in columns:
                    if column < len(row.items):
                        self.mask(row.items[column][1], path)

    def array(self, node: _Node, path: str, deep: int) -> None:
        items = [item for _, item in node.items]
        if items and all(item.what == _ARRAY for item in items):
            self.pairs_or_table(items, path)
        flag = False
        for at, item in enumerate(items):
            if item.what == _STRING and (
                flag or at + 1 < len(items) or self.data[item.start + 1 : item.start + 3] == b"-p"
            ):
                text = self.text(item) if flag or self.data[item.start + 1 : item.start + 2] == b"-" else b""
                if flag and text.strip(b"0123456789:.") == b"" and b":" in text:  # `-p 80:80`
                    flag = False
                if flag and not text.startswith(b"-"):
                    self.mask(item, path)
                    flag = False
                    continue
                flag = text[:1] == b"-" and self.tells(text, items[0])
                glued = text[:2] == b"-p" and len(text) > 2 and items[0].what == _STRING
                if glued and self.text(items[0]).rpartition(b"/")[2] in _TOOLS_GLUED:  # ["mysql", "-px"]
                    self.mask(item, path)
                    continue
            self.visit(item, NO, path, deep + 1)

    def tells(self, flag: bytes, first: _Node) -> bool:
        """Whether the next item of a command's list is the value of a sensitive flag."""
        if 61 not in flag and self.names.kind(flag.lstrip(b"-")) == YES:
            return True
        return flag in _TOOL_FLAGS and first.what == _STRING and self.text(first).rpartition(b"/")[2] in _TOOLS

    def pairs_or_table(self, rows: list[_Node], path: str) -> None:
        """`[["Authorization", "x"], …]`, and `[["id", "password"], [1, "x"]]` under a header."""
        first = rows[0].items
        head = {k for k, (_, cell) in enumerate(first[:500]) if self.names_column(cell)}
        pairs = all(len(row.items) == 2 or row.open for row in rows) and head <= {0}
        if pairs and len(rows) > 1 and head == {0} and self.heads(first[1][1]):
            pairs = False
        for number, row in enumerate(rows):
            self.record.spend(1)
            cells = [cell for _, cell in row.items]
            if head and not pairs and number:
                for column in head:
                    if column < len(cells):
                        self.mask(cells[column], path)
            elif pairs and len(cells) == 2 and self.names_column(cells[0]):
                self.mask(cells[1], path)
            elif (
                len(cells) == 3
                and cells[1].what == _STRING
                and self.text(cells[1]).lower() in _OPERATORS
                and self.names_column(cells[0])
            ):
                self.mask(cells[2], path)

    def heads(self, cell: _Node) -> bool:
        """`[["password", "email"], ["x", "y"]]`: both are names, so that this is a header and no pair."""
        return cell.what == _STRING and _HEADING.fullmatch(self.text(cell)) is not None


_HEADING = re.compile(
    rb"(?i:e?-?mail|user(?:_?name)?|name|id|login|role|city|phone|email_?address|created_?at|[a-z]+_id)"
)
