"""The root of a tree whose leaves are known."""

from __future__ import annotations

from collections.abc import Iterable

from asgi_audit.record.merkle import Tree

__all__ = ["root_of"]


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes in order."""
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()
