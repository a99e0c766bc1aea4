"""Days made new, beside whoever reads and writes them.

    copy      reindex-2026-11-22.db     by `asgi-audit reindex`, while the day is read and written as before
    request   reindexed-2026-11-22      an empty file: from now on the copy is the writer's
    take      day-2026-11-22.1.db       by the writer: what came since, then main.db says so, then the old file goes

The new day has another name: a rename over a database that somebody has open is unsafe. The commit in main.db is the
moment at which it is the day; ids, batches and bytes are the same in both, so a cursor goes on in either. Before it
nothing has changed, whoever dies; after it the next writer removes what is left of the old file. A copy that is cut
short is gone on with at the next `reindex`. When the disk is full, or the copy cannot be finished, it is removed, and
the old day stays.
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

_FEW = 1_000  # records that the writer copies itself while it takes a day
_log = logging.getLogger("asgi_audit.store")


def days_of(directory: Path) -> list[DayFacts]:
    """Newest first. Raises StoreError."""
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
        """`take`: let the writer take the copy whose request stands there; returns False when it has not done so
        yet."""
        self._directory = directory
        self._take = take
        self._access = access
        with translated("open", directory / LOCK_NAME):
            self._lock = Lease(directory, access=access, name=LOCK_NAME, what="another reindex works on the index")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *of: object) -> None:
        self._lock.close()

    def renew(self, day: str, on_progress: Callable[[int, int], None] = lambda copied, records: None) -> bool:
        """Make `day` new, or find that it is purged; False when the writer was asked and has not taken it yet."""
        before = self._file(day)
        if before is None:
            self._discard(day)
            return True
        request = retention.request_to_take(self._directory, day)
        if not request.exists():  # else the copy is the writer's already
            self._copy(day, before, on_progress)
            with translated("ask to take", self._directory):
                retention.ask_to_take(self._directory, day, self._access)
        if not self._take(request):
            return False
        now = self._file(day)
        if now == before:
            raise StoreError(
                f"the day {day} could not be taken as it was made new; it stays as it was",
                retriable=False,
                hint="The log of whoever writes the index says why; then run `asgi-audit reindex` again.",
            )
        return True

    def discard(self) -> int:
        """Remove the copies that are not finished; returns how many."""
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
        """Raises StoreError before the disk is so full that the indexer beside us has to stop."""
        free = os.statvfs(self._directory)
        if free.f_bavail * free.f_frsize < 2 * LOW_BYTES:
            raise StoreError(
                f"the disk of {self._directory} has less than {2 * LOW_BYTES >> 20} MiB free",
                retriable=True,
                hint="A day that is made new takes as much room again until it is done; what it took is given back.",
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
    """For the one writer, which has closed the day: the copy under its new name, with all that the day of the number
    `file` holds. None, and no copy any more, when it cannot be: the log says why."""
    path = directory / retention.copy_name(day)
    new = directory / day_name(day, file + 1)
    try:
        with translated("take", path):
            if not holds(path):
                raise StoreError(f"there is no copy of the day {day} to take", retriable=False)
            copy = Copy(directory / day_name(day, file), path, access)
            try:
                copy.finish()
            finally:
                copy.close()
            for end in BESIDE:  # nothing stands in them
                Path(f"{path}{end}").unlink(missing_ok=True)
            os.rename(path, new)
            retention.sync(directory)
            return new
    except StoreError as e:
        _log.error("the day %s stays as it is, and was not made new: %s. %s", day, e, e.hint)
        remove(path)
        return None


def remove_leftovers(directory: Path, known: dict[str, int]) -> None:
    """Of days that were made new, the files that main.db does not name (`known`: day -> number). Raises OSError."""
    for day, files in files_there(directory).items():
        for file in files:
            if day in known and file != known[day] and known[day] in files:
                _log.info("removing %s: it was made new, or could not be", day_name(day, file))
                remove(directory / day_name(day, file))


def chosen(main: apsw.Connection, directory: Path) -> dict[str, int]:
    """The days that main.db knows by a number whose file is not there, while one of another number is: main.db came
    back older than its days, or a file did. day -> the number that is there."""
    there = files_there(directory)
    known: Any = main.execute("SELECT day, file FROM day").fetchall()
    return {day: there[day][-1] for day, file in known if day in there and file not in there[day]}
