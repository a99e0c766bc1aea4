"""Removing whole days: the horizon in main.db first, then the files.

    forward    horizon, and the list of days        one transaction in main.db, synced
    sweep      unlink the files below the horizon   day file, then its -wal and -shm; the directory synced

Invariants: the horizon is at the beginning of a day (UTC) and only moves forward. From the commit on, no response
contains records of a day before it, and the day's file is never opened again. After a crash between commit and sweep,
the next writer sweeps before it opens anything. A reader that has a purged file open closes it at its next call; only
then is the disk space free.

A commit needs space, and the purge may have to run on a full disk. So the file `reserve` holds 1 MiB, which is released
when the commit does not fit, and allocated again after the purge. Three quarters of it may be lent to the writer before
that (see `low_disk`); only a purge releases the rest.

Other processes send requests to the running indexer, which holds the lease, as empty files in the directory of the
index. The name is the whole request, so a request cannot be torn; requests survive a crash. The indexer removes a
request when it has carried it out:

    purge-2026-11-22         purge the days before this one
    acknowledge-<process>    the process will never come back
    lost-<hex>               the partition of this hexadecimal name is permanently lost
    reindexed-2026-11-22     the file `reindex-2026-11-22.db` may become that day (see `reindexing`)
"""

from __future__ import annotations

import contextlib
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

from ...disk import PRIVATE, Access, sync
from ..admin import DayToPurge
from . import arrivals
from .schema import BESIDE, DAY_MS, day_of_name, is_day, open_reading

__all__ = [
    "RESERVE_BYTES",
    "RESERVE_NAME",
    "acknowledgements",
    "ask",
    "ask_to_acknowledge",
    "ask_to_give_up",
    "ask_to_replay",
    "ask_to_take",
    "asked",
    "copies_to_take",
    "copy_name",
    "day_of",
    "day_of_copy",
    "forget_dead_letters",
    "forget_statements",
    "forward",
    "horizon_of",
    "is_request",
    "keep_reserve",
    "lend_reserve",
    "lendable",
    "ms_of",
    "partition_noted",
    "partitions_lost",
    "purge_preview",
    "release_reserve",
    "replays",
    "request_to_take",
    "retake_reserve",
    "sweep",
    "sync",
    "unask",
]  # fmt: skip

RESERVE_NAME = "reserve"
RESERVE_BYTES = 1 << 20
_KEPT_BYTES = RESERVE_BYTES // 4  # a purge's commit in main.db takes some 50 KB
_ASKED = "purge-"
_ACKNOWLEDGED = "acknowledge-"
_LOST = "lost-"
_REINDEXED = "reindexed-"
_REPLAY = "replay-"
_COPY = "reindex-"
_STATEMENTS_EACH = 1000


def horizon_of(main: apsw.Connection) -> int | None:
    found = main.execute("SELECT value FROM meta WHERE key = 'horizon'").get
    return None if found is None else int(found)


def forward(main: apsw.Connection, before: int) -> int:
    """Move the horizon to `before` (ms, rounded down to a day) unless it is already there or later. Returns the
    horizon. Streams are kept: a service that was ever seen stays known."""
    before -= before % DAY_MS
    main.execute("BEGIN IMMEDIATE")
    horizon = horizon_of(main)
    if horizon is None or horizon < before:
        horizon = before
        main.execute("UPDATE meta SET value = ? WHERE key = 'horizon'", (before,))
        main.execute("DELETE FROM day WHERE day < ?", (day_of(before),))
        arrivals.depart(main, day_of(before), before)
    main.execute("COMMIT")
    return horizon


def forget_dead_letters(main: apsw.Connection, before: int) -> None:
    """Delete dead letters noted before `before` (ms), because they hold contents of records. They stay counted."""
    if main.execute("SELECT 1 FROM dead_letter WHERE at < ? LIMIT 1", (before,)).get:
        main.execute("BEGIN IMMEDIATE")
        main.execute("DELETE FROM dead_letter WHERE at < ?", (before,))
        main.execute("UPDATE state SET dead_bytes = (SELECT coalesce(sum(length(payload)), 0) FROM dead_letter)")
        main.execute("COMMIT")


