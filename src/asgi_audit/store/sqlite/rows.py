"""Single rows of one day's file, by row id and by record id."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import apsw

from ...errors import StoreError
from ...record.codec import decode
from ...record.slices import unpack_cuts
from ..base import Row
from .blocks import Blocks
from .schema import SLOTS
from .transactions import read_transaction

__all__ = ["rows_of", "streams_of", "time_of_id", "with_id"]


def rows_of(connection: apsw.Connection, blocks: Blocks, ids: Sequence[int]) -> Iterator[Row]:
    """The rows of one day with these ids, which must exist, in this order. Inside the caller's transaction."""
    version = int(connection.pragma("user_version") or 0)
    data = "r.data, 0" if version == 1 else "r.block, r.place"
    # One statement for all: one for each costs twice as much. `json_each` goes through them in their order.
    cursor = connection.execute(
        f"SELECT r.id, r.cuts, {data} FROM json_each(?) j CROSS JOIN record r ON r.id = j.value", (json.dumps(ids),)
    )
    of_day = blocks.of(connection)
    expected = iter(ids)
    try:
        for number, cuts, where, place in cursor:
            if number != next(expected, None):
                raise _removed()
            record = blocks.decompress(where) if version == 1 else of_day.record(where, place)
            yield Row(number, record, unpack_cuts(cuts))
    finally:
        cursor.close(True)  # or its read transaction would stay open and block checkpoints
    if next(expected, None) is not None:
        raise _removed()


def _removed() -> StoreError:
    return StoreError("a row of the index was removed while it was read")


def with_id(
    connection: apsw.Connection,
    accounts: frozenset[str] | None,
    record_id: str,
    at: int | None,
    published: int,
    blocks: Blocks,
) -> Row | None:
    """The row of one day whose record has this id: a record of another producer, or one of our middleware that began at
    `at` (ms; None: not on this day)."""
    with read_transaction(connection):
        sids = streams_of(connection, accounts)
        of = "" if sids is None else " AND sid IN (SELECT value FROM json_each(?))"
        values = () if sids is None else (sids,)
        found: Any = connection.execute(
            f"SELECT id FROM record WHERE foreign_id = ? AND iseq <= ?{of}", (record_id, published, *values)
        ).get
        if found is not None:
            return next(rows_of(connection, blocks, [found]))
        if at is None:
            return None
        spill = int(connection.execute("SELECT spill FROM state").get)
        numbers: Any = connection.execute(
            f"SELECT id FROM record WHERE id >= ? AND id < ? AND timestamp = ? AND iseq <= ?{of}",
            (max(0, at - spill) * SLOTS, (at + 1 + spill) * SLOTS, at, published, *values),
        ).fetchall()
        for row in rows_of(connection, blocks, [number for (number,) in numbers]):
            if decode(row.record).id == record_id:
                return row
    return None


def time_of_id(record_id: str) -> int | None:
    """The time in a UUIDv7 (ms); None for any other id."""
    digits = record_id.replace("-", "")
    if len(record_id) != 36 or len(digits) != 32 or digits[12] != "7":
        return None
    try:
        return int(digits[:12], 16)
    except ValueError:
        return None


def streams_of(connection: apsw.Connection, accounts: frozenset[str] | None) -> str | None:
    """The day's streams of the accounts, as a JSON list; None: all streams."""
    if accounts is None:
        return None
    rows: Any = connection.execute(
        "SELECT sid FROM stream WHERE account IN (SELECT value FROM json_each(?))", (json.dumps(sorted(accounts)),)
    ).fetchall()
    return json.dumps([sid for (sid,) in rows])
