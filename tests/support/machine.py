"""How long a piece of work takes on this machine, which others use too: processor time, never wall time."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["processor_time", "slowness", "uncollected", "within"]

_REFERENCE_SECONDS = 0.00052  # what `_reference` takes on the machine that the limits were set on, when it is idle
_REFERENCE = re.compile(rb"[ab][a-c]{1,20}+d|x(?:yz)?")
_REFERENCE_TEXT = b"abc" * 6_000
_TRIES = 20  # a neighbour on the same core makes each of a few longer
_SLOWNESS_MAX = 4.0


def _reference() -> None:
    _REFERENCE.search(_REFERENCE_TEXT)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without collections of garbage: one of all that thousands of tests have left takes half a second of the thread
    that it happens in."""
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
    """How much slower this machine is now than the one that the limits were set on: 1 to 4. The processor time of
    searches that go once over their input: neighbours on the same core or cache make it longer, as what is measured.

    They take about `seconds` on that machine, the same as what is measured: on a busy machine a short stretch fits
    between two interruptions, and a longer one never does."""
    times = max(1, round(seconds / _REFERENCE_SECONDS))
    spent = processor_time(lambda: [_reference() for _ in range(times)]) / times
    return min(max(1.0, spent / _REFERENCE_SECONDS), _SLOWNESS_MAX)


def within(measure: Callable[[], float], limit: float) -> float:
    """The least of a few measurements, scaled by the machine's slowness at that moment; one that is within the limit
    ends it."""
    least = float("inf")
    for _ in range(_TRIES):
        least = min(least, measure())
        if least <= limit:
            break
        least = min(least, measure() / slowness(limit))
        if least <= limit:
            break
    return least
