"""Detects open files that were removed, replaced or truncated.

SQLite keeps writing to a file that was unlinked, or whose directory was renamed, without an error. The source would get
its acknowledgement, and the records would be gone with the last descriptor. So the writer compares device and inode of
its open files with those now under their names: before a batch, and again after its commit, before it acknowledges. A
database that became smaller was truncated: index databases only grow, and the open connection does not notice it. A
stat costs about 1 µs, a commit some hundreds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .schema import BESIDE

__all__ = ["Standing", "with_logs"]


class Standing:
    """The files to check. Raises OSError, except for a missing file."""

    def __init__(self, paths: Iterable[Path]) -> None:
        # As text: a path is turned into text at each stat.
        self._known = {str(path): _file(str(path)) for path in paths}

    def moved(self) -> Path | None:
        """The first file that is gone, truncated or replaced; None when all are in place."""
        for path, known in self._known.items():
            there = _file(path)
            if there is None or known is None or there[:2] != known[:2] or there[2] < known[2]:
                return Path(path)
            self._known[path] = there
        return None


def with_logs(path: Path) -> list[Path]:
    """A database with its -wal and -shm: a removed -wal would take with it data that is not yet in the database."""
    return [path, *(Path(f"{path}{end}") for end in BESIDE)]


def _file(path: str) -> tuple[int, int, int] | None:
    """(device, inode, size); size 0 for files that may shrink. None when there is no file."""
    try:
        there = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return there.st_dev, there.st_ino, there.st_size if path.endswith(".db") else 0
