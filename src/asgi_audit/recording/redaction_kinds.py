"""What the names in one JSON body are, remembered while it is looked at.

Names that `Names` may not remember (many digits, escapes, other alphabets) stand in a body by the thousand, and each
pass asks for them: the scan, the walk, and what is noted of a body that is left out. Asked anew each time they took
100 ms of 64 KiB. What is remembered here is dropped with the body, because a name may be a secret.
"""

from __future__ import annotations

import orjson

from .names import CLEAN, Names

__all__ = ["STRANGE_MAX", "Kinds", "TooDense"]

STRANGE_MAX = 1_000  # different names with escapes in one body: 10 µs each, five times as much as others


class TooDense(Exception):
    """More strings, brackets or names with escapes than may be looked at in the recorder's slice."""


class Kinds(dict[bytes, int]):
    """`kinds[raw]`: what `Names.classify` says of a string of the document, by its bytes between the quotes. Raises
    TooDense after `STRANGE_MAX` different names with escapes. Shared with the documents in its strings."""

    __slots__ = ("_strange", "names")

    def __init__(self, names: Names) -> None:
        self.names = names
        self._strange = 0

    def __missing__(self, raw: bytes) -> int:
        escaped = 92 in raw
        if escaped or 37 in raw:
            if self._strange >= STRANGE_MAX:
                raise TooDense
            self._strange += 1
        if escaped:
            name: str = orjson.loads(b'"' + raw + b'"')
            kind = self.names.classify(name.replace("\n", "").replace("\r", ""))
        else:
            kind = self.names.classify_bytes(raw)
        self[raw] = kind
        return kind

    def bounded(self, raw: bytes) -> int:
        """The same, but CLEAN beyond that bound: for a body that is left out anyway."""
        try:
            return self[raw]
        except TooDense:
            return CLEAN
