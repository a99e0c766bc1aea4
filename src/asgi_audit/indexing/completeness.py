"""T: until when the index is complete, and the incidents that limit this claim.

The idea: two shops send their receipts to one office in numbered envelopes. Now and then a shop encloses a note: "every
sale before 10:04 has a number of at most 57". When the office has all envelopes of both shops up to the numbers of such
notes, it can say "complete until 10:04". But a third shop may have opened, which the office does not know yet. So the
office also notes when it last emptied its letter box: a shop that began to sell before that, and posts its first
envelope within 2 s, is known. T is the lower of the two times.

An example. Process A promises 10:04:10 and process B 10:04:07, all sequences that the two promises cover are indexed,
and everything that was appended before 10:04:11 has been read. T = min(10:04:10, 10:04:07, 10:04:11 − 2 s) = 10:04:07.

The rule: T = max(T, min(low(p) over the active processes, read_until − 2 s)).

* low(p) is what process p promised about its settled sequences, see `process.py`. It is on p's own clock, the same one
  as p's records, so differences between clocks do no harm.
* read_until is the time of the newest fence that has passed (`transport/fences.py`), checked by `source_time.py`.
* A process is active from its first message until it has closed and is settled, or is written off after 120 s without
  a message. Then T advances without it, and a `silent` incident says from when on the process is unproven. The incident
  is resolved when the process's journal is read after all. A process that has stated nothing yet holds T.
* After the source was opened, or its partitions changed, T does not move before a fence has passed that was taken after
  that.
* When a process appears, or appears again, and has promised less than T already claims, that is a `late` incident in
  the same commit. It is resolved when the process has caught up with T.

The limit of T. A process of which no broker (or journal root) has received anything is unknown. It makes a statement
when it opens its journal, and at once when it continues after it closed. If that statement needs more than 2 s to be
appended, because the host is cut off, T passes the process's start. When the statement arrives, an incident is opened.

T has a beginning, `complete_from`. What was removed from the source before this index read it is not in the index, and
nothing is claimed about it.

This module is pure: it has no clock and no disk. The indexer passes in what it read, and stores the result in the
transaction that stores the positions. Only active processes are kept in memory. A repeated batch changes
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from ..store.state import Completion, Extent, Hold, Known, ProcessState, ReadUntil, Resumed, reached
from ..transport.base import Fence
from .incidents import Incidents
from .process import RecordEvent, StatementEvent, StatementTree, TrackedProcess, started_of
from .source_time import SourceTime

__all__ = ["SILENT_MS", "Consumed", "RecordEvent", "StatementEvent", "Tracker"]

SILENT_MS = 120_000
# Readers compute T from the stored extent and the newest fence, so T is not written for each fence. It is written when
# it has moved this far, because after a power cut the fence on disk may be an older one.
_WRITTEN_MS = 60_000


class Consumed(NamedTuple):
    """One batch, in the order of the source. `now`: the indexer's clock, ms; `boot`: ms since the machine started. The
    rest as in `transport.base.Polled`, times in ms."""

    events: Sequence[RecordEvent | StatementEvent]
    now: int
    boot: int = 0
    fence: Fence | None = None
    times: Mapping[str, int] = {}
    begins: Mapping[str, int | None] = {}
    holds: Mapping[str, str] | None = None
    has_changed: bool = False
    recovered: Collection[str] = ()


class Tracker:
    """Call `take` once with each batch, before it is written. When the write fails, write the same result again.
    `begins`: the time (ms) that the source, or the index, was made: nothing before it is complete."""

    def __init__(self, resumed: Resumed = Resumed(), *, begins: int = 0) -> None:  # noqa: B008 - a constant
        extent = resumed.extent
        self._time = SourceTime(resumed.read_until)
        self.until = reached(extent, None if resumed.read_until is None else resumed.read_until.at)
        self._is_held = True
        self._begins = extent.begins if extent.is_begun else max(extent.begins, begins)
        self._is_begun = extent.is_begun
        self._begins_at_fence = extent.begins_at_fence
        self._begins_after = -1  # ms since boot: a fence that was taken after it says where it begins
        self._above = dict.fromkeys(extent.above)
        self._book = Incidents(resumed.last_incident)
        self._processes: dict[bytes, TrackedProcess] = {}
        for k in resumed.known:
            self._processes[k.state.process] = p = TrackedProcess(self._book, k.state, k.incidents)
            if p.state.judged_after is not None:
                p.state.judged_after = -1  # any fence is taken after this
            if self._time.mark is not None:
                p.heard = "", min(p.state.heard, self._time.mark.elapsed)
        self._has_stated = self.until is not None or any(p.state.number for p in self._processes.values())
        self._holds = {h.partition: h for h in resumed.holds}
        self._published_holds = list(self._holds.values())
        self._published: Extent | None = extent
        self._looked_at = 0

    @property
    def mark(self) -> ReadUntil | None:
        """The newest fence that has passed."""
        return self._time.mark

    @property
    def lost_partitions(self) -> list[str]:
        """Partitions that were acknowledged as lost: fences ignore them."""
        return [h.partition for h in self._holds.values() if h.is_lost]

    def unknown(self, events: Iterable[RecordEvent | StatementEvent]) -> set[bytes]:
        """The processes for which `take` needs what the store knows."""
        return {e.process for e in events} - self._processes.keys()

    def take(self, consumed: Consumed, known: Mapping[bytes, Known] | None = None) -> Completion | None:
        """What the batch changes; None when it changes nothing. `known`: what the store has of `unknown(events)`."""
        self._book.now = consumed.now
        self._time.observe(consumed.times)
        self._is_held = self._is_held or consumed.has_changed
        self._note_begins(consumed)
        touched = self._settle(consumed, known or {})
        if consumed.fence is not None:
            self._pass_fence(consumed.fence, touched)
        for p in touched.values():
            self._conclude(p)
        self._write_off(touched, consumed.now)
        states = [p.stored_state() for p in touched.values()]
        for p in touched.values():
            if p.state.standing != "active":
                del self._processes[p.state.process]
        extent = self._publish()
        self._note_holds(consumed)
        incidents, refused = self._book.taken()
        holds = list(self._holds.values())
        if not (states or incidents) and holds == self._published_holds and self._is_published(extent):
            return None
        changed_holds = None if holds == self._published_holds else holds
        self._published, self._published_holds = extent, holds
        return Completion(extent, states, incidents, refused, changed_holds)

    def _is_published(self, extent: Extent) -> bool:
        """Whether readers compute this extent from what is stored already."""
        if self._published is None or self._published._replace(until=extent.until) != extent:
            return False
        if self._published.until is None or extent.until is None or self.mark is None:
            return self._published.until == extent.until
        is_reckoned = reached(self._published, self.mark.at) == extent.until
        return is_reckoned and extent.until - self._published.until < _WRITTEN_MS

    def forget(self, horizon: int, now: int) -> None:
        """Records before `horizon` (ms) are expired and therefore settled: resolve the incidents that concern only
        them. The next `take` returns the change. The store removes such incidents itself, and those of inactive
        processes."""
        self._book.now = now  # a purge may come before the first batch
        for p in self._processes.values():
            p.forget(horizon)

    def note(self, kind: Literal["retention_passed", "topic_recreated"], at: int, detail: str) -> None:
        """Something happened to the source itself. The incident reaches from T to `at` (ms), when it was noticed; the
        next `take` returns it."""
        self._book.of_source(kind, at, 0 if self.until is None else self.until, detail)

    def give_up(self, partition: str, at: int) -> bool:
        """An operator acknowledged (`at`, ms) that this partition is permanently lost: T advances without it, and an
        incident remains. Returns False when the partition does not hold T. The next `take` returns the change."""
        hold = self._holds.get(partition)
        if hold is None:
            return False
        if not hold.is_lost:
            self._holds[partition] = Hold(partition, hold.reason, hold.since, True)
            start = 0 if self.until is None else self.until
            self._book.of_source(
                "partition_lost", at, start, f"partition {partition} is permanently lost: acknowledged"
            )
        return True

    # -- one batch

    def _settle(self, consumed: Consumed, known: Mapping[bytes, Known]) -> dict[bytes, TrackedProcess]:
        """Take all records of the batch first and apply its statements after that: a record that comes after its
        statement in the same batch is not missing."""
        touched: dict[bytes, TrackedProcess] = {}
        statements: list[tuple[TrackedProcess, StatementEvent, StatementTree | None]] = []
        for e in consumed.events:
            p = touched.get(e.process)
            if p is None or p.state.partition != e.partition:
                p = touched[e.process] = self._process_of_event(e, consumed, p, known.get(e.process))
            if isinstance(e, StatementEvent):
                statements.append((p, e, p.checked(e.statement, e.digest)))
            else:
                p.add_record(e)
        for p, stated, checked in statements:
            p.add_statement(stated, checked)
        return touched

    def _process_of_event(
        self, e: RecordEvent | StatementEvent, consumed: Consumed, p: TrackedProcess | None, known: Known | None
    ) -> TrackedProcess:
        """The process of this event: active, known from the store, or new."""
        p = p or self._processes.get(e.process)
        is_cut = e.partition in self._above
        if p is None and known is not None:
            p = TrackedProcess(self._book, known.state, known.incidents)
            if p.state.judged_after is not None:
                p.state.judged_after = consumed.boot  # the stored value may be from before the machine restarted
        if p is None:
            started = started_of(e, consumed.now)
            state = ProcessState(process=e.process, partition=e.partition, started=started, low=started)
            p = TrackedProcess(self._book, state, is_new=True)
            if not p.begins_with(e):
                state.first_read = e.statement.last + 1 if isinstance(e, StatementEvent) else e.sequence
                state.first_number = e.statement.number if isinstance(e, StatementEvent) else 0
                p.wait_for_fence(consumed.boot, is_cut=is_cut)
        elif p.state.partition != e.partition:
            p.wait_for_fence(consumed.boot, is_cut=is_cut)
        self._processes[e.process] = p
        p.state.partition = e.partition
        p.heard = self._time.elapsed(e.partition)
        p.state.heard = p.heard[1] if p.heard is not None and not p.heard[0] else 0
        return p

    def _pass_fence(self, fence: Fence, touched: dict[bytes, TrackedProcess]) -> None:
        self._time.passed(fence)
        self._is_held = False
        boot = int(fence.boot * 1000)
        if not self._is_begun and boot > self._begins_after:
            mark = self._time.mark
            assert mark is not None
            if self._begins_at_fence:
                self._begins = max(self._begins, mark.at)
            self._is_begun, self._begins_at_fence = True, False
        for process, p in self._processes.items():
            after = p.state.judged_after
            if after is not None and boot > after and p.state.number:
                self._begins = max(self._begins, p.mark_missing(self._begins))
                touched[process] = p

    def _note_begins(self, consumed: Consumed) -> None:
        for partition, at in consumed.begins.items():
            self._above[partition] = None
            if at is None:
                self._is_begun, self._begins_at_fence = False, True
                self._begins_after = consumed.boot
            else:
                self._begins = max(self._begins, at)

    # -- what follows from it

    def _conclude(self, p: TrackedProcess) -> None:
        """Decide whether the process stays active, and whether T claimed more than the process had promised."""
        s = p.state
        self._has_stated = self._has_stated or s.number > 0
        if p.is_new:
            begun = s.started if p.begun is None else p.begun
            if self.until is not None and begun < self.until:
                p.claim = p.open("late", begun, self.until, "its first message came after T had passed its start")
            p.is_new = False
        elif s.standing == "off" and p.claim is not None:
            p.claim.end = self.until
            self._book.changed(p.claim)
        s.standing = "left" if s.closed and not p.above and not p.waiting else "active"
        if p.claim is not None:
            if p.low < p.claim.start:  # its clock was set back
                p.claim.start = p.low
                self._book.changed(p.claim)
            if s.standing == "left" or (p.claim.end is not None and p.low >= p.claim.end):
                self._book.resolve(p.claim)
                p.claim = None
        elif s.standing == "active" and self.until is not None and p.low < self.until:
            p.claim = p.open("late", p.low, self.until, "it continues with less than T had claimed")

    def _write_off(self, touched: dict[bytes, TrackedProcess], now: int) -> None:
        if abs(now - self._looked_at) < 1000:
            return
        self._looked_at = now
        for process, p in self._processes.items():
            clock = self._time.elapsed(p.state.partition)
            if clock is None or p.state.standing != "active":
                continue
            if p.heard is None or p.heard[0] != clock[0]:
                p.heard = clock
                p.state.heard = 0 if clock[0] else clock[1]
            if clock[1] - p.heard[1] > SILENT_MS:
                p.state.standing = "off"
                touched[process] = p
                if p.claim is None:
                    p.claim = p.open("silent", p.low, None, "it sent no message for 120 s")
                else:
                    p.claim.kind, p.claim.end = "silent", None
                    p.claim.detail = "it sent no message for 120 s"
                    self._book.changed(p.claim)

    def _publish(self) -> Extent:
        """Move T, and return what readers need to compute it."""
        active = self._processes.values()
        if self._is_held or not all(p.state.number for p in active):
            ceiling = self.until
        else:
            ceiling = min([p.low for p in active], default=None)
            mark = self._time.mark
            if mark is not None and self._has_stated:
                start = Extent(-(1 << 62) if self.until is None else self.until, ceiling)
                self.until = reached(start, mark.at)
        above = tuple(self._above)
        return Extent(self.until, ceiling, self._begins, self._is_begun, self._begins_at_fence, above)

    def _note_holds(self, consumed: Consumed) -> None:
        """A partition that was acknowledged as lost stays lost until the source reports it as recovered; a single poll
        that does not name it proves nothing."""
        if consumed.holds is None and not consumed.recovered:
            return
        known = {name: h for name, h in self._holds.items() if not (h.is_lost and name in consumed.recovered)}
        holds = {name: h for name, h in known.items() if h.is_lost or consumed.holds is None}
        for name, reason in (consumed.holds or {}).items():
            before = known.get(name)
            since, is_lost = (before.since, before.is_lost) if before else (consumed.now, False)
            holds[name] = Hold(name, reason, since, is_lost)
        self._holds = holds
