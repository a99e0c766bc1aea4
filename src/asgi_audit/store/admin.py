"""The contract of keeping an index in order: purges, and what other processes ask of the one that writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["Maintenance", "Purged"]


class Purged(NamedTuple):
    """What a purge removed, and where the horizon stands after it (ms; records below it are expired)."""

    horizon: int
    days: int
    bytes: int


class Maintenance(Protocol):
    """The part of the one writer. Errors are StoreErrors."""

    def purge(self, before: int) -> Purged:
        """Remove every whole day (UTC) before `before` (ms), at most up to today, for good. The horizon moves forward
        only; a crash inside is finished by the next writer. Forgotten with them: incidents whose window ends before the
        horizon, but open ones of active processes (see `Tracker.forget`), and processes that are gone."""

    def purge_asked(self) -> int | None:
        """What another process asks to be purged, as `purge` takes it. Cheap: asked once a second."""

    def acknowledge_asked(self) -> int:
        """Do what other processes ask: give the `silent` incidents of a process that is known to be gone for good the
        end where it was written off. Answers how many. Cheap: asked once a second."""

    def partitions_lost(self) -> Sequence[str]:
        """Partitions of which somebody says that they are lost for ever. Cheap: asked once a second."""

    def partition_noted(self, partition: str) -> None:
        """That it is lost is written down: do not answer it again."""

    def take_reindexed(self) -> int:
        """Let the copies in which other processes made days new be these days, with all that came since. Answers how
        many. Cheap: asked once a second."""

    def last_believed(self) -> float | None:
        """What was given to `note_believed` last, also before a restart (s since the epoch); of an index that has no
        such time, one that its records say. None when it has no records."""

    def note_believed(self, at: float) -> None:
        """The clock stands at `at` (s since the epoch), and was found right."""
