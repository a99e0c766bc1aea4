"""The contract of the store's rows: what the indexer writes and what the query service reads. `state` holds the
contract of the state beside the rows, `admin` that of maintenance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from ..errors import QueryError
from ..record.codec import Decoded
from ..record.slices import Cuts
from ..record.statement import Statement
from ..transport.base import Position
from .maintenance import Maintenance
from .query import Query
from .state import Completion, DeadLetter, ReadUntil, StateReader, StateWriter

__all__ = [
    "COUNT_SECONDS", "HISTOGRAM_BUCKETS_MAX", "Batch", "Fed", "IndexVersion", "Place", "Query", "Reader", "Row",
    "RowReader", "Snapshot", "Writer", "Written", "gone",
]  # fmt: skip

COUNT_SECONDS = 2.0
HISTOGRAM_BUCKETS_MAX = 1_500


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Records that become visible together, and the source positions after them."""

    source: str
    records: Sequence[Decoded] = ()
    statements: Sequence[Statement] = ()
    dead_letters: Sequence[DeadLetter] = ()
    positions: Mapping[str, Position]
    forget: Sequence[str] = ()  # partitions whose positions are no longer needed
    read_until: ReadUntil | None = None  # a fence that passes with this batch
    completion: Completion | None = None  # written with the positions


class Written(NamedTuple):
    inserted: int
    duplicates: int
    expired: int
    dead: int


class Row(NamedTuple):
    """`id`: time-ordered, unique in the store; cursors use it as their position. `record`: the stored bytes,
    decompressed."""

    id: int
    record: bytes
    cuts: Cuts


class IndexVersion(NamedTuple):
    """Identifies an index and its generation (raised when an earlier state of the index is restored). Positions of rows
    are valid within one version only. `id`: '' while there is no index."""

    id: str = ""
    generation: int = 1


class Place(NamedTuple):
    """A feed's position: after the record `id` of the batch `iseq`, or after that whole batch. `horizon`: purge horizon
    (ms) when the position was taken; records purged since then count as not read."""

    iseq: int
    id: int
    horizon: int = 0


class Fed(NamedTuple):
    """`rows` in indexing order, and the place after them. `more`: further rows exist."""

    rows: list[Row]
    place: Place
    more: bool


def gone(why: str) -> QueryError:
    """The error for a place from which a feed cannot continue."""
    return QueryError(
        f"after: {why}",
        field="after",
        kind="gone",
        hint="Begin again without after, or with start, a time from which on nothing may be missing.",
    )


class Snapshot(NamedTuple):
    """`published`: rows up to this index sequence are visible. `read_until`: time of the newest fence that has passed,
    by the indexer's wall clock, in seconds since the epoch; 0.0 when none has passed."""

    published: int
    read_until: float


class Writer(StateWriter, Maintenance, Protocol):
    """One at a time, held by a lease; used by one thread. Errors are StoreErrors (`retriable` for a full disk or a
    lock)."""

    @property
    def id(self) -> str:
        """The random id that the index got when it was created."""

    @property
    def made_at_ms(self) -> int | None:
        """When the index was created (ms); None when unknown."""

    def write(self, batch: Batch) -> Written:
        """Writes each record once, by (process, sequence) or, without a process, by id; then the positions, and
        publishes the batch. A crash at any point neither repeats nor loses a record."""

    def close(self) -> None: ...


class RowReader(Protocol):
    """The rows. Short read transactions. Errors are StoreErrors."""

    def index(self) -> IndexVersion: ...

    def snapshot(self) -> Snapshot: ...

    def page(
        self, query: Query, *, published: int, before: int | None, limit: int, bytes_max: int, skip: int = 0
    ) -> tuple[list[Row], bool]:
        """At most `limit` rows in the query's order, visible at `published`; and whether more follow. Ends after
        `bytes_max` bytes of records, but always holds at least one row if one matches. `before`: id of the last row of
        the previous page, None for the first page; later ids are smaller when newest first, larger when oldest first.
        `skip`: number of matching rows to skip after it. Raises QueryError ('invalid') for a filter that some day of
        the window has no index for; the message names the day from which it works."""

    def count(self, query: Query, *, published: int, work_seconds: float = COUNT_SECONDS) -> int:
        """How many rows of the query are visible at `published`: exact, or QueryError ('too_costly') after
        `work_seconds` of counting. Cheap when all filters are among accounts, services, levels, failure, method and
        statuses; otherwise every row is examined. Other QueryErrors as for `page`."""

    def histogram(
        self, query: Query, *, published: int, by: Literal["level", "status"], minutes: int
    ) -> list[tuple[int, dict[str, int]]]:
        """Number of rows per level, or per class of status (`4xx`), in buckets of `minutes` each, aligned to the epoch.
        Returns (start of the bucket in ms, counts), oldest first, without empty buckets. The window may begin and end
        within a bucket. Raises QueryError: 'invalid' for more than HISTOGRAM_BUCKETS_MAX buckets and for filters other
        than accounts, services, levels, failure, method and statuses; 'too_costly' as `count` does."""

    def find(self, accounts: frozenset[str] | None, record_id: str, *, published: int) -> Row | None:
        """The record with this `metadata.id`, if it is visible at `published` and belongs to one of the accounts. A
        record of our own middleware is found by the time in its id, one of another producer by the id itself."""

    def feed(
        self,
        accounts: frozenset[str] | None,
        *,
        after: Place | None,
        since: int | None = None,
        limit: int,
        bytes_max: int,
        work_seconds: float = COUNT_SECONDS,
    ) -> Fed:
        """At most `limit` rows of the accounts in the order in which they were indexed (by batch, and by id within
        one), starting after `after`: each existing row once, whatever its timestamp. `after` None starts at the first
        row, or, with `since` (ms), at the first row indexed with a timestamp of `since` or later; all rows indexed
        after it follow, whatever their timestamps. Ends as `page` does, and also after `work_seconds` spent on rows of
        other accounts (then possibly without rows but with `more`). Raises QueryError ('gone') when rows after `after`
        were purged unread, or `after` is beyond what is published."""

    def seen(self, accounts: frozenset[str] | None, service: str, instance: str) -> bool:
        """Whether any record of this service and instance was ever indexed for one of the accounts."""


class Reader(RowReader, StateReader, Protocol):
    """Any number, in any process; each used by one thread at a time. Errors are StoreErrors, including for a missing
    index and for an index other than the expected one."""

    def check(self) -> None:
        """Raises StoreError when a file of the index is missing. Lists the directory: meant for readiness checks, not
        for every response."""

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        """`stopped` is called repeatedly while a query runs; once it returns True, the query raises StoreError."""

    def close(self) -> None: ...
