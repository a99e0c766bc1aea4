"""What statements and loss entries have in common: one line of JSON in UTF-8 that begins with its schema version, and
bounds for its numbers.

The index adds numbers up in 64 bits, which is enough for the largest ones of 8 million processes or statements. A
number beyond the bounds is refused when it is read, and the entry becomes a dead letter; in the index it would
overflow, and end the indexer at each start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Protocol, TypeVar

import msgspec

from ..errors import RecordError

__all__ = ["COUNT_END", "TIME_END", "Count", "Ordinal", "Time", "decode_line"]

COUNT_END = 1 << 40
"""Exclusive bound of sequences and counts in statements. At 10,000 a second a process reaches it in 3 years."""
TIME_END = 1 << 43
"""Times in ms since the epoch are below it: the year 2248."""
Count = Annotated[int, msgspec.Meta(ge=0, lt=COUNT_END)]
Ordinal = Annotated[int, msgspec.Meta(ge=1, lt=COUNT_END)]
Time = Annotated[int, msgspec.Meta(ge=0, lt=TIME_END)]


class _Versioned(Protocol):
    @property
    def version(self) -> str: ...


T = TypeVar("T", bound=_Versioned)


def decode_line(decode: Callable[[bytes], T], data: bytes, what: str) -> T:
    """`what`: the kind of entry, for the message. Raises RecordError."""
    try:
        data.decode()
        found = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise RecordError(f"not a {what}: {e}") from e
    if not found.version.startswith("1."):
        raise RecordError(f"{what} version is {found.version[:16]!r}; this version reads 1.x")
    return found
