"""Wall time that does not jump: anchored once, then carried on by the monotonic clock.

Two exchanges of one process are ordered by their starts even while NTP slews or an operator sets the clock. When the
two clocks differ by more than a second (the wall clock was set, or monotonic time stood still while a laptop slept)
the clock is anchored again, and the step is counted and stated.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock"]

_STEP_NS = 1_000_000_000


class Clock:
    """`offset_ns + monotonic` is wall time in ns since the epoch; `steps` counts the anchors after the first."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self.wall_ns = wall_ns
        self.monotonic_ns = monotonic_ns
        self.steps = 0
        self.offset_ns = wall_ns() - monotonic_ns()

    def now_ns(self) -> int:
        return self.offset_ns + self.monotonic_ns()

    def now_ms(self) -> int:
        return self.now_ns() // 1_000_000

    def check(self) -> bool:
        """Anchor again if the clocks differ by more than a second; True when they did. Called about once a second,
        and when the first request comes after a pause."""
        offset = self.wall_ns() - self.monotonic_ns()
        if abs(offset - self.offset_ns) <= _STEP_NS:
            return False
        self.offset_ns = offset
        self.steps += 1
        return True
