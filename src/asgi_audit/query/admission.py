"""Limits concurrent work: responses in flight per key and in total, and bytes of pages being built or sent.

A page is built in memory and sent as fast as its client reads. Without a bound, 280 connections that requested pages of
8 MiB took 1.6 GB. So each response holds a *lease* until its last byte is handed to the network. The lease counts
against the bounds of its key and of all keys. A page reserves its maximum size before it is read, then its actual size.

Bounds: `IN_FLIGHT_MAX` responses (`IN_FLIGHT_KEY_MAX` of one key); beyond it the client gets 429. `BYTES_MAX` of pages,
of which one key holds at most half, and the last `BYTES_RESERVED` are for keys that hold none; beyond it a page waits
at most `WAIT_SECONDS`, and keys take turns. Used by one event loop. Nothing is stored. With several worker processes,
one shared `Tally` counts the responses of each key; bytes and the total bound are per process, because they bound its
memory and its connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict, deque
from typing import NamedTuple, Protocol

from ..errors import QueryError

__all__ = ["BYTES_MAX", "IN_FLIGHT_KEY_MAX", "IN_FLIGHT_MAX", "WAIT_SECONDS", "Admission", "Lease", "Tally"]

IN_FLIGHT_MAX = 256
IN_FLIGHT_KEY_MAX = 64
# Six pages of 8 MiB. An idle `serve` has 70 MiB; four readers, pages and what the allocator keeps stay below 256.
BYTES_MAX = 48 << 20
BYTES_KEY_MAX = BYTES_MAX // 2
BYTES_RESERVED = 8 << 20
WAIT_SECONDS = 10.0


class _Claim(NamedTuple):
    lease: Lease
    size: int
    granted: asyncio.Future[None]


class Tally(Protocol):
    """Responses in flight of each key, over all worker processes."""

    def add(self, key: str, number: int) -> int:
        """Adds `number`, which may be negative, to the count of `key`. Returns the new count."""

    def total(self) -> int:
        """The responses of all keys."""


class _Own:
    """The tally of a single process."""

    def __init__(self) -> None:
        self._numbers: Counter[str] = Counter()

    def add(self, key: str, number: int) -> int:
        self._numbers[key] += number
        found = self._numbers[key]
        if not found:
            del self._numbers[key]
        return found

    def total(self) -> int:
        return self._numbers.total()


class Admission:
    """`in_flight_max`: bound of responses of all keys; one key may have at most half of it."""

    def __init__(self, in_flight_max: int = IN_FLIGHT_MAX, tally: Tally | None = None) -> None:
        self._in_flight_max = in_flight_max
        self._tally = tally or _Own()
        self._in_flight_key_max = min(IN_FLIGHT_KEY_MAX, max(1, in_flight_max // 2))
        self._in_flight = 0
        self._bytes: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[_Claim]] = OrderedDict()  # the key whose turn is next is first

    @property
    def in_flight(self) -> int:
        """The number of responses being built or sent, by all worker processes."""
        return self._tally.total()

    @property
    def bytes(self) -> int:
        """Bytes reserved and held by pages."""
        return self._bytes.total()

    def enter(self, key: str) -> Lease:
        """A lease for one response to `key`. Raises QueryError 'busy'."""
        # Count first, then check: two processes that check at once cannot exceed the bound together.
        if self._tally.add(key, 1) > self._in_flight_key_max:
            self._tally.add(key, -1)
            raise _busy(f"this key has {self._in_flight_key_max} responses in flight, which is the limit")
        if self._in_flight >= self._in_flight_max:
            self._tally.add(key, -1)
            raise _busy("this API has the largest possible number of responses in flight")
        self._in_flight += 1
        return Lease(self, key)

    async def _reserve(self, lease: Lease, size: int) -> None:
        # A page larger than the whole bound is admitted alone.
        claim = _Claim(lease, min(size, BYTES_KEY_MAX), asyncio.get_running_loop().create_future())
        self._waiting.setdefault(lease.key, deque()).append(claim)
        self._grant()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await claim.granted
        except TimeoutError:
            raise _busy("the pages being sent use all memory for pages") from None
        finally:
            self._withdraw(claim)

    def _reserve_at_once(self, lease: Lease, size: int) -> bool:
        if self._waiting or self.bytes + size > BYTES_MAX // 2 or not self._fits(lease.key, size):
            return False
        self._bytes[lease.key] += size
        lease.bytes += size
        return True

    def _resize(self, lease: Lease, size: int) -> None:
        self._bytes[lease.key] += size - lease.bytes
        lease.bytes = size
        self._grant()

    def _leave(self, lease: Lease) -> None:
        self._in_flight -= 1
        self._tally.add(lease.key, -1)
        self._resize(lease, 0)
        if not self._bytes[lease.key]:
            del self._bytes[lease.key]

    def _withdraw(self, claim: _Claim) -> None:
        claims = self._waiting.get(claim.lease.key)
        if claims is not None and claim in claims:
            claims.remove(claim)
            if not claims:
                del self._waiting[claim.lease.key]
            self._grant()  # a waiting page may be smaller

    def _grant(self) -> None:
        while (claim := self._next()) is not None:
            self._bytes[claim.lease.key] += claim.size
            claim.lease.bytes += claim.size
            if not claim.granted.done():
                claim.granted.set_result(None)

    def _next(self) -> _Claim | None:
        for key, claims in self._waiting.items():
            if self._fits(key, claims[0].size):
                claim = claims.popleft()
                if claims:
                    self._waiting.move_to_end(key)
                else:
                    del self._waiting[key]
                return claim
        return None

    def _fits(self, key: str, size: int) -> bool:
        total, held = self.bytes, self._bytes[key]
        if not held:
            return total == 0 or total + size <= BYTES_MAX
        return held + size <= BYTES_KEY_MAX and total + size <= BYTES_MAX - BYTES_RESERVED


class Lease(contextlib.AbstractContextManager["Lease"]):
    """The share of one response. Must be closed; closing twice is allowed."""

    def __init__(self, admission: Admission, key: str) -> None:
        self.key = key
        self.bytes = 0
        self._admission = admission
        self._closed = False

    async def reserve(self, size: int) -> None:
        """Waits for `size` bytes. Raises QueryError 'busy' when they do not become free in time."""
        await self._admission._reserve(self, size)

    def reserve_at_once(self, size: int) -> bool:
        """Reserves `size` bytes if that leaves half of all bytes free and no lease waits for any. For responses that
        may hold them long before they need them."""
        return self._admission._reserve_at_once(self, size)

    def resize(self, size: int) -> None:
        """Changes the reservation to `size` bytes."""
        if not self._closed:
            self._admission._resize(self, size)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._admission._leave(self)

    def __exit__(self, *_: object) -> None:
        self.close()


def _busy(why: str) -> QueryError:
    return QueryError(
        why, kind="busy", hint="Wait as many seconds as Retry-After says, then try again. Read responses to their end."
    )
