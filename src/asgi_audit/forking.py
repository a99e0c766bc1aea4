"""A registry of hooks that run in a child after `os.fork`, in a fixed order.

A fork copies the memory and one thread. In the child, locks held by other threads stay locked, pregenerated random bits
would be used twice, and the parent's journal files are still open. Each module with such state registers a hook here
that resets it in the child. Hooks run in the order of `Step`, not of imports: dependencies first.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable

__all__ = ["Step", "after_fork_in_child"]


class Step(enum.IntEnum):
    """In the order in which they run."""

    FILE_LOCKS = enum.auto()  # the registry of `lockf` locks: the child holds none
    RANDOM = enum.auto()  # pregenerated ids and salts: the child generates its own
    JOURNAL = enum.auto()  # writers close the parent's files, after the locks and before a recorder opens a new writer
    MEMORY_JOURNAL = enum.auto()
    RECORDER = enum.auto()  # a new identity and a new thread, which opens a new writer
    CAPTURE = enum.auto()  # exchanges begun before the fork are not recorded
    ANNOTATE = enum.auto()


_steps: dict[Step, Callable[[], None]] = {}


def after_fork_in_child(step: Step, run: Callable[[], None]) -> None:
    """Call `run` in every forked child, in the order of `Step`. Each step has one callable; registering a step again
    replaces it. `run` must not wait for another thread: the child has none."""
    _steps[step] = run


def _run() -> None:
    errors = []
    for step in sorted(_steps):
        try:
            _steps[step]()
        except Exception as e:  # run the other steps; CPython prints an exception of a hook and continues
            errors.append(e)
    if errors:
        raise errors[0]


os.register_at_fork(after_in_child=_run)
