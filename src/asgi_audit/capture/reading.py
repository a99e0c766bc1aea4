"""Reads headers for the record so that the application, or the server, can still read them.

ASGI says that headers are an iterable of iterables of two. Most are lists of tuples, but the test client of falcon
sends pairs that can be read only once, and a generator may fail in its middle. An object with a length can be read
again and is passed on itself. Any other one is replaced by a stand-in, which yields the same items, raises the same
error at the same place, and continues with the rest of the original.

Bounds: of an object that is not a list or tuple, at most `HEADERS_MAX` headers are read (a record has 500), and at most
three items of each pair. So an endless iterator has a bounded cost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

__all__ = ["HEADERS_MAX", "ReadHeaders", "Reading", "all_tuples"]

HEADERS_MAX = 512
# Whether all these types are tuple: true for the usual list of headers, which is then read in one pass.
all_tuples = frozenset((tuple,)).issuperset
_PAIR_MAX = 3  # one more than a pair has, to detect longer ones
_LISTS = (list, tuple)


class Reading:
    """The first items of any object: at most `count`, all of a list or tuple, none when it is not iterable.

    `is_whole`: the object has no more items, and raised no error."""

    __slots__ = ("_error", "_given", "_rest", "is_whole", "items")

    def __init__(self, given: Any, count: int) -> None:
        self._given = given
        self._rest: Iterator[Any] | None = None
        self._error: Exception | None = None
        self.items: list[Any] = []
        self.is_whole = False
        try:
            rest = self._rest = iter(given)
        except Exception:
            return  # its reader will get the same error
        items = self.items
        try:
            for item in rest:
                items.append(item)
                if len(items) == count and not isinstance(given, _LISTS):
                    return
            self.is_whole = True
        except Exception as error:
            # Remove this frame: without the middleware the application's traceback does not have it.
            self._error = error.with_traceback(error.__traceback__.tb_next if error.__traceback__ else None)

    def replacement(self, items: list[Any] | None = None) -> Any:
        """The object for its reader: itself, if it can be read again. `items`: to yield in place of those that were
        read."""
        given, rest = self._given, self._rest
        if rest is None or hasattr(type(given), "__len__"):
            if items is None:
                return given
            if self.is_whole:
                return tuple(items) if isinstance(given, tuple) else items
            return chain(items, islice(given, len(items), None))
        items = self.items if items is None else items
        first = iter(items) if self.is_whole else _Resumed(items, self._error, rest)
        return first if rest is given else _Again(given, first)


class ReadHeaders:
    """Headers of any kind, read. `pairs`: for the record, as bytes that do not change."""

    __slots__ = ("_items", "_reading", "pairs")

    def __init__(self, given: Any) -> None:
        self._reading = Reading(given, HEADERS_MAX)
        self.pairs: list[tuple[bytes, bytes]] = []
        items = []
        replaced = False
        for pair in self._reading.items:
            if type(pair) in _LISTS:
                inside = pair
            else:
                reading = Reading(pair, _PAIR_MAX)
                inside = reading.items if reading.is_whole else ()
                pair, given = reading.replacement(), pair
                replaced = replaced or pair is not given
            items.append(pair)
            if len(inside) == 2:
                self.pairs.append((_bytes(inside[0]), _bytes(inside[1])))
        self._items = items if replaced else None

    @property
    def is_whole(self) -> bool:
        """Whether everything was read."""
        return self._reading.is_whole

    @property
    def replacement(self) -> Any:
        """The headers for their reader. It may be possible to read them only once."""
        return self._reading.replacement(self._items)

    def value(self, name: bytes) -> bytes | None:
        """The last value of the header with this name (in lower case); None when there is none."""
        found = [value for key, value in self.pairs if key.lower() == name]
        return found[-1] if found else None


class _Resumed:
    """An iterator whose first items, and perhaps the error after them, were read already."""

    __slots__ = ("_error", "_read", "_rest")

    def __init__(self, read: list[Any], error: Exception | None, rest: Iterator[Any]) -> None:
        self._read = deque(read)
        self._error = error
        self._rest = rest

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._read:
            return self._read.popleft()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return next(self._rest)


class _Again:
    """An iterable without a length, so it is unknown whether it can be read twice. Its first iteration was begun here;
    later ones, and all other attributes, are the object's own."""

    __slots__ = ("_first", "_source")

    def __init__(self, source: Any, first: Iterator[Any]) -> None:
        self._source = source
        self._first: Iterator[Any] | None = first

    def __iter__(self) -> Iterator[Any]:
        first, self._first = self._first, None
        return iter(self._source) if first is None else first

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._source, name)


def _bytes(value: object) -> bytes:
    """Bytes of an object that should be bytes."""
    if type(value) is bytes:
        return value
    if isinstance(value, str):
        return value.encode("latin-1", "replace")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return str(value).encode() if isinstance(value, (int, float)) else b""
