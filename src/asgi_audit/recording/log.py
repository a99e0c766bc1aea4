"""The recorder's log lines: at most one a minute of each kind, however often an event occurs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["RecorderLog"]

_LOG_SECONDS = 60.0
log = logging.getLogger("asgi_audit")


class RecorderLog:
    """`count` is called with a counter's name when a log handler of the application raises."""

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._said: dict[str, float] = {}  # when a line of this kind was written last (monotonic)

    def __call__(self, level: int, kind: str, text: str, *values: object) -> None:
        """Never raises. May hang for as long as a log handler does."""
        try:
            now = time.monotonic()
            if now - self._said.get(kind, float("-inf")) >= _LOG_SECONDS:
                self._said[kind] = now
                log.log(level, text, *values)
        except BaseException:
            self._count("internal_errors")
