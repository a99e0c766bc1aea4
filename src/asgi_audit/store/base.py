"""The contract of the store's rows: what the indexer writes and what the query service reads. Beside it stand the
contracts of the state (`state`) and of keeping an index in order (`admin`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from ..errors import QueryError
from ..record.codec import Decoded
from ..record.slices import Cuts
from ..record.statement import Statement
from ..transport.base import Position
from .admin import Maintenance
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
    """What becomes visible together, with the positions after it."""

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
    """`id` is time-ordered and unique in the store: the cursor's position. `record` is the stored bytes,
    decompressed."""

    id: int
    record: bytes
    cuts: Cuts


class IndexVersion(NamedTuple):
    """Which index it is, and how often its past was put in place of its present: what was said of a row's position
    holds in this one alone. `id`: '' while there is none."""

    id: str = ""
    generation: int = 1


class Place(NamedTuple):
    """Where a feed stands: behind the record `id` of the batch `iseq`, or behind all of that batch. `horizon`: of the
    purge, ms, when it was there; what is purged later counts as not read."""

    iseq: int
    id: int
    horizon: int = 0


class Fed(NamedTuple):
    """`rows`, in the order in which they were indexed, and the place behind them. `more`: others follow."""

    rows: list[Row]
    place: Place
    more: bool


def gone(why: str) -> QueryError:
    """Of a place that no feed can go on from."""
    return QueryError(
        f"after: {why}",
        field="after",
        kind="gone",
        hint="Begin again without after, or with start, a time from which on nothing may be missing.",
    )


class Snapshot(NamedTuple):
    """`published`: rows up to this index sequence are visible. `read_until`: e of the newest fence that has passed, by
    the indexer's wall clock, seconds since the epoch; 0.0 when none has."""

    published: int
    read_until: float


class Writer(StateWriter, Maintenance, Protocol):
    """One at a time, held by a lease; used by one thread. Errors are StoreErrors (`retriable` for a full disk or a
    lock)."""

    @property
    def id(self) -> str:
        """Of the index: random, from its making on."""

    @property
    def made_at_ms(self) -> int | None:
        """When the index was made; None when that is unknown."""

    def write(self, batch: Batch) -> Written:
        """Records once by (process, sequence) or, without a process, by id; then positions and what is visible. A crash
        anywhere inside repeats nothing and loses nothing."""

    def close(self) -> None: ...


class RowReader(Protocol):
    """The rows. Short read transactions. Errors are StoreErrors."""

    def index(self) -> IndexVersion: ...

    def snapshot(self) -> Snapshot: ...

    def page(
        self, query: Query, *, published: int, before: int | None, limit: int, bytes_max: int, skip: int = 0
    ) -> tuple[list[Row], bool]:
        """At most `limit` rows in the query's order, visible at `published`; and whether more follow. Ends after
        `bytes_max` bytes of records, but always holds at least one row if one matches. `before`: the id of the last row
        of the page before, None from the beginning; newest first the ids after it are smaller, oldest first larger.
        `skip`: how many matching rows after it to pass over. Raises QueryError ('invalid') for a filter that a day of
        the window was not indexed by, naming the day from which it works."""

    def count(self, query: Query, *, published: int, work_seconds: float = COUNT_SECONDS) -> int:
        """How many rows of the query are visible at `published`: exact, or QueryError ('too_costly') after
        `work_seconds` of counting. Cheap where the filters are accounts, services, levels, failure, method and
        statuses; else each row is looked at. Other QueryErrors as those of `page`."""

    def histogram(
        self, query: Query, *, published: int, by: Literal["level", "status"], minutes: int
    ) -> list[tuple[int, dict[str, int]]]:
        """How many rows per level, or per class of status (`4xx`), in buckets of `minutes` each, from the epoch on:
        (begin of the bucket in ms, counts) oldest first, those without a row left out. The window may begin and end
        within a bucket. Raises QueryError ('invalid') for more than HISTOGRAM_BUCKETS_MAX buckets, and for filters
        beside accounts, services, levels, failure, method and statuses; ('too_costly') as `count`."""

    def find(self, accounts: frozenset[str] | None, record_id: str, *, published: int) -> Row | None:
        """The record with this `metadata.id`, if it is visible at `published` and belongs to one of the accounts. Of a
        process of ours it is found by the time in its id; of a foreign producer by the id itself."""

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
        one), from `after` on: every row that is there, whatever its time, once. With `after` None from the first one
        on, and with `since` (ms) from the first one on that was indexed with such a timestamp or a later one; what was
        indexed after that follows, whatever its time. Ends as `page` does, and after `work_seconds` of looking at rows
        of others, perhaps with none and `more`. Raises QueryError ('gone') when rows behind `after` were purged, or
        `after` lies above what is published."""

    def seen(self, accounts: frozenset[str] | None, service: str, instance: str) -> bool:
        """Whether any record of this service and instance was ever indexed for one of the accounts."""


class Reader(RowReader, StateReader, Protocol):
    """Any number, in any process; each used by one thread at a time. Errors are StoreErrors: so is an index that is
    gone, or another one than belongs here."""

    def check(self) -> None:
        """Raises StoreError when something of the index is gone. A look at the directory: for readiness, not for each
        answer."""

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        """`stopped` is asked now and then while a question runs: once it is true, the question raises StoreError."""

    def close(self) -> None: ...
