"""Stores the newest believed clock reading in `meta` of main.db, so that a restart does not accept a wrong clock.

The modification time of a file, such as the fence's, does not serve: the first run under a wrong clock overwrites it.
An index without this row (created by version 0.1.0) gets it when it is first opened for writing: the end of its newest
day. Records' timestamps, from the applications' clocks, define that day, and none was more than a day ahead of the
indexer's clock. A copy of the files, or a backup, keeps the row. An index without days gets none: there is nothing that
a wrong clock could purge.
"""

from __future__ import annotations

import contextlib

import apsw

from .retention import ms_of
from .schema import DAY_MS

__all__ = ["note_believed", "prepare"]

_KEY = "believed_ms"


def prepare(main: apsw.Connection) -> int | None:
    """Called when an index is opened for writing. Returns the last believed time, ms since the epoch. Writes only a
    missing row. On a full disk it continues without it, because the purge that follows may free the space."""
    at: int | None = main.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).get
    newest = main.execute("SELECT max(day) FROM day").get
    if at is None and newest is not None:
        at = ms_of(newest) + DAY_MS
        with contextlib.suppress(apsw.FullError):
            note_believed(main, at)
    return at


def note_believed(main: apsw.Connection, at: int) -> None:
    """Store `at` (ms since the epoch), in a transaction of its own."""
    main.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (_KEY, at))
