"""The contract of an index's maintenance for the operator's commands (`doctor`, `purge`, `completeness`, `reindex`).

`Admin` inspects an index from outside and sends requests to the process that writes it. The writer's half, which
carries them out, is `Maintenance`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from ..transport.base import Position
from .base import Snapshot, Writer

__all__ = [
    "Admin",
    "BackedUp",
    "DayFacts",
    "DayToPurge",
    "DeadLetterFacts",
    "IndexFacts",
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
