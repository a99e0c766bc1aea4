"""Completeness state in main.db: written together with the positions, read for the headers of every response.

`extent.py` holds T and the values it is computed from. The column `process.state` holds the indexer's state of a
process (msgpack); the other columns repeat the parts that queries need. `state` is NULL while the indexer has written
none for a process (see `main.py`).

A purge deletes what concerns removed days only: incidents whose window ends before the horizon, and, a day later,
processes that have ended for certain (final statement, adopted) and have no open incident. Other ended processes (a
provisional goodbye, or written off and acknowledged) may still be adopted from their disk, so they are kept for 90 more
days. When a topic is read again from its beginning, a deleted process appears as a new one: its records are expired, it
ends again, and the next purge deletes it again. The counters have then counted it twice; a counter that only grows
cannot correct this.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import apsw
import msgspec

from ...record.statement import decode_statement
from ..state import NO_PROCESS, Completeness, Completion, Incident, Known, ProcessState, ReadUntil, Resumed
from ..window import losses_in
from . import extent
from .schema import DAY_MS, made_at_ms

__all__ = [
    "FORGOTTEN", "acknowledge", "counted", "forget", "incidents", "known", "lost_in", "name_open_accounts",
    "note", "note_lost_days", "read", "resumed", "write",
]  # fmt: skip

_RANGES_SHOWN = 100
FORGOTTEN = ("forgotten_captured", "forgotten_excluded", "forgotten_indexed")
"""Rows of `meta`: what forgotten processes add to the counters."""
_FORGET_EACH = 1000  # processes a transaction
_WAIT_MS = 90 * DAY_MS
_encode = msgspec.msgpack.Encoder().encode
_state = msgspec.msgpack.Decoder(ProcessState)
_incident = msgspec.msgpack.Decoder(Incident)


def _open_of(state: ProcessState) -> dict[str, int]:
    counts: dict[str, int] = {}
    for account, count in state.open_accounts:
        counts[account] = counts.get(account, 0) + count
    return counts


def name_open_accounts(main: apsw.Connection) -> None:
    """Fills the accounts of open exchanges of all processes from their states. Inside the caller's transaction."""
    states: list[Any] = main.execute("SELECT state FROM process WHERE open_count > 0").fetchall()
    for (state,) in states:
        _name_open(main, _state.decode(state))


def _name_open(main: apsw.Connection, state: ProcessState) -> None:
    main.execute("DELETE FROM open_account WHERE process = ?", (state.process,))
    main.executemany(
        "INSERT INTO open_account VALUES (?, ?, ?)",
        [(state.process, account, count) for account, count in _open_of(state).items()],
    )


def write(main: apsw.Connection, completion: Completion) -> None:
    """Inside the caller's transaction."""
    extent.write(main, completion)
    main.executemany(
        "INSERT INTO process (process, started, standing, low, lost, missing, open_count, open_from, open_to, state) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET standing = excluded.standing, low = "
        "excluded.low, lost = excluded.lost, missing = excluded.missing, open_count = excluded.open_count, open_from = "
        "excluded.open_from, open_to = excluded.open_to, state = excluded.state",
        [
            (
                s.process,
                s.started,
                s.standing,
                s.low,
                s.lost,
                s.missing,
                s.open_count,
                s.open_from,
                s.open_to,
                _encode(s),
            )
            for s in completion.processes
        ],
    )
    for state in completion.processes:
        _name_open(main, state)
    for incident in completion.incidents:
        _put(main, incident)
    if completion.refused:
        main.execute(
            "INSERT INTO loss VALUES ('refused', ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            (completion.refused,),
        )


