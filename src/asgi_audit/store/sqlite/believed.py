"""The newest time of the clock that was believed, in `meta` of main.db: a restart must not make a wrong clock right.

The time of a file, such as the fence's, does not do: the first run under the wrong clock writes it. An index that has
no such row (made by version 0.1.0) gets one when it is first opened for writing: the end of its newest day. Records say
that day, by the clocks of the applications, and none is more than a day ahead of what the indexer's clock said; a copy
of the files, or a backup, keeps it. An index without days gets none: there is nothing that a wrong clock could remove.
"""

from __future__ import annotations

import contextlib

import apsw

from .retention import ms_of
from .schema import DAY_MS

__all__ = ["note_believed", "prepare"]

_KEY = "believed_ms"


def prepare(main: apsw.Connection) -> int | None:
    """When an index is opened to be written: what it believed last, ms since the epoch. Writes nothing when nothing is
    missing, and goes on without it on a full disk, which the purge that follows may have to end."""
    at: int | None = main.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).get
    newest = main.execute("SELECT max(day) FROM day").get
    if at is None and newest is not None:
        at = ms_of(newest) + DAY_MS
        with contextlib.suppress(apsw.FullError):
            note_believed(main, at)
    return at


def note_believed(main: apsw.Connection, at: int) -> None:
    """`at`: ms since the epoch. In a transaction of its own."""
    main.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (_KEY, at))
