"""The time that a piece of work takes on this machine, which other programs use too: processor time, never wall
time."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["processor_time", "slowness", "uncollected", "within"]

_REFERENCE_SECONDS = 0.00052  # time of `_reference` on the idle machine on which the limits were set
_REFERENCE = re.compile(rb"[ab][a-c]{1,20}+d|x(?:yz)?")
_REFERENCE_TEXT = b"abc" * 6_000
_TRIES = 20  # other programs on the same core make each of a few measurements longer
_SLOWNESS_MAX = 4.0


def _reference() -> None:
    _REFERENCE.search(_REFERENCE_TEXT)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage collections: collecting everything that thousands of tests have left takes half a second of the
    thread in which it happens."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def processor_time(call: Callable[[], object]) -> float:
    """Seconds of this thread's processor time."""
    with uncollected():
        begun = time.thread_time()
        call()
        return time.thread_time() - begun


def slowness(seconds: float) -> float:
    """How much slower this machine is now than the one on which the limits were set: 1 to 4. Measured by the processor
    time of searches that pass once over their input: other programs on the same core or cache make it longer, like the
    measured work.

    They take about `seconds` on that machine, the same as the measured work: on a busy machine a short measurement
    fits between two interruptions, and a longer one never does."""
    times = max(1, round(seconds / _REFERENCE_SECONDS))
    spent = processor_time(lambda: [_reference() for _ in range(times)]) / times
    return min(max(1.0, spent / _REFERENCE_SECONDS), _SLOWNESS_MAX)


def within(measure: Callable[[], float], limit: float) -> float:
    """The smallest of a few measurements, scaled by the machine's slowness at that moment; the first one within the
    limit ends it."""
    least = float("inf")
    for _ in range(_TRIES):
        least = min(least, measure())
        if least <= limit:
            break
        least = min(least, measure() / slowness(limit))
        if least <= limit:
            break
    return least
