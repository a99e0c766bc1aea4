"""The contract of the store: what the indexer writes and what the query service reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import msgspec

from ..record.codec import Decoded
from ..record.statement import Statement
from ..record.views import Cuts
from ..transport.base import Position

__all__ = [
    "FOLLOW_MS", "Batch", "Completeness", "Completion", "DeadLetter", "Incident", "Known", "Process", "ProcessState",
    "Purged", "Query", "Reader", "Resumed", "Row", "Snapshot", "Standing", "Writer", "Written",
]  # fmt: skip

Standing = Literal["active", "left", "off"]
"""Of a process: it counts for T; closed and settled; silent for too long and written off."""


FOLLOW_MS = 1000
"""While nobody is active T follows the source's time so far behind: a process that begins is heard of some 100 ms after
its start, and T must not have passed it by then (without it, five of six starts were an incident)."""


class DeadLetter(NamedTuple):
    """Bytes that could not become a record. The store keeps at most 64 KiB of `payload` and `payload_bytes` as its
    true size."""

    source: str
    partition: str
    offset: int
    reason: str
    payload: bytes


class Incident(msgspec.Struct, kw_only=True):
    """Why T may say more than is there, or what was noticed about a process's own statements. Times in ms since the
    epoch.

    Kinds: `missing` (sequences that neither came nor are stated lost), `gap` (numbers of statements that did not come),
    `silent` (written off: unproven from `start` on), `late` (T had passed what the process had yet to say), `unproven`
    (whoever adopted its journal could not know its true tail), `altered` (root or chain do not fit what came);
    and of no process, but of the source (`process` is the nil UUID): `retention_passed` (the topic removed messages
    before they were read), `topic_recreated` (the topic was made anew, with or without all that it had held)."""

    id: int
    kind: Literal[
        "missing", "gap", "silent", "late", "unproven", "altered", "retention_passed", "topic_recreated"
    ]  # fmt: skip
    process: str
    opened_at: int
    resolved_at: int | None = None
    start: int  # of the window that it concerns, inclusive: exchanges begun in it
    end: int | None  # exclusive; None: no end yet
    ranges: list[tuple[int, int]] = []  # still missing: sequences, or numbers of statements; both ends inclusive
    count: int = 0  # how many they are: more than `ranges` name, when they were too many to name
    detail: str = ""


class ProcessState(msgspec.Struct, kw_only=True):
    """What the indexer must know of a process to go on; the store keeps it as it is."""

    process: bytes
    partition: str
    started: int  # ms since the epoch
    standing: Standing = "active"
    number: int = 0  # of the last statement
    last: int = 0  # the highest sequence that a statement covers
    low: int = 0  # low(p), ms; its start before the first statement
    at: int = 0  # when the last statement was made, ms
    digest: str = ""  # SHA-256 of the last statement's bytes
    closed: str = ""
    lost: int = 0
    missing: int = 0
    unverified: int = 0  # statements whose root could not be checked: not all of their records came in order
    open_count: int = 0  # exchanges open at the last statement for long, or for ever: their process died
    open_from: int = 0  # when the first and the last of them began, both inclusive, ms
    open_to: int = 0
    open_accounts: list[tuple[str, int]] = []  # how many of them belong to which account, where it is known
    open_oldest: int | None = None  # start of the oldest of all open ones
    above: list[tuple[int, int]] = []  # sequences beyond `last` that are settled, both ends inclusive
    leaves: list[bytes] = []  # the Merkle tree since the last statement, as `record.digest.Tree` keeps it
    leaf_count: int = 0
    leaf_last: int = 0
    leaves_whole: bool = True  # False: the tree began in the middle


class Known(NamedTuple):
    """A process as the store has it, with its incidents that are open."""

    state: ProcessState
    incidents: list[Incident]


class Resumed(NamedTuple):
    """Where completeness goes on: T as it was last published, the processes that are active, the highest id of an
    incident ever given (0: none), and what `caught_up_at` says (ms; None: never)."""

    until: int | None = None
    known: Sequence[Known] = ()
    last_incident: int = 0
    caught_up: int | None = None


class Completion(NamedTuple):
    """What a batch changes: `processes` and `incidents` replace those with the same id. `until`: T in ms, exclusive;
    None before the first statement. `follows`: nobody is active, so T is wherever `caught_up_at` stands. `refused`: how
    many losses it brings that stand in an entry of their own, and in no statement."""

    until: int | None
    follows: bool
    processes: Sequence[ProcessState] = ()
    incidents: Sequence[Incident] = ()
    refused: int = 0


class Completeness(NamedTuple):
    """For a window: T (ms, exclusive; None before the first statement), how many open incidents overlap it, and how
    many long-open exchanges began in it (those of a process that died included) that are not known to belong to an
    account that was not asked for."""

    until: int | None
    incidents: int
    open: int


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
    completion: Completion | None = None  # written with the positions


class Written(NamedTuple):
    inserted: int
    duplicates: int
    expired: int
    dead: int


class Purged(NamedTuple):
    """What a purge removed, and where the horizon stands after it (ms; records below it are expired)."""

    horizon: int
    days: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked. None: not filtered. `accounts` None means all (a key with `*`). Window in ms since the epoch:
    `start` inclusive, `end` exclusive. Newest first, always."""

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
    """`id` is time-ordered and unique in the store: the cursor's position. `record` is the stored bytes,
    decompressed."""

    id: int
    record: bytes
    cuts: Cuts


