"""Compression of stored records: up to 32 records in one zstd frame (one record in version 1 of a day file). Frames use
a shipped dictionary and carry its id and a checksum.

The dictionary helps blocks of few records, as a quiet application makes them: it shrinks a single record of 1.2 kB to
about a fifth; without it the record hardly shrinks. The dictionary's id in the frame lets a later version add another
dictionary and still read old frames. SQLite has no checksums, so the frame's checksum detects damaged records.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import zstandard

from ...errors import StoreError

__all__ = ["DICTIONARY_ID", "RECORD_BYTES_MAX", "Compressor", "Decompressor"]

DICTIONARY_ID = 42_450  # from the private range 32,768 … 2^31 of RFC 8878; the next dictionary gets 42,451
_FILES = {42_449: "records.dict", DICTIONARY_ID: "records-42450.dict"}  # every dictionary ever shipped, by id
_LEVEL = 1  # 32-record blocks (tests/bench/mixture.py): 3.7 µs and 285 bytes a record; level 3: 5.3 µs and 286
_MANY = 64
RECORD_BYTES_MAX = 1 << 30  # SQLite's limit for one value


@cache
def _dictionary(number: int) -> zstandard.ZstdCompressionDict:
    data = Path(__file__).with_name(_FILES[number]).read_bytes()
    return zstandard.ZstdCompressionDict(data)


class Compressor:
    """Used by one thread."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(
            level=_LEVEL, dict_data=_dictionary(DICTIONARY_ID), write_checksum=True, write_content_size=True
        )

    def compress(self, pieces: Sequence[bytes]) -> list[bytes]:
        """Returns one frame for each piece. Pieces must not be empty. A batch call saves a fifth per piece, but its
        fixed cost equals that of about forty pieces."""
        if len(pieces) < _MANY:
            return [self._compressor.compress(piece) for piece in pieces]
        frames = self._compressor.multi_compress_to_buffer(list(pieces))
        return [frames[i].tobytes() for i in range(len(frames))]


class Decompressor:
    """Used by one thread. Raises StoreError for a damaged frame and for an unknown dictionary (of a later version)."""

    def __init__(self) -> None:
        self._by_id: dict[int, zstandard.ZstdDecompressor] = {}

    def __call__(self, frame: bytes) -> bytes:
        try:
            number = zstandard.get_frame_parameters(frame).dict_id
            decompressor = self._by_id.get(number)
            if decompressor is None:
                if number and number not in _FILES:
                    raise StoreError(
                        f"a record needs dictionary {number}, which this version does not have",
                        retriable=False,
                        hint="The index was written by a newer asgi-audit; upgrade this one.",
                    )
                given = _dictionary(number) if number else None
                decompressor = self._by_id[number] = zstandard.ZstdDecompressor(dict_data=given)
            return decompressor.decompress(frame, max_output_size=0)
        except zstandard.ZstdError as e:
            raise StoreError(
                f"a stored record is damaged: {e}", retriable=False, hint="Restore the file of this day from a backup."
            ) from e
