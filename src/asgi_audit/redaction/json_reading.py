"""Reading and masking in the tree of a JSON document: shared by the walk, labels and tables."""

from __future__ import annotations

from .alarms import Alarm, Places
from .json_tree import OTHER, STRING, Node
from .layers import JSON_STRING, Edit
from .record import MASK, Record

__all__ = ["BOOLEAN", "QUOTED_MASK", "Reading"]

BOOLEAN = frozenset((b"true", b"false", b"null"))
QUOTED_MASK = b'"' + MASK + b'"'


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
        """A string, decoded."""
        raw = self.data[node.start + 1 : node.end - (not node.open)]
        return self.record.undone(raw, JSON_STRING)[0]

    def leaves(self, node: Node) -> None:
        """All strings and numbers below are searched for in the record."""
        todo = [node]
        while todo:
            node = todo.pop()
            if node.what == STRING:
                self.record.hide(self.text(node))
            elif node.what == OTHER:
                self.record.hide(self.data[node.start : node.end])
            else:
                todo += [item for _, item in node.items]

    def mask(self, node: Node, path: str) -> None:
        """All of a value, but true, false, null and what is empty."""
        if node.what == OTHER:
            if self.data[node.start : node.end] in BOOLEAN:
                return
        elif node.what == STRING:
            if not self.text(node):
                return
        elif not node.items:
            return
        self.leaves(node)
        self.edits.append((node.start, node.end, QUOTED_MASK))
        if path:
            self.record.note(path)
