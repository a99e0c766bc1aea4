"""How the bytes of records rest: up to 32 of them in one zstd frame (in version 1 of a day file one), with a shipped
dictionary, its id and a checksum in the frame's header.

The dictionary is for blocks of few records, which a quiet application makes: a single record of 1.2 kB hardly shrinks
without it, and rests in about a fifth of its size with it. The id in the frame names the dictionary, so that a later
version ships another beside it and still reads the old frames. SQLite has no checksums of its own: the frame's checksum
is what tells a damaged record from a true one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import zstandard

from ...errors import StoreError

__all__ = ["DICTIONARY_ID", "RECORD_BYTES_MAX", "Compressor", "Decompressor"]

DICTIONARY_ID = 42_450  # of the private range 32,768 … 2^31 of RFC 8878; the next dictionary gets 42,451
_FILES = {42_449: "records.dict", DICTIONARY_ID: "records-42450.dict"}  # every dictionary ever shipped, by id
_LEVEL = 1  # of blocks of 32 records (tests/bench/mixture.py): 3.7 µs and 285 bytes a record; level 3: 5.3 and 286
_MANY = 64
RECORD_BYTES_MAX = 1 << 30  # SQLite's bound of one value


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
        """A frame for each of the pieces. Many at once are a fifth cheaper than one by one; a call for many has its own
        cost, which is that of some forty. None of them is empty."""
        if len(pieces) < _MANY:
            return [self._compressor.compress(piece) for piece in pieces]
        frames = self._compressor.multi_compress_to_buffer(list(pieces))
        return [frames[i].tobytes() for i in range(len(frames))]


class Decompressor:
    """Used by one thread. Raises StoreError for a damaged frame and for one of a later version's dictionary."""

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
                f"a stored record is damaged: {e}", retriable=False, hint="Restore its day file from a backup."
            ) from e
