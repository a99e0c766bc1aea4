"""Days that main.db knows, and their files: one without the other is a loss that must not look like an empty day.

A day file is made and synced before main.db knows the day, and a purge takes the day out of main.db before it unlinks
the file. So a day that main.db knows, before and after the file was not found, is gone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import apsw

from ...errors import StoreError
from .schema import day_name

__all__ = ["day_is_gone", "gone_days", "holds", "is_known"]


def gone_days(main: apsw.Connection, directory: Path) -> list[str]:
    """Oldest first. Call it outside of a transaction: it reads twice. Raises apsw's errors and OSError."""
    known: Any = main.execute("SELECT day FROM day ORDER BY day").fetchall()
    return [
        str(day) for (day,) in known if not holds(directory / day_name(day)) and is_known(main, day)
    ]  # fmt: skip


def holds(path: Path) -> bool:
    """Whether anything stands in this file of a day. SQLite takes an empty file for a new database, and drops the log
    beside it. Raises OSError."""
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False


def is_known(main: apsw.Connection, day: str) -> bool:
    return bool(main.execute("SELECT 1 FROM day WHERE day = ?", (day,)).get)


def day_is_gone(directory: Path, day: str, *, retriable: bool = True) -> StoreError:
    return StoreError(
        f"the file {day_name(day)} of the index in {directory} is gone or empty",
        retriable=retriable,
        hint="Restore it; or start `index` or `serve` once with --new-index, which says that it is gone for good.",
    )
