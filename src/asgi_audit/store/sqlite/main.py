"""main.db: its tables, and the migration from earlier versions.

Version 2 has one table of processes where version 1 had two, and stores which file holds a day. Version 1 was used by
release 0.1.0 and development versions after it. The first writer migrates in one transaction: a crash leaves version 1.
Until then readers use views with the names and columns of version 2.

The completeness claim of an index of release 0.1.0 begins at its migration, because 0.1.0 could claim records that it
had not read. The same holds when 0.1.0 wrote after a migration (`completeness` or `state` then differ from `extent`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from . import arrivals, completeness
from .schema import MAIN_VERSION, open_reading

__all__ = ["MAIN", "bring_up", "open_main"]

_PROCESS = """
CREATE TABLE process (
  process BLOB PRIMARY KEY, service TEXT NOT NULL DEFAULT '', host TEXT NOT NULL DEFAULT '',
  started INTEGER NOT NULL DEFAULT 0,
  -- its records and statements summed up
  indexed INTEGER NOT NULL DEFAULT 0, number INTEGER NOT NULL DEFAULT 0, last INTEGER NOT NULL DEFAULT 0,
  stated_lost INTEGER NOT NULL DEFAULT 0, excluded INTEGER NOT NULL DEFAULT 0, stated_open INTEGER NOT NULL DEFAULT 0,
  watermark INTEGER NOT NULL DEFAULT 0, closed TEXT NOT NULL DEFAULT '', proven INTEGER NOT NULL DEFAULT 1,
  -- how complete it is: what the indexer goes on from in `state`, NULL before it said anything; the rest is asked for
  standing TEXT NOT NULL DEFAULT 'active', low INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0,
  missing INTEGER NOT NULL DEFAULT 0, open_count INTEGER NOT NULL DEFAULT 0, open_from INTEGER NOT NULL DEFAULT 0,
  open_to INTEGER NOT NULL DEFAULT 0, state BLOB
) WITHOUT ROWID;
CREATE INDEX process_active ON process (standing) WHERE standing = 'active';
CREATE INDEX process_open ON process (open_from) WHERE open_count > 0;
CREATE TABLE open_account (  -- of `process.open_count`, those whose account is known
  process BLOB NOT NULL, account TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (process, account)
) WITHOUT ROWID;
"""
_EXTENT = """
CREATE TABLE extent (
  one INTEGER PRIMARY KEY CHECK (one = 1), until INTEGER, ceiling INTEGER, begins INTEGER NOT NULL,
  is_begun INTEGER NOT NULL, begins_at_fence INTEGER NOT NULL, above TEXT NOT NULL,
  batches INTEGER NOT NULL  -- written ever: a `fence` that names more is not of this main.db
);
"""
_HOLD = """
CREATE TABLE IF NOT EXISTS hold (
  partition TEXT PRIMARY KEY, reason TEXT NOT NULL, since INTEGER NOT NULL, is_lost INTEGER NOT NULL
) WITHOUT ROWID;
"""
_LOSS = """
CREATE TABLE IF NOT EXISTS loss (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
"""  # sequences stated lost
MAIN = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('horizon', NULL);  -- ms since the epoch: older records are expired; NULL: none are
CREATE TABLE state (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  published INTEGER NOT NULL,
  dead INTEGER NOT NULL,        -- dead letters ever
  dead_bytes INTEGER NOT NULL   -- payload bytes of those still kept
);
INSERT INTO state VALUES (1, 0, 0, 0);
CREATE TABLE day (day TEXT PRIMARY KEY, file INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;  -- file: see `day_name`
CREATE TABLE position (
  source TEXT NOT NULL, partition TEXT NOT NULL, next INTEGER NOT NULL, digest BLOB NOT NULL,
  PRIMARY KEY (source, partition)
) WITHOUT ROWID;
CREATE TABLE stream (
  service TEXT NOT NULL, instance TEXT NOT NULL, account TEXT NOT NULL,
  PRIMARY KEY (service, instance, account)
) WITHOUT ROWID;
{_PROCESS}
CREATE TABLE statement (
  process BLOB NOT NULL, number INTEGER NOT NULL, last INTEGER NOT NULL, watermark INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (process, number)
) WITHOUT ROWID;
CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, source TEXT NOT NULL, partition TEXT NOT NULL,
  "offset" INTEGER NOT NULL, reason TEXT NOT NULL, payload BLOB NOT NULL, payload_bytes INTEGER NOT NULL
);
{_LOSS}
CREATE TABLE incident (
  id INTEGER PRIMARY KEY, process BLOB NOT NULL, opened_at INTEGER NOT NULL, resolved_at INTEGER,
  start INTEGER NOT NULL, "end" INTEGER, data BLOB NOT NULL
);
CREATE INDEX incident_open ON incident (start) WHERE resolved_at IS NULL;
CREATE INDEX incident_process ON incident (process) WHERE resolved_at IS NULL;
{arrivals.TABLES}
{_EXTENT}
INSERT INTO extent VALUES (1, NULL, NULL, 0, 0, 0, '[]', 0);
{_HOLD}
"""

_COLUMNS = (
    "process, service, host, started, indexed, number, last, stated_lost, excluded, stated_open, watermark, closed, "
    "proven, standing, low, lost, missing, open_count, open_from, open_to, state"
)
_OF_VERSION_1 = """
SELECT process, ifnull(p.service, ''), ifnull(p.host, ''), ifnull(p.started, 0), ifnull(p.indexed, 0),
  ifnull(p.number, 0), ifnull(p.last, 0), ifnull(p.lost, 0), ifnull(p.excluded, 0), ifnull(p.open_count, 0),
  ifnull(p.watermark, 0), ifnull(p.closed, ''), ifnull(p.proven, 1),
  ifnull(t.standing, 'active'), ifnull(t.low, 0), coalesce(t.lost, p.lost), ifnull(t.missing, 0),
  ifnull(t.open_count, 0), ifnull(t.open_from, 0), ifnull(t.open_to, 0), t.data
FROM main.{process} p FULL JOIN main.tracked t USING (process)
"""
_VIEWS = {
    "day": "day (day, file) AS SELECT day, 0 FROM main.day",
    "process": f"process ({_COLUMNS}) AS {_OF_VERSION_1.format(process='process')}",
}
_MISSING = {
    "arrival": "arrival (whose, day, lowest, highest) AS SELECT whose, day, 0, (SELECT published FROM state) "
    "FROM main.day, (SELECT '*' AS whose UNION SELECT '=' || account FROM main.stream)",
    "departure": "departure (whose, day, highest, horizon) AS SELECT '', '', 0, 0 WHERE 0",
    "loss": "loss (reason, count) AS SELECT '', 0 WHERE 0",
    "open_account": "open_account (process, account, count) AS SELECT x'', '', 0 WHERE 0",
    "hold": "hold (partition, reason, since, is_lost) AS SELECT '', '', 0, 0 WHERE 0",
    "extent": "extent (until, ceiling, begins, is_begun, begins_at_fence, above, batches) "
    "AS SELECT 0, 0, 0, 0, 0, '', 0 WHERE 0",
}


def open_main(path: Path) -> apsw.Connection:
    """Like `schema.open_reading`; an older version gets views with the current names and columns."""
    connection = open_reading(path)
    if connection.pragma("user_version") == 1:
        views = [*_VIEWS.values(), *(view for name, view in _MISSING.items() if not _has(connection, name))]
        connection.execute("PRAGMA query_only=0;" + "".join(f"CREATE TEMP VIEW {view};" for view in views))
        connection.execute("PRAGMA query_only=1")
    return connection


def bring_up(main: apsw.Connection, now: int) -> None:
    """Migrate to the current version, if necessary. For the one writer. `now`: ms. Raises apsw's errors."""
    if main.pragma("user_version") != 1:
        return
    main.execute("BEGIN IMMEDIATE")
    extent = _extent(main, now)
    main.execute("DROP TABLE completeness; DROP TABLE IF EXISTS extent; DROP TABLE IF EXISTS open_account")
    main.execute("ALTER TABLE process RENAME TO process_1")
    main.execute(_PROCESS + _EXTENT + _HOLD + _LOSS + arrivals.TABLES)
    main.execute("INSERT INTO extent VALUES (1, ?, ?, ?, ?, ?, ?, ?)", extent)
    main.execute(f"INSERT INTO process {_OF_VERSION_1.format(process='process_1')}")
    main.execute("DROP TABLE process_1; DROP TABLE tracked")
    main.execute("ALTER TABLE day ADD COLUMN file INTEGER NOT NULL DEFAULT 0")
    completeness.name_open_accounts(main)
    main.execute(f"PRAGMA user_version={MAIN_VERSION}")
    main.execute("COMMIT")


def _extent(main: apsw.Connection, now: int) -> Any:
    until, published = main.execute("SELECT until, published FROM completeness, state").get
    if not _has(main, "extent"):
        is_used = bool(published or main.execute("SELECT EXISTS (SELECT 1 FROM position)").get)
        return (until, until, *((now, 1) if is_used else (0, 0)), 0, "[]", 0)
    found: Any = main.execute(
        "SELECT until, ceiling, begins, is_begun, begins_at_fence, above, batches, published FROM extent"
    ).fetchone()
    if (found[0], found[-1]) == (until, published):
        return found[:-1]
    return (until, until, max(found[2], now), 1, *found[4:-1])


def _has(main: apsw.Connection, table: str) -> bool:
    return bool(main.execute("SELECT 1 FROM main.sqlite_schema WHERE name = ?", (table,)).get)
