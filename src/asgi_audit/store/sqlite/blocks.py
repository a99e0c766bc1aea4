"""A cache of decompressed blocks of records, for one reader.

A page in time order takes its rows from the blocks of all streams of a batch, and the next page from the same blocks.
Example: 100 rows of 100 streams are in about 70 blocks of 50 KB. Decompressing these costs more than the rest of the
page.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import apsw

from ...errors import StoreError
from .codec import Decompressor

__all__ = ["BLOCKS_BYTES_MAX", "Blocks", "BlocksOfDay"]

# The blocks of a batch of 4,000 records take 6 MiB. With a cache of 4 MiB, reading them in order decompresses a third
# of them again.
BLOCKS_BYTES_MAX = 8 << 20
_NEWLINE = 10


class Blocks:
    """The most recently used blocks, at most `BLOCKS_BYTES_MAX` bytes. Used by one thread."""

    def __init__(self, decompress: Decompressor | None = None) -> None:
        self.decompress = decompress or Decompressor()
        # The key is a connection: its file stays the same while it is open, and a stored block never changes.
        self._data: OrderedDict[tuple[apsw.Connection, int], bytes] = OrderedDict()
        self._size = 0

    def of(self, day: apsw.Connection) -> BlocksOfDay:
        return BlocksOfDay(self, day)

    def drop(self, day: apsw.Connection) -> None:
        """Frees the blocks of a file that is closed, because it may have been purged."""
        for key in [key for key in self._data if key[0] is day]:
            self._size -= len(self._data.pop(key))

    def get(self, day: apsw.Connection, block: int) -> bytes:
        """The lines of a block; b"" when the day has no such block. Raises apsw's errors and StoreError."""
        key = day, block
        data = self._data.get(key)
        if data is not None:
            self._data.move_to_end(key)
            return data
        found: Any = day.execute("SELECT data FROM block WHERE block = ?", (block,)).get
        if found is None:
            return b""
        data = self.decompress(found)
        while self._data and self._size + len(data) > BLOCKS_BYTES_MAX:
            self._size -= len(self._data.popitem(last=False)[1])
        self._data[key] = data
        self._size += len(data)
        return data


class BlocksOfDay:
    """The records of one day file of version 2."""

    def __init__(self, blocks: Blocks, day: apsw.Connection) -> None:
        self._blocks = blocks
        self._day = day

    def record(self, block: int, place: int) -> bytes:
        """The record that begins at byte `place` of the block. Raises apsw's errors and StoreError."""
        data = self._blocks.get(self._day, block)
        if place >= len(data) or (place and data[place - 1] != _NEWLINE):
            raise StoreError(
                f"a stored record is damaged: none begins at byte {place} of block {block}",
                retriable=False,
                hint="Restore the file of this day from a backup.",
            )
        end = data.find(b"\n", place)
        return data[place:] if end < 0 else data[place:end]