def forget_statements(main: apsw.Connection, before: int) -> None:
    """Delete statements that cover only exchanges begun before `before` (ms); their sums stay. A busy process writes 35
    MB of statements a day. Deletes `_STATEMENTS_EACH` per transaction and reads only rows to delete: W never decreases,
    so they come first."""
    # W may lag because of an open exchange. One more day costs little and keeps the statement of every kept record.
    limit = before - DAY_MS
    processes = main.execute("SELECT process FROM process WHERE started < ?", (limit,)).fetchall()
    for (process,) in processes:
        while True:
            numbers: Any = main.execute(
                "SELECT number FROM (SELECT number, watermark FROM statement WHERE process = ? ORDER BY number LIMIT ?)"
                " WHERE watermark < ?",
                (process, _STATEMENTS_EACH, limit),
            ).fetchall()
            if not numbers:
                break
            main.execute("DELETE FROM statement WHERE process = ? AND number <= ?", (process, numbers[-1][0]))
            if len(numbers) < _STATEMENTS_EACH:
                break


def keep_reserve(directory: Path, size: int = RESERVE_BYTES, *, partly: bool = False, access: Access = PRIVATE) -> bool:
    """Make the reserve file occupy `size` bytes. False when there is not enough space; the file then keeps its size
    (with `partly` it takes what is available). The file never shrinks here: a writer that starts on a full disk would
    give away the space that a purge needs."""
    path = directory / RESERVE_NAME
    with contextlib.suppress(OSError):
        if os.lstat(path).st_size == size:  # so it is before nearly every batch
            return True
    try:
        fd = access.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError:
        return False
    try:
        held = os.fstat(fd).st_size
        try:
            while (missing := size - os.fstat(fd).st_size) > 0:
                os.write(fd, bytes(missing))
            return True
        except OSError:  # a full disk: it is created when there is space again; a part of it would be useless
            if not partly:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, held)
            return False
    finally:
        os.close(fd)


def retake_reserve(directory: Path, access: Access = PRIVATE) -> None:
    """Called after a purge, which may have released the whole reserve: allocates as much as possible of the minimum for
    the next purge."""
    if not keep_reserve(directory, access=access):
        keep_reserve(directory, _KEPT_BYTES, partly=True, access=access)


def lendable(directory: Path) -> int:
    """The number of bytes that `lend_reserve` would free."""
    try:
        return max(0, os.stat(directory / RESERVE_NAME).st_size - _KEPT_BYTES)
    except OSError:
        return 0


def lend_reserve(directory: Path) -> bool:
    """Free the larger part of the reserve; False when that part is already free, or on an error. The part for a purge
    stays."""
    if not lendable(directory):
        return False
    try:
        os.truncate(directory / RESERVE_NAME, _KEPT_BYTES)
    except OSError:
        return False
    return True


def release_reserve(directory: Path) -> bool:
    """Free the whole reserve; False when it was empty, or on an error."""
    try:
        os.unlink(directory / RESERVE_NAME)
    except OSError:
        return False
    return True


def sweep(directory: Path, horizon: int) -> tuple[int, int]:
    """Unlink every day file before the horizon. Returns the number of days and bytes. Raises OSError; the next sweep
    removes the rest."""
    first_kept = day_of(horizon)
    days = size = 0
    names = sorted(os.listdir(directory))
    # All day files first: without its -wal an older state of a day could be read.
    for suffix in ("", *BESIDE):
        for name in names:
            plain = name.removesuffix(suffix) if name.endswith(suffix) else ""
            day = day_of_name(plain) or day_of_copy(plain)
            if day is None or day >= first_kept:
                continue
            try:
                size += os.stat(directory / name).st_size
                os.unlink(directory / name)
            except FileNotFoundError:
                continue
            days += not suffix and day_of_name(plain) is not None
    if size or days:
        sync(directory)
    return days, size


def purge_preview(directory: Path, before: int) -> list[DayToPurge]:
    """The days that a purge before `before` (ms) would remove, oldest first. Raises apsw's errors and OSError."""
    first_kept = day_of(before)
    found: list[DayToPurge] = []
    names = os.listdir(directory) if directory.is_dir() else []
    for name in sorted(names):
        day = day_of_name(name)
        if day is None or day >= first_kept:
            continue
        path = directory / name
        size = sum(os.stat(p).st_size for p in (path, *(Path(f"{path}{b}") for b in BESIDE)) if p.exists())
        connection = open_reading(path)
        try:
            records: Any = connection.execute("SELECT records FROM state").get
        finally:
            connection.close(True)
        found.append(DayToPurge(day, int(records), size))
    return found


