"""Removes from a journal what is stored durably, and what processes left behind that died while they made or removed a
directory."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

from ..files import Files
from . import format as fmt
from .lock import DirectoryLock, take
from .reader import SegmentReader
from .root import MAKING

__all__ = ["LEFTOVER_SECONDS", "clean", "empty", "unlink_behind"]

LEFTOVER_SECONDS = 60.0
"""From this age on, a temporary directory was left behind by a process that died; a younger one may still be in use."""


def unlink_behind(reader: SegmentReader, committed: int, files: Files) -> int:
    """Unlink the closed segments that end at or before the position `committed`. Returns the position up to which
    there is nothing more to unlink. Raises OSError."""
    try:
        bases = reader.bases()
    except FileNotFoundError:
        return -1
    for base, following in itertools.pairwise(bases):
        if following > committed:
            break
        with contextlib.suppress(FileNotFoundError):
            files.unlink(reader.directory / fmt.segment_name(base))
    later = [base for base in bases if base > committed]
    # Nothing can be unlinked before the committed position reaches the beginning of the next segment.
    return later[0] - 1 if later else committed


def empty(directory: Path, files: Files) -> None:
    """Remove the directory and its files, the lock last. Raises OSError."""
    for inner in sorted(files.names(directory), key=lambda n: n == "lock"):
        files.unlink(directory / inner)
    files.rmdir(directory)


def clean(root: Path, names: Iterable[str], files: Files, wall: Callable[[], float]) -> None:
    """Remove those of the `names` in `root` that are leftovers of directories and files being made or removed. `wall`:
    returns the seconds since the epoch. What cannot be removed is tried again next time."""
    for name in names:
        if name.startswith((".new-", ".gone-")):
            _clean_directory(root / name, files, wall)
        elif name.startswith(MAKING):
            with contextlib.suppress(OSError):
                if wall() - files.stat(root / name).st_mtime >= LEFTOVER_SECONDS:
                    files.unlink(root / name)


def _clean_directory(directory: Path, files: Files, wall: Callable[[], float]) -> None:
    process = directory.name.split("-", 1)[1]
    lock: DirectoryLock | None = None
    try:
        if wall() - files.stat(directory).st_mtime < LEFTOVER_SECONDS:
            return
        lock = take(directory, process, files, create=True)
        if lock is not None:
            empty(directory, files)
    except OSError:
        return
    finally:
        if lock is not None:
            lock.release()
