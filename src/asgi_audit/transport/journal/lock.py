"""Who owns a process's directory: a `lockf` lock on its file `lock`, known to this OS process by the directory's UUID
(see `filelock`)."""

from __future__ import annotations

import os
from pathlib import Path

from ...filelock import locks_held
from ..files import Files

__all__ = ["DirectoryLock", "take"]


class DirectoryLock:
    """Held until `release` (or the death of the OS process)."""

    def __init__(self, name: str, fd: int, files: Files) -> None:
        self._name = name
        self._fd = fd
        self._files = files
        self._pid = os.getpid()

    def is_current(self, directory: Path) -> bool:
        """Whether this is still the lock that other processes find in `directory`. Raises OSError."""
        return self._fd >= 0 and _same(self._files, self._fd, directory / "lock")

    def release(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        with locks_held() as held:
            if self._pid == os.getpid():
                held.discard(self._name)
            self._files.close(fd)


def take(directory: Path, name: str, files: Files, *, create: bool = False) -> DirectoryLock | None:
    """Take the lock of `directory`, whose process is `name`; None while it is held, also by this process. Raises
    OSError."""
    with locks_held() as held:
        if name in held:
            return None
        path = directory / "lock"
        fd = files.open(path, os.O_RDWR | (os.O_CREAT if create else 0))
        try:
            # When the file was removed between opening and locking, others will not find this lock.
            is_ours = files.lock(fd) and _same(files, fd, path)
        except BaseException:
            files.close(fd)
            raise
        if not is_ours:
            files.close(fd)
            return None
        held.add(name)
        return DirectoryLock(name, fd, files)


def _same(files: Files, fd: int, path: Path) -> bool:
    try:
        a, b = files.fstat(fd), files.stat(path)
    except FileNotFoundError:
        return False
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