def ask(directory: Path, before: int, access: Access = PRIVATE) -> Path:
    """Request a purge from the lease holder. Returns the request file, which is removed when the purge is done."""
    return _request(directory, _ASKED + day_of(before), access)


def ask_to_acknowledge(directory: Path, process: uuid.UUID, access: Access = PRIVATE) -> Path:
    """Request the acknowledgement that a process will never come back. Returns the request file, which is removed when
    it is recorded."""
    return _request(directory, f"{_ACKNOWLEDGED}{process}", access)


def acknowledgements(directory: Path) -> list[tuple[uuid.UUID, Path]]:
    """Acknowledged processes and the request files."""
    found = []
    for name in os.listdir(directory):
        if name.startswith(_ACKNOWLEDGED):
            try:
                found.append((uuid.UUID(name[len(_ACKNOWLEDGED) :]), directory / name))
            except ValueError:
                continue
    return found


def is_request(name: str) -> bool:
    return name.startswith((_ASKED, _ACKNOWLEDGED, _LOST, _REINDEXED, _REPLAY))


def copy_name(day: str) -> str:
    """The name of the file in which a day is rebuilt."""
    return f"{_COPY}{day}.db"


def day_of_copy(name: str) -> str | None:
    """The day in such a file name; None for any other name."""
    day = name.removeprefix(_COPY).removesuffix(".db")
    return day if is_day(day) and name == copy_name(day) else None


def ask_to_take(directory: Path, day: str, access: Access = PRIVATE) -> Path:
    """Request that the finished copy of a day be put in place. Returns the request file, which is removed when that is
    done or impossible."""
    return _request(directory, _REINDEXED + day, access)


def request_to_take(directory: Path, day: str) -> Path:
    """The path of the request that `ask_to_take` creates."""
    return directory / (_REINDEXED + day)


def copies_to_take(directory: Path) -> list[str]:
    """The days whose finished copies wait to be put in place."""
    names = os.listdir(directory)
    return sorted(d for name in names if name.startswith(_REINDEXED) and is_day(d := name[len(_REINDEXED) :]))


def ask_to_give_up(directory: Path, partition: str, access: Access = PRIVATE) -> Path:
    """Request to record that a partition is permanently lost. Returns the request file, which is removed when it is
    recorded."""
    return _request(directory, _LOST + partition.encode().hex(), access)


def partitions_lost(directory: Path) -> list[str]:
    found = []
    for name in os.listdir(directory):
        if name.startswith(_LOST):
            with contextlib.suppress(ValueError):
                found.append(bytes.fromhex(name[len(_LOST) :]).decode())
    return found


def ask_to_replay(directory: Path, number: int, access: Access = PRIVATE) -> Path:
    """Request to index a dead letter again. Returns the request file, which is removed after the attempt."""
    return _request(directory, f"{_REPLAY}{number}", access)


def replays(directory: Path) -> list[tuple[int, Path]]:
    """The dead letters requested to be indexed again, and the request files."""
    names = [name for name in os.listdir(directory) if name.startswith(_REPLAY) and name[len(_REPLAY) :].isdigit()]
    return sorted((int(name[len(_REPLAY) :]), directory / name) for name in names)


def partition_noted(directory: Path, partition: str) -> None:
    (directory / (_LOST + partition.encode().hex())).unlink(missing_ok=True)


def _request(directory: Path, name: str, access: Access) -> Path:
    path = directory / name
    access.create(path)
    sync(directory)
    return path


def asked(directory: Path) -> int | None:
    """The latest day (start in ms) before which a purge is requested; None when there is no request."""
    days = []
    for name in os.listdir(directory):
        if name.startswith(_ASKED) and is_day(name[len(_ASKED) :]):
            days.append(name[len(_ASKED) :])
    return ms_of(max(days)) if days else None


def unask(directory: Path, before: int) -> None:
    """Remove the purge requests up to `before`."""
    for name in os.listdir(directory):
        if name.startswith(_ASKED) and name[len(_ASKED) :] <= day_of(before):
            try:
                os.unlink(directory / name)
            except FileNotFoundError:
                pass


def day_of(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d")


def ms_of(day: str) -> int:
    return int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * 1000
