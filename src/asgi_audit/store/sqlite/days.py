"""Compares the days listed in main.db with their files: a listed day without a file is a loss, not an empty day.

A day file is created and synced before main.db lists the day, and a purge removes the day from main.db before it
unlinks the file. So when a day is listed both before and after its file was not found, the file is lost.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import apsw

from ...errors import StoreError
from .schema import BESIDE, day_name, file_of_name

__all__ = ["day_is_gone", "file_of", "files_there", "gone_days", "holds", "remove"]


def gone_days(main: apsw.Connection, directory: Path) -> list[str]:
    """Listed days without a file, oldest first. Call it outside a transaction: it reads twice. Raises apsw's errors and
    OSError."""
    known: Any = main.execute("SELECT day, file FROM day ORDER BY day").fetchall()
    return [
        day for day, file in known if not holds(directory / day_name(day, file)) and file_of(main, day) == file
    ]  # fmt: skip


def holds(path: Path) -> bool:
    """Whether this day file has content. SQLite takes an empty file for a new database and deletes the log beside it.
    Raises OSError."""
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False


def file_of(main: apsw.Connection, day: str) -> int | None:
    """The number of the day's current file; None when main.db does not list the day."""
    found: int | None = main.execute("SELECT file FROM day WHERE day = ?", (day,)).get
    return found


def files_there(directory: Path) -> dict[str, list[int]]:
    """Per day, the sorted numbers of its files that have content. Raises OSError."""
    found: dict[str, list[int]] = {}
    for day, file in sorted(filter(None, map(file_of_name, os.listdir(directory)))):
        if holds(directory / day_name(day, file)):
            found.setdefault(day, []).append(file)
    return found


def remove(path: Path) -> None:
    """Removes a database with its -wal and -shm, if they exist. The database goes first: without its -wal an older
    state of it could be read. Raises OSError."""
    for name in (path, *(Path(f"{path}{end}") for end in BESIDE)):
        name.unlink(missing_ok=True)


def day_is_gone(directory: Path, day: str, file: int = 0, *, retriable: bool = True) -> StoreError:
    return StoreError(
        f"the file {day_name(day, file)} of the index in {directory} is gone or empty",
        retriable=retriable,
        hint="Restore it, or start `index` or `serve` once with --new-index to accept the loss.",
    )
