"""The walk through the tree of a JSON document, where context is needed. Only parts with an alarm are visited."""

from __future__ import annotations

import re

from .alarms import FORM, Alarm
from .forms import cards
from .json_beside import FLAGS, LABELS, MEANT, PARTNERED, QUERIES, WEAK_LABELS, answer_kinds, told_kinds
from .json_near import COUNT_MAX, TOOLS
from .json_reading import BOOLEAN, Reading
from .json_rows import COLUMNS, columns_of, mask_rows, pairs_or_table
from .json_tree import ARRAY, OBJECT, OTHER, STRING, Node
from .layers import JSON_STRING
from .names import ASKED, CODE, COUNT, MANY, NO, TEXT, YES, norm
from .record import CANDIDATE, MASK, Record, TooCostly, shown
from .tables import words

__all__ = ["Walk"]

_ERRORS = frozenset(["errors", "error", "fielderrors", "validationerrors", "messages", "violations", "invalid"])
_SAID = frozenset(
    b"is isn't was must has have should required too invalid not cannot can't needs contain match expired least".split()
)
_MIXED = re.compile(rb"[0-9][A-Za-z]|[A-Za-z][0-9]|[0-9]{4}|[^\s]{20}|[a-z][A-Z]|[!$%&=@#/\\\\]")
_PLAIN_WORD = re.compile(rb"[ \xe2\x96\x81#]*[A-Za-z]{0,11}[.,;:!?'-]?")  # a token of a language
_DEEP_MAX = 150
_DESCRIBING, _VALUE_KEYS = frozenset(words("describing")), frozenset(words("value_keys"))
_ROW = frozenset(("values", "row", "data", "cells", "record", "body"))
_TOOLS_GLUED = frozenset((b"mysql", b"mysqldump", b"mysqladmin", b"sshpass"))
_TOOL_FLAGS = frozenset((b"-u", b"-p", b"--user", b"-P", b"-a"))
_TELLING = (
    LABELS
    | WEAK_LABELS
    | COLUMNS
    | MEANT
    | PARTNERED
    | QUERIES
    | FLAGS
    | {"kind", "code", "logprob", "kty", "source", "roottoken", "pass"}
)
_HEADER = re.compile(rb"Host|Cookie|Accept|Authorization|[A-Z][A-Za-z]{0,20}(?:-[A-Z][A-Za-z0-9]{0,20}){1,6}")
_RAW_MAX = 200
# `minLength`, `max_attempts`, `size`, and not `admin` or `message`.
_COUNTING = re.compile(
    rb"(?:(?:\A|[_.-])(?=[A-Za-z])(?i:min|max|minlength|maxlength|len|length|count|age|days|limit|size"
    rb"|attempts|history|seconds|chars|characters)"
    rb"|[a-z](?:Min|Max|Len|Length|Count|Age|Days|Limit|Size|Attempts|History|Seconds|Chars|Characters))(?![a-z])"
)
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


