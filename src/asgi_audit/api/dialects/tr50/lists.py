"""All lists of one request: one wait, one snapshot, one response of at most 8 MiB.

Each list is counted first; together they show at most 2,000 results. Their items are made in the readers' threads,
a part of at most 1 MiB of records at a time, with whole bodies; when they do not fit into the response, they are made
again with shorter ones (see `item`). A list that still does not fit ends early: its count shows that there is more. A
list without any room fails alone. So a request takes the memory of its response and of one part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from ....errors import QueryError
from ....query.admission import Lease
from ....query.model import Completeness, Grant, Query
from ....query.service import QueryService
from ....store.base import COUNT_SECONDS
from .item import Cut, item_of

__all__ = ["ANSWER_BYTES_MAX", "RESULTS_MAX", "Found", "ListQuery", "Listing"]

ANSWER_BYTES_MAX = 8 << 20
RESULTS_MAX = 2_000  # in one request
_COUNTING_SECONDS = 8.0  # of all lists of a request
_PART_ROWS = 500
_PART_BYTES = 1 << 20


class ListQuery(NamedTuple):
    grant: Grant
    query: Query
    offset: int
    limit: int


class Found(NamedTuple):
    """`total`: of all matches. `items`: as JSON, newest first."""

    total: int
    items: list[bytes]


class Listing:
    """The lists of one request. One event loop uses it."""

    def __init__(self, service: QueryService, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._monotonic = monotonic

    async def of(
        self, wanted: Sequence[ListQuery], lease: Lease, room: int
    ) -> tuple[list[Found | QueryError], Completeness]:
        """Returns the result or the error of each list, and the completeness of the index for all of them. `room`:
        bytes that the items may take, with a comma after each. Raises QueryError 'busy', StoreError."""
        look = await self._service.look([(w.grant, w.query) for w in wanted])
        counts = await self._counted(wanted, look.published)
        shown = [
            0 if isinstance(n, QueryError) else min(w.limit, max(0, n - w.offset))
            for w, n in zip(wanted, counts, strict=True)
        ]
        left = RESULTS_MAX
        for i, number in enumerate(shown):
            if number > left:
                counts[i] = _too_many(number, left)
                shown[i] = 0
            left -= shown[i]
        if any(shown):
            await lease.reserve(ANSWER_BYTES_MAX)
        for cut in Cut:
            lists: list[list[bytes]] = []  # those with longer bodies are freed before others are made
            lists, is_full = await self._made(wanted, shown, look.published, cut, room)
            if not is_full:
                break
        lease.resize(sum(len(item) for items in lists for item in items))
        found: list[Found | QueryError] = []
        for number, count, items in zip(shown, counts, lists, strict=True):
            if isinstance(count, QueryError):
                found.append(count)
            elif number and not items and is_full:
                found.append(_no_room())
            else:
                found.append(Found(count, items))
        return found, look.completeness

    async def _counted(self, wanted: Sequence[ListQuery], published: int) -> list[int | QueryError]:
        deadline = self._monotonic() + _COUNTING_SECONDS
        counts: list[int | QueryError] = []
        for w in wanted:
            seconds = min(COUNT_SECONDS, deadline - self._monotonic())
            try:
                if seconds <= 0:
                    raise _no_time()
                counts.append(
                    await self._service.listings.count(w.grant, w.query, published=published, work_seconds=seconds)
                )
            except QueryError as e:
                counts.append(e)
        return counts

    async def _made(
        self, wanted: Sequence[ListQuery], shown: Sequence[int], published: int, cut: Cut, room: int
    ) -> tuple[list[list[bytes]], bool]:
        """The items of each list, and whether more of them outgrow `room`: with the last cut the lists end there. (A
        list may be shorter than it was counted, when its days are purged meanwhile.)"""
        lists: list[list[bytes]] = [[] for _ in wanted]
        for w, number, items in zip(wanted, shown, lists, strict=True):
            before, more = None, number > 0
            while more and len(items) < number:
                rows, more = await self._service.listings.rows(
                    w.grant,
                    w.query,
                    published=published,
                    limit=min(_PART_ROWS, number - len(items)),
                    bytes_max=_PART_BYTES,
                    show=partial(item_of, cut=cut),
                    before=before,
                    skip=w.offset if before is None else 0,
                )
                for row in rows:
                    room -= len(row.record) + 1
                    if room < 0:
                        return lists, True
                    items.append(row.record)
                if not rows:
                    break
                before = rows[-1].id
        return lists, False


def _too_many(number: int, left: int) -> QueryError:
    return QueryError(
        f"limit: {number} results are more than the {left} that are left of {RESULTS_MAX:,} for one request",
        hint="Use a smaller limit, or send this command in a separate request.",
    )


def _no_time() -> QueryError:
    return QueryError(
        "no time was left to count this list after those before it",
        kind="too_costly",
        hint="Send this command in a separate request.",
    )


def _no_room() -> QueryError:
    return QueryError(
        "limit: these results do not fit into the response any more", hint="Send this command in a separate request."
    )
