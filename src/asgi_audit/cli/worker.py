"""One worker of `serve --workers N`: `python -m asgi_audit.cli.worker`, started only by `workers`.

The first line of its standard input holds its parameters. When the input ends, the parent is gone and the worker exits.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

from ..settings import make_settings
from ..wiring.server import Siblings, build_api, build_server
from ..wiring.shared_memory import METRICS_SECONDS, SharedMemory, Text
from . import guarded_run
from .logs import configure
from .processes import on_closed_stdin, share_one_heap

__all__ = ["main", "run"]


def run(given: Mapping[str, Any]) -> int:
    share_one_heap()
    settings = make_settings({}, **given["settings"])
    listening = socket.socket(fileno=given["listening"])
    memory = SharedMemory(given["memory"], given["workers"], given["slot"])
    metrics = Text(given["metrics"])
    siblings = Siblings(
        unready=memory.unready,
        measures=memory.measures,
        text=lambda: metrics.read(METRICS_SECONDS),
        memory=memory,
        histograms=given["histograms"],
    )
    server = build_server(build_api(settings, siblings), beat=memory.beat)

    def stop() -> None:
        server.should_exit = True

    def orphaned() -> None:
        shutil.rmtree(given["histograms"], ignore_errors=True)
        stop()

    on_closed_stdin(orphaned)
    # uvicorn re-raises the signal that stopped it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())
    server.run(sockets=[listening])
    return 0 if server.started else 1


def first_line() -> str:
    """Reads the first line byte by byte, so that nothing after it is consumed."""
    found = b""
    while not found.endswith(b"\n") and (byte := os.read(0, 1)):
        found += byte
    return found.decode()


def main() -> int:
    line = first_line()
    if not line.strip():
        return 1  # the parent is gone
    given = json.loads(line)
    configure(given["settings"]["log_format"])
    return guarded_run(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
