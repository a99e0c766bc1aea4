"""What the server of the API changes of its process, undone, for tests that run it in theirs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from asgi_audit.api.server import _NOISY, RepeatFilter

__all__ = ["process_restored"]


@contextmanager
def process_restored() -> Iterator[None]:
    """Around the server: the interval of switches, and what bounds the lines of the log, which later tests read."""
    interval = sys.getswitchinterval()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        for logger in map(logging.getLogger, _NOISY):
            for known in [known for known in logger.filters if isinstance(known, RepeatFilter)]:
                logger.removeFilter(known)
