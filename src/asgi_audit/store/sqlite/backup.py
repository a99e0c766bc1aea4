"""Back up an index while it is being written, and restore such a backup.

Copying the files is not a backup: the newest records are in the logs beside them, and the copies of main.db and of the
days would be of different moments. Here SQLite's backup API copies each file within one read transaction, and all
copies are of one moment, that of main.db. A batch is committed to its days first and to main.db last. So a day matches
main.db when its highest batch is not above main.db's `published`. Read transactions on the days being written begin
together with main.db's. When a late record changes another day before it is copied, the backup starts again and
includes that day.

A backup is written under a temporary name and renamed when it is complete and synced; the manifest with digests is
written last. So an interrupted copy is never taken for a backup. A restore is prepared beside the index's place and
renamed into it. It keeps the index's id, which the home remembers, and begins a new generation: batch numbers are used
again, so older tokens are refused. Where the index reads from a journal, records indexed after the backup are gone; an
incident reports this.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

from ...disk import PRIVATE, Access, sync
from ...errors import ConfigError, StoreError
from ..admin import BackedUp
from ..state import Incident
from . import completeness
from .days import files_there
from .errors import translated
from .fence import FENCE_NAME
from .lease import holder
from .main import bring_up
from .schema import MAIN_NAME, day_name, generation, index_id, open_reading, open_writing, raise_generation

__all__ = ["CONTROL_NAME", "MANIFEST_NAME", "back_up", "check_backup", "restore"]

MANIFEST_NAME = "backup.json"
CONTROL_NAME = "control.db"
_FORMAT = 1
_ATTEMPTS = 20
_MOMENT_SECONDS = 10.0
_HOT_DAYS = 3  # being written: today, and earlier days that still get late records
_PARTIAL = ".partial-"


class _Changed(Exception):
    """A day holds a later state than main.db."""

    def __init__(self, day: str) -> None:
        self.day = day


def back_up(
    directory: Path,
    to: Path,
    *,
    control: Path | None = None,
    access: Access = PRIVATE,
    clock: Callable[[], float] = time.time,
) -> BackedUp:
    """Copy the index to `to`, which must be missing or empty. `control`: the keys' database to copy with it. Raises
    ConfigError and StoreError."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to} exists already; accepted: a new or empty directory")
    if not (directory / MAIN_NAME).is_file():
        raise StoreError(f"there is no index at {directory}", retriable=False, hint="Set it with --store or --home.")
    with translated("back up", directory):
        access.makedirs(to.absolute().parent)
        for old in to.absolute().parent.glob(f"{to.name}{_PARTIAL}*"):  # left by an interrupted backup
            shutil.rmtree(old, ignore_errors=True)
        partial = to.with_name(f"{to.name}{_PARTIAL}{uuid.uuid4().hex[:8]}")
        access.mkdir(partial)
        try:
            _check_room(directory, partial)
            facts = _copy_index(directory, partial, access)
            if control is not None and control.is_file():
                source = _open_control(control)
                try:
                    _copy(source, partial / CONTROL_NAME, access)
                finally:
                    source.close(True)
            made_at = int(clock() * 1000)
            files = {path.name: _digest(path) for path in sorted(partial.iterdir())}
            size = sum(path.stat().st_size for path in partial.iterdir())
            manifest = {"format": _FORMAT, "made_at": made_at, **facts, "files": files}
            _write_whole(partial / MANIFEST_NAME, json.dumps(manifest, indent=1).encode(), access)
            sync(partial)
            if to.exists():
                to.rmdir()
            os.rename(partial, to)
            sync(to.absolute().parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return BackedUp(
        facts["index"], made_at, facts["until"], len(files), size, facts["has_journal"], CONTROL_NAME in files
    )


def check_backup(backup: Path) -> BackedUp:
    """Verify every byte of a backup. Raises ConfigError when `backup` is not a backup, StoreError when it is
    damaged."""
    with translated("read", backup):
        try:
            manifest = json.loads((backup / MANIFEST_NAME).read_bytes())
            if manifest["format"] != _FORMAT:
                raise ConfigError(f"{backup} is a backup of format {manifest['format']}; accepted: {_FORMAT}")
            files: dict[str, str] = manifest["files"]
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError(
                f"{backup} contains no {MANIFEST_NAME}; accepted: a directory that `asgi-audit backup` created"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{backup / MANIFEST_NAME} is damaged", retriable=False) from None
        size = 0
        for name, digest in files.items():
            path = backup / name
            if "/" in name or not path.is_file() or _digest(path) != digest:
                raise StoreError(
                    f"{path} differs from the backed up file",
                    retriable=False,
                    hint="The backup is damaged: use another one.",
                )
            size += path.stat().st_size
    return BackedUp(
        manifest["index"],
        manifest["made_at"],
        manifest["until"],
        len(files),
        size,
        manifest["has_journal"],
        CONTROL_NAME in files,
    )


def restore(
    backup: Path,
    directory: Path,
    *,
    control: Path | None = None,
    access: Access = PRIVATE,
    clock: Callable[[], float] = time.time,
) -> BackedUp:
    """Restore the index of a backup to `directory`, which must hold no index. `control`: where to put the backup's
    keys' database, if it has one and none exists there. Raises ConfigError and StoreError."""
    found = check_backup(backup)
    if (directory / MAIN_NAME).exists():
        raise ConfigError(
            f"there is already an index at {directory}; accepted: a directory without one",
            hint="Stop its indexer and move it away first. Keep it until the restored one works.",
        )
    if directory.is_dir() and (who := holder(directory)) is not None:
        raise StoreError(f"an indexer holds the lease of {directory}: {who}", hint="Stop it first.")
    if control is not None and found.has_keys and control.exists():
        raise ConfigError(f"{control} exists already", hint="Move it away, or restore without --with-keys.")
    with translated("restore", directory):
        access.makedirs(directory.absolute().parent)
        for old in directory.absolute().parent.glob(f"{directory.name}{_PARTIAL}*"):
            shutil.rmtree(old, ignore_errors=True)
        partial = directory.absolute().with_name(f"{directory.name}{_PARTIAL}{uuid.uuid4().hex[:8]}")
        access.mkdir(partial)
        try:
            for path in sorted(backup.iterdir()):
                if path.name not in (MANIFEST_NAME, CONTROL_NAME):
                    _copy_file(path, partial / path.name, access)
            _begin_generation(partial / MAIN_NAME, found, int(clock() * 1000))
            for path in sorted(partial.glob("*.db")):
                # Create the logs beside it, which readers need and must not create.
                open_writing(path, "", 0, access).close(True)
            sync(partial)
            if control is not None and found.has_keys:
                access.makedirs(control.absolute().parent)
                beside = control.with_name(f"{control.name}{_PARTIAL}{uuid.uuid4().hex[:8]}")
                _copy_file(backup / CONTROL_NAME, beside, access)
                os.rename(beside, control)
                sync(control.absolute().parent)
            _put_in_place(partial, directory)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return found


# -- the copy


def _copy_index(directory: Path, to: Path, access: Access) -> dict[str, Any]:
    hot: set[str] = set()
    for _ in range(_ATTEMPTS):
        try:
            return _attempt(directory, to, hot, access)
        except _Changed as e:
            hot.add(e.day)
        except (FileNotFoundError, apsw.CantOpenError):
            if not (directory / MAIN_NAME).is_file():
                raise
            # A day was purged, or replaced by a new file, meanwhile.
        for path in to.iterdir():
            path.unlink()
    raise StoreError(
        f"{directory} changes faster than it can be copied", hint="Late records arrive for many days: try again later."
    )


def _attempt(directory: Path, to: Path, hot: set[str], access: Access) -> dict[str, Any]:
    fence = directory / FENCE_NAME
    if fence.is_file():  # before main.db: a fence that names a later batch than main.db holds is ignored
        _write_whole(to / FENCE_NAME, fence.read_bytes(), access)
    with contextlib.ExitStack() as opened:
        main = opened.enter_context(_reading(directory / MAIN_NAME))
        names = _days(main, directory)
        first = [day for n, day in enumerate(names) if n < _HOT_DAYS or day in hot]
        read = {day: opened.enter_context(_reading(directory / names[day])) for day in first}
        published = _one_moment(main, read)
        if names != _days(main, directory):
            raise FileNotFoundError  # another day began, or one was purged
        _copy(main, to / MAIN_NAME, access)
        for day, connection in read.items():
            _copy(connection, to / names[day], access)
        for day in names:
            if day not in read:
                with _reading(directory / names[day]) as connection:
                    connection.execute("BEGIN")
                    if _highest(connection) > published:
                        raise _Changed(day)
                    _copy(connection, to / names[day], access)
        until = main.execute("SELECT until FROM extent").get if _has(main, "extent") else None
        sources: Any = main.execute("SELECT DISTINCT source FROM position").fetchall()
        return {
            "index": index_id(main) or "",
            "generation": generation(main),
            "published": published,
            "until": until,
            "has_journal": any(name == "journal" for (name,) in sources),
        }


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection]:
    connection = open_reading(path)
    try:
        yield connection
    finally:
        connection.close(True)


def _days(main: apsw.Connection, directory: Path) -> dict[str, str]:
    """The file of each day listed in main.db, newest first."""
    if any(name == "file" for (_, name, *_) in main.execute("PRAGMA table_info(day)")):
        known: Any = main.execute("SELECT day, file FROM day ORDER BY day DESC").fetchall()
    else:  # of version 1
        known = [(day, files[-1]) for day, files in sorted(files_there(directory).items(), reverse=True)]
    return {day: day_name(day, file) for day, file in known}


def _one_moment(main: apsw.Connection, days: Mapping[str, apsw.Connection]) -> int:
    """Begins a read transaction in each database, so that no day holds more than main.db has published, and returns
    `published`. While a batch is being committed it retries at once, without waiting."""
    until = time.monotonic() + _MOMENT_SECONDS
    connections = [main, *days.values()]
    while True:
        for connection in connections:
            connection.execute("BEGIN")
        published = int(main.execute("SELECT published FROM state").get)
        later = next((day for day, connection in days.items() if _highest(connection) > published), None)
        if later is None:
            return published
        for connection in connections:
            connection.execute("ROLLBACK")
        if time.monotonic() > until:
            raise _Changed(later)


def _highest(day: apsw.Connection) -> int:
    """The number of the newest batch in the day."""
    return int(day.execute("SELECT highest FROM state").get)


def _copy(source: apsw.Connection, to: Path, access: Access) -> None:
    access.create(to)
    target = apsw.Connection(str(to.absolute()), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with target.backup("main", source, "main") as copying:
            copying.step(-1)
    finally:
        target.close(True)  # the last open connection: SQLite removes the log
    sync(to)


def _has(main: apsw.Connection, table: str) -> bool:
    return bool(main.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).get)


def _open_control(path: Path) -> apsw.Connection:
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)


