"""Rebuilds days while others read and write them.

    copy      reindex-2026-11-22.db     by `asgi-audit reindex`, while the day is read and written as before
    request   reindexed-2026-11-22      an empty file: from now on the copy is the writer's
    take      day-2026-11-22.1.db       by the writer: adds newer records, commits to main.db, removes the old file

The rebuilt day gets another file name, because renaming over a database that is open elsewhere is unsafe. The commit in
main.db puts it in place. Ids, batch numbers and record bytes are the same in both files, so a cursor continues in
either. A crash before that commit changes nothing; after it, the next writer removes what is left of the old file. The
next `reindex` resumes an interrupted copy. When the disk is full, or the copy cannot be finished, the copy is removed
and the old day stays.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import apsw

from ...disk import PRIVATE, Access
from ...errors import StoreError
from ..admin import DayFacts
from . import retention
from .copying import Copy
from .days import file_of, files_there, holds, remove
from .errors import translated
from .lease import LOCK_NAME, Lease
from .low_disk import LOW_BYTES
from .main import open_main
from .schema import BESIDE, DAY_VERSION, MAIN_NAME, day_name, open_reading

__all__ = ["SqliteReindexing", "chosen", "days_of", "finish_copy", "remove_leftovers"]

_FEW = 1_000  # records that the writer copies itself when it puts a day in place
_log = logging.getLogger("asgi_audit.store")


def days_of(directory: Path) -> list[DayFacts]:
    """The days of the index, newest first. Raises StoreError."""
    with translated("read", directory):
        main = open_main(directory / MAIN_NAME)
        try:
            known: Any = main.execute("SELECT day, file FROM day ORDER BY day DESC").fetchall()
        finally:
            main.close(True)
        found = []
        for day, file in known:
            path = directory / day_name(day, file)
            connection = open_reading(path)
            try:
                records: Any = connection.execute("SELECT records FROM state").get
                version = int(connection.pragma("user_version"))
                found.append(DayFacts(day, version, records, os.stat(path).st_size, version < DAY_VERSION))
            finally:
                connection.close(True)
        return found


class SqliteReindexing:
    """See `admin.Reindexing`."""

    def __init__(self, directory: Path, take: Callable[[Path], bool], access: Access = PRIVATE) -> None:
        """`take`: called with the path of a request; makes the writer put the copy in place. Returns False when the
        writer has not done so yet."""
        self._directory = directory
        self._take = take
        self._access = access
        with translated("open", directory / LOCK_NAME):
            self._lock = Lease(directory, access=access, name=LOCK_NAME, what="another reindex is running")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *of: object) -> None:
        self._lock.close()

    def renew(self, day: str, on_progress: Callable[[int, int], None] = lambda copied, records: None) -> bool:
        """Rebuild `day`; a purged day needs nothing. Returns False when the writer was asked to take the copy and has
        not done so yet."""
        before = self._file(day)
        if before is None:
            self._discard(day)
            return True
        request = retention.request_to_take(self._directory, day)
        if not request.exists():  # else the writer owns the copy already
            self._copy(day, before, on_progress)
            with translated("ask to take", self._directory):
                retention.ask_to_take(self._directory, day, self._access)
        if not self._take(request):
            return False
        now = self._file(day)
        if now == before:
            raise StoreError(
                f"the rebuilt day {day} could not be taken over; the day is unchanged",
                retriable=False,
                hint="The log of the indexer shows the reason. Then run `asgi-audit reindex` again.",
            )
        return True

    def discard(self) -> int:
        """Remove unfinished copies. Returns how many."""
        with translated("remove the copies in", self._directory):
            days = [d for d in map(retention.day_of_copy, os.listdir(self._directory)) if d is not None]
            found = [d for d in days if not retention.request_to_take(self._directory, d).exists()]
            for day in found:
                self._discard(day)
            return len(found)

    def _copy(self, day: str, file: int, on_progress: Callable[[int, int], None]) -> None:
        path = self._directory / retention.copy_name(day)
        try:
            with translated("make new", self._directory / day_name(day, file)):
                self._needs_room()
                copy = Copy(self._directory / day_name(day, file), path, self._access)
                try:
                    on_progress(*copy.records())
                    for _ in copy.run(_FEW):
                        on_progress(*copy.records())
                        self._needs_room()
                finally:
                    copy.close()
        except StoreError as e:
            if e.is_full or not e.retriable or self._file(day) != file:
                self._discard(day)
            raise

    def _needs_room(self) -> None:
        """Raises StoreError before the disk becomes so full that the indexer would have to stop."""
        free = os.statvfs(self._directory)
        if free.f_bavail * free.f_frsize < 2 * LOW_BYTES:
            raise StoreError(
                f"the disk of {self._directory} has less than {2 * LOW_BYTES >> 20} MiB free",
                retriable=True,
                hint="A day needs its own size again while it is rebuilt. The partial copy was removed.",
                is_full=True,
            )

    def _discard(self, day: str) -> None:
        with translated("remove", self._directory / retention.copy_name(day)):
            remove(self._directory / retention.copy_name(day))

    def _file(self, day: str) -> int | None:
        with translated("read", self._directory / MAIN_NAME):
            main = open_main(self._directory / MAIN_NAME)
            try:
                return file_of(main, day)
            finally:
                main.close(True)


def finish_copy(directory: Path, day: str, file: int, access: Access) -> Path | None:
    """For the one writer, after it closed the day: finishes the copy with the remaining records of file number `file`
    and returns it under its new name. On failure logs the reason, removes the copy and returns None."""
    path = directory / retention.copy_name(day)
    new = directory / day_name(day, file + 1)
    try:
        with translated("take", path):
            if not holds(path):
                raise StoreError(f"there is no rebuilt copy of the day {day}", retriable=False)
            copy = Copy(directory / day_name(day, file), path, access)
            try:
                copy.finish()
            finally:
                copy.close()
            for end in BESIDE:  # they are empty
                Path(f"{path}{end}").unlink(missing_ok=True)
            os.rename(path, new)
            retention.sync(directory)
            return new
    except StoreError as e:
        _log.error("the day %s was not rebuilt and is unchanged: %s. %s", day, e, e.hint)
        remove(path)
        return None


def remove_leftovers(directory: Path, known: dict[str, int]) -> None:
    """Remove files of rebuilt days that main.db does not list (`known`: day -> file number). Raises OSError."""
    for day, files in files_there(directory).items():
        for file in files:
            if day in known and file != known[day] and known[day] in files:
                _log.info("removing %s: its day was rebuilt, or could not be", day_name(day, file))
                remove(directory / day_name(day, file))


def chosen(main: apsw.Connection, directory: Path) -> dict[str, int]:
    """Days whose file number in main.db has no file while a file with another number exists: main.db or a day file was
    restored from an older state. Returns day -> the existing number."""
    there = files_there(directory)
    known: Any = main.execute("SELECT day, file FROM day").fetchall()
    return {day: there[day][-1] for day, file in known if day in there and file not in there[day]}
