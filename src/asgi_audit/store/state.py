"""The contract of the index's state beside its rows: positions, processes, incidents and dead letters.

A store beyond one machine has no transaction over rows and state. The state may stay in one place (SQLite) while the
rows go elsewhere: then the rows are written first, and the state tells up to where they are valid.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from ..transport.base import Position

__all__ = [
    "MARGIN_MS", "NO_PROCESS", "Completeness", "Completion", "DeadLetter", "Extent", "Hold", "Incident", "Known",
    "Process", "ProcessState", "ReadUntil", "Resumed", "Standing", "StateReader", "StateWriter", "Window", "reached",
]  # fmt: skip

Standing = Literal["active", "left", "off"]
"""State of a process. active: it counts for T; left: closed and settled; off: silent for too long and written off."""


MARGIN_MS = 2000
"""T stays this far behind what was read: the first entry of a new process arrives some 100 ms after its first exchange
began, and T must not have passed that exchange by then."""


class ReadUntil(NamedTuple):
    """The newest fence that has passed, as stored. `at` (ms since the epoch): everything appended before it is in the
    store. `taken_at`: the same moment by the indexer's wall clock (ms); `at` follows a step of that clock only when the
    step is believed. `boot` (ms) and `boot_id`: the moment as time since the machine's boot. `elapsed` (ms): source
    time since the index was created, added up in small steps; it measures how long a process has been silent."""

    at: int
    taken_at: int
    boot: int
    boot_id: str
    elapsed: int


class Extent(NamedTuple):
    """The range that the index claims to be complete. `until`: T as last written (ms, exclusive; None before the first
    statement). `ceiling`: T advances with each fence up to this (ms), the lowest promise of an active process; None: no
    limit. `begins`: `complete_from` (ms), not counting the purge horizon; provisional until `is_begun`, and with
    `begins_at_fence` the next fence sets it. `above`: partitions whose beginning was already removed when they were
    first read."""

    until: int | None = None
    ceiling: int | None = None
    begins: int = 0
    is_begun: bool = False
    begins_at_fence: bool = False
    above: tuple[str, ...] = ()


def reached(extent: Extent, read_until: int | None) -> int | None:
    """Returns T. The indexer and every reader compute it with this function, so a passing fence needs no write of the
    extent."""
    until = extent.until
    if until is None or read_until is None:
        return until
    free = read_until - MARGIN_MS
    return max(until, free if extent.ceiling is None else min(extent.ceiling, free))


class Hold(msgspec.Struct, frozen=True):
    """A partition that keeps T from advancing, why, and since when (ms). `is_lost`: its loss was acknowledged, and T
    advances without it."""

    partition: str
    reason: str
    since: int
    is_lost: bool = False


class DeadLetter(NamedTuple):
    """Bytes that could not become a record. The store keeps at most 64 KiB of `payload` and `payload_bytes` as its
    true size."""

    source: str
    partition: str
    offset: int
    reason: str
    payload: bytes


NO_PROCESS = uuid.UUID(int=0)
"""In an incident that concerns no process, but the source or the index."""


class Incident(msgspec.Struct, kw_only=True):
    """A reason why records before T may be missing, or an irregularity in a process's statements. Times in ms since the
    epoch.

    Kinds: `missing` (sequences that neither arrived nor are stated lost), `gap` (statement numbers that did not
    arrive), `silent` (the process was written off: unproven from `start` on), `late` (a statement arrived after T had
    passed its window), `unproven` (the process that adopted its journal could not know where it ended), `altered` (root
    or chain do not match the records received). Of the source (`process` is `NO_PROCESS`): `retention_passed` (messages
    were removed before they were read), `topic_recreated` (the topic was deleted and created again, with or without all
    that it had held), `partition_lost` (an operator acknowledged that a partition is permanently lost). Of the index
    itself (also `NO_PROCESS`): `day_lost` (the file of a day was missing and `--new-index` accepted that), `restored`
    (restored from a backup; records taken from a journal since the backup are gone)."""

    id: int
    kind: Literal[
        "missing", "gap", "silent", "late", "unproven", "altered", "retention_passed", "topic_recreated",
        "partition_lost", "day_lost", "restored",
    ]  # fmt: skip
    process: uuid.UUID
    opened_at: int
    resolved_at: int | None = None
    start: int  # start of the window that it concerns, inclusive: exchanges begun in it
    end: int | None  # exclusive; None: no end yet
    ranges: list[tuple[int, int]] = []  # still missing: sequences, or numbers of statements; both ends inclusive
    count: int = 0  # their number; larger than the sum of `ranges` when there were too many to list
    detail: str = ""
    acknowledged: bool = False

    @property
    def is_acknowledged(self) -> bool:
        """An operator confirmed that nothing more will arrive: the window stays incomplete, and no alert should
        fire."""
        return self.acknowledged or self.kind in ("partition_lost", "day_lost", "restored")


class ProcessState(msgspec.Struct, kw_only=True):
    """The indexer's state of one process, which it needs after a restart; the store keeps it unchanged."""

    process: bytes
    partition: str
    started: int  # ms since the epoch
    standing: Standing = "active"
    number: int = 0  # of the last statement
    last: int = 0  # the highest sequence that a statement covers
    low: int = 0  # low(p), ms; its start before the first statement
    promises: list[tuple[int, int]] = []  # (last, W) of statements that cover more than is settled
    waiting: list[tuple[int, int]] = []  # absent sequences up to `last` that are not judged yet
    waiting_numbers: list[tuple[int, int]] = []  # likewise, of statements
    waiting_more: int = 0  # how many of them are stated lost without their numbers
    waiting_from: int = 0  # the window (ms) of what waits
    waiting_to: int = 0
    judged_after: int | None = None  # judged when a fence has passed that was taken after this (ms since boot)
    first_read: int | None = None  # None: its beginning was read; else what is absent below this may have been removed
    first_number: int = 0  # likewise, of statements
    first_at: int = 0  # when the first statement that was read was made, by the process's clock (ms)
    is_cut: bool = False  # it was read from a partition whose beginning was gone
    earlier: int = 0  # sequences before the beginning of what could be read
    heard: int = 0  # `ReadUntil.elapsed` when an entry of it was last read
    at: int = 0  # when the last statement was made, ms
    latest: int = 0  # latest creation time of a statement by its clock (ms), which may have been set back since
    clock_steps: int = 0  # how often its clock was set, by its last statement
    stale: int = 0  # W when its clock was set: it says nothing about later exchanges
    digest: str = ""  # SHA-256 of the last statement's bytes
    closed: str = ""
    lost: int = 0
    missing: int = 0
    unverified: int = 0  # statements whose root could not be checked: not all of their records came in order
    open_count: int = 0  # exchanges long open at the last statement, or that never end: their process died
    open_from: int = 0  # when the first and the last of them began, both inclusive, ms
    open_to: int = 0
    open_accounts: list[tuple[str, int]] = []  # how many of them belong to which account, where it is known
    open_oldest: int | None = None  # start of the oldest of all open ones
    above: list[tuple[int, int]] = []  # sequences beyond `last` that are settled, both ends inclusive
    leaves: list[bytes] = []  # the Merkle tree since the last statement, as `record.merkle.Tree` keeps it
    leaf_count: int = 0
    leaf_last: int = 0
    leaves_whole: bool = True  # False: the tree began in the middle


