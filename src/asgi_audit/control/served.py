"""Remembers in the keys' database, across restarts, which index the API serves.

A separate table, created on first use, so that version 0.1.0 can still open the file.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import apsw

from ..disk import PRIVATE, Access
from .database import BUSY_MS, open_database, open_frozen, store_errors, transaction

__all__ = ["name_index", "named_index"]

_TABLE = "CREATE TABLE IF NOT EXISTS served (one INTEGER PRIMARY KEY CHECK (one = 1), index_id TEXT NOT NULL) STRICT"


def named_index(path: Path) -> str | None:
    """The remembered index id; None when there is no file or no entry. Changes nothing. Raises StoreError."""
    if not path.is_file():
        return None
    with store_errors("reading which index belongs here", path):
        # Without a -wal all data is in the file; open it as immutable, because SQLite would create a -wal and this
        # function must not create files.
        if os.path.exists(f"{path}-wal"):
            with contextlib.suppress(apsw.CantOpenError, apsw.ReadOnlyError):  # on a read-only disk
                connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
                try:
                    connection.set_busy_timeout(BUSY_MS)
                    return _named(connection)
                finally:
                    connection.close()
        with open_frozen(path) as frozen:
            return _named(frozen)


def name_index(path: Path, index: str | None, access: Access = PRIVATE, *, makes: bool = False) -> None:
    """Remember `index`; None: forget it. Without a file nothing happens, unless `makes` creates it. Raises
    StoreError."""
    if not path.is_file() and not makes:
        return
    with store_errors("noting which index belongs here", path):
        connection = open_database(path, access)
        if connection is None:
            return  # read-only: cannot be remembered
        try:
            with transaction(connection):
                connection.execute(_TABLE)
                if index is None:
                    connection.execute("DELETE FROM served")
                else:
                    connection.execute("INSERT OR REPLACE INTO served VALUES (1, ?)", (index,))
        finally:
            connection.close()


def _named(connection: apsw.Connection) -> str | None:
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'served'").get:
        return None
    found: str | None = connection.execute("SELECT index_id FROM served").get
    return found
