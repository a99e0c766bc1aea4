"""Logs one line at start: that requests are recorded, and where records are written.

Most servers configure only their own loggers, and Python prints nothing below WARNING for a logger without a handler.
So the line is logged if the application has configured logging, and else written to stderr.
"""

from __future__ import annotations

import logging
import os
import sys

from .. import __version__
from ..settings import Settings

__all__ = ["announce"]

_log = logging.getLogger("asgi_audit")
_announced: set[tuple[int, str]] = set()


def announce(settings: Settings, process: object) -> None:
    """Once for each OS process and journal, when the journal is open. Never raises."""
    key = (os.getpid(), str(settings.journal_path))
    if key in _announced:
        return
    _announced.add(key)
    line = (
        f"asgi-audit {__version__} records the requests of service {settings.service!r} in "
        f"{settings.journal_path} as process {process}{_sent(settings)}"
    )
    try:
        if _log.hasHandlers():
            _log.info("%s", line)
        else:
            print(line, file=sys.stderr, flush=True)
    except Exception:
        pass  # stderr is closed or None


def _sent(settings: Settings) -> str:
    return f" and sends them to {settings.transport_url}" if settings.is_kafka else "; `asgi-audit tail` shows them"
