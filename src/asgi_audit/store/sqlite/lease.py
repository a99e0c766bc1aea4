"""One writer per index: a `lockf` lock on the file `lease` in its directory.

The kernel frees the lock when its holder dies for any reason, and a forked child does not hold it. A process opens the
file of one directory once (see `filelock`). The file is never removed: a process that waits for a lock on a removed
file would get a lock that others do not see.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path

from ...disk import PRIVATE, Access
from ...errors import StoreError
from ...filelock import locks_held

__all__ = ["LEASE_NAME", "LOCK_NAME", "Lease", "LeaseHeld", "holder"]

LEASE_NAME = "lease"
LOCK_NAME = "reindexing"  # held by the process that rebuilds days
_POLL_SECONDS = 0.1


class LeaseHeld(StoreError):
    """Another process writes this index."""


class Lease:
    """Held from construction to `close`. Waits at most `wait_seconds`, or until `stop` is set, then raises a retriable
    StoreError."""

    def __init__(
        self,
        directory: Path,
        *,
        wait_seconds: float = 0.0,
        stop: threading.Event | None = None,
        access: Access = PRIVATE,
        name: str = LEASE_NAME,
        what: str = "another indexer holds the lease",
    ) -> None:
        """`name`: the lock file in the directory. `what`: what the holder does, for the error message."""
        self.path = directory / name
        self._key = str(directory.resolve() / name)
        self._pid = os.getpid()
        self._access = access
        self._fd = -1
        until = time.monotonic() + wait_seconds
        pause = stop or threading.Event()
        while not self._take():
            left = until - time.monotonic()
            if left <= 0 or pause.wait(min(_POLL_SECONDS, left)):
                raise LeaseHeld(
                    f"{what} of {directory}{self._holder()}",
                    retriable=True,
                    hint="Only one indexer may run at a time. Stop the other one, or let this one wait.",
                )

    def _take(self) -> bool:
        with locks_held() as held:
            if self._key in held:
                return False
            fd = self._access.open(self.path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                os.close(fd)
                if isinstance(e, (BlockingIOError, PermissionError)):
                    return False
                raise
            held.add(self._key)
        self._fd = fd
        with contextlib.suppress(OSError):  # informative only; a full disk must not prevent an indexer from starting
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{self._pid} {os.uname().nodename}\n".encode(), 0)
        return True

    def _holder(self) -> str:
        with locks_held() as held:
            if self._key in held:
                return " (this very process)"
            try:  # this process does not hold the lock, so closing the file frees nothing
                pid, host = self.path.read_text().split()
            except (OSError, ValueError):
                return ""
        return f" (process {pid} on {host})"

    def lost(self) -> bool:
        """True when the directory holds another lock file by now, or when this process is a forked child."""
        try:
            there, ours = os.stat(self.path), os.fstat(self._fd)
        except OSError:
            return True
        return (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev) or os.getpid() != self._pid

    def close(self) -> None:
        if self._fd >= 0 and os.getpid() == self._pid:
            with locks_held() as held:
                os.close(self._fd)
                held.discard(self._key)
        self._fd = -1


def holder(directory: Path) -> str | None:
    """The holder of the lease, as `process 12 on host`; None when it is free. Takes a free lease for a moment. Raises
    OSError."""
    path = directory / LEASE_NAME
    with locks_held() as held:
        if str(directory.resolve() / LEASE_NAME) in held:
            return "this very process"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except PermissionError:
            return "unknown: this user may not read the file"
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            pid, _, host = os.pread(fd, 300, 0).decode("utf-8", "replace").strip().partition(" ")
            return f"process {pid} on {host}" if host else "a process that could not write its name"
        finally:
            os.close(fd)
    return None