class Known(NamedTuple):
    """A stored process with its open incidents."""

    state: ProcessState
    incidents: list[Incident]


class Resumed(NamedTuple):
    """Completeness state to resume from: the claimed range, the newest fence that has passed (None: none), the active
    processes, the highest incident id ever used (0: none), the partitions that held T, and the creation time of the
    index (ms)."""

    extent: Extent = Extent()
    read_until: ReadUntil | None = None
    known: Sequence[Known] = ()
    last_incident: int = 0
    holds: Sequence[Hold] = ()
    made_at: int = 0


class Completion(NamedTuple):
    """Changes made by one batch: `processes` and `incidents` replace those with the same id; `holds` replaces all holds
    (None: unchanged). `refused`: number of losses that arrived in separate entries and are in no statement."""

    extent: Extent
    processes: Sequence[ProcessState] = ()
    incidents: Sequence[Incident] = ()
    refused: int = 0
    holds: Sequence[Hold] | None = None


class Completeness(NamedTuple):
    """For a window: T (ms, exclusive; None before the first statement), how many open incidents overlap it, and how
    many long-open exchanges began in it (including those of dead processes). Exchanges known to belong to other
    accounts are not counted. `begins`: `complete_from` (ms, inclusive; None while unknown): nothing is claimed about
    exchanges begun before it."""

    until: int | None
    incidents: int
    open: int
    begins: int | None = None


class Process(NamedTuple):
    """Counts of one process: its indexed records, and the sums of its statements."""

    process: uuid.UUID
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
    low: int = 0  # ms: everything that it stated up to this time is settled
    earlier: int = 0  # sequences that were removed before the index could read them
    unverified: int = 0  # statements whose Merkle root could not be checked: not all of their records came in order


class Window(NamedTuple):
    """Counts of one process in a window. `lost`: stated by statements that cover the window; losses with an unknown
    start time (Kafka refused a record) count in every window."""

    process: uuid.UUID
    indexed: int
    lost: int


class StateWriter(Protocol):
    """Writes the state that the indexer resumes from. Errors are StoreErrors."""

    def positions(self, source: str) -> dict[str, Position]: ...

    def read_until(self, mark: ReadUntil) -> None:
        """A fence has passed without new records. Cheap: called up to 40 times a second."""

    def resumed(self) -> Resumed: ...

    def known(self, process: bytes) -> Known | None:
        """One process, active or not."""


class StateReader(Protocol):
    """Reads how complete the rows are, and the processes that wrote them. Errors are StoreErrors."""

    def processes(self) -> list[Process]: ...

    def window(self, start: int, end: int) -> list[Window]:
        """The numbers of each process for exchanges begun from `start` (ms, inclusive) to `end` (exclusive). Counts
        rows: too costly for every response."""

    def completeness(self, start: int, end: int, accounts: frozenset[str] | None = None) -> Completeness:
        """Of the window from `start` (ms, inclusive) to `end` (exclusive), for `accounts` (None: all), as of now.
        Cheap: read for every response."""

    def incidents(self, start: int, end: int, *, limit: int = 1000) -> list[Incident]:
        """The newest incidents that overlap the window, open ones first; `ranges` is cut to 100 entries."""

    def holds(self) -> list[Hold]:
        """The partitions that keep T from advancing, including those acknowledged as lost."""

    def dead_letters(self) -> int: ...
