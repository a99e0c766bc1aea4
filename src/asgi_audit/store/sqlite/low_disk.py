"""Writing on a nearly full disk: no write-ahead log may become larger than what can be copied into its database.

SQLite empties a -wal only when all of it has been copied into the database, which needs about as much space again. By
default a -wal grows to 8 MiB. On a disk of 48 MB shared with the journal, a -wal of 9.6 MB beside 1.2 MB of free space
was a deadlock: nothing could be written or freed. So below `LOW_BYTES` of free space every batch begins with empty
logs. A batch is refused before it is written when its log could not be copied with the free space plus what the file
`reserve` lends. A log or a single record that does not fit gets the space that `reserve` lends; `reserve` grows back
when there is space. A single record is always tried.

Not covered: an index that grows faster than the journal beside it frees space. A record that compresses to more than
half a page of 8 KiB takes a whole page.
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

__all__ = ["LOW_BYTES", "give_back", "is_low", "make_room"]

LOW_BYTES = 32 << 20
_TIMES = 2  # at most, of a record's bytes in the log: a record of just over half a page takes a whole page
_WORDS_BYTES = 256 << 10  # for the full text, whose segments are merged from time to time
_log = logging.getLogger("asgi_audit.store")


def make_room(
    directory: Path, main: apsw.Connection, days: Iterable[DayWriter], batch: Batch, access: Access = PRIVATE
) -> None:
    """Called before `batch` is written. Raises StoreError (`is_full`) when the batch must be smaller, and OSError."""
    if not is_low(directory):
        retention.keep_reserve(directory, access=access)  # take back what was lent, before the disk is full again
        return
    logs = [lambda: main.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE), *(d.checkpoint for d in days)]
    if not _emptied(logs) and retention.lend_reserve(directory):
        _emptied(logs)
    free = _free(directory)
    if free >= 2 * retention.RESERVE_BYTES:
        retention.keep_reserve(directory, access=access)
        free = _free(directory)
    free += retention.lendable(directory)
    # For its log, and as much again in the database.
    needed = 2 * (_TIMES * sum(len(d.data) for d in batch.records) + _WORDS_BYTES)
    if needed <= free:
        return
    if len(batch.records) > 1:
        raise StoreError(
            f"could not write {directory}: {len(batch.records)} records may need {needed} bytes, {free} are free",
            hint="Free space on the disk of the index. The indexer then continues by itself.",
            is_full=True,
        )
    retention.lend_reserve(directory)


def is_low(directory: Path) -> bool:
    """Whether the disk is full or nearly so. Raises OSError."""
    return _free(directory) < LOW_BYTES


def give_back(directory: Path, main: apsw.Connection) -> None:
    """Empty the log after a purge: it would occupy the space that the next purge needs. Raises OSError."""
    if is_low(directory):
        _emptied([lambda: main.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)])


def _emptied(logs: Sequence[Callable[[], object]]) -> bool:
    """Empties the logs. False when one did not fit into its database."""
    fits = True
    for checkpoint in logs:
        try:
            checkpoint()
        except (apsw.FullError, apsw.IOError) as e:
            fits = False
            _log.debug("could not checkpoint: %s", e)
        except apsw.Error as e:  # a reader blocks it; the write itself will report a lack of space
            _log.debug("could not checkpoint: %s", e)
    return fits


def _free(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
