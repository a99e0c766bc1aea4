"""The newest fence that has passed: 64 bytes in the file `fence`, overwritten in place.

It is written up to 40 times a second even when nothing happens. As a row of main.db each write would add a page of 8
KiB to the WAL: 27 GB of disk writes a day on an idle machine. Overwritten in place, it is one page that the kernel
writes back every few seconds.

Layout: the number of the batch that main.db had committed (unsigned 64 bit); `at`, `taken_at`, `boot` and `elapsed` of
`store.state.ReadUntil` (signed 64 bit, ms); the boot id (16 bytes, zeros when it is not known); CRC-32 of all that; 4
bytes of zeros; little endian. Invariant: it is written after main.db committed that batch, and readers read it *before*
main.db, so that a reader sees everything appended before `at`. The file counts as absent when it is torn, or when it
names a later batch than main.db holds (main.db was restored from a backup). Nothing is synced: after a power cut the
file holds an older value, which is also true.
"""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from pathlib import Path

from ...disk import PRIVATE, Access
from ..state import ReadUntil

__all__ = ["FENCE_NAME", "FenceFile", "read_fence", "read_fence_of"]

FENCE_NAME = "fence"
_BODY = struct.Struct("<Qqqqq16s")
_SIZE = 64


class FenceFile:
    """Writes the fence. Raises OSError."""

    def __init__(self, directory: Path, access: Access = PRIVATE) -> None:
        self._fd = access.open(directory / FENCE_NAME, os.O_RDWR | os.O_CREAT)

    def write(self, batch: int, mark: ReadUntil) -> None:
        """Writes `mark` as given, also when the clock was set back: keeping the later time would claim records that
        were not read."""
        boot_id = uuid.UUID(mark.boot_id).bytes if mark.boot_id else bytes(16)
        body = _BODY.pack(batch, mark.at, mark.taken_at, mark.boot, mark.elapsed, boot_id)
        os.pwrite(self._fd, body + struct.pack("<II", zlib.crc32(body), 0), 0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_fence(directory: Path) -> tuple[int, ReadUntil] | None:
    """(number of the batch, fence); None when the file is missing or torn. Raises OSError."""
    try:
        fd = os.open(directory / FENCE_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        for _ in range(3):  # a read may overlap a write
            data = os.pread(fd, _SIZE, 0)
            if len(data) < _SIZE:
                return None
            body = data[: _BODY.size]
            if int.from_bytes(data[_BODY.size : _BODY.size + 4], "little") == zlib.crc32(body):
                batch, at, taken_at, boot, elapsed, boot_id = _BODY.unpack(body)
                known = str(uuid.UUID(bytes=boot_id)) if any(boot_id) else ""
                return batch, ReadUntil(at, taken_at, boot, known, elapsed)
        return None
    finally:
        os.close(fd)


def read_fence_of(directory: Path, batches: int) -> ReadUntil | None:
    """For the writer: the newest fence; None when there is no fence valid for main.db's state."""
    found = read_fence(directory)
    return found[1] if found is not None and found[0] <= batches else None
