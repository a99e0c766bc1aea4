"""Purging, taking a day that was made new, and acknowledging that a process is gone, from outside: with the lease when
it is free, else by asking whoever holds it.

Safe beside anything: the request is written first and withdrawn only by who has done it, so that it is done even if
this process dies while it waits.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
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
    """True when the days are gone; False when the indexer that holds the lease has been asked and is not done after
    `wait_seconds`. Raises StoreError."""
    check_is_there(directory, memory)

    def opened() -> SqliteWriter:
        return SqliteWriter(directory, clock=clock, access=access, memory=memory)

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
    """True when it is written down that the process is gone for good; False when the indexer that holds the lease has
    been asked and is not done after `wait_seconds`. Raises StoreError."""
    check_is_there(directory, memory)

    def opened() -> SqliteWriter:
        return SqliteWriter(directory, clock=clock, access=access, memory=memory)

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
    """True when it is written down that the partition is lost for ever: by `act` when no indexer holds the lease. False
    when the indexer has been asked and is not done after `wait_seconds`. Raises StoreError."""
    check_is_there(directory, memory)

    def opened() -> SqliteWriter:
        return SqliteWriter(directory, clock=clock, access=access, memory=memory)

    with translated("ask to acknowledge", directory):
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
    """True when the writer has done what `request` asks, the day taken or not; False when the indexer that holds the
    lease has not after `wait_seconds`. Raises StoreError."""

    def opened() -> SqliteWriter:
        return SqliteWriter(directory, access=access, memory=memory)

    return _done(request, SqliteWriter.take_reindexed, opened, wait_seconds, time.monotonic, time.sleep)


def replay_in_directory(
    directory: Path,
    number: int,
    *,
    wait_seconds: float,
    access: Access = PRIVATE,
    memory: IndexMemory | None = None,
) -> bool:
    """True when it was tried to index the dead letter again; False when the indexer that holds the lease has been asked
    and has not after `wait_seconds`. Raises StoreError."""
    check_is_there(directory, memory)

    def opened() -> SqliteWriter:
        return SqliteWriter(directory, access=access, memory=memory)

    with translated("ask to replay", directory):
        request = retention.ask_to_replay(directory, number, access)
    return _done(request, SqliteWriter.replay_asked, opened, wait_seconds, time.monotonic, time.sleep)


def check_is_there(directory: Path, memory: IndexMemory | None) -> None:
    """Before a request is written: it would stay, and another index must not follow it."""
    reader = SqliteReader(directory, memory)
    try:
        reader.snapshot()
    finally:
        reader.close()
    if not (directory / MAIN_NAME).is_file():
        raise StoreError(f"there is no index in {directory}", retriable=False, hint="Name its directory with --store.")


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
        except LeaseHeld:  # by an indexer, which reads our request within a second
            if monotonic() >= deadline:
                return False
            sleep(_POLL_SECONDS)
            continue
        try:
            act(writer)
        finally:
            writer.close()
    return True
