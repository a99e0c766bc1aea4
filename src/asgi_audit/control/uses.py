"""Stores when keys and sessions were last used: at most once a minute each, in a background thread.

It never slows down or fails a request. When the process dies, unwritten uses are lost: at most those of the last
minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw

from ..disk import Access
from ..errors import AuditError
from .database import open_database, transaction

__all__ = ["NOTE_SECONDS", "Uses"]

NOTE_SECONDS = 60.0
_NOTED_MAX = 10_000
_WRITE = {
    "key": "UPDATE keys SET last_used_ms = max(coalesce(last_used_ms, 0), ?) WHERE id = ?",
    "session": "UPDATE sessions SET used_ms = max(used_ms, ?) WHERE hash = ?",
    "token session": "UPDATE token_sessions SET used_ms = max(used_ms, ?) WHERE hash = ?",
}


class Uses:
    """Thread-safe."""

    def __init__(self, path: Path, access: Access, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._access = access
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._closed = False
        self._noted: dict[tuple[str, str | bytes], float] = {}  # when each was last noted; at most _NOTED_MAX
        self._unwritten: dict[tuple[str, str | bytes], int] = {}  # ms since the epoch
        self._writer: ThreadPoolExecutor | None = None

    def note(self, kind: str, name: str | bytes, at_ms: int) -> None:
        """Note a use. `kind`: `key` (`name` is its id), `session` or `token session` (its hash)."""
        now = self._monotonic()
        with self._lock:
            if self._closed or now - self._noted.get((kind, name), -NOTE_SECONDS) < NOTE_SECONDS:
                return
            if len(self._noted) >= _NOTED_MAX:
                self._noted.clear()
            self._noted[kind, name] = now
            first = not self._unwritten
            self._unwritten[kind, name] = at_ms
            try:
                if self._writer is None:
                    self._writer = ThreadPoolExecutor(1, thread_name_prefix="asgi-audit-keys")
                if first:  # one job writes all uses noted meanwhile, so at most one job is queued
                    self._writer.submit(self._write)
            except RuntimeError:  # no thread available, or the interpreter is ending: the request continues
                self._unwritten.clear()

    def close(self) -> None:
        """Writes pending uses. Idempotent."""
        with self._lock:
            self._closed = True
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.shutdown(wait=True)

    def _write(self) -> None:
        with self._lock:
            unwritten, self._unwritten = self._unwritten, {}
        try:
            # A separate connection: waiting for another process's lock must not delay look-ups.
            connection = open_database(self._path, self._access)
            if connection is None:
                return
            try:
                with transaction(connection):
                    for (kind, name), at in unwritten.items():
                        connection.execute(_WRITE[kind], (at, name))
            finally:
                connection.close()
        except (AuditError, apsw.Error):
            # On a full disk neither fail a request nor log every minute: the next use after a minute tries again.
            return
