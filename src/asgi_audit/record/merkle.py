"""Merkle tree hashes of RFC 6962 section 2.1 over a record's exact bytes, and the digest that chains statements.

Leaf `SHA-256(0x00 ‖ record)`, node `SHA-256(0x01 ‖ left ‖ right)`, the empty tree `SHA-256("")`. A `Tree` keeps one
hash a level: at most 64 for any number of leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

__all__ = ["EMPTY_ROOT", "Tree", "leaf_hash", "statement_digest"]

EMPTY_ROOT = hashlib.sha256(b"").digest()
_LEAF, _NODE = hashlib.sha256(b"\x00"), hashlib.sha256(b"\x01")  # a copy is cheaper than a new one
# From 2,048 bytes on hashlib gives up the interpreter's lock. A busy application's thread is woken then, to find it
# taken again 4 µs later; or it keeps it, and the recorder waits a whole switch interval (5 ms) for its next record.
_PART_BYTES = 2047
_LONG_BYTES = 1 << 16  # 0.1 ms: worth waking somebody for


def leaf_hash(record: bytes) -> bytes:
    leaf = _LEAF.copy()
    size = len(record) if len(record) > _LONG_BYTES else _PART_BYTES
    for at in range(0, len(record), size):
        leaf.update(record[at : at + size])
    return leaf.digest()


def statement_digest(statement: bytes) -> str:
    """What the next statement of the process repeats as `previous`: SHA-256 of the exact bytes, 64 hex digits."""
    return hashlib.sha256(statement).hexdigest()


def _node(left: bytes, right: bytes) -> bytes:
    node = _NODE.copy()
    node.update(left + right)
    return node.digest()


class Tree:
    """A growing tree: `append` leaves in order, `root` at any time."""

    __slots__ = ("_stack", "size")

    def __init__(self, size: int = 0, stack: Iterable[bytes] = ()) -> None:
        """`size` and `stack` of an earlier tree go on with it."""
        self.size = size
        self._stack = list(stack)  # roots of the full subtrees, largest first: one for each bit set in `size`
        assert len(self._stack) == size.bit_count()

    @property
    def stack(self) -> list[bytes]:
        """With `size` all that there is to keep of the tree; 32 bytes each."""
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
