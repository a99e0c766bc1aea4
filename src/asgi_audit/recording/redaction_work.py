"""A ceiling for what is looked at in the bodies and annotations of one record.

Who sends a body chooses how often it must be looked at: many lines, many strings, a name in each. All of it happens in
one thread that shares the interpreter's lock with the application, so the work is bounded, and counted in bytes looked
at, because a clock would let the same request be recorded in two ways.

Every look counts its bytes, and `LOOK` more for beginning it. Beyond `WORK_MAX` in a record `TooDense` is raised: the
body that is being looked at is `omitted`, and those after it. A body of 64 KiB without anything
sensitive is looked at once, which is a fiftieth of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from .names import Found, Names
from .redaction_kinds import TooDense

__all__ = ["LOOK", "WORK_MAX", "CountingNames"]

WORK_MAX = 4 << 20
NOTING_MAX = 256 << 10
LOOK = 256  # beginning a look costs as much as this many bytes: 1.5 µs


class CountingNames(Names):
    """The tables of another `Names`, which are shared, and a count of its own. Used by one thread."""

    def __init__(self, names: Names) -> None:
        self.__dict__.update(names.__dict__)
        self.left = WORK_MAX

    def begin(self) -> None:
        """A new record."""
        self.left = WORK_MAX

    def begin_noting(self) -> None:
        """A body was left out; a little more for who notes the secrets in it."""
        self.left = max(self.left, NOTING_MAX)

    def look(self, size: int, times: int = 1) -> None:
        """So many bytes are about to be looked at, so many times. Raises TooDense."""
        self.left -= times * (size + LOOK)
        if self.left < 0:
            raise TooDense

    def classify(self, name: str) -> int:
        self.look(len(name), 2)
        return super().classify(name)

    def found(self, data: bytes) -> Found | None:
        self.look(len(data), 4 if 92 in data or 37 in data else 1)
        return super().found(data)

    def _reveals(self, text: bytes) -> bool:
        self.look(len(text), 6)
        return super()._reveals(text)

    def names_value(self, text: bytes) -> bool:
        self.look(len(text), 2)
        return super().names_value(text)

    def said_in(self, text: bytes) -> Iterator[tuple[int, int]]:
        self.look(len(text), 6)
        return super().said_in(text)

    def lines_hit(self, text: bytes, limit: int) -> list[int] | None:
        self.look(len(text), 14)
        return super().lines_hit(text, limit)
