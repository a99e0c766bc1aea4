"""Files that must stay where they were opened.

SQLite goes on writing into a file that was unlinked, or whose directory was renamed, without a sign: records would be
acknowledged to their source and then be gone with the last descriptor. So the writer compares device and inode of what
it has open with what stands under the names: before a batch, and again after its commit, before it answers. A database
that is smaller than it was has been cut: ours only grow, and whoever cut one left the open connection unaware. A stat
costs about 1 µs, a commit some hundreds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .schema import BESIDE

__all__ = ["Standing", "with_logs"]


class Standing:
    """Raises OSError, but for a name that is not there any more."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._known = {path: _file(path) for path in paths}

    def moved(self) -> Path | None:
        """The first that is gone, cut, or another file by now."""
        for path, known in self._known.items():
            there = _file(path)
            if there is None or known is None or there[:2] != known[:2] or there[2] < known[2]:
                return path
            self._known[path] = there
        return None


def with_logs(path: Path) -> list[Path]:
    """A database and what SQLite keeps beside it: a removed -wal holds what its file does not, and nobody else finds
    it."""
    return [path, *(Path(f"{path}{end}") for end in BESIDE)]


def _file(path: Path) -> tuple[int, int, int] | None:
    """Device, inode, and size where it only grows."""
    try:
        there = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return there.st_dev, there.st_ino, there.st_size if path.suffix == ".db" else 0
