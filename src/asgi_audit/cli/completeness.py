"""Until when the index is complete, and what is missing.

  asgi-audit completeness                                                  everything that is claimed
  asgi-audit completeness --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z
  asgi-audit completeness --to 2026-11-22T05:00:00Z --json
  asgi-audit completeness --acknowledge 019b76da-a9af-7aba-97d2-e2a99c6249bd

Shows the processes that served in the window (range: sequences covered by their statements; lost: stated as lost;
missing: neither there nor stated; open: at its last statement), the incidents that overlap it, and T: every
exchange that began before it is accounted for. Exit code 0: the window is complete, T has reached its end and no
incident is open. Exit code 1: it is not.

A process that fell silent and did not say goodbye is an incident without an end until its journal turns up. When it
never will (its disk is gone), --acknowledge says so: the incident then ends where the process was written off, and
what came after is complete again. Should its journal turn up after all, it is taken in as ever.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ..errors import ConfigError, StoreError
from ..settings import Settings
from ..store.base import Incident, Process
from ..wiring.operations import open_admin, open_store_reader
from .flags import add_settings, settings_of

__all__ = ["add_arguments", "run"]

_INCIDENTS_MAX = 1000
_MS_MAX = 1 << 43
_WAIT_SECONDS = 60.0
_ACCEPTED = "a date-time with offset such as 2026-11-22T05:00:00Z"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="start", metavar="TIME", help=f"{_ACCEPTED}, inclusive. Default: the beginning")
    parser.add_argument("--to", dest="end", metavar="TIME", help="exclusive. Default: T")
    parser.add_argument("--json", action="store_true", help="one object instead of tables")
    parser.add_argument("--acknowledge", metavar="PROCESS", help="a silent process is gone for good; shows nothing")
    add_settings(parser, "home", "store", "share_with_group")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if arguments.acknowledge is not None:
        return _acknowledge(settings, arguments.acknowledge)
    start = 0 if arguments.start is None else _instant("--from", arguments.start)
    asked = None if arguments.end is None else _instant("--to", arguments.end)
    if asked is not None and start > asked:
        raise ConfigError("--from is later than --to")
    reader = open_store_reader(settings)
    try:
        until = reader.completeness(0, 0).until
        end = asked if asked is not None else max(until or 0, start)
        completeness = reader.completeness(start, end)
        incidents = reader.incidents(start, end, limit=_INCIDENTS_MAX)
        processes = [p for p in reader.processes() if _served(p, start, end)]
    finally:
        reader.close()
    until = completeness.until
    is_complete = until is not None and until >= end and not completeness.incidents
    if arguments.json:
        print(
            json.dumps(
                {
                    "from": _time(start),
                    "to": _time(end),
                    "completeUntil": None if until is None else _time(until),
                    "complete": is_complete,
                    "open": completeness.open,
                    "openIncidents": completeness.incidents,
                    "processes": [_process(p) for p in processes],
                    "incidents": [_incident(i) for i in incidents],
                },
                indent=2,
            )
        )
        return 0 if is_complete else 1
    _show(processes, [i for i in incidents if i.resolved_at is None])
    resolved = sum(i.resolved_at is not None for i in incidents)
    print(f"open exchanges {completeness.open:,}, incidents {completeness.incidents:,} open, {resolved:,} resolved")
    print(f"complete until {'-' if until is None else _time(until)}")
    if not is_complete:
        print(f"asgi-audit: not complete: {_why(until, end, completeness.incidents)}", file=sys.stderr)
    return 0 if is_complete else 1


def _acknowledge(settings: Settings, text: str) -> int:
    reader = open_store_reader(settings)
    try:
        incidents = reader.incidents(0, _MS_MAX, limit=_MS_MAX)
    finally:
        reader.close()
    silent = {i.process for i in incidents if i.kind == "silent" and i.end is None and i.resolved_at is None}
    try:
        process = uuid.UUID(text)
        if str(process) not in silent:
            raise ValueError
    except ValueError:
        shown = ", ".join(sorted(silent)[:10]) or "there is none"
        raise ConfigError(f"--acknowledge is {text[:40]!r}; accepted: a process that is silent: {shown}") from None
    if not open_admin(settings).acknowledge(process, wait_seconds=_WAIT_SECONDS):
        raise StoreError(
            f"the indexer has not yet written down what was acknowledged after {_WAIT_SECONDS:g} s",
            hint="It was asked, and will as soon as it can; its log says what it waits for.",
        )
    print(f"acknowledged: process {process} is gone for good", file=sys.stderr)
    return 0


def _served(p: Process, start: int, end: int) -> bool:
    """Whether it can have served in the window: one that left did so until its last word."""
    return p.started < end and (p.standing != "left" or p.low >= start)


def _why(until: int | None, end: int, incidents: int) -> str:
    if until is None:
        return "no process has stated anything yet"
    reasons = []
    if until < end:
        reasons.append(f"T has not reached {_time(end)}")
    if incidents:
        reasons.append(f"{incidents:,} open incident{'s' * (incidents != 1)}")
    return ", ".join(reasons)


def _show(processes: Sequence[Process], incidents: Sequence[Incident]) -> None:
    if processes:
        rows = [("PROCESS", "SERVICE", "STATE", "RANGE", "INDEXED", "LOST", "MISSING", "OPEN", "UNTIL")]
        for p in processes:
            span = f"1-{p.last}" if p.last else "-"
            numbers = (f"{p.indexed:,}", f"{p.lost:,}", f"{p.missing:,}", f"{p.open_count:,}")
            rows.append((p.process, p.service, _state(p), span, *numbers, _time(p.low)))
        _table(rows)
        print()
    if incidents:
        rows_of = [("INCIDENT", "PROCESS", "FROM", "TO", "COUNT", "WHAT")]
        for i in incidents:
            end = "-" if i.end is None else _time(i.end)
            what = f"{_ranges(i)}: {i.detail}" if i.ranges else i.detail
            rows_of.append((i.kind, i.process, _time(i.start), end, f"{i.count:,}" if i.count else "-", what))
        _table(rows_of)
        print()


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


def _process(p: Process) -> dict[str, Any]:
    return {
        "process": p.process,
        "service": p.service,
        "host": p.host,
        "started": _time(p.started),
        "state": _state(p),
        "last": p.last,
        "indexed": p.indexed,
        "lost": p.lost,
        "missing": p.missing,
        "excluded": p.excluded,
        "open": p.open_count,
        "until": _time(p.low),
    }


def _incident(i: Incident) -> dict[str, Any]:
    return {
        "id": i.id,
        "kind": i.kind,
        "process": i.process,
        "from": _time(i.start),
        "to": None if i.end is None else _time(i.end),
        "openedAt": _time(i.opened_at),
        "resolvedAt": None if i.resolved_at is None else _time(i.resolved_at),
        "count": i.count,
        "ranges": i.ranges,
        "detail": i.detail,
    }


def _instant(flag: str, text: str) -> int:
    """Milliseconds since the epoch, rounded up. Raises ConfigError."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError
        since = at - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ConfigError(f"{flag} is {text[:40]!r}; accepted: {_ACCEPTED}") from None
    us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return min(max(-(-us // 1000), 0), _MS_MAX)


def _time(ms: int) -> str:
    at = datetime.fromtimestamp(min(ms // 1000, 253_402_300_799), UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
