"""Merkle tree hashes (RFC 6962 section 2.1) over the exact bytes of records, and the digest that chains statements.

Leaf `SHA-256(0x00 ‖ record)`, node `SHA-256(0x01 ‖ left ‖ right)`, the empty tree `SHA-256("")`. A `Tree` keeps one
hash for each level: at most 64 for any number of leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

__all__ = ["EMPTY_ROOT", "Tree", "leaf_hash", "statement_digest"]

EMPTY_ROOT = hashlib.sha256(b"").digest()
_LEAF, _NODE = hashlib.sha256(b"\x00"), hashlib.sha256(b"\x01")  # a copy is cheaper than a new one
# From 2,048 bytes on hashlib releases the GIL. Then a thread of the application wakes up, and either finds the GIL
# taken again 4 µs later, or keeps it, and the recorder waits a whole switch interval (5 ms). So longer data is hashed
# in parts.
_PART_BYTES = 2047
_LONG_BYTES = 1 << 16  # 0.1 ms: long enough to release the GIL for


def leaf_hash(record: bytes) -> bytes:
    leaf = _LEAF.copy()
    if len(record) <= _PART_BYTES:
        leaf.update(record)
        return leaf.digest()
    size = len(record) if len(record) > _LONG_BYTES else _PART_BYTES
    for at in range(0, len(record), size):
        leaf.update(record[at : at + size])
    return leaf.digest()


def statement_digest(statement: bytes) -> str:
    """SHA-256 of the statement's exact bytes, 64 hex digits. The next statement repeats it as `previous`."""
    return hashlib.sha256(statement).hexdigest()


def _node(left: bytes, right: bytes) -> bytes:
    node = _NODE.copy()
    node.update(left + right)
    return node.digest()


class Tree:
    """A growing tree: `append` leaves in order, `root` at any time."""

    __slots__ = ("_stack", "size")

    def __init__(self, size: int = 0, stack: Iterable[bytes] = ()) -> None:
        """With `size` and `stack` of an earlier tree it continues that tree."""
        self.size = size
        self._stack = list(stack)  # roots of the full subtrees, largest first: one for each bit set in `size`
        assert len(self._stack) == size.bit_count()

    @property
    def stack(self) -> list[bytes]:
        """Together with `size`, the whole state of the tree; hashes of 32 bytes."""
        return list(self._stack)

    def append(self, leaf: bytes) -> None:
        """`leaf`: a leaf hash, 32 bytes."""
        size = self.size
        while size & 1:
            leaf = _node(self._stack.pop(), leaf)
            size >>= 1
        self._stack.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        if not self._stack:
            return EMPTY_ROOT
        top = self._stack[-1]
        for left in reversed(self._stack[:-1]):
            top = _node(left, top)
        return top
