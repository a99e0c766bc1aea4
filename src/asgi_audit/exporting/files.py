"""Files of exports: made for their owner alone, durable when a call returns."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..disk import Access

__all__ = ["sync_directory", "unlink", "write_whole"]


def sync_directory(path: Path) -> None:
    """What was made, renamed or removed in it survives a crash of the machine."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, data: bytes, access: Access) -> None:
    """Under its name it is whole or not there. The caller syncs the directory."""
    beside = path.with_name(path.name + ".new")
    unlink(beside)
    try:
        fd = access.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(fd, left) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(beside, path)
    except OSError:
        unlink(beside)
        raise


def unlink(path: Path) -> None:
    """What is not there is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