class Snapshot(NamedTuple):
    """`published`: rows up to this index sequence are visible. `caught_up_at`: seconds since the epoch, 0.0 when
    never."""

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
    missing: int = 0  # covered by a statement, and neither indexed nor stated lost
    standing: Standing = "active"
    low: int = 0  # ms: what it said until here is settled


class Writer(Protocol):
    """One at a time, held by a lease; used by one thread. Errors are StoreErrors (`retriable` for a full disk or a
    lock)."""

    @property
    def id(self) -> str:
        """Of the index: random, from its making on."""

    @property
    def made_at_ms(self) -> int | None:
        """When the index was made; None when that is unknown."""

    def positions(self, source: str) -> dict[str, Position]: ...

    def write(self, batch: Batch) -> Written:
        """Records once by (process, sequence) or, without a process, by id; then positions and what is visible. A crash
        anywhere inside repeats nothing and loses nothing."""

    def caught_up(self, at: float) -> None:
        """Nothing new, but everything until `at` is indexed. Cheap: called up to 40 times a second."""

    def purge(self, before: int) -> Purged:
        """Remove every whole day (UTC) before `before` (ms), at most up to today, for good. The horizon moves forward
        only; a crash inside is finished by the next writer. Forgotten with them: incidents whose window ends before the
        horizon, but open ones of active processes (see `Tracker.forget`), and processes that are gone."""

    def purge_asked(self) -> int | None:
        """What another process asks to be purged, as `purge` takes it. Cheap: asked once a second."""

    def acknowledge_asked(self) -> int:
        """Do what other processes ask: give the `silent` incidents of a process that is known to be gone for good the
        end where it was written off. Answers how many. Cheap: asked once a second."""

    def last_used(self) -> float | None:
        """Wall-clock time (s) at which the index was last written before this writer opened it."""

    def resumed(self) -> Resumed: ...

    def known(self, process: bytes) -> Known | None:
        """One process, active or not."""

    def close(self) -> None: ...


class Reader(Protocol):
    """Any number, in any process; each used by one thread at a time. Short read transactions. Errors are
    StoreErrors: so is an index that is gone, or another one than belongs here."""

    def check(self) -> None:
        """Raises StoreError when something of the index is gone. A look at the directory: for readiness, not for each
        answer."""

    def snapshot(self) -> Snapshot: ...

    def page(
        self, query: Query, *, published: int, before: int | None, limit: int, bytes_max: int
    ) -> tuple[list[Row], bool]:
        """At most `limit` rows, newest first, with id < `before`, visible at `published`; and whether more follow.
        Ends after `bytes_max` bytes of records, but always holds at least one row if one matches."""

    def seen(self, accounts: frozenset[str] | None, service: str, instance: str) -> bool:
        """Whether any record of this service and instance was ever indexed for one of the accounts."""

    def processes(self) -> list[Process]: ...

    def completeness(self, start: int, end: int, accounts: frozenset[str] | None = None) -> Completeness:
        """Of the window from `start` (ms, inclusive) to `end` (exclusive), for `accounts` (None: all), as of now.
        Cheap: asked for every answer."""

    def incidents(self, start: int, end: int, *, limit: int = 1000) -> list[Incident]:
        """The newest that overlap the window, open ones first, with `ranges` cut to 100."""

    def dead_letters(self) -> int: ...

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        """`stopped` is asked now and then while a question runs: once it is true, the question raises StoreError."""

    def close(self) -> None: ...
