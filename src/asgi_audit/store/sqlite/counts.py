"""Remembers counts of days, for one reader.

A first page counts every day of its window. A client that repeats the query, or uses another window with the same
filters, would count the same days again: 30 ms for a week of a million records, though only some rows of today are new.

A remembered count covers the rows of one file up to one batch. Rows are only added, by batches with higher numbers. So
the count stays right, and the count up to a later batch is the old count plus the rows added since. Before a batch
becomes visible, main.db stores for each of its days that this batch is the last one with rows of the day. If that last
batch is already covered, no row was added and nothing is counted. The key of a count has the file's number, inode and
change time, and the index's id and generation, so a replaced file or a restored index is counted again.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import fields
from hashlib import blake2b
from typing import NamedTuple

from ..base import IndexVersion
from ..query import Query

__all__ = ["COUNTS_MAX", "Counted", "Counts", "DayFile", "name_of_filters"]

COUNTS_MAX = 4_096  # one per day and query, about 400 bytes each
_WINDOW = ("start", "end", "order")
_FILTERS = tuple(f.name for f in fields(Query) if f.name not in _WINDOW)


class DayFile(NamedTuple):
    """Identifies one file of a day, until its main part is written to."""

    of_index: IndexVersion
    day: str
    number: int
    inode: int
    device: int
    changed_ns: int

    @classmethod
    def of(cls, index: IndexVersion, day: str, number: int, there: os.stat_result) -> DayFile:
        return cls(index, day, number, there.st_ino, there.st_dev, there.st_ctime_ns)


class Counted(NamedTuple):
    """`rows`: number of rows of batches up to `up_to`."""

    up_to: int
    rows: int


_Key = tuple[DayFile, bytes, int, int]


class Counts:
    """The most recently used counts, at most `COUNTS_MAX`. Used by one thread."""

    def __init__(self) -> None:
        self._found: OrderedDict[_Key, Counted] = OrderedDict()

    def get(self, file: DayFile, filters: bytes, start: int, end: int) -> Counted | None:
        """`filters`: see `name_of_filters`. `start`, `end`: the part of the window that lies in the day, ms."""
        key = file, filters, start, end
        found = self._found.get(key)
        if found is not None:
            self._found.move_to_end(key)
        return found

    def put(self, file: DayFile, filters: bytes, start: int, end: int, counted: Counted) -> None:
        """Replaces a count up to an earlier batch."""
        key = file, filters, start, end
        self._found[key] = max(counted, self._found.get(key, counted))
        self._found.move_to_end(key)
        while len(self._found) > COUNTS_MAX:
            self._found.popitem(last=False)


def name_of_filters(query: Query) -> bytes:
    """A digest of the query without its window and order. A digest, because a query may have thousands of
    accounts."""
    values = [getattr(query, name) for name in _FILTERS]
    text = repr([sorted(value) if isinstance(value, frozenset) else value for value in values])
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()
