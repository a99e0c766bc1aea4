"""Reads one page of rows from one day file after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import apsw

from ...errors import StoreError
from ...record.slices import unpack_cuts
from ..base import Row
from ..query import Query
from .blocks import Blocks
from .counting import pass_over
from .selection import Selection, ids_of, select
from .transactions import read_transaction

__all__ = ["PageReader"]


class PageReader:
    """Collects the rows of a page. Call `read` for each day in the query's order until `more` is set or no day is
    left."""

    def __init__(self, query: Query, published: int, before: int | None, limit: int, bytes_max: int, skip: int) -> None:
        self.rows: list[Row] = []
        self.more = False  # another row exists that did not fit
        self._query = query
        self._published = published
        self._before = before
        self._limit = limit
        self._left = bytes_max
        self._skip = skip

    def read(self, connection: apsw.Connection, blocks: Blocks, stopped: Callable[[], bool]) -> None:
        """Appends the rows of one day, in one read transaction. Raises StoreError when `stopped` returns True, which is
        called for each row."""
        with read_transaction(connection):
            self._read(connection, blocks, stopped)

    def _read(self, connection: apsw.Connection, blocks: Blocks, stopped: Callable[[], bool]) -> None:
        query, is_newest_first = self._query, self._query.order == "newest"
        version = int(connection.pragma("user_version") or 0)
        if self._skip and self._before is None:
            self._skip, at = pass_over(connection, query, self._published, self._skip)
            if at is None:
                return
            query = replace(query, end=at) if is_newest_first else replace(query, start=at)
        low, high = ids_of(query, int(connection.execute("SELECT spill FROM state").get))
        if self._before is not None:
            low, high = (low, min(high, self._before)) if is_newest_first else (max(low, self._before + 1), high)
        found = select(connection, query, version, self._published, low, high)
        if found is None or not self._skipped(connection, found):
            return
        data = "r.data, 0" if version == 1 else "r.block, r.place"
        cursor = connection.execute(
            _ordered(f"r.id, r.cuts, {data}", found, is_newest_first) + " LIMIT ? OFFSET ?",
            (*found.values, self._limit - len(self.rows) + 1, self._skip),
        )
        self._skip = 0
        of_day = blocks.of(connection)
        try:
            for number, cuts, where, place in cursor:
                if len(self.rows) >= self._limit:
                    self.more = True
                    return
                if stopped():
                    raise StoreError("the query was stopped because its client disconnected")
                record = blocks.decompress(where) if version == 1 else of_day.record(where, place)
                if len(record) > self._left and self.rows:
                    self.more = True
                    return
                self._left -= len(record)
                self.rows.append(Row(number, record, unpack_cuts(cuts)))
        finally:
            cursor.close(True)  # or its read transaction would stay open and block checkpoints

    def _skipped(self, connection: apsw.Connection, found: Selection) -> bool:
        """Skips the day's rows if it has no more than remain to be skipped. True when it has more: nothing is skipped
        then."""
        if not self._skip:
            return True
        there: int = connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {found.source} WHERE {found.where} LIMIT ?)",
            (*found.values, self._skip + 1),
        ).get
        if there > self._skip:
            return True
        self._skip -= there
        return False


def _ordered(columns: str, found: Selection, is_newest_first: bool) -> str:
    direction = "DESC" if is_newest_first else "ASC"
    return f"SELECT {columns} FROM {found.source} WHERE {found.where} ORDER BY {found.key} {direction}"