class Walk(Reading):
    """Visits what holds an alarm."""

    def __init__(self, record: Record, data: bytes, alarms: list[Alarm], depth: int) -> None:
        super().__init__(record, data, alarms, depth)
        self.told = {alarm.start: alarm.end for alarm in alarms if alarm.what == FORM}
        self.said = False  # the object that is visited next tells errors by field
        self.shapes: dict[tuple[bytes, ...], _Shape] = {}

    def visit(self, node: Node, kind: int, path: str, deep: int = 0) -> None:
        if kind == NO and not node.open and not self.alarmed(node):
            return
        if deep > _DEEP_MAX:
            raise TooCostly
        if node.what == STRING:
            self.string(node, kind, path)
        elif node.what == OTHER:
            raw = self.data[node.start : node.end]
            long = kind in (COUNT, MANY, TEXT) and len(raw) > COUNT_MAX and raw.isdigit()
            if kind == YES or long or (len(raw) > 12 and next(cards(raw.lstrip(b"-")), None)):
                self.mask(node, path)
        elif node.what == OBJECT:
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
            self.object(node, path, deep, asked=kind == ASKED)
        else:
            described = kind == YES and bool(node.items) and all(
                self.is_label(item)
                or (item.what == OBJECT and bool(item.items) and self.describes(item))
                for _, item in node.items
            )  # fmt: skip
            if (kind == YES and not described) or (kind in (TEXT, MANY, COUNT) and self.has_text(node)):
                self.mask(node, path)
                return
            self.array(node, path + "[]" if path else "", deep, kind if kind in (ASKED, YES) else NO)

    def has_text(self, node: Node) -> bool:
        """Whether this container has a string, or a number too long for a count."""
        todo = [item for _, item in node.items]
        while todo:
            node = todo.pop()
            if node.what in (OBJECT, ARRAY):
                todo += [item for _, item in node.items]
            elif (node.what == STRING and not _PLAIN_WORD.fullmatch(self.text(node))) or (
                node.end - node.start > COUNT_MAX and self.data[node.start : node.end].isdigit()
            ):
                return True
        return False

    def string(self, node: Node, kind: int, path: str) -> None:
        raw = self.data[node.start + 1 : node.end - (not node.open)]
        if node.open:
            raw = raw[: raw.rfind(b"\\")] if raw[-6:].find(b"\\") >= 0 else raw
        if self.told.get(node.start + 1) == node.start + 1 + len(raw):  # by its surroundings: see `surroundings`
            kind = YES
        found = self.record.escaped_value(raw, node.start + 1, JSON_STRING, kind, self.depth)
        self.edits += found
        if found and path:
            self.record.note(path)

    def describes(self, node: Node) -> bool:
        """Whether this object under a sensitive name describes the field: a schema of it, its label and errors."""
        keys = {self.text(key).decode("utf-8", "replace") for key, _ in node.items if key is not None}
        told = [key for key in keys if key in _DESCRIBING or key.startswith("ui:")]
        return (bool(told) and all(key in told or key in _VALUE_KEYS or key.startswith("x-") for key in keys)) or all(
            self.is_setting(key, item) for key, item in node.items
        )

    def is_setting(self, key: Node | None, node: Node) -> bool:
        """Whether this says how a secret must be, or what a form says of it: `{"minLength": 8}`, `{"supported": true}`,
        `{"expired": "Your token has expired"}`."""
        self.record.spend(2)  # again for each sensitive name around it
        if node.what == OBJECT:
            return bool(node.items) and all(self.is_setting(name, item) for name, item in node.items)
        if node.what == STRING:
            return self.is_label(node)
        raw = self.data[node.start : node.end]
        counts = key is not None and _COUNTING.search(self.text(key)) is not None
        return node.what == OTHER and (raw in BOOLEAN or (counts and raw.isdigit() and len(raw) <= 4))

    def is_label(self, node: Node) -> bool:
        if node.what != STRING or node.open:
            return False
        self.record.spend(CANDIDATE)
        return self.record.is_label(self.text(node))

    # Objects

    def object(self, node: Node, path: str, deep: int, *, asked: bool) -> None:
        shape = self.shape(node)
        said, self.said = self.said, False
        kinds = shape.kinds
        columns: set[int] = set()
        if shape.told or node.open:
            told = told_kinds(self, node, shape.lows)
            if told:
                kinds = [told.get(at, kind) for at, kind in enumerate(kinds)]
            columns = columns_of(self, node, shape.lows)
        if asked or ASKED in kinds:
            kinds = answer_kinds(node, shape.lows, kinds, asked=asked)
        for at, (key, item) in enumerate(node.items):
            kind = kinds[at]
            name = shape.shown[at]
            if shape.long[at] and key is not None and self.alarmed(key) and self.key(key, path):
                name = MASK.decode()
            if kind == NO and not item.open and not self.alarmed(item) and not columns:
                continue
            here = f"{path}.{name}" if path else ""
            if kind == YES and said and self.sentences(item):
                kind = NO
            if columns and item.what == ARRAY and (shape.lows[at] not in COLUMNS or shape.lows[at] in _ROW):
                mask_rows(self, item, columns, here)
            self.said = shape.lows[at] in _ERRORS and item.what == OBJECT
            self.visit(item, kind, here, deep + 1)

    def sentences(self, node: Node) -> bool:
        """Whether this is what a validation says of a field: sentences, and no word that a machine made."""
        items = [item for _, item in node.items] if node.what == ARRAY else [node]
        for item in items:
            if item.what != STRING:
                return False
            words = self.text(item).lower().rstrip(b".").split()
            if _SAID.isdisjoint(words) or any(_MIXED.search(word) for word in self.text(item).split()):
                return False
        return bool(items)

    def shape(self, node: Node) -> _Shape:
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

    def key(self, key: Node, path: str) -> bool:
        """Masks what is secret in a key; returns whether something is."""
        found = self.record.escaped_value(
            self.data[key.start + 1 : key.end - 1], key.start + 1, JSON_STRING, NO, self.depth
        )
        if not found:
            return False
        self.edits += found
        if path:
            self.record.note(path + "." + MASK.decode())
        return True

    def array(self, node: Node, path: str, deep: int, kind: int) -> None:
        items = [item for _, item in node.items]
        if items and all(item.what == ARRAY for item in items):
            pairs_or_table(self, items, path)
        if (node.open or len(items) & 1 == 0) and all(item.what == STRING for item in items[:_RAW_MAX]):
            self.raw_headers(items, path)
        flag = False
        for at, item in enumerate(items):
            if item.what == STRING and (
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
                glued = text[:2] == b"-p" and len(text) > 2 and items[0].what == STRING
                if glued and self.text(items[0]).rpartition(b"/")[2] in _TOOLS_GLUED:  # ["mysql", "-px"]
                    self.mask(item, path)
                    continue
            self.visit(item, kind, path, deep + 1)

    def raw_headers(self, items: list[Node], path: str) -> None:
        """`["Host", "x", "X-Api-Key", "x"]`: names and values in turn, as Node.js has them."""
        for name, value in zip(items[::2][:_RAW_MAX], items[1::2], strict=False):
            if not _HEADER.fullmatch(self.text(name)):
                return
            if self.alarmed(name) and self.names.is_field(self.text(name)) and not _HEADER.fullmatch(self.text(value)):
                self.mask(value, path)

    def tells(self, flag: bytes, first: Node) -> bool:
        """Whether the next item of a command's list is the value of a sensitive flag."""
        if 61 not in flag and self.names.kind(flag.lstrip(b"-")) == YES:
            return True
        return flag in _TOOL_FLAGS and first.what == STRING and self.text(first).rpartition(b"/")[2] in TOOLS
