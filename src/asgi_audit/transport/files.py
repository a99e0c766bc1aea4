"""The file operations of the journal in one object, so that a test can make each of them fail.

Each method is one call of the operating system; its `OSError` is not caught.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ..disk import PRIVATE, Access

__all__ = ["Files"]


class Files:
    """The real operations. `access`: who may use the files and directories that are made."""

    access = PRIVATE

    @classmethod
    def shared(cls, access: Access) -> Files:
        made = cls()
        made.access = access
        return made

    def open(self, path: Path, flags: int) -> int:
        """Raises OSError (ELOOP) for a symbolic link."""
        return self.access.open(path, flags)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """May write less than all of it."""
        return os.pwrite(fd, data, offset)

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fdatasync(self, fd: int) -> None:
        if hasattr(os, "fdatasync"):
            os.fdatasync(fd)
        else:  # macOS
            os.fsync(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def fsync_directory(self, path: Path) -> None:
        """Make the names in a directory survive a crash of the machine."""
        fd = self.open_directory(path)
        try:
            self.fsync(fd)
        finally:
            self.close(fd)

    def open_directory(self, path: Path) -> int:
        """Opens a symbolic link, too: that is how an operator puts a journal on another disk."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def stat(self, path: Path) -> os.stat_result:
        return os.stat(path)

    def free_bytes(self, path: Path) -> int:
        """How many bytes an unprivileged process may still write on the file system of `path`."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def disk_bytes(self, path: Path) -> int:
        """The size of the file system of `path`."""
        found = os.statvfs(path)
        return found.f_blocks * found.f_frsize

    def mkdir(self, path: Path) -> None:
        self.access.mkdir(path)

    def makedirs(self, path: Path) -> bool:
        """Returns False when it existed."""
        return self.access.makedirs(path)

    def rename(self, old: Path, new: Path) -> None:
        os.rename(old, new)

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name; FileExistsError when that is taken."""
        os.link(old, new)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def rmdir(self, path: Path) -> None:
        os.rmdir(path)

    def names(self, path: Path) -> list[str]:
        return os.listdir(path)

    def lock(self, fd: int) -> bool:
        """Take the exclusive `lockf` lock without waiting; False when another process holds it. A `flock` would stay
        held by a forked child of an owner that was killed."""
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # EAGAIN or EACCES, depending on the system: another process holds it
        except (BlockingIOError, PermissionError):
            return False
        return True

    def lock_directory(self, fd: int) -> bool:
        """Take the exclusive `flock` of an open directory without waiting; it ends with the descriptor."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
