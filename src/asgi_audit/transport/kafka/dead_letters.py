"""The forwarder's local dead letters: entries that the broker refuses are kept beside the journal.

`refused.jsonl` (mode 0600) has one JSON object on each line: `at` (ms), `process`, `sequence`, `kind`, `reason`,
`bytes`, and the entry itself, as `text` when it is UTF-8, else as `base64`. The file has at most `bytes_max`; beyond
that lines are written without their entry, and beyond twice that they are only counted. A line is written and synced
before the loss is stated, so that a crash in between repeats the refusal and loses nothing.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ...disk import PRIVATE, Access

__all__ = ["DeadLetters"]

_encoder = msgspec.json.Encoder()


class DeadLetters:
    """Used by one thread. `write` never raises: a full disk must not stop the forwarder."""

    def __init__(
        self,
        directory: Path,
        *,
        bytes_max: int = 64 << 20,
        access: Access = PRIVATE,
        opener: Callable[[Path, int], int] | None = None,
    ) -> None:
        self.path = directory / "refused.jsonl"
        self.written = 0
        self._bytes_max = bytes_max
        self._access = access
        self._open = opener or access.open

    def write(self, *, at: int, process: str, sequence: int, kind: str, reason: str, entry: bytes) -> bool:
        """Returns whether the entry itself was written."""
        line: dict[str, Any] = {
            "at": at,
            "process": process,
            "sequence": sequence,
            "kind": kind,
            "reason": reason,
            "bytes": len(entry),
        }
        try:
            self._access.makedirs(self.path.parent)
            handle = self._open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                size = os.fstat(handle).st_size
                room = size + len(entry) <= self._bytes_max
                if size >= 2 * self._bytes_max:
                    return False
                if room:
                    try:
                        line["text"] = entry.decode()
                    except UnicodeDecodeError:
                        line["base64"] = base64.b64encode(entry).decode()
                data = _encoder.encode(line) + b"\n"
                if os.write(handle, data) != len(data):
                    # End a torn line, so that the next line is not appended to it.
                    os.ftruncate(handle, size)
                    raise OSError("short write")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError:
            return False
        self.written += 1
        return room
