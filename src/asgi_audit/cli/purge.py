"""Permanently remove the days before a date from the index.

  asgi-audit purge --before 2026-10-01 --dry-run      shows which days would be removed
  asgi-audit purge --before 2026-10-01                removes them; days are UTC

It may run at any time. A running indexer does the purge within a second; without an indexer this command does it.
Records of these days that arrive later are counted as expired and not indexed. `--retention-days` of `index` and
`serve` purges automatically.
"""

from __future__ import annotations

import argparse
import datetime
import sys

from ..errors import ConfigError, StoreError
from ..wiring.operations import open_admin
from .flags import add_settings, settings_of

__all__ = ["add_arguments", "run", "size_text"]

_WAIT_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--before", required=True, metavar="DATE", help="the first day to keep, such as 2026-10-01 (UTC)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    add_settings(parser, "home", "store", "share_with_group")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    before = _day(arguments.before)
    admin = open_admin(settings)
    days = admin.purge_preview(before)
    if arguments.dry_run:
        for day in days:
            print(f"{day.day}  {day.records:>12,} records  {size_text(day.bytes):>10}")
    elif not admin.purge(before, wait_seconds=_WAIT_SECONDS):
        raise StoreError(
            f"the indexer did not purge {settings.store_url} within {_WAIT_SECONDS:g} s",
            hint="The indexer has the request and will do it as soon as it can; its log shows why it waits.",
        )
    records, size = sum(d.records for d in days), sum(d.bytes for d in days)
    verb = "would be removed" if arguments.dry_run else "removed"
    print(f"{len(days):,} days, {records:,} records, {size_text(size)} {verb}", file=sys.stderr)
    return 0


def _day(text: str) -> int:
    """Parses a day into its start (ms). Raises ConfigError."""
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--before is {text[:40]!r}; accepted: a date such as 2026-10-01") from None
    today = datetime.datetime.now(datetime.UTC).date()
    if day > today:
        raise ConfigError(f"--before is {day}; accepted: a date up to today, {today} (UTC); the records of today stay")
    return int(datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp()) * 1000


def size_text(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
