"""Back up the index while it is in use; `asgi-audit restore` restores the backup.

  asgi-audit backup /backups/2026-11-28
  asgi-audit backup /backups/2026-11-28 --with-keys     also control.db: keys, sessions, signing secret

The directory must not exist yet. It gets one file for each day, main.db, and backup.json with digests, all of the same
moment. Do not copy the files of a running index by other means: most of the newest records are in log files beside
them. An interrupted backup leaves nothing that could be mistaken for one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..wiring.operations import open_admin
from .flags import add_settings, settings_of
from .purge import size_text

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("to", metavar="TO", type=Path, help="the directory to create")
    parser.add_argument(
        "--with-keys",
        action="store_true",
        help="also copy control.db; keep it secret: with it, anyone can create tokens that the API accepts",
    )
    add_settings(parser, "home", "store", "share_with_group")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    made = open_admin(settings).back_up(arguments.to, control=settings.control_path if arguments.with_keys else None)
    keys = ", keys included" if made.has_keys else ""
    print(f"{made.files:,} files, {size_text(made.bytes)}{keys}, in {arguments.to.absolute()}", file=sys.stderr)
    return 0
