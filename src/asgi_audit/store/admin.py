"""The contract of index maintenance, in two halves that run in different processes.

`Admin` serves the operator's commands (`doctor`, `purge`, `completeness`, `reindex`): it inspects an index from outside
and sends requests to the process that writes it. `Maintenance` is the writer's half: it carries those requests out.
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
    """A dead letter without its payload. `at`: ms since the epoch. `bytes`: size of the payload as received; `kept`:
    how many of these bytes are stored (at most 64 KiB)."""

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
    """The current state of an index, without its records. `days`: `2026-11-22`, oldest first. `horizon`: records before
    it (ms) are purged; None when nothing was purged. `captured`, `excluded`, `indexed`, `lost` (by reason): numbers of
    exchanges over the whole life of the index. `held_by`: its writer, 'process 12 on host'; None when it has no writer.
    `sources`: names of all sources that ever fed it."""

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
    """A day that a purge removes: `2026-11-22`, its records, and the size of its files in bytes."""

    day: str
    records: int
    bytes: int


class BackedUp(NamedTuple):
    """A backup. `made_at`: ms. `until`: T of the copy (ms), None when it was unknown. `has_journal`: the index reads
    from a journal. `id`: the index's id."""

    id: str
    made_at: int
    until: int | None
    files: int
    bytes: int
    has_journal: bool
    has_keys: bool


class DayFacts(NamedTuple):
    """A day of the index. `bytes`: size of its file without the logs beside it. `is_old`: its format is older than that
    of new days."""

    day: str
    version: int
    records: int
    bytes: int
    is_old: bool


class Reindexing(Protocol):
    """The right to rebuild days of one index. One process holds it at a time, until the block ends. Errors are
    StoreErrors."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *of: object) -> None: ...

    def renew(self, day: str, on_progress: Callable[[int, int], None] = ...) -> bool:
        """Rebuild `day`; a purged day needs nothing. Returns False when the writer was asked to take the copy and has
        not done so yet. `on_progress(copied, records)` is called as records are copied."""

    def discard(self) -> int:
        """Remove unfinished copies. Returns how many."""


class Admin(Protocol):
    """The constructor opens nothing; each call opens and closes what it needs. Errors are StoreErrors.

    A call that waits for the running indexer returns False when the indexer has not finished within `wait_seconds`. The
    request stays, and the indexer will carry it out."""

    def facts(self) -> IndexFacts | None:
        """None when there is no index."""

    def files(self) -> Sequence[Path]:
        """The index's files; [] when there is no index."""

    def damage(self) -> str:
        """'' when the index is sound, else a description of the damage. Reads all of main.db, but no day file."""

    def purge_preview(self, before: int) -> Sequence[DayToPurge]:
        """The days that a purge before `before` (ms) would remove, oldest first."""

    def purge(self, before: int, *, wait_seconds: float) -> bool:
        """Remove the days before `before` (ms), or have the indexer do it."""

    def acknowledge(self, process: uuid.UUID, *, wait_seconds: float) -> bool:
        """Record that a silent process will never come back, or have the indexer record it."""

    def give_up(self, partition: str, write: Callable[[Writer], object], *, wait_seconds: float) -> bool:
        """Record with `write` that a partition is permanently lost, or have the indexer record it."""

    def back_up(self, to: Path, *, control: Path | None) -> BackedUp:
        """Copy the index to a new directory while it is being written, together with the keys' database."""

    def restore(self, backup: Path, *, control: Path | None) -> BackedUp:
        """Restore the index of a backup to this place, which must hold none, and its keys' database to `control`."""

    def dead_letters(self, *, limit: int, before: int | None = None) -> Sequence[DeadLetterFacts]:
        """Newest first; `before`: only those with a smaller id."""

    def dead_letter(self, number: int) -> tuple[DeadLetterFacts, bytes] | None:
        """One dead letter with its payload; None when it does not exist (any more)."""

    def replay(self, number: int, *, wait_seconds: float) -> bool:
        """Try to index a dead letter again, or have the indexer try. On success it is removed; otherwise it gets a new
        reason."""

    def days(self) -> Sequence[DayFacts]:
        """Newest first, [] when there is no index."""

    def reindexing(self, *, wait_seconds: float) -> Reindexing:
        """Raises a retriable StoreError when another process holds the right. Rebuilt days are put in place by the
        running indexer, or by this process when none runs."""


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
