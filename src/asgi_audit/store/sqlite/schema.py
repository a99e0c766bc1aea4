"""What stands in the files of an index, and how they are opened.

    main.db            positions, statements, processes, streams ever seen, dead letters, days, what is published
    day-2026-11-22.db  the records of one UTC day of their timestamps, in blocks, their full text, and how many of each
                       kind there are in each minute (version 1, by 0.1.0: no blocks and no counts);
                       day-2026-11-22.1.db when it was made new once (`reindexing`): main.db says which file it is
    fence              64 bytes: until when everything has been read (see `fence.py`)
    lease              locked by the one writer

Invariants: WAL, synchronous=FULL, no mmap, page cache of at most 8 MiB a writing and 2 MiB a reading connection. A row
of `record` has `id = milliseconds << 16 | n`, unique in the store; `n` counts the records of that millisecond. When
65,536 of one are used up, ids come from its neighbours in the day, and `state.spill` says how far (ms) an id may stand
from its timestamp. `iseq` numbers the batches: rows with `iseq <= main.state.published` are visible. `unpublished`
holds what a batch brought until it is known that main.db took it: after a crash the next writer finds there what
main.db must still learn.
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
    "BESIDE", "DAY", "DAY_1", "DAY_MS", "DAY_VERSION", "MAIN_NAME", "MAIN_VERSION", "SLOTS", "VERSION", "check_version",
    "create", "day_name", "day_of_name", "file_of_name", "generation", "index_id", "is_day", "made_at_ms",
    "open_reading", "open_writing", "raise_generation", "stream_token", "token",
]  # fmt: skip

VERSION = 2  # the newest that a file of an index has
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

DAY = f"""{_DAY_COMMON}
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
-- How many records of each kind stand in each minute and hour (since the epoch), published or not. Where account,
-- service and method are NULL, of all of them together, and of a class of status: 400 for 400 to 499.
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
"""What versions before 0.2 made. Such a day is read and written on as it is; tests make one by this."""


def token(kind: str, value: str, version: int = DAY_VERSION) -> str:
    """A word of a day file of this version that stands for a value of the column `kind` (one letter). Readers check the
    real column as well: two of a million values may share one."""
    size = 8 if version == 1 else 5
    return kind + blake2b(value.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


def stream_token(account: str, service: str, instance: str, version: int = DAY_VERSION) -> str:
    """A word for all three at once: the usual question has them all, and one list of rows answers it without a meeting
    of three (3.6 ms over 200,000 rows when the three never meet, 0.2 ms with it)."""
    return token("t", f"{account}\0{service}\0{instance}", version)


def day_name(day: str, file: int = 0) -> str:
    """`day` as `2026-11-22`; `file`: how often the day was made new, as `day.file` of main.db has it."""
    return f"day-{day}.{file}.db" if file else f"day-{day}.db"


def file_of_name(name: str) -> tuple[str, int] | None:
    """The day and the number of a day file's name, or None when it is none."""
    found = _DAY_NAME.fullmatch(name)
    return (found[1], int(found[2] or 0)) if found is not None and is_day(found[1]) else None


def day_of_name(name: str) -> str | None:
    """The day of a file name, or None when it is no day file's."""
    found = file_of_name(name)
    return None if found is None else found[0]


def is_day(text: str) -> bool:
    """Whether it is one, as `2026-11-22`."""
    try:
        return len(text) == 10 and bool(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC))
    except ValueError:
        return False


def open_writing(
    path: Path, script: str, version: int, access: Access = PRIVATE, make: Callable[[str], None] = lambda what: None
) -> apsw.Connection:
    """A connection for the one writer; makes the file and its tables, as `version`, when they are missing. `make` is
    called before that, with what is there in place of it, and may raise. Raises apsw's errors, OSError and
    StoreError."""
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
    # SQLite refuses a link anywhere in the path, and the directory of an index may be one.
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
    connection = apsw.Connection(str(path.parent.resolve() / path.name), flags=flags)
    try:
        connection.set_busy_timeout(_BUSY_MS)
        is_empty = not check_version(connection, path)
        if is_empty:
            make("an empty file")
        # The -wal and -shm files stay after the last close, so that a reader never has to make them.
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
    """None of an index that version 0.1.0 made and nobody has opened for writing since."""
    found: str | None = main.execute("SELECT value FROM meta WHERE key = 'id'").get
    return found


def generation(main: apsw.Connection) -> int:
    """1 when the index was made; whoever puts an earlier state of it in its place raises it: the numbers of batches are
    given again then."""
    found: int | None = main.execute("SELECT value FROM meta WHERE key = 'generation'").get
    return 1 if found is None else int(found)


def raise_generation(main: apsw.Connection) -> None:
    """Inside the caller's transaction: from its commit on, no token of before opens."""
    main.execute("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", (generation(main) + 1,))


def made_at_ms(main: apsw.Connection) -> int | None:
    """When the index was made; None of one that version 0.1.0 made."""
    found: int | None = main.execute("SELECT value FROM meta WHERE key = 'made_at_ms'").get
    return found


def create(connection: apsw.Connection, script: str, version: int) -> None:
    """All tables or none: a crash in between leaves version 0, and the next open makes them."""
    connection.execute("BEGIN")
    try:
        connection.execute(script)
        connection.execute(f"PRAGMA application_id={_APPLICATION}; PRAGMA user_version={version}")
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has rolled it back already; doing that again would be the error that is seen, and no retriable
        # one.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def open_reading(path: Path) -> apsw.Connection:
    """A connection that neither writes nor checkpoints nor makes the file. Raises apsw's errors and StoreError."""
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
    """The version of a file of ours, 0 when it is empty. Raises StoreError for somebody else's file and a later
    version's."""
    # Each is a read of its own, and the tables come in one commit with their mark: the mark is looked at last, or an
    # index that is made between two of them looks like somebody else's.
    is_filled = bool(connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get)
    version = int(connection.pragma("user_version") or 0)
    if (version or is_filled) and connection.pragma("application_id") != _APPLICATION:
        raise StoreError(
            f"{path} is a database, but no index of asgi-audit", retriable=False, hint="Name another directory."
        )
    if version > VERSION:
        raise StoreError(
            f"{path} has version {version}; this asgi-audit reads up to {VERSION}",
            retriable=False,
            hint="The index was written by a newer asgi-audit; upgrade this one.",
        )
    return version
