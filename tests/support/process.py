"""Restores the process-wide settings that the API's server changes, for tests that run it in their own process."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from asgi_audit.api.server import _NOISY, RepeatFilter

__all__ = ["process_restored"]


@contextmanager
def process_restored() -> Iterator[None]:
    """Around the server: the switch interval, and the filters of log lines, which later tests read."""
    interval = sys.getswitchinterval()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        for logger in map(logging.getLogger, _NOISY):
            for known in [known for known in logger.filters if isinstance(known, RepeatFilter)]:
                logger.removeFilter(known)
