"""Translates apsw's exceptions into StoreErrors. Every class is in the table; a test compares it with apsw's classes.

An error is retriable when an operator or time can remove its cause while the writer keeps the batch: a full disk, a
lock, an I/O error, a missing permission. A damaged file or a bug is not retriable.
"""

from __future__ import annotations

import errno
import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import apsw

from ...errors import StoreError

__all__ = ["MAPPED", "reading", "translated"]

_OURS = "This is a bug in asgi-audit: please report it with the message above."
_DAMAGED = (
    "Stop the indexer, keep a copy of the directory, and restore the file from a backup; a damaged day file can also "
    "be moved away and given up, by one start with --new-index: its day is then missing from responses."
)

MAPPED: dict[type[Exception], tuple[bool, str]] = {
    apsw.FullError: (True, "Free space on the disk of the index. The indexer then continues by itself."),
    apsw.IOError: (True, "Check the disk of the index. The indexer continues by itself when it works again."),
    apsw.BusyError: (
        True,
        "Another process has held a lock on the index for a long time: look for a stuck backup or shell.",
    ),
    apsw.LockedError: (True, ""),
    apsw.ProtocolError: (True, ""),
    apsw.NoMemError: (True, "The machine is out of memory."),
    apsw.InterruptError: (True, ""),
    apsw.AbortError: (True, ""),
    apsw.SchemaChangeError: (True, ""),
    apsw.CantOpenError: (True, "Check owner and permissions of the directory, and the limit of open files."),
    apsw.ReadOnlyError: (True, "The file system or the file is read-only; make it writable."),
    apsw.PermissionsError: (True, "Check owner and permissions of the directory."),
    apsw.CorruptError: (False, _DAMAGED),
    apsw.NotADBError: (
        False,
        "A file of this name exists and is not a database of asgi-audit. Use another directory.",
    ),
    apsw.FormatError: (False, _DAMAGED),
    apsw.TooBigError: (False, "A record is larger than a SQLite row can be (1 GB)."),
    apsw.NoLFSError: (False, "The file system does not support files above 2 GB. Use another directory."),
    apsw.NoFTS5Error: (False, "This build of apsw lacks FTS5; install the package `apsw` from PyPI."),
    apsw.AuthError: (False, _OURS),
    apsw.BindingsError: (False, _OURS),
    apsw.ConnectionClosedError: (False, _OURS),
    apsw.ConnectionNotClosedError: (False, _OURS),
    apsw.ConstraintError: (False, _OURS),
    apsw.CursorClosedError: (False, _OURS),
    apsw.EmptyError: (False, _OURS),
    apsw.ExecTraceAbort: (False, _OURS),
    apsw.ExecutionCompleteError: (False, _OURS),
    apsw.ExtensionLoadingError: (False, _OURS),
    apsw.ForkingViolationError: (
        False,
        "A store that was opened before a fork is used after it. Open it in the child.",
    ),
    apsw.IncompleteExecutionError: (False, _OURS),
    apsw.InternalError: (False, _OURS),
    apsw.InvalidContextError: (False, _OURS),
    apsw.MismatchError: (False, _OURS),
    apsw.MisuseError: (False, _OURS),
    apsw.NotFoundError: (False, _OURS),
    apsw.RangeError: (False, _OURS),
    apsw.SQLError: (
        False,
        "The schema is not that of this version. Check which versions share this directory.",
    ),
    apsw.ThreadingViolationError: (False, _OURS),
    apsw.VFSFileClosedError: (False, _OURS),
    apsw.VFSNotImplementedError: (False, _OURS),
}
_UNMENDABLE_IO = (sqlite3.SQLITE_IOERR_DATA, sqlite3.SQLITE_IOERR_CORRUPTFS)  # a wrong checksum, a damaged file system
_FULL_IO = (sqlite3.SQLITE_IOERR_SHMSIZE,)  # the index of the write-ahead log could not grow


class translated(AbstractContextManager[None]):
    """`with translated("write", path):` raises StoreError, chained, for any error of apsw or the file system inside.

    `is_reader`: makes a damaged file retriable too. A writer must stop there; a reader will be queried again, and an
    operator may have repaired the file by then."""

    __slots__ = ("_doing", "_is_reader", "_path")

    def __init__(self, doing: str, path: Path, *, is_reader: bool = False) -> None:
        self._doing = doing
        self._path = path
        self._is_reader = is_reader

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(e, apsw.Error):
            for cls in type(e).__mro__:
                if cls in MAPPED:
                    retriable, hint = MAPPED[cls]
                    break
            else:
                retriable, hint = False, _OURS
            if getattr(e, "extendedresult", 0) in _UNMENDABLE_IO:
                retriable, hint = False, _DAMAGED
            raise StoreError(
                f"could not {self._doing} {self._path}: {type(e).__name__}: {e}",
                retriable=retriable or (self._is_reader and hint is not _OURS),
                hint=hint,
                is_full=isinstance(e, apsw.FullError) or getattr(e, "extendedresult", 0) in _FULL_IO,
            ) from e
        if isinstance(e, OSError):
            raise StoreError(
                f"could not {self._doing} {self._path}: {e.strerror or e}",
                retriable=e.errno not in (errno.ELOOP, errno.ENOTDIR),  # a link or a file where a directory is expected
                hint="Check disk and permissions of the index. The indexer then continues by itself.",
                is_full=e.errno in (errno.ENOSPC, errno.EDQUOT),
            ) from e


def reading(doing: str, path: Path) -> translated:
    """`translated` for a reader."""
    return translated(doing, path, is_reader=True)
