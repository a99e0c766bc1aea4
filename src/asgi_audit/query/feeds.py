"""Feeds: records in indexing order, for clients that must never miss one. A cursor continues after each page for as
long as the index is kept.

Invariants: the feed of an account depends on its own records alone. A cursor belongs to one index and one generation;
after another index or generation took its place, or unread rows were purged, it is 'gone': rows are never skipped
silently. A waiting client occupies no thread, no byte reservation and no response in flight: one snapshot is read for
all waiting clients, four times a second. Nothing is stored.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from ..record.line import TIME_END
from ..store.base import Place, Query, Reader, Row, Snapshot, gone
from .admission import Admission, Lease
from .model import Completeness, Grant
from .readers import Readers
from .tokens import Sealer, Token, TokenKind, index_mark

__all__ = ["WAITING_KEY_MAX", "WAITING_MAX", "WAIT_SECONDS_MAX", "FeedPage", "Feeds"]

WAIT_SECONDS_MAX = 30
WAITING_MAX = 128  # further clients get their response at once; half of the responses in flight, where that is less
WAITING_KEY_MAX = 16
_POLL_SECONDS = 0.25
_NEVER = 1 << 40  # seconds since the epoch: feed cursors do not expire


class FeedPage(NamedTuple):
    """`rows`: `Row.record` as `show` made it. `cursor`: where the feed continues. `more`: further rows exist already.
    `completeness`: over all time, read before the rows."""

    rows: list[Row]
    cursor: str
    more: bool
    completeness: Completeness


class _Read(NamedTuple):
    page: FeedPage
    published: int


class Feeds:
    """Used by one event loop."""

    def __init__(
        self,
        sealer: Sealer,
        readers: Readers,
        admission: Admission,
        *,
        poll: Callable[[], Awaitable[Snapshot]],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        page_bytes_max: int,
        in_flight_max: int,
    ) -> None:
        self._sealer = sealer
        self._readers = readers
        self._admission = admission
        self._poll = poll
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._page_bytes_max = page_bytes_max
        # Each waiting client has a connection, and the limit of open files bounds connections.
        self._waiting_max = min(WAITING_MAX, in_flight_max // 2)
        self._waiting_key_max = min(WAITING_KEY_MAX, max(1, self._waiting_max // 2))
        self._waiting: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """The number of clients that wait for records."""
        return self._waiting.total()

    async def page(
        self,
        grant: Grant,
        *,
        dialect: str,
        after: str | None,
        since: int | None,
        limit: int,
        wait_seconds: float,
        show: Callable[[bytes], bytes],
    ) -> tuple[FeedPage, Lease]:
        """The records after the cursor `after`. Without it, starts at the first record, or, with `since` (ms), at the
        first record indexed with a timestamp of `since` or later. Without records it waits up to `wait_seconds` for
        one, unless too many clients wait. `show`: converts a record's bytes for the page; called in another thread. The
        caller closes the lease when the page is sent. Raises QueryError ('gone' for a cursor that can no longer
        continue), StoreError."""
        token = None
        if after is not None:
            token = self._sealer.open(after, TokenKind.FEED, dialect, grant.accounts, self._clock())
        ends = self._monotonic() + wait_seconds

        def read(reader: Reader) -> _Read:
            return self._read(reader, grant, dialect, token, since, limit, show)

        while True:
            lease = self._admission.enter(grant.key_id)
            try:
                await lease.reserve(self._page_bytes_max)
                page, published = await self._readers.ask(read, grant.key_id)
                lease.resize(sum(len(row.record) for row in page.rows))
                if page.rows or page.more or not self._may_wait(grant.key_id, ends):
                    return page, lease
            except BaseException:
                lease.close()
                raise
            lease.close()
            await self._grown(grant.key_id, published, ends)

    def _may_wait(self, key: str, ends: float) -> bool:
        is_full = self.waiting >= self._waiting_max or self._waiting[key] >= self._waiting_key_max
        return self._monotonic() < ends and not is_full

    async def _grown(self, key: str, published: int, ends: float) -> None:
        """Returns when more than `published` is published, or at `ends`."""
        self._waiting[key] += 1
        try:
            while (left := ends - self._monotonic()) > 0:
                await self._sleep(min(_POLL_SECONDS, left))
                if (await self._poll()).published != published:
                    return
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    def _read(
        self,
        reader: Reader,
        grant: Grant,
        dialect: str,
        token: Token | None,
        since: int | None,
        limit: int,
        show: Callable[[bytes], bytes],
    ) -> _Read:
        completeness, mark = reader.completeness(0, TIME_END, grant.accounts), index_mark(reader.index())
        # Read before the rows: a batch published meanwhile causes one needless wait, never a missed record.
        published = reader.snapshot().published
        after = None
        if token is not None and (token.index or token.published):
            if token.index != mark:
                raise gone("it belongs to another index, or the index was restored since")
            after = Place(token.published, token.before or 0, token.total or 0)
        fed = reader.feed(grant.accounts, after=after, since=since, limit=limit, bytes_max=self._page_bytes_max)
        rows = fed.rows
        for n, row in enumerate(rows):  # in place: otherwise the page would be in memory twice
            rows[n] = Row(row.id, show(row.record), row.cuts)
        following = Token(
            kind=TokenKind.FEED,
            dialect=dialect,
            query=Query(accounts=grant.accounts, start=0, end=TIME_END),
            published=fed.place.iseq,
            before=fed.place.id,
            expires=_NEVER,
            index=mark,
            total=fed.place.horizon,
        )
        return _Read(FeedPage(rows, self._sealer.seal(following), fed.more, completeness), published)
