"""`control.db`: one small SQLite file with many writers (the API's workers, the command line). This module opens and
migrates it.

Invariants: the file is created with mode 0600 (SQLite gives the same to `-wal` and `-shm`), so other users cannot read
the signing secret; every apsw exception is translated to a StoreError. WAL with `synchronous=FULL`: a completed command
survives a crash of the machine. A writer waits at most `BUSY_MS` for another one. The file is readable on a read-only
disk too: WAL needs a writable `-shm`, so the file is then opened as immutable, for one look-up at a time, because such
a connection never sees changes.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import apsw

from ..disk import PRIVATE, Access
from ..errors import StoreError

__all__ = ["BUSY_MS", "SCHEMA_VERSION", "open_database", "open_frozen", "store_errors", "transaction"]

BUSY_MS = 2_000
SCHEMA_VERSION = 2

_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY NOT NULL,
    hash BLOB NOT NULL,
    role TEXT NOT NULL,
    accounts TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER,
    last_used_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secrets (
    name TEXT PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    hash BLOB PRIMARY KEY NOT NULL,
    key_id TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    used_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_key ON sessions (key_id, used_ms);
CREATE TABLE IF NOT EXISTS exports (
    id TEXT PRIMARY KEY NOT NULL,
    reach TEXT NOT NULL,
    key_id TEXT NOT NULL,
    asked TEXT NOT NULL,
    query TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    token TEXT NOT NULL,
    region_group TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    progress TEXT NOT NULL,
    claims TEXT NOT NULL,
    ended_ms INTEGER,
    manifest TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS exports_reach ON exports (reach, created_ms, id);
CREATE INDEX IF NOT EXISTS exports_state ON exports (state, until_ms);
CREATE TABLE IF NOT EXISTS export_runners (
    id TEXT PRIMARY KEY NOT NULL,
    beat_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS export_downloads (
    url TEXT PRIMARY KEY NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

# Version 1, of asgi-audit 0.1.0, kept microseconds.
_TO_MILLISECONDS = "; ".join(
    f"ALTER TABLE keys RENAME COLUMN {name}_us TO {name}_ms; UPDATE keys SET {name}_ms = {name}_ms / 1000"
    for name in ("created", "revoked", "last_used")
)
_AS_MILLISECONDS = """
CREATE TEMP VIEW keys AS
SELECT id, hash, role, accounts, created_us / 1000 AS created_ms, revoked_us / 1000 AS revoked_ms,
       last_used_us / 1000 AS last_used_ms
FROM main.keys;
CREATE TEMP TABLE sessions (hash BLOB, key_id TEXT, created_ms INTEGER, used_ms INTEGER);
CREATE TEMP TABLE exports (
    id, reach, key_id, asked, query, until_ms, token, region_group, created_ms, state, reason, progress, claims,
    ended_ms, manifest
);
CREATE TEMP TABLE export_runners (id, beat_ms)
"""

# Errors that a retry may resolve: a lock, a full or failing disk, memory.
_RETRIABLE = (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.IOError, apsw.NoMemError, apsw.InterruptError)
_READ_ONLY = (apsw.CantOpenError, apsw.ReadOnlyError)


@contextlib.contextmanager
def store_errors(operation: str, path: Path) -> Iterator[None]:
    """Translates exceptions of apsw and the system into StoreErrors that name the operation and the file."""
    try:
        yield
    except apsw.Error as e:
        raise StoreError(
            f"{operation} in {path} failed: {type(e).__name__}: {e}",
            retriable=isinstance(e, _RETRIABLE),
            hint="Is the file a control.db of asgi-audit, and may this user read and write it and its directory?",
        ) from e
    except OSError as e:
        raise StoreError(
            f"{operation} in {path} failed: {type(e).__name__}: {e.strerror}",
            hint="This user must be able to read and write the file and its directory.",
        ) from e


def open_database(path: Path, access: Access = PRIVATE) -> apsw.Connection | None:
    """A connection to the file, which is created if missing; None when the disk is read-only: use `open_frozen` then.
    Raises StoreError."""
    with store_errors("opening the keys", path):
        try:
            access.makedirs(path.parent)
            # Before SQLite opens it: SQLite would create it with the umask's mode, readable by others for a moment.
            access.create(path)
            for beside in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    access.mend(Path(f"{path}{beside}"))
        except OSError as e:
            if e.errno == errno.ELOOP or not path.is_file():
                raise
        # SQLite rejects a symbolic link anywhere in the path, but the home may be one.
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
        connection = apsw.Connection(str(path.parent.resolve() / path.name), flags=flags)
        try:
            connection.set_busy_timeout(BUSY_MS)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY")
            _migrate(connection, path)
        except _READ_ONLY:
            connection.close()
            if not path.is_file():
                raise
            return None
        except BaseException:
            connection.close()
            raise
        return connection


@contextlib.contextmanager
def open_frozen(path: Path) -> Iterator[apsw.Connection]:
    """A connection for one look-up in a read-only file."""
    uri = f"file:{quote(str(path.absolute()))}?immutable=1"
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        if _version(connection, path) == 1:
            connection.execute(_AS_MILLISECONDS)
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """A write transaction that takes its lock at the start, so that reading before writing cannot deadlock."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A failed COMMIT (full disk, lock) may leave the transaction open, or SQLite may have rolled it back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _migrate(connection: apsw.Connection, path: Path) -> None:
    """Migrates the file to SCHEMA_VERSION in one transaction; when several processes open it, only one migrates."""
    if _version(connection, path) == SCHEMA_VERSION:
        return
    with transaction(connection):
        version = _version(connection, path)
        if version == 1:
            connection.execute(_TO_MILLISECONDS)
        connection.execute(_SCHEMA)
        connection.pragma("user_version", SCHEMA_VERSION)


def _version(connection: apsw.Connection, path: Path) -> int:
    """The schema version of the file; 0 for a new one. Raises StoreError for a file of a newer asgi-audit."""
    version = int(connection.pragma("user_version"))
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema {version}; this version of asgi-audit supports {SCHEMA_VERSION}",
            retriable=False,
            hint="It was written by a newer version of asgi-audit: upgrade this one.",
        )
    return version
