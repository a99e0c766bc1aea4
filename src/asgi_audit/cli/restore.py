"""Make an index of a backup again.

  asgi-audit restore /backups/2026-11-28                    the index goes where --store, or the home, says
  asgi-audit restore /backups/2026-11-28 --with-keys        and control.db into the home

Every byte is compared with the backup's digests first. There must be no index at that place: move it away before, and
keep it until the restored one serves. The restored one has the same id, so the home and the journal take it for the
one they know. Tokens and cursors of before are refused: start the queries again. Where the index takes from Kafka, the
next `index` or `serve` goes on at the offsets of the backup and catches up. Where it takes from a journal, what was
indexed after the backup is gone: an incident from the backup's T to now says so.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from ..wiring.operations import open_admin
from .flags import add_settings, settings_of
from .purge import size_text

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backup", metavar="FROM", type=Path, help="a directory that `asgi-audit backup` made")
    parser.add_argument("--with-keys", action="store_true", help="restore control.db of the backup, too")
    add_settings(parser, "home", "store", "share_with_group")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    control = settings.control_path if arguments.with_keys else None
    made = open_admin(settings).restore(arguments.backup, control=control)
    at = datetime.fromtimestamp(made.made_at / 1000, UTC)
    where = settings.absolute().store_path
    print(f"{made.files:,} files, {size_text(made.bytes)}, of {at:%Y-%m-%d %H:%M:%S}Z, in {where}", file=sys.stderr)
    if made.has_journal:
        print("an incident covers what was taken from the journal since: asgi-audit completeness", file=sys.stderr)
    return 0
