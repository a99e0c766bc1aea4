"""The tree of a JSON document, valid or cut, with the positions of its values in the bytes.

A cut document is closed where it ends; values that are still open there are marked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .alarms import Alarm, Places
from .layers import JSON_STRING, Edit
from .record import MASK, Record

__all__ = ["ARRAY", "BOOLEAN", "OBJECT", "OTHER", "QUOTED_MASK", "STRING", "Node", "Reading", "parse"]

BOOLEAN = frozenset((b"true", b"false", b"null"))
_EMPTY = BOOLEAN | {b'""'}
QUOTED_MASK = b'"' + MASK + b'"'

# Matched where the last one ended, never searched for: a search that failed would begin again at each space before.
_TOKEN = re.compile(
    rb'[\s,]*+(?:("[^"\\]*+(?:\\.[^"\\]*+)*")([ \t\r\n]*+:)?|([{\[])|([}\]])|([^\s{}\[\],:"]+))', re.S
).match
_OPEN_STRING = re.compile(rb'[\s,]*+("[^"\\]*+(?:\\.[^"\\]*+)*\\?)\Z', re.S)
_BLANK_END = re.compile(rb"[\s,]*+:?\s*+\Z")
_SCALAR = re.compile(rb"-?[0-9][0-9.eE+-]*|true|false|null")
_CUT_SCALAR = re.compile(rb"-?[0-9.eE+-]*|t(?:r(?:ue?)?)?|f(?:a(?:l(?:se?)?)?)?|n(?:u(?:ll?)?)?")


STRING, OTHER, OBJECT, ARRAY = 34, 35, 123, 91
_LEAF: list[Any] = []  # of strings and numbers, never added to: a list for each took a third of the time


class Node:
    """A value. what: its first byte, a quote or a bracket; `#` for a number or word. keys: of an object's items."""

    __slots__ = ("end", "items", "keys", "open", "start", "what")

    def __init__(self, what: int, start: int, end: int) -> None:
        self.what = what
        self.start = start
        self.end = end
        self.open = False
        self.items: list[Node] = [] if what in (OBJECT, ARRAY) else _LEAF
        self.keys: list[Node] = [] if what == OBJECT else _LEAF


def parse(record: Record, data: bytes, cut: bool) -> Node | None:
    """The tree; None when it is broken. cut: what is open at the end is closed there."""
    top = Node(ARRAY, 0, len(data))
    stack = [top]
    key: Node | None = None
    done = 0
    tokens = 0
    while (m := _TOKEN(data, done)) is not None:
        what = m.lastindex
        done = m.end()
        tokens += 1
        if tokens % 1_000 == 0:
            record.spend(500)
        holder = stack[-1]
        if what == 2:
            if holder.what != OBJECT or key is not None:
                return None
            key = Node(STRING, *m.span(1))
            continue
        if what == 4:
            if len(stack) == 1 or key is not None or (holder.what == OBJECT) != (data[done - 1] == 125):
                return None
            stack.pop().end = done
            continue
        if holder.what == OBJECT and key is None:
            if cut and what == 1 and _BLANK_END.match(data, done):
                break  # cut between a key and its colon
            return None
        if what == 3:
            node = Node(data[done - 1], done - 1, len(data))
            stack.append(node)
        elif what == 1:
            node = Node(STRING, *m.span(1))
        else:
            node = Node(OTHER, *m.span(5))
            scalar = _CUT_SCALAR if cut and done == len(data) else _SCALAR
            if not scalar.fullmatch(data, node.start, node.end):
                return None
        holder.items.append(node)
        if key is not None:
            holder.keys.append(key)
            key = None
    record.spend(tokens % 1_000 >> 1)
    if done < len(data):
        m_open = _OPEN_STRING.match(data, done)
        if m_open is not None and cut:
            node = Node(STRING, m_open.start(1), len(data))
            node.open = True
            if key is not None:
                stack[-1].keys.append(key)
            if stack[-1].what != OBJECT or key is not None:
                stack[-1].items.append(node)
        elif not _BLANK_END.match(data, done):
            return None
    if len(stack) > 1:
        if not cut:
            return None
        for node in stack[1:]:
            node.open = True
    return top.items[0] if len(top.items) == 1 else top


class Reading:
    """A document with its alarms, and the edits of what was masked in it."""

    def __init__(self, record: Record, data: bytes, alarms: list[Alarm], depth: int) -> None:
        self.record = record
        self.names = record.names
        self.data = data
        self.places = Places(alarms)
        self.depth = depth
        self.edits: list[Edit] = []

    def alarmed(self, node: Node) -> bool:
        return self.places.within(node.start, node.end)

    def text(self, node: Node) -> bytes:
        """A string, decoded; of others the bytes."""
        raw = self.data[node.start : node.end]
        return self.record.undone(raw[1 : len(raw) - (not node.open)], JSON_STRING)[0] if node.what == STRING else raw

    def leaves(self, node: Node) -> Iterator[Node]:
        """All strings and numbers in it."""
        todo = [node]
        while todo:
            node = todo.pop()
            todo += node.items
            if node.what in (STRING, OTHER):
                yield node

    def mask(self, node: Node, path: str) -> None:
        """All of a value, but true, false, null and what is empty; it is searched for in the record."""
        if not node.items and (node.what in (OBJECT, ARRAY) or self.data[node.start : node.end] in _EMPTY):
            return
        for leaf in self.leaves(node):
            self.record.hide(self.text(leaf))
        self.edits.append((node.start, node.end, QUOTED_MASK))
        if path:
            self.record.note(path)
