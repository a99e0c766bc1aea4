"""Removing whole days: the horizon in main.db first, then the files.

    forward    horizon, and which days there are    one transaction in main.db, synced
    sweep      unlink what lies below the horizon   day file, then its -wal and -shm; the directory synced

Invariants: the horizon stands at a day's beginning (UTC) and only moves forward; a day below it is in no answer from
the commit on, and its file is never opened again. A crash between the two leaves files that nobody reads; the next
writer sweeps before it opens anything. A reader that has a file open closes it at its next
call, and the disk has the room back then.

A commit needs room, and a purge may be what is to end a full disk: the file `reserve` holds 1 MiB that is given back
when the commit does not fit, and taken again when the purge is done. Three quarters of it are lent to the writer
before that (see `low_disk`); the rest is given up by a purge alone.

A purge is asked of a running indexer, which holds the lease, by an empty file `purge-2026-11-22` in the directory of
the index: the name says it all, so nothing can be torn. The indexer removes it when the days are gone. Such files
survive a crash: the next indexer finds them. In the same way a file `acknowledge-` and the name of a process says that
it is gone for good, a file `lost-` and the hexadecimal name of a partition that the partition is lost for ever, and a
file `reindexed-2026-11-22` that the file `reindex-2026-11-22.db` may become that day (see `reindexing`).
"""

from __future__ import annotations

import contextlib
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

from ...disk import PRIVATE, Access
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
    """Move the horizon to `before` (ms, rounded down to a day) unless it is there already; answers where it stands.
    Streams stay: once seen is known."""
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
    """Those taken down before it (ms): they hold what was in records. They stay counted."""
    if main.execute("SELECT 1 FROM dead_letter WHERE at < ? LIMIT 1", (before,)).get:
        main.execute("BEGIN IMMEDIATE")
        main.execute("DELETE FROM dead_letter WHERE at < ?", (before,))
        main.execute("UPDATE state SET dead_bytes = (SELECT coalesce(sum(length(payload)), 0) FROM dead_letter)")
        main.execute("COMMIT")


def forget_statements(main: apsw.Connection, before: int) -> None:
    """Those that speak of exchanges begun before it (ms) alone; what they summed up to stays. A busy process makes
    35 MB of them a day. `_STATEMENTS_EACH` a transaction; only what goes is looked at: W never decreases, so it comes
    first."""
    # W may lag behind an open exchange; a day more costs little and keeps every statement of a record that is kept.
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
    """Have a file that takes `size` bytes of the disk; False when there is no room, which leaves it as it was (or what
    there was room for, `partly`). What it takes already it never gives up: a writer that begins on a full disk would
    let go of what a purge needs."""
    try:
        fd = access.open(directory / RESERVE_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError:
        return False
    try:
        held = os.fstat(fd).st_size
        try:
            while (missing := size - os.fstat(fd).st_size) > 0:
                os.write(fd, bytes(missing))
            return True
        except OSError:  # a full disk: it is made when there is room again, and half of it helps nobody
            if not partly:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, held)
            return False
    finally:
        os.close(fd)


def retake_reserve(directory: Path, access: Access = PRIVATE) -> None:
    """After a purge, which may have released all of it: what there is room for, of what the next one needs at
    least."""
    if not keep_reserve(directory, access=access):
        keep_reserve(directory, _KEPT_BYTES, partly=True, access=access)


def lendable(directory: Path) -> int:
    """How many bytes `lend_reserve` would give."""
    try:
        return max(0, os.stat(directory / RESERVE_NAME).st_size - _KEPT_BYTES)
    except OSError:
        return 0


def lend_reserve(directory: Path) -> bool:
    """Give the room of its larger part back; False when that is gone or cannot be. What a purge needs stays."""
    if not lendable(directory):
        return False
    try:
        os.truncate(directory / RESERVE_NAME, _KEPT_BYTES)
    except OSError:
        return False
    return True


def release_reserve(directory: Path) -> bool:
    """Give its room back; False when there was none, or it cannot be."""
    try:
        os.unlink(directory / RESERVE_NAME)
    except OSError:
        return False
    return True


def sweep(directory: Path, horizon: int) -> tuple[int, int]:
    """Unlink every day file below the horizon; answers how many days and bytes that were. Raises OSError: what is
    left goes at the next sweep."""
    first_kept = day_of(horizon)
    days = size = 0
    names = sorted(os.listdir(directory))
    # First all day files: a -wal that goes before its file would leave an older day to be read.
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
    """What a purge before `before` (ms) would remove, oldest first. Raises apsw's errors and OSError."""
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
    """Ask whoever holds the lease to purge; answers the request, which is gone when it is done."""
    return _request(directory, _ASKED + day_of(before), access)


def ask_to_acknowledge(directory: Path, process: uuid.UUID, access: Access = PRIVATE) -> Path:
    """Say that a process is gone for good; answers the request, which is gone when that is written down."""
    return _request(directory, f"{_ACKNOWLEDGED}{process}", access)


def acknowledgements(directory: Path) -> list[tuple[uuid.UUID, Path]]:
    """The processes that somebody says are gone for good, and the requests."""
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
    """Of the file in which a day is made new."""
    return f"{_COPY}{day}.db"


def day_of_copy(name: str) -> str | None:
    """The day of such a file's name, or None when it is none."""
    day = name.removeprefix(_COPY).removesuffix(".db")
    return day if is_day(day) and name == copy_name(day) else None


def ask_to_take(directory: Path, day: str, access: Access = PRIVATE) -> Path:
    """Say that a day stands made new in its copy; answers the request, which is gone when that is the day, or cannot
    be."""
    return _request(directory, _REINDEXED + day, access)


def request_to_take(directory: Path, day: str) -> Path:
    """Where `ask_to_take` leaves it."""
    return directory / (_REINDEXED + day)


def copies_to_take(directory: Path) -> list[str]:
    """The days that somebody says stand made new in their copies."""
    names = os.listdir(directory)
    return sorted(d for name in names if name.startswith(_REINDEXED) and is_day(d := name[len(_REINDEXED) :]))


def ask_to_give_up(directory: Path, partition: str, access: Access = PRIVATE) -> Path:
    """Say that a partition is lost for ever; answers the request, which is gone when that is written down."""
    return _request(directory, _LOST + partition.encode().hex(), access)


def partitions_lost(directory: Path) -> list[str]:
    found = []
    for name in os.listdir(directory):
        if name.startswith(_LOST):
            with contextlib.suppress(ValueError):
                found.append(bytes.fromhex(name[len(_LOST) :]).decode())
    return found


def ask_to_replay(directory: Path, number: int, access: Access = PRIVATE) -> Path:
    """Ask to index a dead letter again; answers the request, which is gone when that was tried."""
    return _request(directory, f"{_REPLAY}{number}", access)


def replays(directory: Path) -> list[tuple[int, Path]]:
    """The dead letters that somebody asks to index again, and the requests."""
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
    """The latest day (ms of its beginning) that somebody asks to purge before."""
    days = []
    for name in os.listdir(directory):
        if name.startswith(_ASKED) and is_day(name[len(_ASKED) :]):
            days.append(name[len(_ASKED) :])
    return ms_of(max(days)) if days else None


def unask(directory: Path, before: int) -> None:
    """These requests are answered: those up to `before`."""
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


def sync(directory: Path) -> None:
    """A new file's name is on the disk only when its directory is."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
