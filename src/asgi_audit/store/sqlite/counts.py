"""Counts of past days that one reader remembers.

A first page counts every day of its window, and a client that asks again, or asks for another window with the same
filters, counts the same days again: 20 ms for a week of a million records, though only today's have changed.

A count is of one file in one state. The state is named by the last batch that brought records of the day, as main.db
notes it before the batch is visible: while that batch and all before it are visible in a snapshot, every published
record of the day is, and the day has the same rows in all such snapshots. The file is named by its number, inode and
time of change, the index by its id and generation: what is put in place of a file or restored is counted again.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import fields
from hashlib import blake2b
from typing import NamedTuple

from ..base import IndexVersion
from ..query import Query

__all__ = ["COUNTS_MAX", "Counts", "State", "name_of_filters"]

COUNTS_MAX = 4_096  # of one day and query each, some 400 bytes
_WINDOW = ("start", "end", "order")
_FILTERS = tuple(f.name for f in fields(Query) if f.name not in _WINDOW)


class State(NamedTuple):
    """One state of one day file. `highest`: the last batch that brought records of the day."""

    of_index: IndexVersion
    day: str
    number: int
    highest: int
    inode: int
    device: int
    changed_ns: int

    @classmethod
    def of(cls, index: IndexVersion, day: str, number: int, highest: int, there: os.stat_result) -> State:
        return cls(index, day, number, highest, there.st_ino, there.st_dev, there.st_ctime_ns)


_Key = tuple[State, bytes, int, int]


class Counts:
    """The counts that were used last, at most `COUNTS_MAX`. Used by one thread."""

    def __init__(self) -> None:
        self._found: OrderedDict[_Key, int] = OrderedDict()

    def get(self, state: State, filters: bytes, start: int, end: int) -> int | None:
        """`filters`: see `name_of_filters`. `start`, `end`: the part of the window that lies in the day, ms."""
        key = state, filters, start, end
        found = self._found.get(key)
        if found is not None:
            self._found.move_to_end(key)
        return found

    def put(self, state: State, filters: bytes, start: int, end: int, count: int) -> None:
        while len(self._found) >= COUNTS_MAX:
            self._found.popitem(last=False)
        self._found[state, filters, start, end] = count


def name_of_filters(query: Query) -> bytes:
    """A digest of all of the query but its window and order: a key of a thousand accounts must not be kept a thousand
    times."""
    values = [getattr(query, name) for name in _FILTERS]
    text = repr([sorted(value) if isinstance(value, frozenset) else value for value in values])
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()
