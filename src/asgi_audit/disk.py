"""How files and directories of ours are made: for their owner alone from the first byte on, whatever the umask.

Everything that asgi-audit writes holds what people sent: bodies, keys, the secret that seals tokens. So each file has
mode 0600 and each directory 0700 when it appears, also inside a directory that everybody may read; with a group to
share with they have 0660 and 2770. There is no moment at which they are wider.

Invariants: a symbolic link is never followed where a file of ours should be; a directory may be a link, but only one
that root or this user made. What exists already and belongs to this user is narrowed, of other users nothing is
changed. A file that exists is never opened in order to change its mode: closing it would free the locks that this
process holds on it (POSIX), SQLite's too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

__all__ = ["PRIVATE", "Access"]


class Access(NamedTuple):
    """Who may use what is made: this user, and the members of `group` (a number) when there is one."""

    group: int | None = None

    @property
    def file_mode(self) -> int:
        return 0o600 if self.group is None else 0o660

    @property
    def directory_mode(self) -> int:
        """With the group's bit on it, what is made inside belongs to the group as well, whoever makes it."""
        return 0o700 if self.group is None else 0o2770

    def open(self, path: Path, flags: int) -> int:
        """As `os.open`. Raises OSError (ELOOP) for a symbolic link."""
        try:
            # Made for the owner alone: the group's rights are added when the group is the right one.
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
        """Make an empty file for somebody else to open; False when it was there. Raises OSError (ELOOP) for a symbolic
        link."""
        try:
            os.close(self.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            self.mend(path)
            return False
        return True

    def mkdir(self, path: Path) -> None:
        """Raises OSError; FileExistsError when anything is there."""
        os.mkdir(path, 0o700)
        self._set(path, os.lstat(path), self.directory_mode)

    def makedirs(self, path: Path) -> bool:
        """Make a directory and what is missing above it; False when it was there. Raises OSError, also when a link of
        another user stands in its place."""
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
                text = (
                    f"a symbolic link of another user (uid {there.st_uid}) stands where a directory of ours should be"
                )
                raise OSError(errno.ELOOP, text, str(path)) from None
            if not path.is_dir():
                raise
            return False
        return True

    def mend(self, path: Path) -> None:
        """Give a file or directory that belongs to this user the mode it should have: one that an earlier version
        made. Without a group it is narrowed only. Raises OSError (ELOOP) for a symbolic link, FileNotFoundError."""
        there = os.lstat(path)
        if stat.S_ISLNK(there.st_mode):
            raise _is_link(path)
        mode = self.directory_mode if stat.S_ISDIR(there.st_mode) else self.file_mode
        if self.group is None:
            mode &= stat.S_IMODE(there.st_mode)
        if not hasattr(os, "O_PATH"):  # not Linux
            self._set(path, there, mode)
        elif _differs(there, self, mode):
            # Not by its name, which may be a link by now; and closing this kind of descriptor frees no lock.
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                there = os.fstat(fd)
                if not stat.S_ISLNK(there.st_mode):
                    self._set(Path(f"/proc/self/fd/{fd}"), there, mode)
            finally:
                os.close(fd)

    def _set(self, at: int | Path, there: os.stat_result, mode: int) -> None:
        """Group and mode of what belongs to this user."""
        if there.st_uid != os.geteuid() or not _differs(there, self, mode):
            return
        if self.group is not None and there.st_gid != self.group:
            os.chown(at, -1, self.group)
        os.chmod(at, mode)


PRIVATE = Access()


def _differs(there: os.stat_result, access: Access, mode: int) -> bool:
    # A set-group-id bit that a directory has from the one around it gives nobody a right.
    bits = 0o777 if access.group is None else 0o7777
    return stat.S_IMODE(there.st_mode) & bits != mode & bits or access.group not in (None, there.st_gid)


def _is_link(path: Path) -> OSError:
    return OSError(errno.ELOOP, f"{path.name} is a symbolic link, and a file of ours should be there", str(path))
