"""The files of an index, their contents, and how they are opened.

    main.db            positions, statements, processes, streams ever seen, dead letters, days, what is published
    day-2026-11-22.db  the records of one UTC day of their timestamps, in blocks, their full text, and the number of
                       each kind in each minute (version 1, by 0.1.0: no blocks and no counts);
                       day-2026-11-22.1.db when it was made new once (`reindexing`): main.db says which file it is
    fence              64 bytes: until when everything has been read (see `fence.py`)
    lease              locked by the one writer

Invariants: WAL, synchronous=FULL, no mmap, page cache of at most 8 MiB per writing and 2 MiB per reading connection. A
row of `record` has `id = milliseconds << 16 | n`, unique in the store; `n` numbers the records of that millisecond.
When its 65,536 ids are used up, ids of neighbouring milliseconds of the same day are taken, and `state.spill` is the
largest distance (ms) between an id and its timestamp. `iseq` numbers the batches: rows with `iseq <=
main.state.published` are visible. `unpublished` holds the contents of a batch until main.db has committed them: after a
crash the next writer finds there what to add to main.db.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import apsw

from ...disk import PRIVATE, Access
from ...errors import StoreError

__all__ = [
    "BESIDE", "DAY", "DAY_1", "DAY_MS", "DAY_VERSION", "MAIN_NAME", "MAIN_VERSION", "ROLLED_UP", "SLOTS", "VERSION",
    "check_version", "create", "day_name", "day_of_name", "file_of_name", "generation", "index_id", "is_day",
    "made_at_ms", "open_reading", "open_writing", "raise_generation", "stream_token", "token",
]  # fmt: skip

VERSION = 2  # the newest version of a file
MAIN_VERSION = 2
DAY_VERSION = 2
MAIN_NAME = "main.db"
DAY_MS = 86_400_000
BESIDE = ("-wal", "-shm")  # what SQLite keeps beside each of its files
SLOTS = 1 << 16  # ids of one millisecond
_DAY_NAME = re.compile(r"day-(\d{4}-\d\d-\d\d)(?:\.([1-9]\d*))?\.db", re.ASCII)
_APPLICATION = 0x41734175  # "AsAu"
_BUSY_MS = 5_000
_SQLITE_MIN = 3_051_003  # below it two connections can corrupt a WAL database
_DIGEST, _DIGEST_1 = blake2b(digest_size=5), blake2b(digest_size=8)  # a copy is cheaper than a new one

_DAY_COMMON = """
CREATE TABLE state (
  one INTEGER PRIMARY KEY CHECK (one = 1), highest INTEGER NOT NULL, spill INTEGER NOT NULL, records INTEGER NOT NULL
);
INSERT INTO state VALUES (1, 0, 0, 0);
CREATE TABLE process (pid INTEGER PRIMARY KEY, process BLOB NOT NULL UNIQUE);
CREATE TABLE stream (
  sid INTEGER PRIMARY KEY, account TEXT NOT NULL, service TEXT NOT NULL, instance TEXT NOT NULL,
  UNIQUE (account, service, instance)
);
CREATE TABLE unpublished (iseq INTEGER NOT NULL, pid INTEGER, sid INTEGER NOT NULL, records INTEGER NOT NULL);
"""
_DAY_INDEXES = """
CREATE UNIQUE INDEX record_origin ON record (pid, sequence) WHERE pid IS NOT NULL;
CREATE UNIQUE INDEX record_foreign ON record (foreign_id) WHERE foreign_id IS NOT NULL;
"""
_HASHSIZE = "INSERT INTO fulltext (fulltext, rank) VALUES ('hashsize', 16777216);"
# hashsize: a batch of 4,000 is one segment of the full text, not two or three that must be merged again.

# The last batch (`iseq`) that the tables of the rollup count.
ROLLED_UP = "ALTER TABLE state ADD COLUMN rolled_up INTEGER NOT NULL DEFAULT 0"

DAY = f"""{_DAY_COMMON}
{ROLLED_UP};
-- What the records of one call of one route with one end have in common.
CREATE TABLE shape (
  shape INTEGER PRIMARY KEY, method TEXT NOT NULL, status INTEGER NOT NULL, level TEXT NOT NULL, region TEXT NOT NULL,
  outcome TEXT NOT NULL, operation TEXT NOT NULL, route TEXT NOT NULL,
  UNIQUE (method, status, level, region, outcome, operation, route)
);
CREATE TABLE record (
  id INTEGER PRIMARY KEY, iseq INTEGER NOT NULL, pid INTEGER, sequence INTEGER NOT NULL, sid INTEGER NOT NULL,
  shape INTEGER NOT NULL, timestamp INTEGER NOT NULL, principal TEXT NOT NULL, client TEXT NOT NULL,
  request_id BLOB NOT NULL, trace_id BLOB NOT NULL,  -- packed: see `packing`
  foreign_id TEXT, cuts BLOB NOT NULL,
  block INTEGER NOT NULL, place INTEGER NOT NULL  -- its bytes are a line of this block that begins at this byte
);
CREATE TABLE block (block INTEGER PRIMARY KEY, data BLOB NOT NULL);  -- records, a line each, compressed: `codec`
{_DAY_INDEXES}
CREATE INDEX record_iseq ON record (iseq);  -- and so by (iseq, id)
-- How many records of each kind the batches up to `state.rolled_up` brought to each minute and hour (since the epoch).
-- Where account, service and method are NULL, of all of them together, and of a class of status: 400 for 400 to 499.
CREATE TABLE kind (
  kid INTEGER PRIMARY KEY, account TEXT, service TEXT, level TEXT NOT NULL, method TEXT, status INTEGER NOT NULL,
  UNIQUE (account, service, level, method, status)
);
CREATE TABLE minutes (
  kid INTEGER NOT NULL, minute INTEGER NOT NULL, records INTEGER NOT NULL, PRIMARY KEY (kid, minute)
) WITHOUT ROWID;
CREATE TABLE hours (
  kid INTEGER NOT NULL, hour INTEGER NOT NULL, records INTEGER NOT NULL, PRIMARY KEY (kid, hour)
) WITHOUT ROWID;
-- The tokens first: a position in a later column takes two bytes more, and they are more than the message's words. In
-- a table of their own without positions they would take 57 bytes a record less, and a search in one account 80 times
-- as long, because each row of one table would be looked up in the other.
CREATE VIRTUAL TABLE fulltext USING fts5(
  tokens, message, content='', columnsize=0, detail=full, tokenize='unicode61'
);
{_HASHSIZE}
"""

DAY_1 = f"""{_DAY_COMMON}
CREATE TABLE record (
  id INTEGER PRIMARY KEY, iseq INTEGER NOT NULL, pid INTEGER, sequence INTEGER NOT NULL, sid INTEGER NOT NULL,
  timestamp INTEGER NOT NULL, status INTEGER NOT NULL, method TEXT NOT NULL, level TEXT NOT NULL, region TEXT NOT NULL,
  principal TEXT NOT NULL, operation TEXT NOT NULL, request_id TEXT NOT NULL, foreign_id TEXT,
  cuts BLOB NOT NULL, data BLOB NOT NULL
);
{_DAY_INDEXES}
CREATE VIRTUAL TABLE fulltext USING fts5(
  message, tokens, content='', columnsize=0, detail=column, tokenize='unicode61'
);
{_HASHSIZE}
"""
"""The layout of versions before 0.2. Such a day is still read and written; tests create one with this."""


def token(kind: str, value: str, version: int = DAY_VERSION) -> str:
    """The full-text word that represents a value of the column `kind` (one letter) in a day file of this version.
    Readers check the real column too: two of a million values may share a word."""
    digest = (_DIGEST_1 if version == 1 else _DIGEST).copy()
    digest.update(value.encode("utf-8", "surrogatepass"))
    return kind + digest.hexdigest()


def stream_token(account: str, service: str, instance: str, version: int = DAY_VERSION) -> str:
    """One word for account, service and instance together. Most queries filter by all three; one posting list replaces
    the intersection of three (200,000 rows without a common one: 0.2 ms instead of 3.6 ms)."""
    return token("t", f"{account}\0{service}\0{instance}", version)


def day_name(day: str, file: int = 0) -> str:
    """`day`: `2026-11-22`. `file`: how often the day was rebuilt (`day.file` in main.db)."""
    return f"day-{day}.{file}.db" if file else f"day-{day}.db"


def file_of_name(name: str) -> tuple[str, int] | None:
    """(day, file number) from the name of a day file; None for any other name."""
    found = _DAY_NAME.fullmatch(name)
    return (found[1], int(found[2] or 0)) if found is not None and is_day(found[1]) else None


def day_of_name(name: str) -> str | None:
    """The day in the name of a day file; None for any other name."""
    found = file_of_name(name)
    return None if found is None else found[0]


def is_day(text: str) -> bool:
    """Whether `text` is a day such as `2026-11-22`."""
    try:
        return len(text) == 10 and bool(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC))
    except ValueError:
        return False


def open_writing(
    path: Path, script: str, version: int, access: Access = PRIVATE, make: Callable[[str], None] = lambda what: None
) -> apsw.Connection:
    """A connection for the one writer. Creates the file and its tables, in `version`, when they are missing. Before
    creating them it calls `make` with a description of what was found instead; `make` may raise. Raises apsw's errors,
    OSError and StoreError."""
    if apsw.SQLITE_VERSION_NUMBER < _SQLITE_MIN:
        raise StoreError(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt an index that is read while it is written",
            retriable=False,
            hint="Install the package `apsw` 3.51.3 or newer.",
        )
    # Before SQLite opens it, which would give it the umask's mode; SQLite gives -wal and -shm the mode of their file.
    if not os.path.lexists(path):
        make("nothing")
    access.create(path)
    # SQLite rejects a symbolic link anywhere in the path, but the directory of an index may be one.
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
    connection = apsw.Connection(str(path.parent.resolve() / path.name), flags=flags)
    try:
        connection.set_busy_timeout(_BUSY_MS)
        is_empty = not check_version(connection, path)
        if is_empty:
            make("an empty file")
        # The -wal and -shm files stay after the last close, so that a reader never has to create them.
        connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, _int_pointer())
        for pragma in (
            "page_size=8192",
            "journal_mode=WAL",
            "synchronous=FULL",
            "mmap_size=0",
            "cache_size=-8192",
            "temp_store=MEMORY",
            "wal_autocheckpoint=2048",
            "journal_size_limit=67108864",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if is_empty:
            create(connection, script, version)
    except BaseException:
        connection.close(True)
        raise
    return connection


_one = None


def _int_pointer() -> int:
    """The address of a C int 1, as SQLITE_FCNTL_PERSIST_WAL wants it."""
    global _one
    import ctypes

    if _one is None:
        _one = ctypes.c_int(1)
    _one.value = 1
    return ctypes.addressof(_one)


def index_id(main: apsw.Connection) -> str | None:
    """The id of the index; None when version 0.1.0 created it and it was not opened for writing since."""
    found: str | None = main.execute("SELECT value FROM meta WHERE key = 'id'").get
    return found


def generation(main: apsw.Connection) -> int:
    """The generation: 1 for a new index, raised whenever an earlier state of the index is restored, because batch
    numbers are then used again."""
    found: int | None = main.execute("SELECT value FROM meta WHERE key = 'generation'").get
    return 1 if found is None else int(found)


def raise_generation(main: apsw.Connection) -> None:
    """From the commit on, tokens issued before are rejected. Inside the caller's transaction."""
    main.execute("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", (generation(main) + 1,))


