"""How much work one record may cost: counted, not timed, so that the same bytes always give the same record."""

from __future__ import annotations

__all__ = ["MISS", "Budget", "TooCostly"]

STEPS_MAX = 7_000
"""Of one to two microseconds each: two tokens of JSON are one, 64 bytes that are looked at are one."""
MISS = 8  # steps, of a name whose kind is not cached: about 10 µs


class TooCostly(Exception):
    """The budget is spent, or something is nested too deep: what is being looked at is omitted."""


class Budget:
    """One for each record."""

    __slots__ = ("aws", "left")

    def __init__(self) -> None:
        self.left = STEPS_MAX
        self.aws = False  # an id of AWS was seen: the secret that belongs to it has no mark of its own

    def spend(self, steps: int) -> None:
        """Raises TooCostly."""
        self.left -= steps
        if self.left < 0:
            raise TooCostly
