"""The walk through the tree of a JSON document, where context is needed. Only parts with an alarm are visited."""

from __future__ import annotations

import re

from .alarms import FORM, Alarm
from .forms import cards
from .json_beside import TELLING, answer_kinds, told_kinds
from .json_rows import COLUMNS, columns_of, mask_rows, pairs_or_table
from .json_tree import ARRAY, BOOLEAN, OBJECT, OTHER, STRING, Node, Reading
from .layers import JSON_STRING, placed
from .names import ASKED, CODE, COUNT, MANY, NO, TEXT, YES, norm
from .record import CANDIDATE, Record, TooCostly, shown
from .tables import REDACTED, words

__all__ = ["COUNT_MAX", "TOOLS", "Walk"]

COUNT_MAX = 9  # digits of a number that may count something
TOOLS = frozenset((b"curl", b"mysql", b"mysqldump", b"docker", b"sshpass", b"psql", b"wget", b"redis-cli", b"http"))
_ERRORS = frozenset(["errors", "error", "fielderrors", "validationerrors", "messages", "violations", "invalid"])
_SAID = frozenset(
    b"is isn't was must has have should required too invalid not cannot can't needs contain match expired least".split()
)
_MIXED = re.compile(rb"[0-9][A-Za-z]|[A-Za-z][0-9]|[0-9]{4}|[^\s]{20}|[a-z][A-Z]|[!$%&=@#/\\\\]")
_PLAIN_WORD = re.compile(rb"[ \xe2\x96\x81#]*[A-Za-z]{0,11}[.,;:!?'-]?")  # a token of a language
_DEEP_MAX = 150
_DESCRIBING, _VALUE_KEYS = frozenset(words("describing")), frozenset(words("value_keys"))
_OF_MODELS = frozenset((b"logprob", b"start_offset"))
_ROW = frozenset(("values", "row", "data", "cells", "record", "body"))
_TOOLS_GLUED = frozenset((b"mysql", b"mysqldump", b"mysqladmin", b"sshpass"))
_TOOL_FLAGS = frozenset((b"-u", b"-p", b"--user", b"-P", b"-a"))
_HEADER = re.compile(rb"Host|Cookie|Accept|Authorization|[A-Z][A-Za-z]{0,20}(?:-[A-Z][A-Za-z0-9]{0,20}){1,6}")
# `minLength`, `max_attempts`, `size`, and not `admin` or `message`.
_COUNTING = frozenset(
    b"min max minlength maxlength len length count age days limit size attempts history".split()
    + b"seconds chars characters".split()
)
_KEY_WORD = re.compile(rb"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_KEY_MAY_HOLD = re.compile(rb"[:={%&<@?/ ]")


class _Shape:
    """The keys of an object. told: one of them may tell what a member is. long: the key may hold a secret itself."""

    __slots__ = ("kinds", "long", "lows", "shown", "told")

    def __init__(self, names: list[bytes], record: Record) -> None:
        self.kinds = [NO if kind == CODE else kind for kind in map(record.names.kind, names)]
        self.lows = [norm(name.decode("utf-8", "replace")) for name in names]
        self.shown = [shown(name) for name in names]
        self.told = not (TELLING.isdisjoint(self.lows) and COLUMNS.isdisjoint(self.lows))
        self.long = [len(name) >= record.scan.form_min or _KEY_MAY_HOLD.search(name) is not None for name in names]


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
        elif self.is_secret(node, kind):
            self.mask(node, path)
        elif node.what == ARRAY:
            self.array(node, path + "[]" if path else "", deep, kind if kind in (ASKED, YES) else NO)
        elif node.what == OBJECT and kind == YES:
            for key, item in zip(node.keys, node.items, strict=True):
                name = self.text(key)
                known = YES if name.decode("utf-8", "replace") in _VALUE_KEYS else NO
                self.visit(item, known, f"{path}.{shown(name)}" if path else "", deep + 1)
        elif node.what == OBJECT:
            self.object(node, path, deep, asked=kind == ASKED)

    def is_secret(self, node: Node, kind: int) -> bool:
        """Whether all of a number or container under a name of this kind is masked."""
        if node.what == OTHER:
            raw = self.text(node)
            long = kind in (COUNT, MANY, TEXT) and len(raw) > COUNT_MAX and raw.isdigit()
            return kind == YES or long or (len(raw) > 12 and next(cards(raw.lstrip(b"-")), None) is not None)
        parts = [node] if node.what == OBJECT else node.items
        if parts and all({self.text(key) for key in part.keys} & _OF_MODELS for part in parts):
            return False
        if kind == YES:
            return not all(map(self.describes, parts))
        return (kind in (COUNT, MANY) or (kind == TEXT and node.what == ARRAY)) and self.has_text(node)

    def has_text(self, node: Node) -> bool:
        """Whether this container has a string, or a number too long for a count."""
        return any(
            not _PLAIN_WORD.fullmatch(self.text(leaf))
            if leaf.what == STRING
            else leaf.end - leaf.start > COUNT_MAX and self.text(leaf).isdigit()
            for leaf in self.leaves(node)
        )

    def string(self, node: Node, kind: int, path: str) -> bool:
        """Masks what is secret in a string or key; returns whether something is."""
        raw = self.data[node.start + 1 : node.end - (not node.open)]
        if node.open:
            raw = raw[: raw.rfind(b"\\")] if raw[-6:].find(b"\\") >= 0 else raw
        if self.told.get(node.start + 1) == node.start + 1 + len(raw):  # by its surroundings: see `surroundings`
            kind = YES
        if kind == NO and 92 not in raw:  # its alarms are known
            inside = self.places.of(node.start + 1, node.end)
            found = placed(self.record.inner(raw, self.depth + 1, inside), node.start + 1)
        else:
            found = self.record.escaped_value(raw, node.start + 1, JSON_STRING, kind, self.depth)
        self.edits += found
        if found and path:
            self.record.note(path)
        return bool(found)

    def describes(self, node: Node) -> bool:
        """Whether this describes the field of a sensitive name: a schema of it, its label and errors."""
        if node.what != OBJECT or not node.items:
            return self.is_label(node)
        keys = {self.text(key).decode("utf-8", "replace") for key in node.keys}
        told = [key for key in keys if key in _DESCRIBING or key.startswith("ui:")]
        return (bool(told) and all(key in told or key in _VALUE_KEYS or key.startswith("x-") for key in keys)) or all(
            map(self.is_setting, node.keys, node.items)
        )

    def is_setting(self, key: Node, node: Node) -> bool:
        """Whether this says how a secret must be, or what a form says of it: `{"minLength": 8}`, `{"supported": true}`,
        `{"expired": "Your token has expired"}`."""
        self.record.spend(2)  # again for each sensitive name around it
        if node.what == OBJECT:
            return bool(node.items) and all(map(self.is_setting, node.keys, node.items))
        if node.what == STRING:
            return self.is_label(node)
        raw = self.text(node)
        counts = any(word.lower() in _COUNTING for word in _KEY_WORD.findall(self.text(key)))
        return node.what == OTHER and (raw in BOOLEAN or (counts and raw.isdigit() and len(raw) <= 4))

    def is_label(self, node: Node) -> bool:
        self.record.spend(CANDIDATE)
        return node.what == STRING and self.record.is_label(self.text(node))

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
        for at, (key, item) in enumerate(zip(node.keys, node.items, strict=True)):
            kind = kinds[at]
            name = shape.shown[at]
            if shape.long[at] and self.alarmed(key) and self.string(key, NO, f"{path}.{REDACTED}" if path else ""):
                name = REDACTED
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
        items = node.items if node.what == ARRAY else [node]
        texts = [self.text(item) for item in items if item.what == STRING and not _MIXED.search(self.text(item))]
        said = [text for text in texts if not _SAID.isdisjoint(text.lower().rstrip(b".").split())]
        return len(said) == len(items) > 0

    def shape(self, node: Node) -> _Shape:
        """What the keys of this object are; rows of a list have the same."""
        raw = tuple([self.data[key.start : key.end] for key in node.keys])
        known = self.shapes.get(raw)
        if known is None:
            self.record.spend(4 * len(raw))
            known = self.shapes[raw] = _Shape([self.text(key) for key in node.keys], self.record)
        return known

    def array(self, node: Node, path: str, deep: int, kind: int) -> None:
        items = node.items
        if items and all(item.what == ARRAY for item in items):
            pairs_or_table(self, items, path)
        if node.open or len(items) & 1 == 0:
            self.raw_headers(items, path)
        program = self.text(items[0]).rpartition(b"/")[2] if items and items[0].what == STRING else b""
        before = b""
        for item in items:
            value = self.data[item.start + 1 : item.end - (not item.open)] if item.what == STRING else b""
            if b"-" in (before[:1], value[:1]) and self.is_argument(program, before, value):
                self.mask(item, path)
            else:
                self.visit(item, kind, path, deep + 1)
            before = value

    def raw_headers(self, items: list[Node], path: str) -> None:
        """`["Host", "x", "X-Api-Key", "x"]`: names and values in turn, as Node.js has them."""
        for name, value in zip(items[::2], items[1::2], strict=False):
            if not _HEADER.fullmatch(self.text(name)):
                return
            if self.alarmed(name) and self.names.is_field(self.text(name)) and not _HEADER.fullmatch(self.text(value)):
                self.mask(value, path)

    def is_argument(self, program: bytes, before: bytes, value: bytes) -> bool:
        """Whether an item of a command's list is the value of the sensitive flag before it, or has one: `-px`."""
        if value[:1] == b"-":
            return value[:2] == b"-p" and len(value) > 2 and program in _TOOLS_GLUED
        if before[:1] != b"-" or (58 in value and not value.strip(b"0123456789:.")):  # `-p 80:80`
            return False
        told = 61 not in before and self.names.kind(before.lstrip(b"-")) == YES
        return told or (before in _TOOL_FLAGS and program in TOOLS)
