"""Restore an index from a backup.

  asgi-audit restore /backups/2026-11-28                    to the place of --store, or into the home
  asgi-audit restore /backups/2026-11-28 --with-keys        also control.db, into the home

First it compares every byte with the backup's digests. That place must hold no index: move an existing one away, and
keep it until the restored one works. The restored index keeps its id, so the home and the journal accept it. Earlier
tokens and cursors are refused: start the queries again. If the index reads from Kafka, the next `index` or `serve`
continues at the offsets of the backup and catches up. If it reads from a journal, records indexed after the backup are
lost: an incident covers the time from the backup's T to now.
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
    parser.add_argument("backup", metavar="FROM", type=Path, help="a directory created by `asgi-audit backup`")
    parser.add_argument("--with-keys", action="store_true", help="also restore control.db of the backup")
    add_settings(parser, "home", "store", "share_with_group")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    control = settings.control_path if arguments.with_keys else None
    made = open_admin(settings).restore(arguments.backup, control=control)
    at = datetime.fromtimestamp(made.made_at / 1000, UTC)
    where = settings.absolute().store_path
    print(f"{made.files:,} files, {size_text(made.bytes)}, of {at:%Y-%m-%d %H:%M:%S}Z, in {where}", file=sys.stderr)
    if made.has_journal:
        print(
            "records taken from the journal after the backup are missing; an incident covers them: asgi-audit "
            "completeness",
            file=sys.stderr,
        )
    return 0
