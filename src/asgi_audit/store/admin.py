"""The contract of keeping an index in order, for two sides that work in different processes.

`Admin` is for the operator's commands (`doctor`, `purge`, `completeness`, `reindex`): it looks at an index from outside
and asks the process that writes it to do things. `Maintenance` is the part of the writer that does what was asked.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from ..transport.base import Position

if TYPE_CHECKING:
    from .base import Snapshot, Writer

__all__ = [
    "Admin",
    "BackedUp",
    "DayFacts",
    "DayToPurge",
    "DeadLetterFacts",
    "IndexFacts",
    "Maintenance",
    "Purged",
    "Reindexing",
]


class DeadLetterFacts(NamedTuple):
    """A dead letter without its bytes. `at`: ms since the epoch. `bytes`: as they came; `kept`: of them, which are
    fewer when they were more than 64 KiB."""

    id: int
    at: int
    source: str
    partition: str
    offset: int
    reason: str
    bytes: int
    kept: int

    @property
    def is_cut(self) -> bool:
        return self.kept < self.bytes


class IndexFacts(NamedTuple):
    """An index as it stands, without its records. `days`: `2026-11-22`, oldest first. `horizon`: records before it (ms)
    are purged; None when nothing was. `captured`, `excluded`, `indexed`, `lost` (by reason): exchanges, over all that
    the index ever had. `held_by`: who writes it, 'process 12 on host'; None when no process does. `sources`: names of
    those that it was ever fed from."""

    id: str
    bytes: int
    days: Sequence[str]
    horizon: int | None
    snapshot: Snapshot
    captured: int
    excluded: int
    indexed: int
    lost: Mapping[str, int]
    dead: int
    newest_dead: Sequence[DeadLetterFacts]
    held_by: str | None
    positions: Mapping[str, Position]
    sources: Sequence[str]


class DayToPurge(NamedTuple):
    """A day that a purge removes: `2026-11-22`, its records, the bytes of its files."""

    day: str
    records: int
    bytes: int


class BackedUp(NamedTuple):
    """A backup. `made_at`: ms. `until`: T of the copy (ms), None when none was known. `has_journal`: the index takes
    from a journal. `id`: of the index."""

    id: str
    made_at: int
    until: int | None
    files: int
    bytes: int
    has_journal: bool
    has_keys: bool


class DayFacts(NamedTuple):
    """A day of the index. `bytes`: of its file, without the logs beside it. `is_old`: of a version before the one that
    new days have."""

    day: str
    version: int
    records: int
    bytes: int
    is_old: bool


class Reindexing(Protocol):
    """The right to make days of one index new, which one process has at a time, until the block ends. Errors are
    StoreErrors."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *of: object) -> None: ...

    def renew(self, day: str, on_progress: Callable[[int, int], None] = ...) -> bool:
        """Make `day` new, or find that it is purged; False when the writer was asked and has not taken it yet.
        `on_progress(copied, records)` is called as records are copied."""

    def discard(self) -> int:
        """Remove the copies that are not finished; returns how many."""


class Admin(Protocol):
    """Opens nothing until it is asked; each call opens and closes what it needs. Errors are StoreErrors.

    Where a call waits for the indexer that runs, it returns False when that has not done it after `wait_seconds`: it
    will, as soon as it can."""

    def facts(self) -> IndexFacts | None:
        """None when there is no index."""

    def files(self) -> Sequence[Path]:
        """Its files, [] when there is none."""

    def damage(self) -> str:
        """'' when the index is sound, else what is wrong. Reads all of what is common to the days."""

    def purge_preview(self, before: int) -> Sequence[DayToPurge]:
        """The days that a purge before `before` (ms) would remove, oldest first."""

    def purge(self, before: int, *, wait_seconds: float) -> bool:
        """Remove the days before `before` (ms), or have the indexer do it."""

    def acknowledge(self, process: uuid.UUID, *, wait_seconds: float) -> bool:
        """Write down that a silent process is gone for good, or have the indexer do it."""

    def give_up(self, partition: str, write: Callable[[Writer], object], *, wait_seconds: float) -> bool:
        """Write down with `write` that a partition is lost for ever, or have the indexer do it."""

    def back_up(self, to: Path, *, control: Path | None) -> BackedUp:
        """Copy the index to a new directory, while it is written, and with it the keys' database."""

    def restore(self, backup: Path, *, control: Path | None) -> BackedUp:
        """Put the index of a backup here, where none is, and its keys' database there."""

    def dead_letters(self, *, limit: int, before: int | None = None) -> Sequence[DeadLetterFacts]:
        """Newest first; `before`: those with a smaller id."""

    def dead_letter(self, number: int) -> tuple[DeadLetterFacts, bytes] | None:
        """One with its bytes; None when it is not, or no longer, there."""

    def replay(self, number: int, *, wait_seconds: float) -> bool:
        """Try to index it again, or have the indexer do it. It is gone when that succeeded, else it has a new
        reason."""

    def days(self) -> Sequence[DayFacts]:
        """Newest first, [] when there is no index."""

    def reindexing(self, *, wait_seconds: float) -> Reindexing:
        """Raises a retriable StoreError when another process has the right to. The indexer that runs, or this process
        when none does, takes each day that was made new."""


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

    def replay_asked(self) -> int:
        """Index the dead letters again that other processes ask for. Answers how many became records. Cheap: asked once
        a second."""

    def take_reindexed(self) -> int:
        """Let the copies in which other processes made days new be these days, with all that came since. Answers how
        many. Cheap: asked once a second."""

    def last_believed(self) -> float | None:
        """What was given to `note_believed` last, also before a restart (s since the epoch); of an index that has no
        such time, one that its records say. None when it has no records."""

    def note_believed(self, at: float) -> None:
        """The clock stands at `at` (s since the epoch), and was found right."""
