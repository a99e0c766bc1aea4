"""The only read path: all dialects call this module, and only it applies account scope, snapshot, position and
waiting.

Place in the path: api -> **QueryService** -> store.base.Reader. Invariants: the accounts of a query are always those of
the key's scope, whatever the dialect passed. An execution is fixed to one snapshot, so that paging neither skips nor
repeats records while new ones arrive. A POST waits at most `wait_seconds` for the indexer, a GET never. Readers block
on SQLite: `readers` runs them in threads, and `admission` bounds responses and bytes. No read transaction stays open
across an await. Nothing is stored, so a crash loses nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence

from ..errors import QueryError, StoreError
from ..metrics import Values
from ..record.line import TIME_END
from ..store.base import Query, Reader, Row, Snapshot
from .admission import IN_FLIGHT_MAX, Admission, Lease, Tally
from .feeds import Feeds
from .listing import Listings
from .model import Completeness, Execution, Grant, Look, Page
from .readers import Readers
from .tokens import Sealer, Token, TokenKind, index_mark, of_index, same_query

__all__ = ["GRACE_SECONDS", "KAFKA_GRACE_SECONDS", "REACH_SECONDS", "QueryService"]

# A record's timestamp is the start of its request: a request that ended just before the POST may have started this much
# earlier. Exchanges open for longer are counted as long-open and not waited for.
REACH_SECONDS = 60.0
# Time between a response's last byte and its record in the journal: 20 ms, more on a busy machine; with Kafka also up
# to 100 ms of linger, and the send.
GRACE_SECONDS = 0.1
KAFKA_GRACE_SECONDS = 0.3
_POLL_SECONDS = 0.01

# A page ends at this many bytes: more than the largest record by default (1 MB) and than 2,000 usual records of 1 to 2
# kB; less than the limits of clients and proxies.
PAGE_BYTES_MAX = 8 << 20


class QueryService:
    """Executions and pages over any number of readers. Used by one event loop; `close` may be called from any
    thread."""

    def __init__(
        self,
        open_reader: Callable[[], Reader],
        secret: bytes,
        *,
        wait_seconds: float = 2.0,
        grace_seconds: float = GRACE_SECONDS,
        execution_seconds: int = 86_400,
        page_bytes_max: int = PAGE_BYTES_MAX,
        in_flight_max: int = IN_FLIGHT_MAX,
        tally: Tally | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sealer = Sealer(secret)
        self._wait_seconds = wait_seconds
        self._grace_seconds = grace_seconds
        self._execution_seconds = execution_seconds
        self._page_bytes_max = page_bytes_max
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self.admission = Admission(in_flight_max, tally)
        self._readers = Readers(open_reader)
        self.listings = Listings(
            self._sealer,
            self._readers,
            self.admission,
            clock=clock,
            cursor_seconds=execution_seconds,
            page_bytes_max=page_bytes_max,
        )
        self.feeds = Feeds(
            self._sealer,
            self._readers,
            self.admission,
            poll=self._poll,
            clock=clock,
            monotonic=monotonic,
            sleep=sleep,
            page_bytes_max=page_bytes_max,
            in_flight_max=in_flight_max,
        )
        # Snapshots take microseconds and get a thread of their own: waits for the indexer, and health checks, are not
        # delayed by pages.
        self._snapshots = Readers(open_reader, 1)
        self._poll_began = float("-inf")
        self._polled = Snapshot(0, 0.0)

    async def start(
        self,
        grant: Grant,
        query: Query,
        page_token: str | None = None,
        *,
        dialect: str,
        must_have_seen: tuple[str, str] | None = None,
    ) -> str:
        """Starts an execution of `query` and returns its id: see `execute`."""
        execution = await self.execute(grant, query, page_token, dialect=dialect, must_have_seen=must_have_seen)
        return execution.id

    async def execute(
        self,
        grant: Grant,
        query: Query,
        page_token: str | None = None,
        *,
        dialect: str,
        must_have_seen: tuple[str, str] | None = None,
    ) -> Execution:
        """Starts an execution of `query` (its accounts are replaced by those of `grant`).

        Without `page_token`: takes the newest snapshot. When the window includes the present, it first waits until
        requests made before this call are indexed. Raises QueryError 'missing' when `must_have_seen` (service,
        instance) was never seen. With `page_token`: the token's snapshot and position; the query must equal the
        token's. Raises QueryError, StoreError."""
        with self.admission.enter(grant.key_id):
            return await self._execute(grant, query, page_token, dialect, must_have_seen)

    async def _execute(
        self,
        grant: Grant,
        query: Query,
        page_token: str | None,
        dialect: str,
        must_have_seen: tuple[str, str] | None,
    ) -> Execution:
        arrival = self._clock()
        query = dataclasses.replace(query, accounts=grant.accounts)
        given: Token | None = None
        if page_token is not None:
            given = self._sealer.open(page_token, TokenKind.PAGE, dialect, grant.accounts, arrival)
            same_query(given.query, query)
        else:
            waited = query.end > (arrival - REACH_SECONDS) * 1000
            if waited:
                await self._settled(arrival)
            if must_have_seen is not None:
                await self._must_have_seen(grant, *must_have_seen, None if waited else arrival)
        # Read completeness before the snapshot: in the other order it could claim records that the snapshot lacks.
        completeness, index, snapshot = await self._readers.ask(
            lambda reader: (
                reader.completeness(query.start, query.end, query.accounts),
                reader.index(),
                reader.snapshot(),
            ),
            grant.key_id,
        )
        if given is not None:
            of_index(given, index)
        token = Token(
            kind=TokenKind.EXECUTION,
            dialect=dialect,
            query=query,
            published=snapshot.published if given is None else given.published,
            before=None if given is None else given.before,
            expires=int(arrival) + self._execution_seconds,
            index=index_mark(index),
        )
        return Execution(self._sealer.seal(token), completeness)

    async def page(
        self,
        grant: Grant,
        execution_id: str,
        page_token: str | None = None,
        limit: int = 100,
        *,
        dialect: str,
        of: tuple[str, str] | None = None,
        lease: Lease | None = None,
    ) -> Page:
        """At most `limit` rows of the execution; never waits for the indexer. `of` (service, instance): must match the
        execution, else QueryError 'missing'. `lease`, from `admission`: reserves the bytes of the page until the caller
        closes it; without a lease they count only while the page is built. Raises QueryError, StoreError."""
        if lease is not None:
            return await self._page(grant, execution_id, page_token, limit, dialect, of, lease)
        with self.admission.enter(grant.key_id) as own:
            return await self._page(grant, execution_id, page_token, limit, dialect, of, own)

    async def _page(
        self,
        grant: Grant,
        execution_id: str,
        page_token: str | None,
        limit: int,
        dialect: str,
        of: tuple[str, str] | None,
        lease: Lease,
    ) -> Page:
        assert limit > 0
        now = self._clock()
        execution = self._sealer.open(execution_id, TokenKind.EXECUTION, dialect, grant.accounts, now)
        query = execution.query
        if of is not None and of != (query.service, query.instance):
            raise QueryError(
                "execution: unknown query execution, or it has expired",
                field="execution",
                kind="missing",
                hint="Use the service and the instance of the query.",
            )
        before = execution.before
        if page_token is not None:
            token = self._sealer.open(page_token, TokenKind.PAGE, dialect, grant.accounts, now)
            if (token.query, token.published, token.index) != (query, execution.published, execution.index):
                raise QueryError(
                    "page_token: it belongs to another query execution",
                    field="page_token",
                    hint="Use it with the query execution of its page, or start a new query with it.",
                )
            before = token.before
        if query.start >= query.end:
            completeness = await self._readers.ask(
                lambda reader: reader.completeness(query.start, query.end, query.accounts), grant.key_id
            )
            return Page([], None, completeness)
        await lease.reserve(self._page_bytes_max)

        def read(reader: Reader) -> tuple[list[Row], bool, Completeness]:
            of_index(execution, reader.index())
            rows, more = reader.page(
                query, published=execution.published, before=before, limit=limit, bytes_max=self._page_bytes_max
            )
            return rows, more, reader.completeness(query.start, query.end, query.accounts)

        rows, more, completeness = await self._readers.ask(read, grant.key_id)
        lease.resize(sum(len(row.record) for row in rows))
        if not (more and rows):
            return Page(rows, None, completeness)
        following = Token(
            kind=TokenKind.PAGE,
            dialect=dialect,
            query=query,
            published=execution.published,
            before=rows[-1].id,
            expires=execution.expires,
            index=execution.index,
        )
        return Page(rows, self._sealer.seal(following), completeness)

    def now(self) -> float:
        """Seconds since the epoch, by the clock that decides whether a window includes the present."""
        return self._clock()

    async def look(self, asked: Sequence[tuple[Grant, Query]]) -> Look:
        """One snapshot for several lists of one request, for `listings.count` and `listings.rows`. Waits once when any
        window includes the present. Raises StoreError."""
        arrival = self._clock()
        windows = [query for _, query in asked if query.start < query.end]
        if any(query.end > (arrival - REACH_SECONDS) * 1000 for query in windows):
            await self._settled(arrival)
        start = min((query.start for query in windows), default=0)
        end = max((query.end for query in windows), default=0)
        accounts: frozenset[str] | None = frozenset()
        for grant, _ in asked:
            accounts = None if accounts is None or grant.accounts is None else accounts | grant.accounts
        # Read completeness before the snapshot: in the other order it could claim records that the snapshot lacks.
        completeness, snapshot = await self._readers.ask(
            lambda reader: (reader.completeness(start, end, accounts), reader.snapshot()), asked[0][0].key_id
        )
        return Look(snapshot.published, completeness)

    async def completeness(self, grant: Grant, start: int, end: int) -> Completeness:
        """Completeness of the window (ms, `end` exclusive) as of now, for the accounts of `grant`."""
        return await self._readers.ask(lambda reader: reader.completeness(start, end, grant.accounts), grant.key_id)

    async def unready(self) -> str:
        """Why queries cannot be answered now; '' when they can."""
        try:
            await self._readers.ask(lambda reader: reader.check())
            await self._snapshot()
        except StoreError:
            return "the index cannot be read"
        return ""

    def measures(self) -> Values:
        """Metrics: responses in flight, of all worker processes."""
        return {"asgi_audit_api_in_flight": float(self.admission.in_flight)}

    async def complete_until(self) -> int | None:
        """T, in ms since the epoch: the index holds every exchange begun before it. None: not known yet. Raises
        StoreError."""
        found = await self._snapshots.ask(lambda reader: reader.completeness(0, TIME_END))
        return found.until

    def close(self) -> None:
        """Stops running queries and closes the readers."""
        self._readers.close()
        self._snapshots.close()

    async def _must_have_seen(self, grant: Grant, service: str, instance: str, arrival: float | None) -> None:
        """Raises QueryError 'missing' for a service instance without any record for this grant. `arrival`: set when the
        caller has not waited for the indexer yet; then this waits, so that a service whose first request is only
        moments old is found, whatever the window."""
        if await self._readers.ask(lambda reader: reader.seen(grant.accounts, service, instance), grant.key_id):
            return None
        if arrival is not None:
            await self._settled(arrival)
            return await self._must_have_seen(grant, service, instance, None)
        raise QueryError(
            f"instance: no record of service {service!r} and instance {instance!r} exists",
            field="instance",
            kind="missing",
            hint="Compare the settings service and instance_id of the middleware, and the accounts of the key.",
        )

    async def _snapshot(self) -> Snapshot:
        return await self._snapshots.ask(lambda reader: reader.snapshot())

    async def _settled(self, arrival: float) -> None:
        """Waits until a snapshot contains all requests made before `arrival`, or until the time limit."""
        if self._wait_seconds <= 0:
            return
        # The wall clock may be set while waiting: it determines what to wait for, the monotonic clock how long.
        deadline = self._monotonic() + self._wait_seconds
        await self._sleep(min(self._grace_seconds, self._wait_seconds))
        while self._monotonic() < deadline:
            try:
                snapshot = await self._poll()
            except StoreError as e:
                # The indexer may be about to create the index, on the very first start.
                if not e.retriable:
                    raise
            else:
                if snapshot.read_until >= arrival + self._grace_seconds:
                    return
            await self._sleep(_POLL_SECONDS)

    async def _poll(self) -> Snapshot:
        """A snapshot shared by all waiting calls: one of them reads it, the others use the last one read. A slightly
        old snapshot is fine: each caller checks whether it covers its own arrival."""
        now = self._monotonic()
        if not 0 <= now - self._poll_began < _POLL_SECONDS:
            self._poll_began = now
            self._polled = await self._snapshot()
        return self._polled
