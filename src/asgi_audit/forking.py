"""What happens in a child after `os.fork`: one registry, run in one order.

A fork copies the memory and one thread. Locks that another thread held stay locked in the child, random bits that were
made ahead would be used twice, and the files of the parent's journal are still open. Each module that keeps such state
registers here what the child does about it. The order is that of `Step`, not that in which modules were imported: what
is needed by others comes first.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable

__all__ = ["Step", "after_fork_in_child"]


class Step(enum.IntEnum):
    """In the order in which they run."""

    FILE_LOCKS = enum.auto()  # the registry of `lockf` locks: the child holds none
    RANDOM = enum.auto()  # ids and salts made ahead: the child makes its own
    JOURNAL = enum.auto()  # writers give up the parent's files, after the locks, before a recorder opens a new writer
    MEMORY_JOURNAL = enum.auto()
    RECORDER = enum.auto()  # a new identity and a new thread, which opens a new writer
    CAPTURE = enum.auto()  # exchanges begun before the fork are not recorded
    ANNOTATE = enum.auto()


_steps: dict[Step, Callable[[], None]] = {}


def after_fork_in_child(step: Step, run: Callable[[], None]) -> None:
    """Call `run` in every forked child, at its place in the order. One callable for each step: registering the step
    again replaces it. `run` must not wait for another thread: the child has none."""
    _steps[step] = run


def _run() -> None:
    errors = []
    for step in sorted(_steps):
        try:
            _steps[step]()
        except Exception as e:  # the other steps run; CPython prints what a hook raises and lets the child go on
            errors.append(e)
    if errors:
        raise errors[0]


os.register_at_fork(after_in_child=_run)
