"""Query who called what, in the index on this machine or through an API.

  asgi-audit ask --status 5xx --since 1h                   the newest records as a table
  asgi-audit ask --path '/api/*' --principal ada --count   how many there are
  asgi-audit ask --text '"payment refused"' --json         whole records, one a line
  asgi-audit ask --service shop --follow                   also new ones, until Ctrl-C
  asgi-audit ask --url https://audit.example.com --key …   another machine's index, through its API

The dialects of the API, as in their documents:

  asgi-audit ask usage SERVICE INSTANCE --since 7d         records of one service instance
  asgi-audit ask trail --since 7d                          records of all accounts of the key
  asgi-audit ask logs --level ERROR --text login           log entries
  asgi-audit ask export --since 30d --to records.gz        a download, checked against its manifest
  asgi-audit ask tr50 usage.api.list last=24h limit=10     a command of POST /api

Every record once, in the order in which it was indexed, one JSON object a line, for a SIEM:

  asgi-audit ask feed --cursor siem.cursor --follow        continues where the last run ended

Without --url it reads the index of this machine: this needs no server and no key, only permission to read its files.
`export` and `tr50` need an API. ASGI_AUDIT_URL and ASGI_AUDIT_KEY replace --url and --key.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from ...errors import ConfigError, StoreError
from ...wiring.environment import extra
from ..filters import add_filters, filters_of
from ..flags import add_settings, settings_of

if TYPE_CHECKING:
    from ...client import AsyncClient

__all__ = ["add_arguments", "run"]

WHAT = ("records", "usage", "trail", "logs", "feed", "export", "tr50")

_ROWS = 50
_ROWS_MAX = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", default="records", choices=WHAT, metavar="WHAT", help=", ".join(WHAT))
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="for usage: service and instance; for tr50: the command"
    )
    add_filters(parser)
    shown = parser.add_argument_group("what is shown")
    forms = shown.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="one JSON object per line")
    forms.add_argument("--csv", action="store_true", help="a table for spreadsheets; records only")
    forms.add_argument("--count", action="store_true", help="print only the number of records; records only")
    forms.add_argument("--curl", action="store_true", help="print the request as a curl command")
    shown.add_argument("-n", "--lines", type=int, metavar="N", help=f"at most; default: {_ROWS}, of feed all; 0: all")
    shown.add_argument("--oldest", action="store_true", help="oldest first; records only")
    shown.add_argument("--fields", metavar="NAMES", help="dotted names, separated by commas, for --json and --csv")
    shown.add_argument(
        "-f", "--follow", action="store_true", help="continue with new records, until Ctrl-C; records and feed"
    )
    shown.add_argument(
        "--cursor",
        metavar="FILE",
        help="for feed: continue from the cursor in this file, and store the new one there after each page",
    )
    shown.add_argument(
        "--after", metavar="CURSOR", help="for feed: continue after this cursor; --cursor FILE takes precedence"
    )
    shown.add_argument("--to", metavar="FILE", help="for export: the file to write; default: ID.ndjson.gz")
    shown.add_argument("--group", metavar="NAME", help="for export: the region group; default: classic (all regions)")
    where = parser.add_argument_group("where")
    where.add_argument("--url", metavar="URL", help="query this API instead of the index here [ASGI_AUDIT_URL]")
    where.add_argument(
        "--key", metavar="KEY", help="key for the API; visible to other users of this machine [ASGI_AUDIT_KEY]"
    )
    add_settings(parser, "home", "store")


def run(arguments: argparse.Namespace) -> int:
    with extra():
        import httpx  # noqa: F401
        import rich.console  # noqa: F401
    if arguments.lines is None:
        arguments.lines = 0 if arguments.what == "feed" else _ROWS
    if not 0 <= arguments.lines <= _ROWS_MAX:
        raise ConfigError(f"--lines is {arguments.lines}; accepted: a whole number from 0 to {_ROWS_MAX}")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    filters = filters_of(arguments)

    from .asking import Asking

    async def ask() -> int:
        async with _client(arguments) as client:
            return await Asking(client, arguments, filters).run()

    return asyncio.run(ask())


@contextlib.asynccontextmanager
async def _client(arguments: argparse.Namespace) -> AsyncIterator[AsyncClient]:
    from ...client import AsyncClient
    from ...client.sending import URL_VARIABLE

    url = arguments.url or os.environ.get(URL_VARIABLE)
    if url or arguments.curl:
        async with AsyncClient(url, arguments.key) as client:
            yield client
        return
    if arguments.key or arguments.what in ("export", "tr50"):
        what = "--key" if arguments.key else f"ask {arguments.what}"
        raise ConfigError(f"{what} requires an API", hint="Give its address with --url, such as http://localhost:8400.")
    import httpx

    from ...wiring.local import local_api

    settings = settings_of(arguments)
    if not settings.store_path.exists():
        raise StoreError(
            f"there is no index at {settings.absolute().store_path}",
            hint="Use another index with --home or --store, or an API with --url. `asgi-audit serve` or `index` makes "
            "an index; `asgi-audit tail` shows what waits for it.",
        )
    local = local_api(settings)
    try:
        transport = httpx.ASGITransport(app=local.app)
        async with AsyncClient("http://localhost", None, transport=transport) as client:
            yield client
    finally:
        local.close()
