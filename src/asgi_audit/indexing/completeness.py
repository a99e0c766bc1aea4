"""What the index may claim: T, until when everything is there, and the incidents that say otherwise. Pure: no clock,
no disk; the indexer hands in what it consumed and stores what comes out in the transaction of the positions.

A process p states ranges of its sequences. settled(p) is the largest S such that each of 1…S was indexed,
dead-lettered, expired, stated lost, or is *missing*: absent when a statement that covers it is consumed, which is an
incident. So a statement settles all that it covers, and low(p) is what the latest one promises (its watermark).
T = min low(p) over the processes that are active; one second before the source's time when there are none. Processes
that closed and are settled leave; one that is silent for 120 s of its partition's time is written off.

T as published never decreases. When a process turns up, or turns up again, with less than T had claimed, T stands and
an incident says from where it is unproven, until the process has caught up with it.

Bounds: memory is kept for active processes only, and for each of them ranges, never single sequences: at most 10,000
ranges beyond the last statement, 10,000 of an incident, one hash a level of the Merkle tree. A batch that comes twice
changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from ..record.digest import Tree
from ..record.line import TIME_END
from ..record.statement import Statement
from ..store.base import FOLLOW_MS, Completion, Incident, Known, ProcessState, Resumed
from .ranges import Ranges

__all__ = ["SILENT_MS", "Consumed", "Seen", "Stated", "Tracker"]

SILENT_MS = 120_000
# Of a step of the source's time at most so much counts as silence: a clock that is set ahead by two hours, or a laptop
# that slept, must not make every process silent at once.
_STEP_MS_MAX = 10_000
_RECENT_MS = 60_000  # as the recorder has it: an exchange open for longer no longer holds a watermark back
_RANGES_MAX = 10_000


class Seen(NamedTuple):
    """A record, whatever the store makes of it; or a dead letter whose place is known; or a loss entry. `leaf`: the
    RFC 6962 hash of the record's bytes."""

    process: bytes
    partition: str
    sequence: int
    timestamp: int | None = None  # ms; None when it cannot be read
    leaf: bytes | None = None
    is_loss: bool = False


class Stated(NamedTuple):
    """`digest`: SHA-256 of the statement's bytes, hex."""

    process: bytes
    partition: str
    statement: Statement
    digest: str


class Consumed(NamedTuple):
    """One batch, in the order of the source. `now`: the indexer's clock, ms. `caught_up`: the source's time when
    nothing was left to read, else None. `times`: where it is known by partition."""

    events: Sequence[Seen | Stated]
    now: int
    caught_up: int | None = None
    times: Mapping[str, int] = {}


class _Checked(NamedTuple):
    """The tree of a statement's records, taken when the statement came by."""

    root: bytes
    size: int
    is_whole: bool


class _Process:
    """A process in memory: its state, and the parts of it that are worked with."""

    __slots__ = (
        "above", "begun", "claim", "earliest", "heard", "is_new", "latest", "missing", "others", "state", "tree",
        "tree_number",
    )  # fmt: skip

    def __init__(self, state: ProcessState, incidents: Iterable[Incident] = (), *, is_new: bool = False) -> None:
        self.state = state
        self.above = Ranges(state.above)
        self.tree = Tree(state.leaf_count, state.leaves)
        self.tree_number = state.number
        self.latest = state.digest  # of the statement that the tree began behind
        self.heard: tuple[str, int] | None = None
        self.is_new = is_new
        self.earliest: int | None = None  # the first timestamp of its records in its first batch
        self.begun: int | None = None
        self.claim: Incident | None = None  # `silent` or `late`: T stands above what the process said
        self.missing: list[tuple[Incident, Ranges]] = []  # also gaps in the numbers of its statements
        self.others: list[Incident] = []  # `unproven` and `altered`
        for incident in incidents:
            if incident.kind in ("silent", "late"):
                self.claim = incident
            elif incident.kind in ("missing", "gap"):
                self.missing.append((incident, Ranges(incident.ranges)))
            else:
                self.others.append(incident)

    def kept(self) -> ProcessState:
        """The state with everything written back into it."""
        s = self.state
        s.above = list(self.above)
        s.leaves, s.leaf_count = self.tree.stack, self.tree.size
        s.missing = sum(incident.count for incident, _ in self.missing if incident.kind == "missing")
        return s


