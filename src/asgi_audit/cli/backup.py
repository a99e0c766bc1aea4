"""Copy the index while it is written: a directory that `asgi-audit restore` makes an index of again.

  asgi-audit backup /backups/2026-11-28
  asgi-audit backup /backups/2026-11-28 --with-keys     and control.db: keys, sessions and the secret that seals tokens

The directory must not be there yet. It holds one file for each day, main.db and backup.json with their digests, all of
one moment. Copying the files of a running index by other means is no backup: most of the newest records stand in the
logs beside them. A backup that was interrupted leaves nothing that looks like one.
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
    parser.add_argument("to", metavar="TO", type=Path, help="the directory to make")
    parser.add_argument(
        "--with-keys",
        action="store_true",
        help="copy control.db too; whoever has it can make tokens that the API accepts: keep it secret",
    )
    add_settings(parser, "home", "store", "share_with_group")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    made = open_admin(settings).back_up(arguments.to, control=settings.control_path if arguments.with_keys else None)
    keys = ", keys included" if made.has_keys else ""
    print(f"{made.files:,} files, {size_text(made.bytes)}{keys}, in {arguments.to.absolute()}", file=sys.stderr)
    return 0
