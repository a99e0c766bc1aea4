"""A registry of all `lockf` locks that this OS process holds.

A `lockf` lock belongs to the OS process: locking a file again always succeeds, and closing *any* descriptor of it frees
the lock. So no code in this process may open a lock file that the process holds; the registry lists held locks under a
key chosen by the code that takes them. `flock` has neither problem, but a forked child keeps it after its parent was
killed. A forked child holds none of its parent's `lockf` locks and begins with an empty registry.
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
    """The keys of held locks, exclusively for this thread until the block ends. Take a lock and add its key, or free it
    and remove its key, within one block."""
    with _guard:
        yield _held


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()  # another thread of the parent may have held the guard
    _held.clear()


after_fork_in_child(Step.FILE_LOCKS, _after_fork)