def _check_room(directory: Path, to: Path) -> None:
    size = sum(path.stat().st_blocks * 512 for path in directory.iterdir() if path.suffix == ".db")
    free = shutil.disk_usage(to).free
    if free < size:
        raise StoreError(
            f"a backup takes about {size >> 20} MiB, and {free >> 20} MiB are free at {to.parent}", retriable=False
        )


# -- the index made of it


def _begin_generation(path: Path, backup: BackedUp, now: int) -> None:
    main = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        main.execute("PRAGMA synchronous=FULL")
        bring_up(main, now)
        main.execute("BEGIN IMMEDIATE")
        raise_generation(main)
        if backup.has_journal:
            at = datetime.fromtimestamp(backup.made_at / 1000, UTC)
            completeness.note(
                main,
                Incident(
                    id=0,
                    kind="restored",
                    process=uuid.UUID(int=0),
                    opened_at=now,
                    start=min(backup.made_at if backup.until is None else backup.until, now - 1),
                    end=now,
                    detail=f"the index was restored from a backup of {at:%Y-%m-%dT%H:%M:%SZ}; records taken from the "
                    "journal after that are lost",
                ),
            )
        main.execute("COMMIT")
    finally:
        main.close(True)


def _put_in_place(partial: Path, directory: Path) -> None:
    """An existing directory without an index (it may hold the lease file) is replaced; a mount point or a link is
    filled."""
    if directory.is_dir() and not os.path.ismount(directory) and not directory.is_symlink():
        shutil.rmtree(directory)
    if not directory.exists():
        os.rename(partial, directory)
    else:  # main.db last: without it there is no index
        for path in sorted(partial.iterdir(), key=lambda path: path.name == MAIN_NAME):
            shutil.move(str(path), str(directory / path.name))
            sync(directory / path.name)
        partial.rmdir()
    sync(directory.absolute().parent)


# -- files


def _digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _copy_file(path: Path, to: Path, access: Access) -> None:
    with path.open("rb") as source, os.fdopen(access.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())


def _write_whole(path: Path, data: bytes, access: Access) -> None:
    with os.fdopen(access.open(path, os.O_WRONLY | os.O_CREAT), "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
