"""How far the index is complete, in main.db: written with the positions, read for the headers of every answer.

`completeness` is one row: T as it was last written, and whether readers shall go on from there with `caught_up`. What
the indexer knows of a process stands in `tracked` as it left it (msgpack), the columns beside it are what is asked for.
"""

from __future__ import annotations

import uuid
from typing import Any

import apsw
import msgspec

from ..base import FOLLOW_MS, Completeness, Completion, Incident, Known, ProcessState, Resumed

__all__ = ["TABLES", "incidents", "known", "read", "resumed", "write"]

TABLES = """
CREATE TABLE completeness (
  one INTEGER PRIMARY KEY CHECK (one = 1), until INTEGER, follows INTEGER NOT NULL
);
INSERT INTO completeness VALUES (1, NULL, 0);
CREATE TABLE tracked (
  process BLOB NOT NULL UNIQUE, standing TEXT NOT NULL, low INTEGER NOT NULL, lost INTEGER NOT NULL,
  missing INTEGER NOT NULL, open_count INTEGER NOT NULL, open_from INTEGER NOT NULL, open_to INTEGER NOT NULL,
  data BLOB NOT NULL
);
CREATE INDEX tracked_active ON tracked (standing) WHERE standing = 'active';
CREATE INDEX tracked_open ON tracked (open_from) WHERE open_count > 0;
CREATE TABLE incident (
  id INTEGER PRIMARY KEY, process BLOB NOT NULL, opened_at INTEGER NOT NULL, resolved_at INTEGER,
  start INTEGER NOT NULL, "end" INTEGER, data BLOB NOT NULL
);
CREATE INDEX incident_open ON incident (start) WHERE resolved_at IS NULL;
CREATE INDEX incident_process ON incident (process) WHERE resolved_at IS NULL;
"""

_RANGES_SHOWN = 100
_encode = msgspec.msgpack.Encoder().encode
_state = msgspec.msgpack.Decoder(ProcessState)
_incident = msgspec.msgpack.Decoder(Incident)


def write(main: apsw.Connection, completion: Completion) -> None:
    """Inside the caller's transaction."""
    main.execute("UPDATE completeness SET until = ?, follows = ?", (completion.until, int(completion.follows)))
    main.executemany(
        "INSERT INTO tracked VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET standing = excluded.standing, low = excluded.low, lost = excluded.lost, "
        "missing = excluded.missing, open_count = excluded.open_count, "
        "open_from = excluded.open_from, open_to = excluded.open_to, data = excluded.data",
        [
            (s.process, s.standing, s.low, s.lost, s.missing, s.open_count, s.open_from, s.open_to, _encode(s))
            for s in completion.processes
        ],
    )
    main.executemany(
        "INSERT OR REPLACE INTO incident VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (i.id, uuid.UUID(i.process).bytes, i.opened_at, i.resolved_at, i.start, i.end, _encode(i))
            for i in completion.incidents
        ],
    )


def resumed(main: apsw.Connection, caught_up: int | None) -> Resumed:
    until, follows, last = main.execute(
        "SELECT until, follows, (SELECT coalesce(max(id), 0) FROM incident) FROM completeness"
    ).get
    if follows and until is not None and caught_up is not None:
        until = max(until, caught_up - FOLLOW_MS)
    active = [p for (p,) in main.execute("SELECT process FROM tracked WHERE standing = 'active'")]
    return Resumed(until, [k for p in active if (k := known(main, p)) is not None], int(last), caught_up)


def known(main: apsw.Connection, process: bytes) -> Known | None:
    data: Any = main.execute("SELECT data FROM tracked WHERE process = ?", (process,)).get
    if data is None:
        return None
    rows = main.execute("SELECT data FROM incident WHERE process = ? AND resolved_at IS NULL ORDER BY id", (process,))
    return Known(_state.decode(data), [_incident.decode(row) for (row,) in rows])


def read(main: apsw.Connection, start: int, end: int, caught_up: int | None) -> Completeness:
    """`caught_up` must have been read before: an older one than the row claims less, a newer one too much."""
    found: Any = main.execute(
        "SELECT until, follows, "
        '(SELECT count(*) FROM incident WHERE resolved_at IS NULL AND start < :end AND ifnull("end" > :start, 1)), '
        "(SELECT ifnull(sum(open_count), 0) FROM tracked "
        "WHERE open_count > 0 AND open_from < :end AND open_to >= :start) FROM completeness",
        {"start": start, "end": end},
    ).get
    until, follows, count, open_count = found
    if until is not None and follows and caught_up is not None:
        until = max(until, caught_up - FOLLOW_MS)
    return Completeness(until, count, open_count) if start < end else Completeness(until, 0, 0)


def incidents(main: apsw.Connection, start: int, end: int, limit: int) -> list[Incident]:
    rows: list[Any] = main.execute(
        'SELECT data FROM incident WHERE start < ? AND ifnull("end" > ?, 1) '
        "ORDER BY resolved_at IS NOT NULL, id DESC LIMIT ?",
        (end, start, limit),
    ).fetchall()
    found = [_incident.decode(data) for (data,) in rows]
    for incident in found:
        incident.ranges = incident.ranges[:_RANGES_SHOWN]
    return found
