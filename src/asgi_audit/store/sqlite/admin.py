"""Access to an index from outside its writer's process: reads its state and sends requests to the writer."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from ...disk import PRIVATE, Access
from ...errors import StoreError
from ..admin import Admin, BackedUp, DayFacts, DayToPurge, DeadLetterFacts, IndexFacts, Reindexing
from ..base import Writer
from ..identity import IndexMemory
from .backup import back_up, restore
from .dead_letters import dead_letter, dead_letters
from .files import files_of
from .inspect import inspect, quick_check
from .purging import (
    acknowledge_in_directory,
    check_is_there,
    give_up_in_directory,
    purge_directory,
    purge_preview,
    replay_in_directory,
    take_in_directory,
)
from .reindexing import SqliteReindexing, days_of
from .schema import MAIN_NAME

__all__ = ["SqliteAdmin"]


class SqliteAdmin(Admin):
    """See `Admin`."""

    def __init__(self, directory: Path, *, access: Access = PRIVATE, memory: IndexMemory | None = None) -> None:
        """`memory`: the expected index; None: accept any."""
        self._directory = directory
        self._access = access
        self._memory = memory

    def facts(self) -> IndexFacts | None:
        """The current state of the index; None when there is no index."""
        return inspect(self._directory, memory=self._memory)

    def files(self) -> Sequence[Path]:
        """The index's files; [] when there is no index."""
        try:
            return list(files_of(self._directory))
        except OSError as e:
            raise StoreError(f"could not list {self._directory}: {e.strerror or e}") from e

    def damage(self) -> str:
        """'' when main.db is sound, else a description of the damage. Reads all of main.db."""
        return quick_check(self._directory)

    def purge_preview(self, before: int) -> Sequence[DayToPurge]:
        """The days that a purge before `before` (ms) would remove, oldest first."""
        return purge_preview(self._directory, before)

    def purge(self, before: int, *, wait_seconds: float) -> bool:
        """Remove the days before `before` (ms), or have the running indexer do it. Returns False when the indexer has
        not finished within `wait_seconds`; it will do so as soon as it can."""
        return purge_directory(
            self._directory, before, wait_seconds=wait_seconds, access=self._access, memory=self._memory
        )

    def acknowledge(self, process: uuid.UUID, *, wait_seconds: float) -> bool:
        """Record that a silent process will never come back, or have the running indexer record it. Returns False when
        the indexer has not done so within `wait_seconds`."""
        return acknowledge_in_directory(
            self._directory, process, wait_seconds=wait_seconds, access=self._access, memory=self._memory
        )

    def back_up(self, to: Path, *, control: Path | None) -> BackedUp:
        """See `backup.back_up`."""
        return back_up(self._directory, to, control=control, access=self._access)

    def restore(self, backup: Path, *, control: Path | None) -> BackedUp:
        """See `backup.restore`."""
        return restore(backup, self._directory, control=control, access=self._access)

    def dead_letters(self, *, limit: int, before: int | None = None) -> Sequence[DeadLetterFacts]:
        """Newest first; `before`: only those with a smaller id."""
        check_is_there(self._directory, self._memory)
        return dead_letters(self._directory, limit=limit, before=before)

    def dead_letter(self, number: int) -> tuple[DeadLetterFacts, bytes] | None:
        """One dead letter with its payload; None when it does not exist (any more)."""
        check_is_there(self._directory, self._memory)
        return dead_letter(self._directory, number)

    def replay(self, number: int, *, wait_seconds: float) -> bool:
        """Try to index a dead letter again, or have the running indexer try. Returns False when it has not tried within
        `wait_seconds`."""
        return replay_in_directory(
            self._directory, number, wait_seconds=wait_seconds, access=self._access, memory=self._memory
        )

    def days(self) -> Sequence[DayFacts]:
        """Newest first, [] when there is no index."""
        return days_of(self._directory) if (self._directory / MAIN_NAME).is_file() else []

    def reindexing(self, *, wait_seconds: float) -> Reindexing:
        """The right to rebuild days, for one block. The running indexer, or this process when none runs, puts each
        rebuilt day in place. Raises a retriable StoreError when another process holds the right."""
        check_is_there(self._directory, self._memory)

        def take(request: Path) -> bool:
            return take_in_directory(
                self._directory, request, wait_seconds=wait_seconds, access=self._access, memory=self._memory
            )

        return SqliteReindexing(self._directory, take, self._access)

    def give_up(self, partition: str, write: Callable[[Writer], object], *, wait_seconds: float) -> bool:
        """Record with `write` that a partition is permanently lost, or have the running indexer record it. Returns
        False when the indexer has not done so within `wait_seconds`."""
        return give_up_in_directory(
            self._directory, partition, write, wait_seconds=wait_seconds, access=self._access, memory=self._memory
        )