class Tracker:
    """`take` every batch before it is written; when the write fails, write the same again: it is taken already."""

    def __init__(self, resumed: Resumed = Resumed()) -> None:  # noqa: B008 - a constant
        self.until = resumed.until
        self._processes = {k.state.process: _Process(k.state, k.incidents) for k in resumed.known}
        self._last_incident = resumed.last_incident
        self._clocks: dict[
            str, tuple[int, int]
        ] = {}  # by partition, '' for all others: last time, and time that passed
        self._changed: dict[int, Incident] = {}
        self._refused = 0
        self._told: tuple[int | None, bool] | None = None
        self._caught_up = resumed.caught_up  # as readers see it while nobody is active
        self._now = 0
        self._looked_at = 0

    @property
    def follows(self) -> bool:
        """Nobody is active: T is the source's time."""
        return self.until is not None and not self._processes

    def unknown(self, events: Iterable[Seen | Stated]) -> set[bytes]:
        """Processes of which `take` must be told what the store knows."""
        return {e.process for e in events} - self._processes.keys()

    def take(self, consumed: Consumed, known: Mapping[bytes, Known] | None = None) -> Completion | None:
        """What the batch changes, None for nothing. `known`: what the store has of `unknown(events)`, if anything."""
        self._now = consumed.now
        self._observe(consumed)
        touched = self._settle(consumed.events, known or {})
        for p in touched.values():
            self._conclude(p)
        self._write_off(touched)
        states = [p.kept() for p in touched.values()]
        for p in touched.values():
            if p.state.standing != "active":
                del self._processes[p.state.process]
        self._publish(consumed, touched)
        incidents, self._changed = list(self._changed.values()), {}
        told = (self.until, self.follows)
        if not (states or incidents) and self._is_told(told):
            return None
        self._told = told
        refused, self._refused = self._refused, 0
        return Completion(*told, states, incidents, refused)

    def _is_told(self, now: tuple[int | None, bool]) -> bool:
        """Readers see it without a write: nothing changed, or all of them follow the source's time."""
        if now == self._told or now == (None, False):
            return True
        is_following = now[1] and self._told is not None and self._told[1]
        # A clock that was set back must not take T with it.
        return (
            is_following
            and now[0] is not None
            and self._caught_up is not None
            and self._caught_up - FOLLOW_MS >= now[0]
        )

    def forget(self, horizon: int, now: int) -> None:
        """Records below `horizon` (ms) are expired, which settles them: incidents that concern them alone are resolved;
        told with the next `take`. The store forgets those, and those of processes that are not active, by itself."""
        self._now = now  # a purge may come before the first batch
        for p in self._processes.values():
            found = [i for i in (*(i for i, _ in p.missing), *p.others) if i.end is not None and i.end <= horizon]
            for incident in found:
                self._resolve(incident)
            if found:
                p.missing = [(i, ranges) for i, ranges in p.missing if i.resolved_at is None]
                p.others = [i for i in p.others if i.resolved_at is None]

    def note(self, kind: Literal["retention_passed", "topic_recreated"], at: int, detail: str) -> None:
        """Something happened to the source itself; told with the next `take`. It concerns what T did not yet cover, and
        at most what began before it was noticed (`at`, ms)."""
        start = 0 if self.until is None else self.until
        self._last_incident += 1
        self._changed[self._last_incident] = Incident(
            id=self._last_incident, kind=kind, process=str(uuid.UUID(int=0)), opened_at=at, start=min(start, at),
            end=at + 1, detail=detail,
        )  # fmt: skip

    # -- one batch

    def _settle(self, events: Sequence[Seen | Stated], known: Mapping[bytes, Known]) -> dict[bytes, _Process]:
        """First all that came, then what the statements of the batch say about it: a record that stands behind its
        statement in the same batch is not missing."""
        touched: dict[bytes, _Process] = {}
        statements: list[tuple[_Process, Stated, _Checked | None]] = []
        process, p = b"", None
        for e in events:
            if e.process != process or p is None:
                process = e.process
                p = touched.get(process)
                if p is None:
                    p = touched[process] = self._heard(e, known.get(process))
            if isinstance(e, Stated):
                statements.append((p, e, _checked(p, e.statement, e.digest)))
            else:
                self._saw(p, e)
        for p, stated, checked in statements:
            self._hear_statement(p, stated, checked)
        return touched

    def _heard(self, e: Seen | Stated, known: Known | None) -> _Process:
        """The process of this event, active or taken up again. `heard` is counted in the time of its partition."""
        p = self._processes.get(e.process)
        if p is None:
            if known is not None:
                p = _Process(known.state, known.incidents)
            else:
                started = _started(e, self._now)
                p = _Process(
                    ProcessState(process=e.process, partition=e.partition, started=started, low=started), is_new=True
                )
            self._processes[e.process] = p
        p.state.partition = e.partition
        key = e.partition if e.partition in self._clocks else ""
        p.heard = (key, self._clocks[key][1] if key in self._clocks else 0)
        return p

    def _saw(self, p: _Process, e: Seen) -> None:
        s = p.state
        sequence = e.sequence
        if sequence < 1:
            return
        if sequence > s.last:
            if e.is_loss and sequence not in p.above:
                s.lost += 1
                self._refused += 1
            p.above.add(sequence, sequence)
            if len(p.above) > _RANGES_MAX:
                p.above.close_smallest_gap()
                if not any(incident.kind == "unproven" for incident in p.others):
                    self._open(p, "unproven", s.low, self._now, "more gaps than can be kept until a statement comes")
        elif p.missing:
            found = self._came(p, "missing", sequence, sequence, is_loss=e.is_loss)
            self._refused += found if e.is_loss else 0
        if sequence > s.leaf_last:
            s.leaf_last = sequence
            if e.leaf is not None:
                p.tree.append(e.leaf)
            else:
                s.leaves_whole = False
        if p.is_new:
            at = s.started if e.timestamp is None else e.timestamp
            p.earliest = at if p.earliest is None else min(at, p.earliest)

    def _came(self, p: _Process, kind: str, first: int, last: int, *, is_loss: bool = False) -> int:
        """What was missing is there, or stated lost; answers how much."""
        came = 0
        for incident, ranges in p.missing:
            if incident.kind == kind and (found := ranges.remove(first, last)):
                came += found
                incident.count -= found
                incident.ranges = list(ranges)
                if is_loss:
                    p.state.lost += found
                self._changed[incident.id] = incident
                if not incident.count:
                    self._resolve(incident)
        p.missing = [(incident, ranges) for incident, ranges in p.missing if incident.resolved_at is None]
        return came

    def _hear_statement(self, p: _Process, e: Stated, checked: _Checked | None) -> None:
        s, said = p.state, e.statement
        if checked is None:  # it came before
            self._came(p, "gap", said.number, said.number)
            for r in said.lost:
                self._came(p, "missing", r.first, r.last, is_loss=True)
            return
        if said.started and not s.number:
            s.started = said.started
        before = min(s.low, s.started) if not s.number else s.low
        if s.open_oldest is not None:
            before = min(before, s.open_oldest)
        window = min(before, said.at), max(before, said.at) + 1
        self._check(p, e, checked, window)
        self._cover(p, said, window)
        if not said.proven:
            self._open(p, "unproven", *window, "it ended in a way that leaves no proof of its last sequence")
        self._note_open(s, said, window)
        if said.watermark:
            # A clock that was set back: the old promise speaks of times that come again.
            s.low = said.watermark if said.watermark <= said.at else said.at - _RECENT_MS
        if p.is_new:
            self._note_begun(p, said)
        s.number = max(s.number, said.number)
        s.last = max(s.last, said.last)
        p.above.remove(1, s.last)
        s.at, s.digest, s.closed, s.open_oldest = said.at, e.digest, said.closed, said.open_oldest

    def _check(self, p: _Process, e: Stated, checked: _Checked, window: tuple[int, int]) -> None:
        s, said = p.state, e.statement
        if s.digest and said.previous is not None and said.number == s.number + 1 and said.previous != s.digest:
            self._open(p, "altered", *window, f"statement {said.number} follows another one than the one that came")
        if said.root is None:
            return
        if checked.is_whole and checked.size == said.count and said.first == s.last + 1:
            if said.root != checked.root.hex():
                detail = f"records {said.first} to {said.last} are not those that statement {said.number} speaks of"
                self._open(p, "altered", *window, detail)
        else:
            s.unverified += 1

    def _cover(self, p: _Process, said: Statement, window: tuple[int, int]) -> None:
        """What the statement covers is settled: there, stated lost, or from now on missing."""
        s = p.state
        s.lost += said.lost_more
        absent = Ranges(p.above.gaps(s.last + 1, said.last)) if said.last > s.last else Ranges()
        for r in said.lost:
            s.lost += r.last - max(r.first, s.last + 1) + 1 if r.last > s.last else 0
            absent.remove(r.first, r.last)
            if r.first <= s.last:
                self._came(p, "missing", r.first, min(r.last, s.last), is_loss=True)
        count = absent.total()
        if count > said.lost_more:
            nameless = f"; {said.lost_more} of them are stated lost without their numbers" if said.lost_more else ""
            self._open_ranges(p, "missing", absent, *window, f"covered by statement {said.number}{nameless}")
        numbers = range(s.number + 1, said.number)
        if numbers and not any(first < said.first for first, _ in absent):
            gap = Ranges([(numbers[0], numbers[-1])])
            self._open_ranges(p, "gap", gap, *window, f"statements before {said.number}")

    def _note_open(self, s: ProcessState, said: Statement, window: tuple[int, int]) -> None:
        """Open exchanges that nobody waits for: of a living process the long-open ones, else all."""
        if said.closed:
            s.open_count = said.open_count
            s.open_from = window[0] if said.open_oldest is None else said.open_oldest
            s.open_to = window[1] - 1
        else:
            s.open_count = said.open_long
            s.open_from = said.open_oldest or 0
            s.open_to = said.open_long_newest or s.open_from
        s.open_accounts = [(of.account, of.count) for of in said.open_accounts]

    # -- what follows from it

    def _conclude(self, p: _Process) -> None:
        """Whether it stays, and whether T had claimed more than it had said."""
        s = p.state
        if p.is_new:
            begun = s.started if p.begun is None else p.begun
            if self.until is not None and begun < self.until:
                self._claim(p, "late", begun, self.until, "first heard of when T had passed its start")
            p.is_new = False
        elif s.standing == "off" and p.claim is not None:
            p.claim.end = self.until
            self._changed[p.claim.id] = p.claim
        s.standing = "left" if s.closed and not p.above else "active"
        if p.claim is not None:
            if s.standing == "left" or (p.claim.end is not None and s.low >= p.claim.end):
                self._resolve(p.claim)
                p.claim = None
        elif s.standing == "active" and self.until is not None and s.low < self.until:
            self._claim(p, "late", s.low, self.until, "it goes on below what T had claimed")

    def _note_begun(self, p: _Process, said: Statement) -> None:
        """The earliest that an exchange of a new process can have begun that T did not know of: not its start, when its
        first statement says that there was nothing yet, or when all that it covers is there to be looked at."""
        if said.number != 1 or said.lost or said.lost_more or p.missing or (said.last and p.earliest is None):
            return
        p.begun = min(t for t in (p.state.low, said.open_oldest, p.earliest) if t is not None)

    def _write_off(self, touched: dict[bytes, _Process]) -> None:
        if abs(self._now - self._looked_at) < 1000:
            return
        self._looked_at = self._now
        for process, p in self._processes.items():
            key = p.state.partition if p.state.partition in self._clocks else ""
            if key not in self._clocks:
                continue
            passed = self._clocks[key][1]
            if p.heard is None or p.heard[0] != key:
                p.heard = (key, passed)
            if p.state.standing == "active" and passed - p.heard[1] > SILENT_MS:
                p.state.standing = "off"
                touched[process] = p
                if p.claim is None:
                    self._claim(p, "silent", p.state.low, None, "nothing was heard of it for 120 s")
                else:
                    p.claim.kind, p.claim.end = "silent", None
                    p.claim.detail = "nothing was heard of it for 120 s"
                    self._changed[p.claim.id] = p.claim

    def _publish(self, consumed: Consumed, touched: dict[bytes, _Process]) -> None:
        stated = [p.state.low for p in touched.values() if p.state.number]
        if self.until is None and not stated:
            return  # no statement yet: nothing can be claimed
        lows = [p.state.low for p in self._processes.values()]
        if lows:
            reached: int | None = min(min(lows), consumed.now)
        else:
            # What those that just left had said holds on, and the source's time goes on from there.
            reached = min(max(stated), consumed.now) if stated else None
            if self._caught_up is not None:
                reached = max(self._caught_up - FOLLOW_MS, reached or 0)
        if reached is not None and (self.until is None or reached > self.until):
            self.until = reached

    def _observe(self, consumed: Consumed) -> None:
        """Time that passed, in small steps only."""
        times = dict(consumed.times)
        if consumed.caught_up is not None:
            self._caught_up = consumed.caught_up
            times[""] = consumed.caught_up
        for key, at in times.items():
            before, passed = self._clocks.get(key, (at, 0))
            self._clocks[key] = (at, passed + min(max(at - before, 0), _STEP_MS_MAX))

    # -- incidents

    def _claim(self, p: _Process, kind: Literal["late", "silent"], start: int, end: int | None, detail: str) -> None:
        p.claim = self._open(p, kind, start, end, detail)

    def _open_ranges(
        self, p: _Process, kind: Literal["missing", "gap"], ranges: Ranges, start: int, end: int, detail: str
    ) -> None:
        count = ranges.total()
        ranges = Ranges(list(ranges)[:_RANGES_MAX])
        incident = self._open(p, kind, start, end, detail, list(ranges), count)
        p.missing.append((incident, ranges))

    def _open(
        self,
        p: _Process,
        kind: Literal["missing", "gap", "silent", "late", "unproven", "altered"],
        start: int,
        end: int | None,
        detail: str,
        ranges: list[tuple[int, int]] | None = None,
        count: int = 0,
    ) -> Incident:
        self._last_incident += 1
        incident = Incident(
            id=self._last_incident,
            kind=kind,
            process=str(uuid.UUID(bytes=p.state.process)),
            opened_at=self._now,
            start=start,
            end=end,
            ranges=ranges or [],
            count=count,
            detail=detail,
        )
        self._changed[incident.id] = incident
        if kind in ("unproven", "altered"):
            p.others.append(incident)
        return incident

    def _resolve(self, incident: Incident) -> None:
        incident.resolved_at = self._now
        self._changed[incident.id] = incident


