"""How long a piece of work takes on this machine, which others use too: processor time, never wall time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

__all__ = ["processor_time", "slowness", "within"]

_REFERENCE_SECONDS = 0.00052  # what `_reference` takes on the machine that the limits were set on, when it is idle
_REFERENCE = re.compile(rb"[ab][a-c]{1,20}+d|x(?:yz)?")
_REFERENCE_TEXT = b"abc" * 6_000
_TRIES = 20  # a neighbour on the same core makes each of a few longer


def _reference() -> None:
    _REFERENCE.search(_REFERENCE_TEXT)


def processor_time(call: Callable[[], object]) -> float:
    """Seconds of this thread's processor time."""
    begun = time.thread_time()
    call()
    return time.thread_time() - begun


def slowness() -> float:
    """How much slower this machine is now than the one that the limits were set on; at least 1. The processor time of
    a search that goes once over its input: neighbours on the same core or cache make it longer, as what is measured."""
    return max(1.0, min(processor_time(_reference) for _ in range(3)) / _REFERENCE_SECONDS)


def within(measure: Callable[[], float], limit: float) -> float:
    """The least of a few measurements, scaled by the machine's slowness at that moment; one that is within the limit
    ends it."""
    least = float("inf")
    for _ in range(_TRIES):
        least = min(least, measure())
        if least <= limit:
            break
        least = min(least, measure() / slowness())
        if least <= limit:
            break
    return least
