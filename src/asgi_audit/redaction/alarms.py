"""Positions at which the scan found something that a grammar must examine."""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from .names import NO

__all__ = ["BASE64", "CARD", "CODE_KEY", "COMMAND", "ESCAPE", "FORM", "NAME", "Alarm", "Places"]

COMMAND, NAME, FORM, ESCAPE, BASE64, CODE_KEY, CARD = range(7)


class Alarm(msgspec.Struct, gc=False):  # made in a fifth of the time that a named tuple takes
    """start, end: of the whole identifier (NAME), of what is to be masked (FORM), else of what was found."""

    start: int
    end: int
    what: int
    kind: int = NO  # of a name; the row of a command


class Places:
    """Alarms in order, to be looked up by position."""

    __slots__ = ("alarms", "starts")

    def __init__(self, alarms: list[Alarm]) -> None:
        self.alarms = alarms
        self.starts = [alarm.start for alarm in alarms]

    def within(self, start: int, end: int) -> bool:
        """Whether an alarm begins there."""
        at = bisect_left(self.starts, start)
        return at < len(self.starts) and self.starts[at] < end

    def of(self, start: int, end: int) -> list[Alarm]:
        """Those that begin there, as alarms of this piece alone."""
        here = self.alarms[bisect_left(self.starts, start) : bisect_left(self.starts, end)]
        return [Alarm(a.start - start, a.end - start, a.what, a.kind) for a in here]
