"""The parent of `serve --workers N`: it holds the listening socket and serves no requests itself.

    serve ─┬─ worker 1 … N   serve requests; share the listening socket and counters (`wiring.shared_memory`)
           ├─ indexer        the one writer of the index
           └─ exporter       runs the requested exports

All workers accept connections from one inherited socket. (With one socket per worker, SO_REUSEPORT, connections queued
for a worker are lost when it dies.) A worker that ends, or whose event loop is blocked for `STUCK_SECONDS`, is
replaced. A worker that fails at the first start ends the command, after reporting the reason. Each child reads a pipe
and exits when it closes, so a killed parent leaves no children behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import shutil
import socket
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..settings import Settings
from ..wiring.shared_memory import SharedMemory, Text
from .processes import Child
from .supervised import Supervised

__all__ = ["Workers", "settings_as_json"]

_log = logging.getLogger("asgi_audit.serve")
STUCK_SECONDS = 60.0
_NOTE_SECONDS = 0.2
_STOP_SECONDS = 4.0  # a worker ends within 2 s after SIGTERM


class Workers:
    """`children`: the others, by the names of `shared_memory.PARTS`; they are stopped together with the workers.

    Raises OSError when the shared memory cannot be made."""

    def __init__(
        self, settings: Settings, listening: socket.socket, children: Mapping[str, Supervised], metrics: Text
    ) -> None:
        self._settings = settings
        self._listening = listening
        self._children = children
        self._metrics = metrics
        self._memory = SharedMemory.make(settings.workers)
        # Histograms of all workers, in a directory, because prometheus_client shares them through files.
        self._histograms = Path(tempfile.mkdtemp(prefix="asgi-audit-metrics-"))
        self._workers: list[Supervised] = []
        self._was_ready = False
        self._failed = threading.Event()

    def run(self, stop: threading.Event) -> int:
        """Runs until `stop` is set or no worker can start. Returns the exit code."""
        try:
            for slot in range(self._settings.workers):
                self._workers.append(self._supervised(slot))
            while not stop.wait(_NOTE_SECONDS) and not self._failed.is_set():
                self._note()
            return 1 if self._failed.is_set() else 0
        finally:
            self._end()

    def _supervised(self, slot: int) -> Supervised:
        def ended(code: int) -> bool:
            if not self._was_ready and self._memory.silent_seconds(slot) is None:
                self._failed.set()  # an error that stops the first workers would stop the next one too
                return False
            self._memory.left(slot)
            return True

        def is_stuck() -> bool:
            silent = self._memory.silent_seconds(slot)
            return silent is not None and silent > STUCK_SECONDS

        return Supervised(f"worker {slot + 1}", lambda: self._start(slot), on_ended=ended, is_stuck=is_stuck)

    def _start(self, slot: int) -> Child:
        descriptors = {
            "listening": self._listening.fileno(),
            "memory": self._memory.fd,
            "metrics": self._metrics.fd,
        }
        given = {
            "slot": slot,
            "workers": self._settings.workers,
            "histograms": str(self._histograms),
            "settings": settings_as_json(self._settings),
            **descriptors,
        }
        return Child(
            f"worker {slot + 1}",
            "asgi_audit.cli.worker",
            [],
            first_line=json.dumps(given),
            descriptors=list(descriptors.values()),
        )

    def _note(self) -> None:
        heard = [self._memory.silent_seconds(slot) is not None for slot in range(len(self._workers))]
        self._was_ready = self._was_ready or any(heard)
        indexer = self._children.get("indexer")
        restarts = {part: child.restarts for part, child in self._children.items()}
        self._memory.note(
            indexer=None if indexer is None else indexer.running(),
            workers=sum(worker.running() and is_heard for worker, is_heard in zip(self._workers, heard, strict=True)),
            restarts=restarts | {"worker": sum(worker.restarts for worker in self._workers)},
        )

    def _end(self) -> None:
        for child in (*self._workers, *self._children.values()):
            child.ask_to_stop()
        self._listening.close()  # refuse new clients instead of letting them wait
        for worker in self._workers:
            worker.stop(_STOP_SECONDS)
        with contextlib.suppress(OSError):
            shutil.rmtree(self._histograms)
        self._memory.close()


def settings_as_json(settings: Settings) -> dict[str, Any]:
    """Values from which `make_settings` restores the same settings. They are sent to a worker through a pipe, including
    passwords."""
    found = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in found.items()}
