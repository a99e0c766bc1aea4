"""A clock that stands still until a test sets `now`."""

from __future__ import annotations

__all__ = ["Clock"]


class Clock:
    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
