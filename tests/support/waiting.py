"""The one way in which a test waits for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["until"]

T = TypeVar("T")


def until(condition: Callable[[], T], what: str | Callable[[], str] = "", seconds: float = 60.0) -> T:
    """Polls, every 2 ms at first and every 50 ms later, until `condition` holds; returns its value.

    `seconds` is when a test that will never pass is given up. It says nothing of how long the thing may take, so it is
    long: a busy machine takes many times what an idle one does. `what` names, in the failure, what was waited for."""
    deadline, pause = time.monotonic() + seconds, 0.002
    while not (value := condition()):
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {seconds:g} s" + (f": {text}" if text else ""))
        time.sleep(pause)
        pause = min(1.5 * pause, 0.05)
    return value
