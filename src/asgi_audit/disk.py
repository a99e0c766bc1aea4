"""Creates files and directories for their owner only, from the first byte on, whatever the umask.

Everything that asgi-audit writes is confidential: bodies, keys, the secret that seals tokens. So each file is created
with mode 0600 and each directory with 0700, also inside a world-readable directory; when shared with a group, with 0660
and 2770. They never have wider modes, not even for a moment.

Invariants: a symbolic link in place of a file is never followed; a directory may be a link, but only one created by
root or this user. Existing files of this user are narrowed; files of other users are not changed. An existing file is
never opened to change its mode: closing it would free the POSIX locks that this process holds on it, including
SQLite's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

__all__ = ["PRIVATE", "Access", "sync"]


class Access(NamedTuple):
    """Who may use created files: this user, and the members of `group` (a number), if set."""

    group: int | None = None

    @property
    def file_mode(self) -> int:
        return 0o600 if self.group is None else 0o660

    @property
    def directory_mode(self) -> int:
        """The set-group-id bit makes new entries belong to the group, regardless of their creator."""
        return 0o700 if self.group is None else 0o2770

    def open(self, path: Path, flags: int) -> int:
        """As `os.open`. Raises OSError (ELOOP) for a symbolic link."""
        try:
            # Create it for the owner only: the group's rights are added after the group is set.
            fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as e:
            if e.errno == errno.ELOOP:
                raise _is_link(path) from None
            raise
        if flags & os.O_CREAT:
            try:
                there = os.fstat(fd)
                if stat.S_ISREG(there.st_mode):
                    self._set(fd, there, self.file_mode)
            except BaseException:
                os.close(fd)
                raise
        return fd

    def create(self, path: Path) -> bool:
        """Create an empty file for another library to open; False when it exists. Raises OSError (ELOOP) for a symbolic
        link."""
        try:
            os.close(self.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            self.mend(path)
            return False
        return True

    def mkdir(self, path: Path) -> None:
        """Create a directory. Raises OSError; FileExistsError when anything exists there."""
        os.mkdir(path, 0o700)
        self._set(path, os.lstat(path), self.directory_mode)

    def makedirs(self, path: Path) -> bool:
        """Create a directory and its missing parents; False when it exists. Raises OSError, also when its place holds a
        link of another user."""
        try:
            self.mkdir(path)
        except FileNotFoundError:
            if path.parent == path:
                raise
            self.makedirs(path.parent)
            with contextlib.suppress(FileExistsError):
                self.mkdir(path)
        except FileExistsError:
            there = os.lstat(path)
            if stat.S_ISLNK(there.st_mode) and there.st_uid not in (0, os.geteuid()):
                text = f"a symbolic link of another user (uid {there.st_uid}) is in place of a directory of asgi-audit"
                raise OSError(errno.ELOOP, text, str(path)) from None
            if not path.is_dir():
                raise
            return False
        return True

    def mend(self, path: Path) -> None:
        """Correct the mode of a file or directory of this user that an earlier version created. Without a group the
        mode is only narrowed. Raises OSError (ELOOP) for a symbolic link, FileNotFoundError."""
        there = os.lstat(path)
        if stat.S_ISLNK(there.st_mode):
            raise _is_link(path)
        mode = self.directory_mode if stat.S_ISDIR(there.st_mode) else self.file_mode
        if self.group is None:
            mode &= stat.S_IMODE(there.st_mode)
        if not hasattr(os, "O_PATH"):  # not Linux
            self._set(path, there, mode)
        elif _differs(there, self, mode):
            # Not by name, which may be a link by now. Closing an O_PATH descriptor frees no lock.
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                there = os.fstat(fd)
                if not stat.S_ISLNK(there.st_mode):
                    self._set(Path(f"/proc/self/fd/{fd}"), there, mode)
            finally:
                os.close(fd)

    def _set(self, at: int | Path, there: os.stat_result, mode: int) -> None:
        """Set group and mode, if the file belongs to this user."""
        if there.st_uid != os.geteuid() or not _differs(there, self, mode):
            return
        if self.group is not None and there.st_gid != self.group:
            os.chown(at, -1, self.group)
        os.chmod(at, mode)


PRIVATE = Access()


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, survive a crash of the machine. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _differs(there: os.stat_result, access: Access, mode: int) -> bool:
    # Ignore a set-group-id bit inherited from the parent directory: it grants no access.
    bits = 0o777 if access.group is None else 0o7777
    return stat.S_IMODE(there.st_mode) & bits != mode & bits or access.group not in (None, there.st_gid)


def _is_link(path: Path) -> OSError:
    return OSError(errno.ELOOP, f"{path.name} is a symbolic link in place of a file of asgi-audit", str(path))