def forget(main: apsw.Connection, horizon: int) -> None:
    """Deletes what concerns only exchanges begun before `horizon` (ms)."""
    main.execute("BEGIN IMMEDIATE")
    # Ids are never reused, even when the incident with the highest id is deleted and a lower one stays.
    main.execute(
        "INSERT INTO meta SELECT 'last_incident', id FROM incident WHERE 1 ORDER BY id DESC LIMIT 1 ON CONFLICT DO "
        "UPDATE SET value = max(value, excluded.value)"
    )
    # Keep open incidents of active processes: the indexer holds them in memory.
    forgotten: list[Any] = main.execute(
        'DELETE FROM incident WHERE ifnull("end", resolved_at) <= ? AND '
        "(resolved_at IS NOT NULL OR process NOT IN (SELECT process FROM process WHERE standing = 'active')) RETURNING "
        "process, resolved_at",
        (horizon,),
    ).fetchall()
    for process in {process for process, resolved_at in forgotten if resolved_at is None}:
        left = known(main, process)
        if left is not None and left.state.missing:  # missing sequences are listed in an incident, or nowhere
            state = left.state
            state.missing = sum(i.count for i in left.incidents if i.kind == "missing")
            main.execute(
                "UPDATE process SET missing = ?, state = ? WHERE process = ?", (state.missing, _encode(state), process)
            )
    main.execute("COMMIT")
    before = horizon - DAY_MS  # a day of margin: clocks differ, and W may lag
    while True:
        main.execute("BEGIN IMMEDIATE")
        rows: list[Any] = main.execute(
            "SELECT process, max(last, indexed), excluded, indexed FROM process p WHERE standing <> 'active' AND low < "
            "iif(closed IN ('final', 'adopted'), ?1, ?2) AND (open_count = 0 OR open_to < ?1) AND NOT EXISTS (SELECT 1 "
            "FROM incident i WHERE i.process = p.process AND resolved_at IS NULL) LIMIT ?3",
            (before, before - _WAIT_MS, _FORGET_EACH),
        ).fetchall()
        gone = [row[:1] for row in rows]
        for table in ("statement", "open_account", "process"):
            main.executemany(f"DELETE FROM {table} WHERE process = ?", gone)
        # Keep their counts: Prometheus takes a decreasing counter for a restarted one.
        main.executemany(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
            [(key, sum(row[i] for row in rows)) for i, key in enumerate(FORGOTTEN, 1) if rows],
        )
        main.execute("COMMIT")
        if len(rows) < _FORGET_EACH:
            return


def acknowledge(main: apsw.Connection, process: bytes) -> int:
    """End the unproven window of a silent process at the time when it was written off. Returns the number of
    incidents."""
    main.execute("BEGIN IMMEDIATE")
    rows: list[Any] = main.execute(
        'SELECT data FROM incident WHERE process = ? AND resolved_at IS NULL AND "end" IS NULL', (process,)
    ).fetchall()
    found = [i for i in (_incident.decode(data) for (data,) in rows) if i.kind == "silent"]
    for i in found:
        i.end = max(i.opened_at, i.start + 1)
        i.detail = f"{i.detail}; acknowledged: it did not come back"
        i.acknowledged = True
        main.execute('UPDATE incident SET "end" = ?, data = ? WHERE id = ?', (i.end, _encode(i), i.id))
    main.execute("COMMIT")
    return len(found)


