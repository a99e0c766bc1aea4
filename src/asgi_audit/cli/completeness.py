"""Show until when the index is complete, and what is missing.

  asgi-audit completeness                                                  everything
  asgi-audit completeness --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z
  asgi-audit completeness --max-age 120s                                   also fail when T is older
  asgi-audit completeness --acknowledge 019b76da-a9af-7aba-97d2-e2a99c6249bd
  asgi-audit completeness --acknowledge partition:3

The index claims to hold every exchange begun between `complete from` (inclusive) and T, `complete until` (exclusive).
Without --from and --to this is the window. The output shows the processes that served in the window (range: sequences
covered by their statements; lost: stated as lost; missing: neither indexed nor stated lost; open: exchanges open at the
last statement), the incidents that overlap it, and what keeps T from advancing. With --from or --to the numbers are
those of the window.

Exit codes: 0 the window is complete; 1 it is not (T is unknown or before its end, it begins before `complete from`, or
it has an open incident, even an acknowledged one); 2 wrong usage; 3 it is complete except for losses that were stated;
4 T is older than --max-age. 1 takes precedence over 4, and 4 over 3.

T is some seconds behind: an idle application writes a statement every 10 s. A long request holds T back for up to 60 s
and is counted as open after that, so a single long request exceeds a --max-age below 75 s.

A process that stopped without its final statement causes an incident without an end, until its journal is found. When
the journal is gone for ever (a lost disk), run --acknowledge PROCESS: the incident then ends at the time when the
process was written off, and the time after it is complete again. If the journal appears later, it is still indexed.
A partition that cannot be read (no leader, an unreadable directory) keeps T where it is. When it is permanently lost,
run --acknowledge partition:NAME: T advances again, and an incident remains. NAME is the number of the Kafka partition,
or the name of the journal's directory.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..errors import ConfigError, StoreError
from ..record.line import TIME_END
from ..settings import Settings
from ..store.state import NO_PROCESS, Completeness, Hold, Incident, Process, Window
from ..wiring.operations import count_acknowledged, give_up_partition, open_admin, open_store_reader
from .flags import add_settings, settings_of

__all__ = ["add_arguments", "run"]

_INCIDENTS_MAX = 1000
_HELD_SECONDS = 20.0  # an idle process writes a statement every 10 s
_HOLDERS_SHOWN = 10
_WAIT_SECONDS = 60.0
_PARTITION = "partition:"
_ACCEPTED = "a date-time with offset such as 2026-11-22T05:00:00Z"


_UNITS = {"s": 1, "m": 60, "h": 3600}


class _Report(NamedTuple):
    """The state of the window from `start` to `end` (ms). `windows`: counts per process in it; None without a window:
    then totals are shown."""

    start: int
    end: int
    completeness: Completeness
    processes: list[Process]
    windows: dict[uuid.UUID, Window] | None
    incidents: list[Incident]
    holds: list[Hold]

    @property
    def acknowledged(self) -> int:
        return count_acknowledged(self.incidents)

    @property
    def holders(self) -> list[Process]:
        """The processes that T waits for: those with the oldest statement."""
        until = self.completeness.until
        if until is None or time.time() - until / 1000 < _HELD_SECONDS:
            return []
        return [p for p in self.processes if p.standing == "active" and p.low <= until]

    @property
    def lost(self) -> int:
        if self.windows is None:
            return sum(p.lost for p in self.processes)
        return sum(w.lost for w in self.windows.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="start", metavar="TIME", help=f"{_ACCEPTED}, inclusive. Default: `complete from`"
    )
    parser.add_argument("--to", dest="end", metavar="TIME", help="exclusive. Default: T")
    parser.add_argument(
        "--max-age",
        metavar="AGE",
        help="exit with 4 when T is older than this, such as 120s or 5m; below 75s a single long request is enough",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument(
        "--acknowledge",
        metavar="PROCESS|partition:NAME",
        help="record that a silent process will not come back, or that a partition is permanently lost",
    )
    add_settings(parser, "home", "store", "share_with_group")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    max_age = None if arguments.max_age is None else _age(arguments.max_age)
    start = None if arguments.start is None else _instant("--from", arguments.start)
    end = None if arguments.end is None else _instant("--to", arguments.end)
    if start is not None and end is not None and start > end:
        raise ConfigError("--from is later than --to")
    if arguments.acknowledge is not None:
        if arguments.acknowledge.startswith(_PARTITION):
            return _give_up(settings, arguments.acknowledge[len(_PARTITION) :])
        return _acknowledge(settings, arguments.acknowledge)
    found = _look(settings, start, end)
    reasons = _why_not(found)
    too_old = "" if reasons or max_age is None else _too_old(found, max_age)
    code = 1 if reasons else 4 if too_old else 3 if found.lost else 0
    if arguments.json:
        print(json.dumps(_object(found, code), indent=2))
        return code
    _show(found)
    if reasons:
        print(f"asgi-audit: not complete: {', '.join(reasons)}", file=sys.stderr)
    elif too_old:
        print(f"asgi-audit: {too_old}", file=sys.stderr)
    elif found.lost:
        print(f"asgi-audit: complete, except for {found.lost:,} records stated as lost", file=sys.stderr)
    return code


def _look(settings: Settings, start: int | None, end: int | None) -> _Report:
    reader = open_store_reader(settings)
    try:
        reader.check()  # raises when the file of a day is missing: nothing is complete then
        claimed = reader.completeness(0, 0)
        since = claimed.begins or 0
        first = since if start is None else start
        last = end if end is not None else max(claimed.until or 0, first)
        return _Report(
            first,
            last,
            reader.completeness(first, last),
            [p for p in reader.processes() if _served(p, first, last)],
            None if start is None and end is None else {w.process: w for w in reader.window(first, max(first, last))},
            reader.incidents(first, last, limit=_INCIDENTS_MAX),
            reader.holds(),
        )
    finally:
        reader.close()


def _why_not(found: _Report) -> list[str]:
    """Reasons why the window is not complete; [] when it is."""
    until, begins = found.completeness.until, found.completeness.begins
    if until is None:
        return [
            "T is not known yet: no process has written a statement, or the source has not been read to its end once"
        ]
    reasons = []
    if begins is None:
        reasons.append("the source has not been read to its end since its partitions changed")
    elif found.start < begins:
        reasons.append(f"nothing is claimed before {_time(begins)}")
    if until < found.end or (begins is not None and found.end < begins):
        reasons.append(
            f"T has not reached {_time(found.end)}" if until < found.end else "the time range ends before that"
        )
    elif begins is not None and until < begins:
        reasons.append(f"T has not reached {_time(begins)}")
    if count := found.completeness.incidents - found.acknowledged:
        reasons.append(f"{count:,} open incident{'s' * (count != 1)}")
    if count := found.acknowledged:
        reasons.append(f"{count:,} acknowledged incident{'s' * (count != 1)}")
    return reasons


def _too_old(found: _Report, max_age: int) -> str:
    until = found.completeness.until
    assert until is not None
    age = time.time() - until / 1000
    return f"T is {age:,.0f} s old; --max-age accepts {max_age:,} s" if age > max_age else ""


def _give_up(settings: Settings, partition: str) -> int:
    reader = open_store_reader(settings)
    try:
        holding = [h.partition for h in reader.holds() if not h.is_lost]
    finally:
        reader.close()
    if partition not in holding:
        shown = ", ".join(f"{_PARTITION}{name}" for name in holding[:10]) or "there is none"
        raise ConfigError(
            f"--acknowledge is {_PARTITION + partition[:40]!r}; accepted: a partition that T waits for: {shown}"
        )
    if not give_up_partition(settings, partition, wait_seconds=_WAIT_SECONDS):
        raise StoreError(
            f"the indexer did not store the acknowledgement within {_WAIT_SECONDS:g} s",
            hint="The indexer has the request and will do it as soon as it can; its log shows why it waits.",
        )
    print(f"acknowledged: partition {partition} is permanently lost", file=sys.stderr)
    return 0


def _acknowledge(settings: Settings, text: str) -> int:
    reader = open_store_reader(settings)
    try:
        incidents = reader.incidents(0, TIME_END, limit=TIME_END)
    finally:
        reader.close()
    silent = {str(i.process) for i in incidents if i.kind == "silent" and i.end is None and i.resolved_at is None}
    try:
        process = uuid.UUID(text)
        if str(process) not in silent:
            raise ValueError
    except ValueError:
        shown = ", ".join(sorted(silent)[:10]) or "there is none"
        raise ConfigError(f"--acknowledge is {text[:40]!r}; accepted: a process that is silent: {shown}") from None
    if not open_admin(settings).acknowledge(process, wait_seconds=_WAIT_SECONDS):
        raise StoreError(
            f"the indexer did not store the acknowledgement within {_WAIT_SECONDS:g} s",
            hint="The indexer has the request and will do it as soon as it can; its log shows why it waits.",
        )
    print(f"acknowledged: process {process} will not come back", file=sys.stderr)
    return 0


def _served(p: Process, start: int, end: int) -> bool:
    """Whether the process may have served in the window; an ended one served until its last statement."""
    return p.started < end and (p.standing != "left" or p.low >= start)


def _show(found: _Report) -> None:
    _show_processes(found)
    incidents = [i for i in found.incidents if i.resolved_at is None]
    if incidents:
        rows = [("INCIDENT", "PROCESS", "FROM", "TO", "COUNT", "WHAT")]
        for i in incidents:
            end = "-" if i.end is None else _time(i.end)
            what = f"{_ranges(i)}: {i.detail}" if i.ranges else i.detail
            process = "-" if i.process == NO_PROCESS else str(i.process)
            rows.append((i.kind, process, _time(i.start), end, f"{i.count:,}" if i.count else "-", what))
        _table(rows)
        print()
    for h in found.holds:
        if h.is_lost:
            print(f"partition {h.partition} is permanently lost, as acknowledged: {h.reason}")
        else:
            print(f"T waits for partition {h.partition} since {_time(h.since)}: {h.reason}")
            print(f"  if it is permanently lost: asgi-audit completeness --acknowledge {_PARTITION}{h.partition}")
    for p in found.holders[:_HOLDERS_SHOWN]:
        of = f"{p.service} on {p.host}" if p.host else p.service or "of which nothing more is known"
        since = f"was last heard of at {_time(p.low)}" if p.low else "has written no statement yet"
        print(f"T waits for process {p.process} ({of}), which {since}; after 120 s of silence T advances without it")
    if len(found.holders) > _HOLDERS_SHOWN:
        print(f"  and for {len(found.holders) - _HOLDERS_SHOWN:,} more")
    c = found.completeness
    resolved = sum(i.resolved_at is not None for i in found.incidents)
    known = f", {found.acknowledged:,} acknowledged" if found.acknowledged else ""
    of_them = f"{c.incidents - found.acknowledged:,} open{known}, {resolved:,} resolved"
    print(f"open exchanges {c.open:,}, incidents {of_them}")
    print(f"complete from {'-' if c.begins is None else _time(c.begins)}")
    print(f"complete until {'-' if c.until is None else _time(c.until)}")


def _show_processes(found: _Report) -> None:
    if not found.processes:
        return
    rows: list[Sequence[str]] = [
        ("PROCESS", "SERVICE", "STATE", "RANGE", "INDEXED", "LOST", "MISSING", "OPEN", "UNTIL")
    ]
    for p in found.processes:
        span = f"1-{p.last}" if p.last else "-"
        numbers = [f"{n:,}" for n in (*_numbers(found, p), _open(p))]
        rows.append((str(p.process), p.service, _state(p), span, *numbers, _time(p.low)))
    _table(rows)
    print()


def _numbers(found: _Report, p: Process) -> tuple[int, int, int]:
    """(indexed, lost, missing) of the requested window, else in total."""
    if found.windows is None:
        return p.indexed, p.lost, p.missing
    window = found.windows.get(p.process, Window(p.process, 0, 0))
    of_it = [i for i in found.incidents if i.process == p.process and i.kind == "missing" and i.resolved_at is None]
    return window.indexed, window.lost, sum(i.count for i in of_it)


def _open(p: Process) -> int:
    """The number of open exchanges: 0 for an ended process, whatever its last statement counted."""
    return 0 if p.standing == "left" else p.open_count


def _state(p: Process) -> str:
    if p.standing == "left":
        return "ended"
    return "silent" if p.standing == "off" else "active"


def _ranges(incident: Incident, most: int = 5) -> str:
    shown = [f"{a}" if a == b else f"{a}-{b}" for a, b in incident.ranges[:most]]
    return ",".join(shown) + (",…" if len(incident.ranges) > most else "")


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _object(found: _Report, code: int) -> dict[str, Any]:
    c = found.completeness
    return {
        "from": _time(found.start),
        "to": _time(found.end),
        "completeFrom": None if c.begins is None else _time(c.begins),
        "completeUntil": None if c.until is None else _time(c.until),
        "complete": code != 1,
        "open": c.open,
        "openIncidents": c.incidents - found.acknowledged,
        "acknowledgedIncidents": found.acknowledged,
        "lost": found.lost,
        "holds": [
            {"partition": h.partition, "reason": h.reason, "since": _time(h.since), "lost": h.is_lost}
            for h in found.holds
        ],
        "waitsFor": [str(p.process) for p in found.holders],
        "processes": [_process(found, p) for p in found.processes],
        "incidents": [_incident(i) for i in found.incidents],
    }


def _process(found: _Report, p: Process) -> dict[str, Any]:
    indexed, lost, missing = _numbers(found, p)
    return {
        "process": str(p.process),
        "service": p.service,
        "host": p.host,
        "started": _time(p.started),
        "state": _state(p),
        "last": p.last,
        "indexed": indexed,
        "lost": lost,
        "missing": missing,
        "beforeBeginning": p.earlier,
        "unverified": p.unverified,
        "excluded": p.excluded,
        "open": _open(p),
        "until": _time(p.low),
    }


def _incident(i: Incident) -> dict[str, Any]:
    return {
        "id": i.id,
        "kind": i.kind,
        "process": str(i.process),
        "from": _time(i.start),
        "to": None if i.end is None else _time(i.end),
        "openedAt": _time(i.opened_at),
        "resolvedAt": None if i.resolved_at is None else _time(i.resolved_at),
        "acknowledged": i.is_acknowledged,
        "count": i.count,
        "ranges": i.ranges,
        "detail": i.detail,
    }


def _instant(flag: str, text: str) -> int:
    """Parses a time into milliseconds since the epoch, rounded up. Raises ConfigError."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError
        since = at - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ConfigError(f"{flag} is {text[:40]!r}; accepted: {_ACCEPTED}") from None
    us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return min(max(-(-us // 1000), 0), TIME_END)


def _age(text: str) -> int:
    """Parses a duration into seconds. Raises ConfigError."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and len(number) < 10 and unit in _UNITS):
        raise ConfigError(f"--max-age is {text[:40]!r}; accepted: a whole number and s, m or h, such as 120s")
    return int(number) * _UNITS[unit]


def _time(ms: int) -> str:
    at = datetime.fromtimestamp(min(ms // 1000, 253_402_300_799), UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
