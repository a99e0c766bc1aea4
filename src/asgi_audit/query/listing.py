"""Lists without an execution: the first page counts and fixes the snapshot, and its cursor returns the following pages.

The alternative are executions (`service`), which are started first and read afterwards. Invariants: all pages of a
cursor are of one snapshot and repeat the exact total of the first page; a list never waits for the indexer; a count,
which may take seconds, holds bytes only while at most half of them are taken; a page converts its records one after
the other in the reader's thread.

A page is read in one visit to a reader's thread: on a busy machine each visit may wait twice for a processor, once
there and once back, some milliseconds each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

from ..errors import QueryError
from ..record.codec import decode
from ..store.base import Query, Reader, Row
from .admission import Admission, Lease
from .model import Completeness, Grant
from .readers import Readers
from .tokens import Sealer, Token, TokenKind, index_mark, of_index, same_query

__all__ = ["Listed", "Listings", "Summed"]


class Listed(NamedTuple):
    """`rows`: in the query's order; `Row.record` holds the result of `show`. `cursor`: of the next page, None at the
    end. `total`: rows of the query in the snapshot; None when not requested. `completeness`: as of now; for a first
    page read before its snapshot."""

    rows: list[Row]
    cursor: str | None
    total: int | None
    completeness: Completeness


class Summed(NamedTuple):
    """`buckets`: as `RowReader.histogram` returns them. `completeness`: read before the snapshot."""

    buckets: list[tuple[int, dict[str, int]]]
    completeness: Completeness


class Listings:
    """Used by one event loop."""

    def __init__(
        self,
        sealer: Sealer,
        readers: Readers,
        admission: Admission,
        *,
        clock: Callable[[], float],
        cursor_seconds: int,
        page_bytes_max: int,
    ) -> None:
        self._sealer = sealer
        self._readers = readers
        self._admission = admission
        self._clock = clock
        self._cursor_seconds = cursor_seconds
        self._page_bytes_max = page_bytes_max

    def query_of(self, cursor: str, grant: Grant, *, dialect: str) -> Query:
        """The query that a cursor belongs to. Raises QueryError."""
        return self._opened(cursor, grant, dialect).query

    async def page(
        self,
        grant: Grant,
        query: Query,
        *,
        dialect: str,
        limit: int,
        lease: Lease,
        show: Callable[[bytes], bytes],
        skip: int = 0,
        cursor: str | None = None,
        is_counted: bool = True,
    ) -> Listed:
        """At most `limit` rows of `query` (its accounts are replaced by those of `grant`). Without `cursor`: from the
        newest snapshot, after the first `skip` rows. With `cursor`: from the cursor's snapshot, after its page; the
        query must equal the cursor's.

        `show`: converts a record's bytes for the page; called in another thread. `lease`, from `admission`: reserves
        the bytes of the page until the caller closes it. `is_counted`: whether a first page gets a total; later pages
        repeat it. Raises QueryError ('too_costly' when the rows cannot be counted in time), StoreError."""
        assert limit > 0
        query = dataclasses.replace(query, accounts=grant.accounts)
        part = _Part(query, limit, self._page_bytes_max, show, skip)
        if cursor is None:
            token, completeness, found = await self._first(grant, part, dialect, lease, is_counted=is_counted)
        else:
            token = self._opened(cursor, grant, dialect)
            same_query(token.query, query)
            completeness, found = await self._following(grant, part, token, lease)
        lease.resize(sum(len(row.record) for row in found.rows))
        following = None
        if found.more and found.rows:
            following = self._sealer.seal(dataclasses.replace(token, before=found.rows[-1].id))
        return Listed(found.rows, following, token.total, completeness)

    async def count(self, grant: Grant, query: Query, *, published: int, work_seconds: float) -> int:
        """The number of rows of `query` (its accounts are replaced by those of `grant`) in a snapshot. Raises
        QueryError ('too_costly' after `work_seconds`), StoreError."""
        query = dataclasses.replace(query, accounts=grant.accounts)
        if query.start >= query.end:
            return 0
        return await self._readers.ask(
            lambda reader: reader.count(query, published=published, work_seconds=work_seconds), grant.key_id
        )

    async def rows(
        self,
        grant: Grant,
        query: Query,
        *,
        published: int,
        limit: int,
        bytes_max: int,
        show: Callable[[bytes], bytes],
        before: int | None = None,
        skip: int = 0,
    ) -> tuple[list[Row], bool]:
        """Part of a list in a snapshot, as `RowReader.page` reads it; each record is converted by `show` in the
        reader's thread. Raises QueryError, StoreError."""
        part = _Part(dataclasses.replace(query, accounts=grant.accounts), limit, bytes_max, show, skip)
        found = await self._readers.ask(lambda reader: _read(reader, part, published, before), grant.key_id)
        return found.rows, found.more

    async def one(
        self, grant: Grant, record_id: str, *, lease: Lease, show: Callable[[bytes], bytes]
    ) -> tuple[Row, Completeness]:
        """The record with this `metadata.id`, and the completeness of its millisecond. `lease`, `show`: as for `page`.
        Raises QueryError 'missing', also for a record of an account that is not the grant's."""
        await lease.reserve(self._page_bytes_max)

        def read(reader: Reader) -> tuple[Row, Completeness] | None:
            row = reader.find(grant.accounts, record_id, published=reader.snapshot().published)
            if row is None:
                return None
            at = decode(row.record).timestamp
            return row._replace(record=show(row.record)), reader.completeness(at, at + 1, grant.accounts)

        found = await self._readers.ask(read, grant.key_id)
        if found is None:
            raise QueryError("id: there is no such record", field="id", kind="missing")
        lease.resize(len(found[0].record))
        return found

    async def histogram(self, grant: Grant, query: Query, *, by: Literal["level", "status"], minutes: int) -> Summed:
        """The number of rows of `query` (its accounts are replaced by those of `grant`) in each bucket: see
        `RowReader.histogram`. Raises QueryError, StoreError."""
        query = dataclasses.replace(query, accounts=grant.accounts)

        def sum_up(reader: Reader) -> Summed:
            completeness, published = _completeness(reader, query), reader.snapshot().published
            found = reader.histogram(query, published=published, by=by, minutes=minutes)
            return Summed(found, completeness)

        with self._admission.enter(grant.key_id):
            return await self._readers.ask(sum_up, grant.key_id)

    def _opened(self, cursor: str, grant: Grant, dialect: str) -> Token:
        return self._sealer.open(cursor, TokenKind.PAGE, dialect, grant.accounts, self._clock())

    async def _first(
        self, grant: Grant, part: _Part, dialect: str, lease: Lease, *, is_counted: bool
    ) -> tuple[Token, Completeness, _Found]:
        """Fixes the snapshot, counts and reads the first rows: at once, unless their bytes would be missing elsewhere
        while it counts."""
        query = part.query
        expires = int(self._clock()) + self._cursor_seconds
        is_at_once = query.start < query.end and lease.reserve_at_once(self._page_bytes_max)

        def look(reader: Reader) -> tuple[Token, Completeness, _Found]:
            # Read completeness before the snapshot: in the other order it could claim records that the snapshot lacks.
            completeness, index, published = _completeness(reader, query), reader.index(), reader.snapshot().published
            total = None
            if is_counted:
                total = reader.count(query, published=published) if query.start < query.end else 0
            token = Token(
                kind=TokenKind.PAGE,
                dialect=dialect,
                query=query,
                published=published,
                before=None,
                expires=expires,
                index=index_mark(index),
                total=total,
            )
            is_read = is_at_once and not part.is_beyond(total)
            return token, completeness, _read(reader, part, published, None) if is_read else _Found([], False)

        token, completeness, found = await self._readers.ask(look, grant.key_id)
        if not is_at_once and not part.is_beyond(token.total):
            await lease.reserve(self._page_bytes_max)
            found = await self._readers.ask(lambda reader: _read(reader, part, token.published, None), grant.key_id)
        return token, completeness, found

    async def _following(self, grant: Grant, part: _Part, token: Token, lease: Lease) -> tuple[Completeness, _Found]:
        is_beyond = part.is_beyond(token.total)
        if not is_beyond:
            await lease.reserve(self._page_bytes_max)

        def go_on(reader: Reader) -> tuple[Completeness, _Found]:
            of_index(token, reader.index())
            completeness = _completeness(reader, token.query)
            found = _Found([], False) if is_beyond else _read(reader, part, token.published, token.before)
            return completeness, found

        return await self._readers.ask(go_on, grant.key_id)


class _Part(NamedTuple):
    """The rows of a page. `bytes_max`, `show`, `skip`: see `Listings.page`."""

    query: Query
    limit: int
    bytes_max: int
    show: Callable[[bytes], bytes]
    skip: int

    def is_beyond(self, total: int | None) -> bool:
        """Whether there is no row to read. `total`: None when unknown."""
        return self.query.start >= self.query.end or (total is not None and self.skip >= total)


class _Found(NamedTuple):
    rows: list[Row]
    more: bool


def _read(reader: Reader, part: _Part, published: int, before: int | None) -> _Found:
    rows, more = reader.page(
        part.query,
        published=published,
        before=before,
        limit=part.limit,
        bytes_max=part.bytes_max,
        skip=part.skip,
    )
    for n, row in enumerate(rows):
        rows[n] = Row(row.id, part.show(row.record), row.cuts)
    return _Found(rows, more)


def _completeness(reader: Reader, query: Query) -> Completeness:
    return reader.completeness(query.start, query.end, query.wanted_accounts)
