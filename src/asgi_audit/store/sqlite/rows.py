"""Single rows of one day's file, by row id and by record id."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import apsw

from ...errors import StoreError
from ...record.codec import decode
from ...record.slices import unpack_cuts
from ..base import Row
from .blocks import Blocks
from .schema import SLOTS
from .transactions import read_transaction

__all__ = ["record_of", "streams_of", "time_of_id", "with_id"]


def record_of(connection: apsw.Connection, blocks: Blocks) -> Callable[[int], Row]:
    """Reads rows of one day by their ids, which must exist. Inside the caller's transaction."""
    if int(connection.pragma("user_version") or 0) == 1:

        def read_1(number: int) -> Row:
            found: Any = connection.execute("SELECT cuts, data FROM record WHERE id = ?", (number,)).get
            if found is None:
                raise StoreError("a row of the index was removed while it was read")
            cuts, data = found
            return Row(number, blocks.decompress(data), unpack_cuts(cuts))

        return read_1
    of_day = blocks.of(connection)

    def read(number: int) -> Row:
        found: Any = connection.execute("SELECT cuts, block, place FROM record WHERE id = ?", (number,)).get
        if found is None:
            raise StoreError("a row of the index was removed while it was read")
        cuts, block, place = found
        return Row(number, of_day.record(block, place), unpack_cuts(cuts))

    return read


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
        read = record_of(connection, blocks)
        found: Any = connection.execute(
            f"SELECT id FROM record WHERE foreign_id = ? AND iseq <= ?{of}", (record_id, published, *values)
        ).get
        if found is not None:
            return read(found)
        if at is None:
            return None
        spill = int(connection.execute("SELECT spill FROM state").get)
        numbers: Any = connection.execute(
            f"SELECT id FROM record WHERE id >= ? AND id < ? AND timestamp = ? AND iseq <= ?{of}",
            (max(0, at - spill) * SLOTS, (at + 1 + spill) * SLOTS, at, published, *values),
        ).fetchall()
        for (number,) in numbers:
            row = read(number)
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
