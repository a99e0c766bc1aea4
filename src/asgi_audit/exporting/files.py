"""Files of exports: readable by their owner only, durable when a call returns."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..disk import Access

__all__ = ["unlink", "write_whole"]


def write_whole(path: Path, data: bytes, access: Access) -> None:
    """Writes a file that is either complete under its name or absent. The caller syncs the directory."""
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
    """Removes a file; a missing file is no error."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
