"""Reading headers for the record without taking them from whoever they are for.

ASGI says that headers are an iterable of iterables of two. Servers and applications send lists of tuples, falcon's
test client sends pairs that can be read only once, and a generator may fail in its middle. What is read here is
handed on: as the same object where reading takes nothing away (whatever has a length), else as a stand-in that gives
the same items, raises the same error at the same place, and goes on with the rest of the original.

Bounds: `HEADERS_MAX` headers are read of what is no list or tuple (a record holds 500), and three items of a pair, so
an endless iterator costs no more than that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

__all__ = ["HEADERS_MAX", "ReadHeaders", "Reading", "all_tuples"]

HEADERS_MAX = 512
# Whether these are types of tuples alone: of the usual list of headers, which is then read in one pass.
all_tuples = frozenset((tuple,)).issuperset
_PAIR_MAX = 3  # one more than there should be: three items are no pair
_LISTS = (list, tuple)


class Reading:
    """What was read of anything: at most `count` items, of a list or tuple all, none of what is no iterable.

    `is_whole`: there is nothing beyond `items`, neither more of them nor an error."""

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
            return  # the reader will see it too
        items = self.items
        try:
            for item in rest:
                items.append(item)
                if len(items) == count and not isinstance(given, _LISTS):
                    return
            self.is_whole = True
        except Exception as error:
            # Without this frame, which the application's traceback does not have without us.
            self._error = error.with_traceback(error.__traceback__.tb_next if error.__traceback__ else None)

    def stand_in(self, items: list[Any] | None = None) -> Any:
        """For the reader: what was given, where nothing was taken from it. `items` stand for those that were read."""
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
    """Headers of any kind, read. `pairs` are for the record: bytes that nobody else reads or changes."""

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
                pair, given = reading.stand_in(), pair
                replaced = replaced or pair is not given
            items.append(pair)
            if len(inside) == 2:
                self.pairs.append((_bytes(inside[0]), _bytes(inside[1])))
        self._items = items if replaced else None

    @property
    def is_whole(self) -> bool:
        """There is nothing beyond what was read."""
        return self._reading.is_whole

    @property
    def stand_in(self) -> Any:
        """For the headers' reader. It may be one that can be read only once."""
        return self._reading.stand_in(self._items)

    def value(self, name: bytes) -> bytes | None:
        """The last value of this header (in lower case), None without one."""
        found = [value for key, value in self.pairs if key.lower() == name]
        return found[-1] if found else None


class _Resumed:
    """An iterator of which the first items were read already, and perhaps the error after them."""

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
    """An iterable that is no iterator and has no length, so nothing says whether it can be read twice. Its first
    reading was begun; later ones and all its other attributes are its own."""

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
    """Of what should be bytes."""
    if type(value) is bytes:
        return value
    if isinstance(value, str):
        return value.encode("latin-1", "replace")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return str(value).encode() if isinstance(value, (int, float)) else b""
