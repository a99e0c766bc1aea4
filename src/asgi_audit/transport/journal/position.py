"""How far a process's journal was forwarded: a file `position` of 64 bytes in its directory, written in place.

The next forwarder continues there, so that a restart does not send again what Kafka has acknowledged. The file is only
a help: it is not synced, and when it is torn, or is beyond the end of the journal, the journal is forwarded from its
beginning and the index drops duplicates. `by_itself`: the process forwards its own journal, so other readers leave it
alone while the process runs; otherwise each record would be sent twice.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from ..base import Position
from ..files import Files

__all__ = ["POSITION_NAME", "Forwarded", "read_forwarded", "write_forwarded"]

POSITION_NAME = "position"
_BODY = struct.Struct("<4sBxxxQB16s")  # magic, by itself, next, length of the digest, digest
_CRC = struct.Struct("<I")
_MAGIC = b"aap1"


class Forwarded(NamedTuple):
    position: Position
    by_itself: bool


def read_forwarded(directory: Path, files: Files) -> Forwarded | None:
    """None when the file is missing or torn. Raises OSError."""
    try:
        fd = files.open(directory / POSITION_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        data = files.pread(fd, _BODY.size + _CRC.size, 0)
    finally:
        files.close(fd)
    if len(data) < _BODY.size + _CRC.size or _CRC.unpack_from(data, _BODY.size)[0] != zlib.crc32(data[: _BODY.size]):
        return None
    magic, by_itself, following, length, digest = _BODY.unpack_from(data)
    if magic != _MAGIC:
        return None
    return Forwarded(Position(following, digest[:length]), bool(by_itself))


def write_forwarded(directory: Path, forwarded: Forwarded, files: Files) -> None:
    """Raises OSError; FileNotFoundError when the directory is gone."""
    position = forwarded.position
    digest = position.digest[:16]
    body = _BODY.pack(_MAGIC, forwarded.by_itself, position.next, len(digest), digest.ljust(16, b"\0"))
    fd = files.open(directory / POSITION_NAME, os.O_WRONLY | os.O_CREAT)
    try:
        files.pwrite(fd, body + _CRC.pack(zlib.crc32(body)), 0)
    finally:
        files.close(fd)
