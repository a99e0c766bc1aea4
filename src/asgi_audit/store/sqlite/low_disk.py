"""Writing where the disk is nearly full: no write-ahead log may grow beyond what its file can take in.

A -wal is emptied only when all of it has been copied into the database, which needs about as much room again. Left to
itself it takes 8 MiB; on a disk of 48 MB that the journal shares, a -wal of 9.6 MB beside 1.2 MB of room was the end:
nothing could be written and nothing given back. So below `LOW_BYTES` of free space every batch begins with empty logs,
and one whose log could not be copied afterwards, out of what is free and what the file `reserve` lends, is refused
before it takes the room. A log that does not fit any more, and a single record that does not, get what `reserve` lends;
it is taken again when there is room. A single record is always tried.

What it cannot mend: an index that grows faster than the journal beside it gives room back. A record that compresses to
more than half a page of 8 KiB takes a whole one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import apsw

from ...disk import PRIVATE, Access
from ...errors import StoreError
from ..base import Batch
from . import retention
from .day import DayWriter

__all__ = ["LOW_BYTES", "give_back", "make_room"]

LOW_BYTES = 32 << 20
_TIMES = 2  # of a record's bytes in the log, at most: a page for what fills more than half of one
_WORDS_BYTES = 256 << 10  # of the index of words, which is merged now and then
_log = logging.getLogger("asgi_audit.store")


def make_room(
    directory: Path, main: apsw.Connection, days: Iterable[DayWriter], batch: Batch, access: Access = PRIVATE
) -> None:
    """Before `batch` is written. Raises StoreError (`is_full`) for one that should be less; OSError."""
    if _free(directory) >= LOW_BYTES:
        retention.keep_reserve(directory, access=access)  # what was lent, before the disk is full again
        return
    logs = [lambda: main.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE), *(d.checkpoint for d in days)]
    if not _emptied(logs) and retention.lend_reserve(directory):
        _emptied(logs)
    free = _free(directory)
    if free >= 2 * retention.RESERVE_BYTES:
        retention.keep_reserve(directory, access=access)
        free = _free(directory)
    free += retention.lendable(directory)
    # Its log, and as much again in the file.
    needed = 2 * (_TIMES * sum(len(d.data) for d in batch.records) + _WORDS_BYTES)
    if needed <= free:
        return
    if len(batch.records) > 1:
        raise StoreError(
            f"could not write {directory}: {len(batch.records)} records may need {needed} bytes, {free} are free",
            hint="Free space on the disk that holds the index; the indexer goes on by itself.",
            is_full=True,
        )
    retention.lend_reserve(directory)


def give_back(directory: Path, main: apsw.Connection) -> None:
    """After a purge: its log would hold the room that the next one needs. Raises OSError."""
    if _free(directory) < LOW_BYTES:
        _emptied([lambda: main.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)])


def _emptied(logs: Sequence[Callable[[], object]]) -> bool:
    """False when one did not fit into its file."""
    fits = True
    for checkpoint in logs:
        try:
            checkpoint()
        except (apsw.FullError, apsw.IOError) as e:
            fits = False
            _log.debug("could not checkpoint: %s", e)
        except apsw.Error as e:  # a reader: the write itself will tell
            _log.debug("could not checkpoint: %s", e)
    return fits


def _free(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
