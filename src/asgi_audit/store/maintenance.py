"""The writer's half of an index's maintenance: it carries out what `Admin` requests from another process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["Maintenance", "Purged"]


class Purged(NamedTuple):
    """What a purge removed, and the horizon after it (ms; records before it are expired)."""

    horizon: int
    days: int
    bytes: int


class Maintenance(Protocol):
    """Implemented by the one writer. Errors are StoreErrors."""

    def purge(self, before: int) -> Purged:
        """Permanently remove every whole day (UTC) before `before` (ms), at most up to today. The horizon only moves
        forward; after a crash the next writer finishes the purge. Also removed: ended processes, and incidents whose
        window ends before the horizon, except open ones of active processes (see `Tracker.forget`)."""

    def purge_asked(self) -> int | None:
        """The `before` that another process asks to purge; None when no request is pending. Cheap: called once a
        second."""

    def acknowledge_asked(self) -> int:
        """Carry out pending acknowledgements of other processes: close the `silent` incidents of a process that will
        never come back at the time when it was written off. Returns how many incidents. Cheap: called once a second."""

    def partitions_lost(self) -> Sequence[str]:
        """Partitions that an operator declared permanently lost. Cheap: called once a second."""

    def partition_noted(self, partition: str) -> None:
        """The loss is recorded: `partitions_lost` no longer returns this partition."""

    def replay_asked(self) -> int:
        """Index the dead letters that other processes ask to replay. Returns how many became records. Cheap: called
        once a second."""

    def take_reindexed(self) -> int:
        """Put rebuilt copies of days in place, after adding the records that came since. Returns how many days. Cheap:
        called once a second."""

    def last_believed(self) -> float | None:
        """The last value passed to `note_believed`, also before a restart (s since the epoch). An index without such a
        value derives one from its records. None when it has no records."""

    def note_believed(self, at: float) -> None:
        """Store `at` (s since the epoch), a clock reading that was checked and believed."""
