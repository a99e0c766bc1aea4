"""Until when everything is indexed: 24 bytes in the file `caught_up`, overwritten in place.

It is written up to 40 times a second even when nothing happens. As a row of main.db each write would add a page of 8
KiB to the WAL, 27 GB a day on the disk of an idle machine; in place it is one page that the kernel writes back every
few seconds.

Layout: published (unsigned 64 bit), caught_up_at (double, seconds since the epoch), CRC-32 of both, 4 bytes of zeros;
little endian. Invariant: it is written after main.db committed `published`, and readers read it *before* main.db, so
that everything until `caught_up_at` is visible to whoever saw it. A file that names more than main.db holds (main.db
came back from a backup), is torn or missing counts as never. Nothing is synced: after a power cut an older value stands
there, which is true as well.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from ...disk import PRIVATE, Access

__all__ = ["CAUGHT_UP_NAME", "CaughtUpFile", "last_used", "read_caught_up", "read_caught_up_at"]

CAUGHT_UP_NAME = "caught_up"
_BODY = struct.Struct("<Qd")
_SIZE = 24


class CaughtUpFile:
    """The writer's side. Raises OSError."""

    def __init__(self, directory: Path, access: Access = PRIVATE) -> None:
        self._fd = access.open(directory / CAUGHT_UP_NAME, os.O_RDWR | os.O_CREAT)

    def write(self, published: int, at: float) -> None:
        """As given, also when the clock was set back: keeping the later time would promise what nobody looked at."""
        body = _BODY.pack(published, at)
        os.pwrite(self._fd, body + struct.pack("<II", zlib.crc32(body), 0), 0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def last_used(directory: Path) -> float | None:
    """When the file was last written, by the clock of then; None when it never was. Raises OSError."""
    try:
        return os.stat(directory / CAUGHT_UP_NAME).st_mtime
    except FileNotFoundError:
        return None


def read_caught_up(fd: int) -> tuple[int, float]:
    """(published, caught_up_at) of an open file; (0, 0.0) when it holds nothing whole."""
    for _ in range(3):  # a read may meet a write in the middle
        data = os.pread(fd, _SIZE, 0)
        if len(data) < _SIZE:
            return 0, 0.0
        if int.from_bytes(data[16:20], "little") == zlib.crc32(data[:16]):
            published, at = _BODY.unpack(data[:16])
            return published, at
    return 0, 0.0


def read_caught_up_at(directory: Path, published: int) -> int | None:
    """For the writer: until when everything is indexed, in ms; None when it was never said of what is published."""
    fd = os.open(directory / CAUGHT_UP_NAME, os.O_RDONLY | os.O_CLOEXEC)
    try:
        known, at = read_caught_up(fd)
    finally:
        os.close(fd)
    return int(at * 1000) if at and known <= published else None
