"""A read-only connection to a file of the index that follows the file's path."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import apsw

from ...errors import StoreError
from .errors import reading
from .schema import DAY_VERSION, open_reading

__all__ = ["STEPS", "FollowedFile", "stat_of"]

STEPS = 20_000
"""SQLite instructions between two calls of `stopped`: some milliseconds."""


class FollowedFile:
    """A read-only connection that follows its path: it is opened again when the file was replaced or migrated to
    another version; None while there is no file."""

    def __init__(
        self,
        path: Path,
        stopped: Callable[[], bool],
        version: int = DAY_VERSION,
        opened: Callable[[Path], apsw.Connection] = open_reading,
        closing: Callable[[apsw.Connection], None] = lambda connection: None,
    ) -> None:
        """`version`: the newest version; a file of an earlier version may be migrated while it is open. `closing`:
        called with each connection before it is closed."""
        self.path = path
        self._stopped = stopped
        self._newest = version
        self._open = opened
        self._closing = closing
        self._version = 0
        self._connection: apsw.Connection | None = None
        self._identity: tuple[int, int] = (0, 0)

    def get(self) -> apsw.Connection | None:
        try:
            with reading("look at", self.path):
                there = stat_of(self.path)
        except StoreError:  # a stale handle of a network disk, or a directory that became inaccessible
            self.close()
            raise
        if there is None or not there.st_size:  # truncated, also under an open connection
            self.close()
            return None
        if self._connection is not None and self._identity == (there.st_ino, there.st_dev):
            with reading("read", self.path):
                if self._version == self._newest or self._version == self._connection.pragma("user_version"):
                    return self._connection
        self.close()
        connection = None
        with reading("open", self.path):
            try:
                connection = self._open(self.path)
                connection.set_progress_handler(self._stopped, STEPS)
                self._version = int(connection.pragma("user_version") or 0)
                # A new file is empty until its tables are created: treat it as absent.
                if not self._version:
                    connection.close(True)
                    return None
            except apsw.CantOpenError:
                if stat_of(self.path) is not None:
                    raise
                return None  # unlinked in between
        # If the name still refers to the same file after all files are open, they belong together: a database is
        # removed before its log.
        with reading("look at", self.path):
            still = stat_of(self.path)
        if still is None or (still.st_ino, still.st_dev) != (there.st_ino, there.st_dev):
            connection.close(True)
            return None if still is None else self.get()
        self._connection = connection
        self._identity = (there.st_ino, there.st_dev)
        return connection

    def is_there(self) -> bool:
        with reading("look at", self.path):
            return stat_of(self.path) is not None

    def close(self) -> None:
        if self._connection is not None:
            self._closing(self._connection)
            self._connection.close(True)
            self._connection = None


def stat_of(path: Path) -> os.stat_result | None:
    """None when the file is missing. Raises OSError."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
