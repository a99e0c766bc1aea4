"""The file `.root.json` of a journal root: when the root was made, and which index takes records from it.

    {"made_at_ms": 1764339349000, "index": "9f…", "first_index": "9f…"}

The first index that took records from the root (`first_index`) is complete from the making of the root on; every other
one from its own making at the earliest. `index` names the index that takes records now. When an indexer finds another
index than that, or none, it stops: records in a wrong index would not be found.

Invariants: the file appears once, whole and synced: it is written under another name, then linked or renamed. When two
processes make a root at the same time one of them wins, and both read the same. The index is changed under a lock of
the directory. A root without the file is one of version 0.1.0, and its making is unknown. When a full or read-only disk
prevents the file from being written, applications still write their records.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from ...errors import TransportError
from ..files import Files

__all__ = ["MAKING", "ROOT_NAME", "RootFacts", "claim_root", "forget_index", "make_root", "read_root"]

ROOT_NAME = ".root.json"
MAKING = ".root-"  # left by a crash while the file was made; readers of the root remove it
_LOCK_SECONDS = 5.0
_STEP_SECONDS = 0.01
_BYTES_MAX = 65_536


class RootFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`made_at_ms`: since the epoch; None when it is unknown. `index`: the id of the index that takes from the root
    now; `first_index`: of the first one that ever did; None before that."""

    made_at_ms: int | None = None
    index: str | None = None
    first_index: str | None = None

    def made_for(self, index: str) -> int | None:
        """Since when (ms) the root has kept everything for this index: its making, for the first index that takes
        records from it. None for every other index, and when the making is unknown."""
        return self.made_at_ms if self.first_index == index else None


def read_root(root: Path, files: Files | None = None) -> RootFacts | None:
    """None when there is no root, or one of version 0.1.0. Raises OSError, and TransportError when the file cannot be
    decoded."""
    files = files or Files()
    try:
        fd = files.open(root / ROOT_NAME, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = files.pread(fd, _BYTES_MAX, 0)
    finally:
        files.close(fd)
    try:
        return msgspec.json.decode(data, type=RootFacts)
    except msgspec.MsgspecError as e:
        raise TransportError(
            f"the file {root / ROOT_NAME} of the journal cannot be understood: {e}",
            retriable=False,
            hint="Restore it from a copy, or remove it. Without it, the creation time of the journal is unknown.",
        ) from e


def make_root(root: Path, files: Files, wall: Callable[[], float] = time.time) -> None:
    """Make the root, and its file when it is new. Raises OSError when the root cannot be made, and only then."""
    now_ms = int(wall() * 1000)  # taken first: everything in the root is written later
    is_new = files.makedirs(root)
    try:
        names = files.names(root)
        if ROOT_NAME in names:
            return
        # Another process may have made it just now; and an empty directory that an administrator made counts as new.
        is_new = is_new or not [name for name in names if not name.startswith(MAKING)]
        making = _written(root, RootFacts(made_at_ms=now_ms if is_new else None), files)
        try:
            files.link(making, root / ROOT_NAME)
            files.fsync_directory(root)
        finally:
            files.unlink(making)
    except OSError:
        # Another process was first, or the disk is full: then the beginning is unknown, but no record is lost.
        return


def claim_root(root: Path, index: str, files: Files, sleep: Callable[[float], None] = time.sleep) -> RootFacts:
    """Store that this index takes records from the root, unless another one does; `index` of the result is the one that
    does. Raises OSError (FileNotFoundError when there is no root), TransportError."""
    found = read_root(root, files)
    if found is not None and found.index is not None:
        return found
    return _changed(
        root,
        files,
        sleep,
        lambda known: (
            known
            if known.index is not None
            else msgspec.structs.replace(known, index=index, first_index=known.first_index or index)
        ),
    )


def forget_index(root: Path, files: Files, sleep: Callable[[float], None] = time.sleep) -> None:
    """Allow another index to take records from the root. Raises OSError, TransportError."""
    found = read_root(root, files)
    if found is not None and found.index is not None:
        _changed(root, files, sleep, lambda known: msgspec.structs.replace(known, index=None))


def _changed(
    root: Path, files: Files, sleep: Callable[[float], None], change: Callable[[RootFacts], RootFacts]
) -> RootFacts:
    fd = files.open_directory(root)
    try:
        _lock(root, fd, files, sleep)
        known = read_root(root, files) or RootFacts()
        changed = change(known)
        if changed != known:
            making = _written(root, changed, files)
            try:
                files.rename(making, root / ROOT_NAME)
            except BaseException:
                files.unlink(making)
                raise
            files.fsync(fd)
        return changed
    finally:
        files.close(fd)


def _lock(root: Path, fd: int, files: Files, sleep: Callable[[float], None]) -> None:
    for _ in range(int(_LOCK_SECONDS / _STEP_SECONDS)):
        if files.lock_directory(fd):
            return
        sleep(_STEP_SECONDS)
    raise OSError(errno.EWOULDBLOCK, "another process has held the lock of the journal for a long time", str(root))


def _written(root: Path, facts: RootFacts, files: Files) -> Path:
    """A new file beside it, synced."""
    making = root / f"{MAKING}{uuid.uuid4()}"
    fd = files.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        try:
            data = msgspec.json.encode(facts) + b"\n"
            if files.pwrite(fd, data, 0) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(making))
            files.fsync(fd)
        finally:
            files.close(fd)
    except BaseException:
        files.unlink(making)
        raise
    return making
