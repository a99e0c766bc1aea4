"""The `lockf` locks that this OS process holds: one registry for all of them.

A `lockf` lock belongs to the OS process: locking a file again always succeeds, and closing *any* descriptor of it frees
the lock. So nobody here opens a lock file that this process holds; the registry knows them by a key that whoever locks
gives them. `flock` has neither trap, but a forked child of a killed owner keeps it. A forked child holds none of its
parent's locks, and begins with an empty registry.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from .forking import Step, after_fork_in_child

__all__ = ["locks_held"]

_guard = threading.Lock()
_held: set[str] = set()


@contextlib.contextmanager
def locks_held() -> Iterator[set[str]]:
    """The keys of what is held, for this thread alone until the block ends: take and note a lock, or free and forget
    it, in one block."""
    with _guard:
        yield _held


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()  # another thread of the parent may have held it
    _held.clear()


after_fork_in_child(Step.FILE_LOCKS, _after_fork)
