"""The queue between the fetching thread and `poll`: chunks of messages in order, and the fences that passed in between.

Not thread-safe: `KafkaSource` calls everything here under its lock. `put` never refuses; `is_full` says when to stop
fetching, so the queue may exceed its bounds by one fetch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..base import Fence, Message, Position, digest_of
from .partition import Chunk, cut

__all__ = ["ReadQueue", "Taken"]


class _Passed(NamedTuple):
    """A fence, placed after everything that it covers. `cut`: partitions whose beginning was removed, and no
    message has reported it. `empty`: the beginnings of partitions of which no message was read."""

    fence: Fence
    cut: tuple[str, ...] = ()
    empty: Mapping[str, Position] = {}


class Taken(NamedTuple):
    """The fields of `base.Polled` that come from the queue."""

    messages: list[Message]
    damaged: list[tuple[str, int, str, bytes]]
    positions: dict[str, Position]
    begins: dict[str, float | None]
    times: dict[str, float]
    fence: Fence | None


class ReadQueue:
    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self.messages = 0
        self._messages_max = messages_max
        self._bytes = 0
        self._bytes_max = bytes_max
        self._items: deque[Chunk | _Passed] = deque()

    def __bool__(self) -> bool:
        return bool(self._items)

    def is_full(self) -> bool:
        return self.messages >= self._messages_max or self._bytes >= self._bytes_max

    def put(self, chunk: Chunk) -> None:
        self._items.append(chunk)
        self.messages += len(chunk.messages)
        self._bytes += chunk.size

    def put_fence(self, fence: Fence, cut: tuple[str, ...], empty: Mapping[str, Position] = {}) -> None:
        """Everything before the fence is in the queue, or was taken from it. `cut`, `empty`: see `_Passed`."""
        self._items.append(_Passed(fence, cut, empty))

    def drop_fences(self) -> None:
        self._items = deque(item for item in self._items if isinstance(item, Chunk))

    def waits_since(self) -> dict[str, int]:
        """Append time (ms) of the first message of each partition that has one here."""
        return {item.partition: item.since for item in reversed(self._items) if isinstance(item, Chunk)}

    def take(self, messages_max: int, on_chunk: Callable[[Chunk], None]) -> Taken:
        """Take at most `messages_max` messages. `on_chunk` is called with each chunk, or part of one, that is taken."""
        taken = Taken([], [], {}, {}, {}, None)
        while self._items:
            first = self._items[0]
            if isinstance(first, _Passed):
                self._items.popleft()
                taken = taken._replace(fence=first.fence)
                taken.begins.update(dict.fromkeys(first.cut))
                taken.positions.update(first.empty)
                continue
            room = messages_max - len(taken.messages)
            if room <= 0:
                break
            if len(first.messages) > room:
                chunk, self._items[0] = cut(first, room)
            else:
                self._items.popleft()
                chunk = first
            self.messages -= len(chunk.messages)
            self._bytes -= chunk.size
            taken.messages.extend(chunk.messages)
            taken.damaged.extend(chunk.damaged)
            following, value, appended = chunk.last
            taken.positions[chunk.partition] = Position(following, digest_of(value))
            taken.times[chunk.partition] = appended / 1000
            for at in chunk.begins:
                taken.begins[chunk.partition] = None if at is None else at / 1000
            on_chunk(chunk)
        return taken
