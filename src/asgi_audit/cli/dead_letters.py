"""Show messages that the index could not read as records, and try to index them again.

  asgi-audit dead-letters list                 newest first: number, time, source, position, bytes, reason
  asgi-audit dead-letters show 17              its bytes as received
  asgi-audit dead-letters replay 17 18         index them again, after an upgrade that can read them
  asgi-audit dead-letters replay --all

A running indexer does the replay within a second or two; without an indexer this command does it. A dead letter that
becomes a record is removed; any other stays, with the reason of the last attempt. Only the first 64 KiB of a dead
letter are kept, so a larger one cannot be replayed. Exit code 1 when a replay failed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from ..errors import ConfigError, StoreError
from ..store.admin import Admin, DeadLetterFacts
from ..wiring.operations import open_admin
from .flags import add_settings, settings_of
from .terminal import one_line

__all__ = ["add_arguments", "run"]

_WAIT_SECONDS = 60.0
_PAGE = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="list|show|replay", required=True)
    listing = actions.add_parser("list", prog="asgi-audit dead-letters list", help="newest first", allow_abbrev=False)
    listing.add_argument("-n", type=int, default=20, metavar="N", help="show at most N (default: %(default)s)")
    listing.add_argument("--json", action="store_true", help="one JSON object per line")
    show = actions.add_parser(
        "show", prog="asgi-audit dead-letters show", help="print the bytes of one message", allow_abbrev=False
    )
    show.add_argument("number", type=int)
    replay = actions.add_parser(
        "replay", prog="asgi-audit dead-letters replay", help="try to index them again", allow_abbrev=False
    )
    replay.add_argument("number", type=int, nargs="*")
    replay.add_argument("--all", action="store_true", help="all that are stored completely")
    for sub in (listing, show, replay):
        add_settings(sub, "home", "store", "share_with_group")


def run(arguments: argparse.Namespace) -> int:
    admin = open_admin(settings_of(arguments))
    if arguments.action == "list":
        return _list(admin, arguments.n, is_json=arguments.json)
    if arguments.action == "show":
        return _show(admin, arguments.number)
    if arguments.all == bool(arguments.number):
        raise ConfigError("replay: give numbers, or --all")
    numbers = [letter.id for letter in _every(admin) if not letter.is_cut] if arguments.all else arguments.number
    return _replay(admin, numbers)


def _list(admin: Admin, most: int, *, is_json: bool) -> int:
    for letter in admin.dead_letters(limit=max(0, most)):
        at = datetime.fromtimestamp(letter.at / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        if is_json:
            print(json.dumps({**letter._asdict(), "at": at, "cut": letter.is_cut}, ensure_ascii=False))
            continue
        where = f"{letter.source}/{letter.partition}" + (f"@{letter.offset}" if letter.offset >= 0 else "")
        size = f"{letter.bytes:,} bytes" + (f", {letter.kept:,} kept" if letter.is_cut else "")
        print(one_line(f"{letter.id} {at} {where}, {size}: {letter.reason}"))
    return 0


def _show(admin: Admin, number: int) -> int:
    found = admin.dead_letter(number)
    if found is None:
        raise ConfigError(f"there is no dead letter {number}", hint="`asgi-audit dead-letters list` shows the numbers.")
    letter, payload = found
    print(payload.decode("utf-8", "backslashreplace"))
    if letter.is_cut:
        print(f"asgi-audit: these are the first {letter.kept:,} of {letter.bytes:,} bytes", file=sys.stderr)
    return 0


def _replay(admin: Admin, numbers: list[int]) -> int:
    left = 0
    for number in numbers:
        if admin.dead_letter(number) is None:
            raise ConfigError(f"there is no dead letter {number}", hint="`asgi-audit dead-letters list` shows them.")
        if not admin.replay(number, wait_seconds=_WAIT_SECONDS):
            raise StoreError(
                f"the indexer did not try dead letter {number} within {_WAIT_SECONDS:g} s",
                hint="The indexer has the request and will do it as soon as it can; its log shows why it waits.",
            )
        found = admin.dead_letter(number)
        left += found is not None
        print(one_line(f"{number}: {'indexed' if found is None else found[0].reason}"))
    return int(left > 0)


def _every(admin: Admin) -> Iterator[DeadLetterFacts]:
    before: int | None = None
    while page := admin.dead_letters(limit=_PAGE, before=before):
        yield from page
        before = page[-1].id
