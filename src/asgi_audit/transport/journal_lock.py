"""Who owns a process's directory: a `lockf` lock on its file `lock`, and a registry of those that this OS process
holds.

`lockf` locks belong to the OS process: closing *any* descriptor of the file frees the lock, and locking it again
always succeeds. So we never open a lock file that we hold ourselves; the registry knows them by the directory's UUID.
A forked child holds none of its parent's locks and starts with an empty registry.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from .files import Files

__all__ = ["DirectoryLock", "take"]

_lock = threading.Lock()
_held: set[str] = set()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)


class DirectoryLock:
    """Held until `release` (or the death of the OS process)."""

    def __init__(self, name: str, fd: int, files: Files) -> None:
        self._name = name
        self._fd = fd
        self._files = files
        self._pid = os.getpid()

    def stands(self, directory: Path) -> bool:
        """Whether others who look for the lock of `directory` find this one. Raises OSError."""
        return self._fd >= 0 and _same(self._files, self._fd, directory / "lock")

    def release(self) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        with _lock:
            if self._pid == os.getpid():
                _held.discard(self._name)
            self._files.close(fd)


def take(directory: Path, name: str, files: Files, *, create: bool = False) -> DirectoryLock | None:
    """The lock of `directory`, whose process is `name`; None while anybody (we too) holds it. Raises OSError."""
    with _lock:
        if name in _held:
            return None
        path = directory / "lock"
        fd = files.open(path, os.O_RDWR | (os.O_CREAT if create else 0))
        try:
            # The file may have been removed between our opening and locking it: then the lock is worth nothing.
            held = files.lock(fd) and _same(files, fd, path)
        except BaseException:
            files.close(fd)
            raise
        if not held:
            files.close(fd)
            return None
        _held.add(name)
        return DirectoryLock(name, fd, files)


def _same(files: Files, fd: int, path: Path) -> bool:
    try:
        a, b = files.fstat(fd), files.stat(path)
    except FileNotFoundError:
        return False
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
