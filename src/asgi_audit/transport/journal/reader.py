"""Reads the segments of one process, in order, from any offset; shared by the source, adoption and `follow`.

It never reads beyond the published end of a running process. Bytes that are not an entry are returned as damage, so
that they are neither skipped silently nor read in a loop; reading continues at the next valid entry or segment.
"""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path
from typing import NamedTuple

from ..base import Message, digest_of
from ..files import Files
from . import format as fmt

__all__ = ["Damage", "SegmentReader", "Taken"]

_CHUNK = 1 << 20
_HEADER_BYTES_MAX = 1 << 17  # 2,000 ranges of two 19-digit numbers fit
_DAMAGE_BYTES_MAX = 1 << 16  # returned of a damaged stretch; a dead letter keeps no more
_WORD = struct.Struct("<Q")
log = logging.getLogger("asgi_audit")

Damage = tuple[str, int, str, bytes]


class Taken(NamedTuple):
    messages: list[Message]
    damaged: list[Damage]
    more: bool  # more entries are available


class SegmentReader:
    """`at` is the offset to read next, `digest` that of the last message before it (b'' when none was read)."""

    def __init__(self, directory: Path, name: str, files: Files, at: int = 0, digest: bytes = b"") -> None:
        self.directory = directory
        self.name = name
        self.at = at
        self.digest = digest
        self._files = files
        self._fd = -1
        self._base = -1
        self._stop: int | None = None  # where the open segment ends; None while it may grow
        self._page_fd = -1
        self._is_alive = True  # its process may still append and begin segments
        self._checked = at == 0  # that `digest` is that of the message before `at`

    def close(self) -> None:
        for fd in (self._fd, self._page_fd):
            if fd >= 0:
                self._files.close(fd)
        self._fd = self._page_fd = -1
        self._base = -1

    def ended(self) -> None:
        """The process is dead and its journal closed: from now on read the segments without its page."""
        self.close()
        self._is_alive = False

    def bases(self) -> list[int]:
        found = (fmt.segment_base(name) for name in self._files.names(self.directory))
        return sorted(base for base in found if base is not None)

    def committed(self) -> int:
        """The published end, read from the process's page. Raises OSError when the page is gone."""
        return self._word(fmt.COMMITTED)

    def _word(self, where: slice) -> int:
        if self._page_fd < 0:
            self._page_fd = self._files.open(self.directory / "counters", os.O_RDONLY)
        data = self._files.pread(self._page_fd, 8, where.start)
        return int(_WORD.unpack(data)[0]) if len(data) == 8 else 0

    def page_is_gone(self) -> bool:
        """Whether the directory was removed (and perhaps created again) since it was opened."""
        return self._page_fd >= 0 and self._files.fstat(self._page_fd).st_nlink == 0

    # -------------------------------------------------------------------------------------------------------- reading

    def take(self, messages_max: int, bytes_max: int, end: int) -> Taken:
        """Read entries from `at` on, none beyond the offset `end`. Raises OSError."""
        messages: list[Message] = []
        damaged: list[Damage] = []
        size = 0
        is_more = False
        if not self._checked:
            self._check_digest(end)
        while self.at < end:
            if len(messages) >= messages_max or size >= bytes_max or len(damaged) >= 1000:
                is_more = True
                break
            if not self._seek(end, damaged):
                break
            limit = end if self._stop is None else min(end, self._stop)
            if self.at >= limit:
                continue
            size += self._take_chunk(limit, messages_max, messages, damaged)
        if messages:
            self.digest = digest_of(messages[-1].payload)
        return Taken(messages, damaged, is_more)

    def _take_chunk(self, limit: int, messages_max: int, messages: list[Message], damaged: list[Damage]) -> int:
        """Parse one chunk that begins at `at`: at least one entry or one stretch of damage. Returns the number of bytes
        passed."""
        start = self.at
        want = min(_CHUNK, limit - start)
        data = self._files.pread(self._fd, want, start - self._base)
        whole, position = fmt.decode_entries(data, start, self.name, messages_max - len(messages))
        messages += whole
        while len(messages) < messages_max and start + position < limit:
            found = fmt.decode_entry(data, position)
            if isinstance(found, fmt.Decoded):
                kind, sequence, payload, next_position = found
                messages.append(Message(self.name, start + position, start + next_position, kind, sequence, payload))
                position = next_position
                continue
            if found and len(data) == want and start + position + found <= limit:
                if position:  # the next chunk begins with this entry
                    break
                data = self._files.pread(self._fd, found, start - self._base)
                want = found
                if len(data) == want:
                    continue
            position += self._pass_damage(start + position, limit, damaged)
            break
        self.at = start + position
        return position

    def _pass_damage(self, offset: int, limit: int, damaged: list[Damage]) -> int:
        """Report the bytes at `offset`, up to the next entry, as damaged. Returns their number (at least 1)."""
        data = self._files.pread(self._fd, limit - offset, offset - self._base)
        following = fmt.next_entry(data)
        length = following if following > 0 else limit - offset
        if not data:
            reason = f"the segment ends {length} bytes before the next segment begins"
        else:
            reason = f"{length} bytes are not a valid entry"
        damaged.append((self.name, offset, reason, data[: min(length, _DAMAGE_BYTES_MAX)]))
        return length

    def _seek(self, end: int, damaged: list[Damage]) -> bool:
        """Open the segment that contains `at` (< `end`); False when there is none yet."""
        if self._fd >= 0 and self._base <= self.at:
            if self._stop is None and self._is_alive and self._word(fmt.OPEN_BASE) != self._base:
                self._find_stop()
            if self._stop is None or self.at < self._stop:
                return True
        bases = self.bases()
        holding = [base for base in bases if base <= self.at]
        if not holding:
            if not bases or bases[0] >= end:
                return False
            # Another program removed the segments before the first one that is left; their records will be missing.
            damaged.append((self.name, self.at, f"segments up to offset {bases[0]} are gone", b""))
            self.at = bases[0]
            holding = bases[:1]
        if self._fd >= 0:
            self._files.close(self._fd)
            self._fd = -1
        self._base = holding[-1]
        self._fd = self._files.open(self.directory / fmt.segment_name(self._base), os.O_RDONLY)
        later = [base for base in bases if base > self._base]
        self._stop = later[0] if later else None
        if self.at == self._base:
            self._pass_header(end, damaged)
        return True

    def _find_stop(self) -> None:
        later = [base for base in self.bases() if base > self._base]
        if later:
            self._stop = later[0]

    def header(self, base: int) -> tuple[fmt.SegmentHeader, int] | None:
        """The header of the segment with this base, and its size; None when it is damaged."""
        fd = self._files.open(self.directory / fmt.segment_name(base), os.O_RDONLY)
        try:
            return fmt.decode_segment_header(self._files.pread(fd, _HEADER_BYTES_MAX, 0))
        finally:
            self._files.close(fd)

    def _pass_header(self, end: int, damaged: list[Damage]) -> None:
        found = fmt.decode_segment_header(self._files.pread(self._fd, _HEADER_BYTES_MAX, 0))
        if found is not None:
            self.at = self._base + found[1]
        else:
            limit = end if self._stop is None else min(end, self._stop)
            self.at += self._pass_damage(self.at, limit, damaged)

    def _check_digest(self, end: int) -> None:
        """Check that the message before `at` is the one that the position names. If not, this is another journal: read
        all of it; the index drops the records that it has already."""
        self._checked = True
        if not self.digest and self.at <= end:
            return
        bases = [base for base in self.bases() if base < self.at]
        if self.at <= end and not bases:
            return  # `at` is the beginning of a segment and the one before is removed: nothing to compare with
        if self.at <= end:
            walk = SegmentReader(self.directory, self.name, self._files, bases[-1])
            walk._checked, walk._is_alive = True, self._is_alive
            try:
                latest = b""
                while walk.at < self.at:
                    before = walk.at
                    taken = walk.take(10_000, 16 << 20, self.at)
                    latest = taken.messages[-1].payload if taken.messages else latest
                    if walk.at == before:
                        break
                at_boundary = walk.at == self.at
                if at_boundary and (not latest or digest_of(latest) == self.digest):
                    return
            finally:
                walk.close()
        log.warning(
            "asgi-audit: journal %s no longer has the message before offset %d; it is read again from its beginning",
            self.name,
            self.at,
        )
        remaining = self.bases()
        self.at = remaining[0] if remaining else 0
        self.digest = b""
