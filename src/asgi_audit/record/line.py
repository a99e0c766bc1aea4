"""What statements and loss entries have in common: one line of JSON in UTF-8 that begins with its schema version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from ..errors import RecordError

__all__ = ["decode_line"]


class _Versioned(Protocol):
    @property
    def version(self) -> str: ...


T = TypeVar("T", bound=_Versioned)


def decode_line(decode: Callable[[bytes], T], data: bytes, what: str) -> T:
    """`what` it is to be, for the message. Raises RecordError."""
    try:
        data.decode()
        found = decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise RecordError(f"not a {what}: {e}") from e
    if not found.version.startswith("1."):
        raise RecordError(f"{what} version is {found.version[:16]!r}; this version reads 1.x")
    return found