def _checked(p: _Process, said: Statement, digest: str) -> _Checked | None:
    """The tree of the records since the statement before, and a new tree; None for a statement that came before."""
    s = p.state
    # Whoever adopts a journal whose headers are gone does not know how many statements there were.
    is_adopted = said.closed == "adopted" and digest != p.latest and s.closed != "adopted" and said.last >= s.last
    if said.number <= p.tree_number and not is_adopted:
        return None
    checked = _Checked(p.tree.root(), p.tree.size, s.leaves_whole and s.leaf_last <= said.last)
    # Records beyond it came before it: the next tree would begin without them.
    s.leaves_whole = s.leaf_last <= said.last
    s.leaf_last = max(s.leaf_last, said.last)
    p.tree = Tree()
    p.tree_number = max(p.tree_number, said.number)
    p.latest = digest
    return checked


def _started(e: Seen | Stated, now: int) -> int:
    """When a process began, in ms: it says so, or its UUIDv7 does; else its first record's time."""
    if isinstance(e, Stated) and e.statement.started:
        return e.statement.started
    made = int.from_bytes(e.process[:6], "big")
    if e.process[6] >> 4 == 7 and made < TIME_END:
        return made
    at = e.statement.at if isinstance(e, Stated) else e.timestamp
    return now if at is None else at
