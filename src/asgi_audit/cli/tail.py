"""Show the newest records; needs no server and no key, only the right to read the home.

  asgi-audit tail                the last ten
  asgi-audit tail -f             and new ones as they arrive
  asgi-audit tail -n 1 --json    whole records as JSON, one a line
  asgi-audit tail --status 5xx   the last ten with such a status

Records are read from the journal, to which each is written some milliseconds after its request. Records that the
indexer has already moved are read from the index.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ..errors import ConfigError, RecordError, StoreError, sentences
from ..record.codec import Decoded, decode
from ..record.line import TIME_END
from ..settings import Settings
from ..store.query import Query, matches
from ..transport.base import Kind, Message
from ..wiring.operations import follow_journal, open_store_reader
from .filters import add_filters, filters_of, query_of
from .flags import add_settings, settings_of
from .terminal import one_line, raise_if_unread

__all__ = ["add_arguments", "line_of", "run"]

_COUNT_MAX = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-n", "--lines", type=int, default=10, metavar="N", help="number of records to show first; default: 10"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="then show new records, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="whole records as JSON, one per line")
    add_filters(parser)
    add_settings(parser, "home", "transport", "store", aliases={"transport": ("--from",)})


def run(arguments: argparse.Namespace) -> int:
    settings = settings_of(arguments)
    if not 0 <= arguments.lines <= _COUNT_MAX:
        raise ConfigError(f"--lines is {arguments.lines}; accepted: a whole number from 0 to {_COUNT_MAX}")
    filters = filters_of(arguments)
    query = query_of(filters, time.time())
    shown = 0

    def show(record: Decoded) -> None:
        nonlocal shown
        shown += 1
        text = record.data.decode() if arguments.json else line_of(record)
        print(text, flush=arguments.follow)

    _tail(settings, arguments.lines, arguments.follow, query, show)
    if shown or not arguments.lines:  # without lines nothing was read
        return 0
    if filters:
        print("asgi-audit: no matching records", file=sys.stderr)
        return 0
    places = " and ".join(str(path) for path in (settings.journal_path, settings.store_path) if path is not None)
    raise StoreError(f"there are no records in {places}", hint="Use another place with --home, or --from and --store.")


def line_of(record: Decoded) -> str:
    """Time (UTC), level, service, message; always one line."""
    at = datetime.datetime.fromtimestamp(record.timestamp / 1000, datetime.UTC)
    said = f"{record.service}  {record.message}"
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in said)
    return f"{at:%Y-%m-%d %H:%M:%S}.{record.timestamp % 1000:03}Z  {record.level:5}  {shown}"


def _tail(settings: Settings, lines: int, follow: bool, query: Query, show: Callable[[Decoded], None]) -> None:
    """Shows the last `lines` matching records in order of time, from journal and index together; then, with `follow`,
    new ones."""
    # Messages of one process are in order: keep the last ones of each process; without filters only these are decoded.
    last: dict[str, deque[Message]] = {}
    is_filtered = query != Query(accounts=None, start=0, end=TIME_END)
    known: set[object] | None = None

    def nothing_waits() -> bool:
        nonlocal known
        if known is None:
            known = set()
            found = [*_indexed(settings, query, lines), *_decoded(m.payload for queue in last.values() for m in queue)]
            unique = {_identity(record): record for record in found}
            for record in sorted(unique.values(), key=lambda r: (r.timestamp, r.sequence))[-lines:] if lines else ():
                known.add(_identity(record))
                show(record)
        raise_if_unread()
        return not follow

    for message in follow_journal(settings, from_beginning=True, stop=nothing_waits):
        if message.kind is not Kind.RECORD:
            continue
        if known is None:
            if is_filtered and not any(matches(query, record) for record in _decoded([message.payload])):
                continue
            last.setdefault(message.partition, deque(maxlen=max(lines, 1))).append(message)
            continue
        for record in _decoded([message.payload]):
            # A record written between reading the journal and reading the index is known already.
            if _identity(record) not in known and matches(query, record):
                show(record)


def _decoded(payloads: Iterable[bytes]) -> Iterator[Decoded]:
    for payload in payloads:
        try:
            yield decode(payload)
        except RecordError as e:
            print(f"asgi-audit: {one_line(str(e))}", file=sys.stderr)


def _identity(record: Decoded) -> object:
    return (record.process, record.sequence) if record.process is not None else record.id


def _indexed(settings: Settings, query: Query, lines: int) -> list[Decoded]:
    """The newest records of the index; [] without an index, or without the packages to read it."""
    directory = settings.store_path
    if not lines or not directory.exists():
        return []
    try:
        reader = open_store_reader(settings)
    except ConfigError as e:
        print(f"asgi-audit: indexed records are not shown: {one_line(sentences(str(e), e.hint))}", file=sys.stderr)
        return []
    try:
        published = reader.snapshot().published
        rows, _ = reader.page(query, published=published, before=None, limit=lines, bytes_max=64 << 20)
        return list(_decoded(row.record for row in rows))
    except StoreError as e:
        print(f"asgi-audit: indexed records are not shown: {one_line(str(e))}", file=sys.stderr)
        return []
    finally:
        reader.close()
