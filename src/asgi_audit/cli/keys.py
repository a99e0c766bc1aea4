"""Create, list and revoke the keys that queries need.

asgi-audit keys create --role reader --account acme      prints the key once: only its hash is stored
asgi-audit keys create --role auditor --account '*'      may see every account
asgi-audit keys list
asgi-audit keys revoke ID
"""

from __future__ import annotations

import argparse
import datetime
import sys
from typing import Any

from ..errors import ConfigError
from ..wiring.operations import open_control
from .flags import add_settings, settings_of

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="create|list|revoke", required=True)
    create = actions.add_parser(
        "create", prog="asgi-audit keys create", help="create a key and print it once", allow_abbrev=False
    )
    create.add_argument(
        "--role", choices=("reader", "auditor"), required=True, help="reader: usage and trail; auditor: all dialects"
    )
    create.add_argument(
        "--account", action="append", required=True, metavar="NAME", help="can be repeated; '*' means all accounts"
    )
    listing = actions.add_parser(
        "list", prog="asgi-audit keys list", help="show all keys without their secrets", allow_abbrev=False
    )
    revoke = actions.add_parser(
        "revoke", prog="asgi-audit keys revoke", help="revoke a key, effective at once", allow_abbrev=False
    )
    revoke.add_argument("id", help="the id shown by `keys list`")
    for sub in (create, listing, revoke):
        add_settings(sub, "home", "share_with_group")


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if arguments.action != "create" and not settings.control_path.exists():
        raise ConfigError(
            f"there are no keys in {settings.control_path}", hint="make one with `asgi-audit keys create`"
        )
    control = open_control(settings)
    try:
        if arguments.action == "create":
            key_id, clear = control.create_key(arguments.role, arguments.account)
            print(clear)
            shown = "every account" if arguments.account == ["*"] else "account " + ", ".join(arguments.account)
            print(f"key {key_id}: {arguments.role}, {shown}; shown only once", file=sys.stderr)
        elif arguments.action == "list":
            _show(control.list_keys())
        else:
            control.revoke(arguments.id)
            print(f"revoked {arguments.id}", file=sys.stderr)
    finally:
        control.close()
    return 0


def _show(keys: list[Any]) -> None:
    rows = [("ID", "ROLE", "ACCOUNTS", "CREATED", "LAST USED", "STATE")]
    for key in keys:
        accounts = "*" if key.accounts is None else ",".join(sorted(key.accounts))
        state = "revoked" if key.revoked_at else "active"
        rows.append((key.id, key.role, accounts, _time(key.created_at), _time(key.last_used_at), state))
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _time(at: datetime.datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%SZ") if at is not None else "-"
