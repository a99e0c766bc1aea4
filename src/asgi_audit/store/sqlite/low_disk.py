"""Writing where the disk is nearly full: no write-ahead log may grow beyond what its file can take in.

A -wal is emptied only when all of it has been copied into the database, which needs about as much room again. Left to
itself it takes 8 MiB; on a disk of 48 MB that the journal shares, a -wal of 9.6 MB beside 1.2 MB of room was the end:
nothing could be written and nothing given back. So below `LOW_BYTES` of free space every batch begins with empty logs,
and one that could need more than there is (log, file and index of words: three times its records) is refused before it
takes the room. A single record is always tried. The file `reserve` is left alone: a purge needs it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import apsw

from ...errors import StoreError
from ..base import Batch
from .day import DayWriter

__all__ = ["LOW_BYTES", "make_room"]

LOW_BYTES = 32 << 20
_TIMES = 3
_log = logging.getLogger("asgi_audit.store")


def make_room(directory: Path, main: apsw.Connection, days: Iterable[DayWriter], batch: Batch) -> None:
    """Before `batch` is written. Raises StoreError (`is_full`) for one that should be less; OSError."""
    if _free(directory) >= LOW_BYTES:
        return
    for checkpoint in (
        lambda: main.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE),
        *(d.checkpoint for d in days),
    ):
        try:
            checkpoint()
        except apsw.Error as e:  # a reader, or no room at all: the write itself will tell
            _log.debug("could not checkpoint: %s", e)
    needed = _TIMES * sum(len(d.data) for d in batch.records)
    free = _free(directory)
    if len(batch.records) > 1 and needed > free:
        raise StoreError(
            f"could not write {directory}: {len(batch.records)} records may need {needed} bytes, {free} are free",
            hint="Free space on the disk that holds the index; the indexer goes on by itself.",
            is_full=True,
        )


def _free(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
