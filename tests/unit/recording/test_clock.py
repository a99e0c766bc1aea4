"""The clock: anchored once, anchored again and counted when the wall clock jumps."""

from __future__ import annotations

import pytest

from asgi_audit.recording.clock import Clock


class Times:
    def __init__(self) -> None:
        self.wall = 1_000_000_000_000
        self.monotonic = 5_000_000_000

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.monotonic)

    def pass_(self, ns: int) -> None:
        self.wall += ns
        self.monotonic += ns


def test_clock_follows_monotonic_time_when_wall_time_is_slewed() -> None:
    times = Times()
    clock = times.clock()
    times.pass_(60_000_000_000)
    times.wall -= 900_000_000
    assert clock.check() is False
    assert clock.now_ns() == 1_060_000_000_000
    assert clock.steps == 0


@pytest.mark.parametrize("step_ns", [3_600_000_000_000, -3_600_000_000_000, 1_000_000_001])
def test_clock_is_anchored_again_and_counted_when_wall_time_jumps(step_ns: int) -> None:
    times = Times()
    clock = times.clock()
    times.wall += step_ns
    assert clock.now_ns() == 1_000_000_000_000, "a request that began before the check keeps the old time"
    assert clock.check() is True
    assert clock.now_ns() == times.wall
    assert clock.steps == 1
    assert clock.check() is False
    assert clock.now_ms() == times.wall // 1_000_000