def made_at_ms(main: apsw.Connection) -> int | None:
    """When the index was created (ms); None when version 0.1.0 created it."""
    found: int | None = main.execute("SELECT value FROM meta WHERE key = 'made_at_ms'").get
    return found


def create(connection: apsw.Connection, script: str, version: int) -> None:
    """Creates all tables or none: a crash in between leaves version 0, and the next open creates them."""
    connection.execute("BEGIN")
    try:
        connection.execute(script)
        connection.execute(f"PRAGMA application_id={_APPLICATION}; PRAGMA user_version={version}")
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has already rolled it back. A second ROLLBACK would raise and hide the retriable error.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def open_reading(path: Path) -> apsw.Connection:
    """A connection that neither writes nor checkpoints nor creates the file. Raises apsw's errors and StoreError."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(_BUSY_MS)
        connection.wal_autocheckpoint(0)
        connection.execute("PRAGMA mmap_size=0; PRAGMA cache_size=-1024; PRAGMA query_only=1; PRAGMA temp_store=MEMORY")
        check_version(connection, path)
    except BaseException:
        connection.close(True)
        raise
    return connection


def check_version(connection: apsw.Connection, path: Path) -> int:
    """The version of an index file; 0 when it is empty. Raises StoreError for a foreign file and for one of a later
    version."""
    # Each statement is a separate read, and one commit creates the tables and the application id. So read the id last:
    # an index created between two reads would look like a foreign file.
    is_filled = bool(connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get)
    version = int(connection.pragma("user_version") or 0)
    if (version or is_filled) and connection.pragma("application_id") != _APPLICATION:
        raise StoreError(
            f"{path} is a database, but not an index of asgi-audit", retriable=False, hint="Use another directory."
        )
    if version > VERSION:
        raise StoreError(
            f"{path} has version {version}; this asgi-audit reads up to {VERSION}",
            retriable=False,
            hint="The index was written by a newer asgi-audit; upgrade this one.",
        )
    return version
