"""Purging, putting a rebuilt day in place, and acknowledging an ended process, from outside the writer: directly with
the lease when it is free, else by a request to its holder.

Safe at any time: the request is written first and removed only by the process that carried it out. So it is carried out
even if this process dies while waiting.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ...disk import PRIVATE, Access
from ...errors import StoreError
from ..admin import DayToPurge
from ..identity import IndexMemory
from . import retention
from .errors import translated
from .lease import LeaseHeld
from .reader import SqliteReader
from .schema import MAIN_NAME
from .writer import SqliteWriter

__all__ = [
    "acknowledge_in_directory",
    "check_is_there",
    "give_up_in_directory",
    "purge_directory",
    "purge_preview",
    "replay_in_directory",
    "take_in_directory",
]

_POLL_SECONDS = 0.1


def purge_preview(directory: Path, before: int) -> list[DayToPurge]:
    """The days that a purge before `before` (ms) would remove, oldest first. Raises StoreError."""
    with translated("read", directory):
        return retention.purge_preview(directory, before)


def purge_directory(
    directory: Path,
    before: int,
    *,
    wait_seconds: float,
    access: Access = PRIVATE,
    memory: IndexMemory | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """True when the days are removed; False when the request went to the indexer that holds the lease, which has not
    finished within `wait_seconds`. Raises StoreError."""
    check_is_there(directory, memory)
    opened = partial(SqliteWriter, directory, clock=clock, access=access, memory=memory)
    with translated("ask for a purge", directory):
        request = retention.ask(directory, before, access)
    return _done(request, lambda writer: writer.purge(before), opened, wait_seconds, monotonic, sleep)


def acknowledge_in_directory(
    directory: Path,
    process: uuid.UUID,
    *,
    wait_seconds: float,
    access: Access = PRIVATE,
    memory: IndexMemory | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """True when the acknowledgement is recorded; False when the request went to the indexer that holds the lease, which
    has not finished within `wait_seconds`. Raises StoreError."""
    check_is_there(directory, memory)
    opened = partial(SqliteWriter, directory, clock=clock, access=access, memory=memory)
    with translated("ask to acknowledge", directory):
        request = retention.ask_to_acknowledge(directory, process, access)
    return _done(request, SqliteWriter.acknowledge_asked, opened, wait_seconds, monotonic, sleep)


def give_up_in_directory(
    directory: Path,
    partition: str,
    act: Callable[[SqliteWriter], object],
    *,
    wait_seconds: float,
    access: Access = PRIVATE,
    memory: IndexMemory | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """True when the loss of the partition is recorded (by `act` when no indexer holds the lease); False when the
    request went to the indexer, which has not finished within `wait_seconds`. Raises StoreError."""
    check_is_there(directory, memory)
    opened = partial(SqliteWriter, directory, clock=clock, access=access, memory=memory)
    with translated("ask to give up a partition", directory):
        request = retention.ask_to_give_up(directory, partition, access)
    return _done(request, act, opened, wait_seconds, monotonic, sleep)


def take_in_directory(
    directory: Path,
    request: Path,
    *,
    wait_seconds: float,
    access: Access = PRIVATE,
    memory: IndexMemory | None = None,
) -> bool:
    """True when the writer has handled `request`, whether or not it took the copy; False when the indexer that holds
    the lease has not finished within `wait_seconds`. Raises StoreError."""
    opened = partial(SqliteWriter, directory, access=access, memory=memory)
    return _done(request, SqliteWriter.take_reindexed, opened, wait_seconds, time.monotonic, time.sleep)


def replay_in_directory(
    directory: Path,
    number: int,
    *,
    wait_seconds: float,
    access: Access = PRIVATE,
    memory: IndexMemory | None = None,
) -> bool:
    """True after an attempt to index the dead letter again; False when the request went to the indexer that holds the
    lease, which has not tried within `wait_seconds`. Raises StoreError."""
    check_is_there(directory, memory)
    opened = partial(SqliteWriter, directory, access=access, memory=memory)
    with translated("ask to replay", directory):
        request = retention.ask_to_replay(directory, number, access)
    return _done(request, SqliteWriter.replay_asked, opened, wait_seconds, time.monotonic, time.sleep)


def check_is_there(directory: Path, memory: IndexMemory | None) -> None:
    """Called before a request is written: the request would stay, and another index must not carry it out."""
    reader = SqliteReader(directory, memory)
    try:
        reader.snapshot()
    finally:
        reader.close()
    if not (directory / MAIN_NAME).is_file():
        raise StoreError(f"there is no index in {directory}", retriable=False, hint="Set its directory with --store.")


def _done(
    request: Path,
    act: Callable[[SqliteWriter], object],
    opened: Callable[[], SqliteWriter],
    wait_seconds: float,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> bool:
    deadline = monotonic() + wait_seconds
    while request.exists():
        try:
            writer = opened()
        except LeaseHeld:  # held by an indexer, which reads the request within a second
            if monotonic() >= deadline:
                return False
            sleep(_POLL_SECONDS)
            continue
        try:
            act(writer)
        finally:
            writer.close()
    return True
