"""The contract of the store: what the indexer writes and what the query service reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from ..record.codec import Decoded
from ..record.statement import Statement
from ..record.views import Cuts
from ..transport.base import Position

__all__ = ["Batch", "DeadLetter", "Process", "Query", "Reader", "Row", "Snapshot", "Writer", "Written"]


class DeadLetter(NamedTuple):
    """Bytes that could not become a record. The store keeps at most 64 KiB of `payload` and `payload_bytes` as its true size."""

    source: str
    partition: str
    offset: int
    reason: str
    payload: bytes


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What becomes visible together, with the positions after it."""

    source: str
    records: Sequence[Decoded] = ()
    statements: Sequence[Statement] = ()
    dead_letters: Sequence[DeadLetter] = ()
    positions: Mapping[str, Position]
    forget: Sequence[str] = ()  # partitions whose positions are no longer needed
    caught_up_at: float | None = None  # seconds since the epoch


class Written(NamedTuple):
    inserted: int
    duplicates: int
    expired: int
    dead: int


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked. None: not filtered. `accounts` None means all (a key with `*`). Window in ms since the epoch: `start`
    inclusive, `end` exclusive. Newest first, always."""

    accounts: frozenset[str] | None
    start: int
    end: int
    service: str | None = None
    instance: str | None = None
    method: str | None = None
    level: str | None = None
    text: str | None = None  # words, all of which stand in the message
    principal: str | None = None
    operation: str | None = None
    request_id: str | None = None
    failure: bool | None = None
    region: str | None = None


class Row(NamedTuple):
    """`id` is time-ordered and unique in the store: the cursor's position. `record` is the stored bytes, decompressed."""

    id: int
    record: bytes
    cuts: Cuts


class Snapshot(NamedTuple):
    """`published`: rows up to this index sequence are visible. `caught_up_at`: seconds since the epoch, 0.0 when never."""

    published: int
    caught_up_at: float


class Process(NamedTuple):
    """What the index knows of one process: indexed records, and its statements summed up."""

    process: str
    service: str
    host: str
    started: int
    last: int  # highest sequence that a statement covers
    indexed: int
    lost: int  # stated
    excluded: int
    open_count: int
    watermark: int
    closed: Literal["", "provisional", "final", "adopted"]
    proven: bool


class Writer(Protocol):
    """One at a time, held by a lease; used by one thread. Errors are StoreErrors (`retriable` for a full disk or a lock)."""

    def positions(self, source: str) -> dict[str, Position]: ...

    def write(self, batch: Batch) -> Written:
        """Records once by (process, sequence) or, without a process, by id; then positions and what is visible. A crash
        anywhere inside repeats nothing and loses nothing."""

    def caught_up(self, at: float) -> None:
        """Nothing new, but everything until `at` is indexed. Cheap: called up to 40 times a second."""

    def close(self) -> None: ...


class Reader(Protocol):
    """Any number, in any process; each used by one thread at a time. Short read transactions. Errors are StoreErrors."""

    def snapshot(self) -> Snapshot: ...

    def page(
        self, query: Query, *, published: int, before: int | None, limit: int, bytes_max: int
    ) -> tuple[list[Row], bool]:
        """At most `limit` rows, newest first, with id < `before`, visible at `published`; and whether more follow. Ends after
        `bytes_max` bytes of records, but always holds at least one row if one matches."""

    def seen(self, accounts: frozenset[str] | None, service: str, instance: str) -> bool:
        """Whether any record of this service and instance was ever indexed for one of the accounts."""

    def processes(self) -> list[Process]: ...

    def dead_letters(self) -> int: ...

    def close(self) -> None: ...
