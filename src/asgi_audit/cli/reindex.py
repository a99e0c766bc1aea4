"""Rebuild days indexed by an earlier version, so that every filter finds their records.

  asgi-audit reindex                      all days that an earlier version of asgi-audit indexed, newest first
  asgi-audit reindex --day 2026-11-22     this day, whatever its version; may be given several times
  asgi-audit reindex --list               only lists the days, their versions and records
  asgi-audit reindex --discard            removes the unfinished copies of an interrupted reindex

It may run at any time: days stay readable and writable, and each is replaced when its copy is complete. Records, their
order and cursors stay the same. It needs as much free disk space as the largest day takes. When the disk becomes nearly
full, it removes the copy, and the day stays as it was. After an interruption the next run continues.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time

from ..errors import ConfigError, StoreError
from ..wiring.operations import open_admin
from .flags import add_settings, settings_of

__all__ = ["add_arguments", "run"]

_WAIT_SECONDS = 60.0
_SAY_SECONDS = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--day", action="append", default=[], metavar="DATE", help="a day such as 2026-11-22 (UTC)")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--list", action="store_true", help="only show the days")
    only.add_argument("--discard", action="store_true", help="only remove the copies of an interrupted reindex")
    add_settings(parser, "home", "store", "share_with_group")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    wanted = [_day(text) for text in arguments.day]
    admin = open_admin(settings)
    days = {found.day: found for found in admin.days()}
    if missing := [day for day in wanted if day not in days]:
        raise ConfigError(f"--day is {missing[0]}; accepted: a day of the index, see asgi-audit reindex --list")
    if arguments.list:
        for found in days.values():
            note = "  needs reindex" if found.is_old else ""
            print(f"{found.day}  version {found.version}  {found.records:>12,} records{note}")
        return 0
    with admin.reindexing(wait_seconds=_WAIT_SECONDS) as reindexing:
        if arguments.discard:
            print(f"{reindexing.discard()} unfinished copies removed", file=sys.stderr)
            return 0
        chosen = wanted or [found.day for found in days.values() if found.is_old]
        for day in chosen:
            if not reindexing.renew(day, _Progress(day)):
                raise StoreError(
                    f"the day {day} is rebuilt, but the indexer did not take it over within {_WAIT_SECONDS:g} s",
                    hint="The indexer has the request and will do it as soon as it can; its log shows why it waits.",
                )
        records = sum(days[day].records for day in chosen)
        print(f"{len(chosen):,} days, {records:,} records rebuilt", file=sys.stderr)
    return 0


class _Progress:
    """Prints the progress, one line per second."""

    def __init__(self, day: str) -> None:
        self._day = day
        self._begun = self._said = time.monotonic()
        self._first: int | None = None

    def __call__(self, copied: int, records: int) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = copied
        elif copied < records and now < self._said + _SAY_SECONDS:
            return
        self._said = now
        rate = (copied - self._first) / max(now - self._begun, 0.001)
        print(f"{self._day}  {copied:,} of {records:,} records, {rate:,.0f} a second", file=sys.stderr, flush=True)


def _day(text: str) -> str:
    """Checks a day. Raises ConfigError."""
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise ConfigError(f"--day is {text[:40]!r}; accepted: a date such as 2026-11-22") from None
