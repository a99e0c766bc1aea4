"""Per-process sums in main.db: of its statements, and of its indexed records."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import apsw

from ...errors import StoreError
from ...record.ids import started_ms
from ...record.statement import Statement, encode_statement
from .day import Brought

__all__ = ["FOREIGN_INDEXED", "count_indexed", "take_statement"]

FOREIGN_INDEXED = "foreign_indexed"
"""Row of `meta`: how many records of foreign producers, which have no process, were ever indexed."""


def take_statement(main: apsw.Connection, s: Statement) -> None:
    """Stores a statement once by (process, number); a repeated one changes nothing. Inside the caller's transaction.
    Raises StoreError when the process is not a UUID."""
    try:
        process = uuid.UUID(s.process).bytes
    except ValueError:
        raise StoreError(f"the process of a statement is {s.process!r}, not a UUID", retriable=False) from None
    main.execute(
        "INSERT OR IGNORE INTO statement VALUES (?, ?, ?, ?, ?)",
        (process, s.number, s.last, s.watermark, encode_statement(s)),
    )
    if not main.changes():
        return
    lost = s.lost_more + sum(r.last - r.first + 1 for r in s.lost)
    by_reason = [(r.reason[:32], r.last - r.first + 1) for r in s.lost]
    by_reason += [("other", s.lost_more)] if s.lost_more else []
    main.executemany(
        "INSERT INTO loss VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count", by_reason
    )
    main.execute(
        "INSERT INTO process (process, service, host, started) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (process, s.service, s.host, s.started),
    )
    main.execute(
        "UPDATE process SET stated_lost = stated_lost + ?1, lost = lost + ?1, last = max(last, ?2), watermark = "
        "max(watermark, ?3), proven = min(proven, ?4) WHERE process = ?5",
        (lost, s.last, s.watermark, int(s.proven), process),
    )
    # Only the latest statement is current: it revokes an earlier provisional `closed`.
    main.execute(
        "UPDATE process SET number = ?, service = ?, host = ?, started = ?, excluded = ?, stated_open = ?, closed = ? "
        "WHERE process = ? AND number < ?",
        (s.number, s.service, s.host, s.started, s.excluded, s.open_count, s.closed, process, s.number),
    )


def count_indexed(main: apsw.Connection, brought: Sequence[Brought]) -> None:
    """Inside the caller's transaction."""
    records: dict[bytes, tuple[str, int]] = {}
    for b in brought:
        if b.process is not None:
            service, number = records.get(b.process, (b.service, 0))
            records[b.process] = (service, number + b.records)
    main.executemany(
        "INSERT INTO process (process, service, started, indexed) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
        "indexed = indexed + excluded.indexed, service = iif(service = '', excluded.service, service), started = "
        "iif(started = 0, excluded.started, started)",
        # A statement will bring a more exact start time.
        [(process, service, started_ms(process) or 0, number) for process, (service, number) in records.items()],
    )
    if foreign := sum(b.records for b in brought if b.process is None):
        main.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
            (FOREIGN_INDEXED, foreign),
        )
