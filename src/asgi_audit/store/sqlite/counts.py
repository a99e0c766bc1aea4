"""Counts of days that one reader remembers.

A first page counts every day of its window, and a client that asks again, or asks for another window with the same
filters, counts the same days again: 30 ms for a week of a million records, though only some of today's are new.

A count is of the rows of one file up to one batch. Rows are only added, by batches with higher numbers, so that count
stays true, and the count up to a later batch is the sum of it and of the rows added since. Main.db notes the last batch
that brought records of a day before the batch is visible: while that is no later one, no row was added. A file is named
by its number, inode and time of change, the index by its id and generation: what is put in place of a file or restored
is counted again.
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

COUNTS_MAX = 4_096  # of one day and query each, some 400 bytes
_WINDOW = ("start", "end", "order")
_FILTERS = tuple(f.name for f in fields(Query) if f.name not in _WINDOW)


class DayFile(NamedTuple):
    """One file of a day, as long as its main part is not written to."""

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
    """The counts that were used last, at most `COUNTS_MAX`. Used by one thread."""

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
        """A count up to an earlier batch is kept no longer."""
        key = file, filters, start, end
        self._found[key] = max(counted, self._found.get(key, counted))
        self._found.move_to_end(key)
        while len(self._found) > COUNTS_MAX:
            self._found.popitem(last=False)


def name_of_filters(query: Query) -> bytes:
    """A digest of all of the query but its window and order: a key of a thousand accounts must not be kept a thousand
    times."""
    values = [getattr(query, name) for name in _FILTERS]
    text = repr([sorted(value) if isinstance(value, frozenset) else value for value in values])
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()