def note_lost_days(main: apsw.Connection, starts: Iterable[int], now: int) -> None:
    """Open an incident over each of these days (given by their start in ms): T covers them, but their files are gone.
    Inside the caller's transaction."""
    for start in starts:
        day = datetime.fromtimestamp(start // 1000, UTC).date()
        detail = f"the file of {day} was missing; --new-index accepted the loss"
        i = Incident(
            id=_last_incident(main) + 1, kind="day_lost", process=NO_PROCESS, opened_at=now, start=start,
            end=start + DAY_MS, detail=detail,
        )  # fmt: skip
        _put(main, i)


def note(main: apsw.Connection, incident: Incident) -> None:
    """Open the incident under a new id. Inside the caller's transaction."""
    incident.id = _last_incident(main) + 1
    _put(main, incident)


def _put(main: apsw.Connection, i: Incident) -> None:
    main.execute(
        "INSERT OR REPLACE INTO incident VALUES (?, ?, ?, ?, ?, ?, ?)",
        (i.id, i.process.bytes, i.opened_at, i.resolved_at, i.start, i.end, _encode(i)),
    )


def _last_incident(main: apsw.Connection) -> int:
    """The highest id ever used."""
    found: int = main.execute(
        "SELECT max((SELECT ifnull(max(id), 0) FROM incident), ifnull((SELECT value FROM meta WHERE key = "
        "'last_incident'), 0))"
    ).get
    return found


def resumed(main: apsw.Connection, mark: ReadUntil | None) -> Resumed:
    active = [p for (p,) in main.execute("SELECT process FROM process WHERE standing = 'active' AND state NOT NULL")]
    known_ones = [k for p in active if (k := known(main, p)) is not None]
    return Resumed(
        extent.read(main), mark, known_ones, _last_incident(main), extent.read_holds(main), made_at_ms(main) or 0
    )


def lost_in(main: apsw.Connection, start: int, end: int) -> dict[bytes, int]:
    """Per process, the stated losses that may have begun in the window."""
    found: dict[bytes, int] = {}
    rows: Any = main.execute(
        "SELECT process, lost - stated_lost, stated_lost FROM process WHERE lost > 0 AND started < ?",
        (end,),
    ).fetchall()
    for process, refused, stated in rows:
        found[process] = max(0, refused)
        if stated:
            said: Any = main.execute(
                "SELECT data FROM statement WHERE process = ?1 AND watermark >= ifnull((SELECT max(watermark) FROM "
                "statement WHERE process = ?1 AND watermark < ?2), 0) ORDER BY number",
                (process, start),
            ).fetchall()
            found[process] += losses_in([decode_statement(data) for (data,) in said], start, end)
    return {process: count for process, count in found.items() if count}


def counted(data: bytes | None) -> tuple[int, int]:
    """From a stored state: (sequences that were removed before they could be read, statements whose Merkle root could
    not be checked)."""
    if data is None:
        return 0, 0
    state = _state.decode(data)
    return state.earlier, state.unverified


def known(main: apsw.Connection, process: bytes) -> Known | None:
    data: Any = main.execute("SELECT state FROM process WHERE process = ?", (process,)).get
    if data is None:
        return None
    rows = main.execute("SELECT data FROM incident WHERE process = ? AND resolved_at IS NULL ORDER BY id", (process,))
    return Known(_state.decode(data), [_incident.decode(row) for (row,) in rows])


def read(
    main: apsw.Connection,
    start: int,
    end: int,
    reckoned: tuple[int | None, int | None],
    accounts: frozenset[str] | None = None,
) -> Completeness:
    """`reckoned`: T and `complete_from`, computed in the same transaction."""
    until, begins = reckoned
    if start >= end:
        return Completeness(until, 0, 0, begins)
    found: Any = main.execute(
        "SELECT (SELECT count(*) FROM incident "
        'WHERE resolved_at IS NULL AND start < :end AND ifnull("end" > :start, 1)), '
        "(SELECT ifnull(sum(open_count), 0) FROM process WHERE open_count > 0 AND open_from < :end AND open_to >= "
        ":start)",
        {"start": start, "end": end},
    ).get
    count, open_count = found
    if open_count and accounts is not None:
        open_count -= _open_elsewhere(main, start, end, accounts)
    return Completeness(until, count, open_count, begins)


def _open_elsewhere(main: apsw.Connection, start: int, end: int, accounts: frozenset[str]) -> int:
    """How many of the open exchanges that `read` counts are known to belong to none of these accounts."""
    found: Any = main.execute(
        "SELECT ifnull(sum(a.count), 0) FROM process p JOIN open_account a USING (process) WHERE p.open_count > 0 AND "
        "p.open_from < :end AND p.open_to >= :start AND a.account NOT IN (SELECT value FROM json_each(:accounts))",
        {"start": start, "end": end, "accounts": json.dumps(sorted(accounts))},
    ).get
    return int(found)


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
