"""The tracker's state of one process: which of its sequences are settled, and what it promised.

The idea. A process numbers its exchanges and states from time to time "1 to 4 are all that began before 10:00:05".
Settled means that the index knows what became of a sequence: it was indexed, dead-lettered, expired, stated lost, or is
*missing*, which means that a statement covers it and its record did not arrive; that is an incident. settled(p) is the
largest S such that each of 1…S is settled. low(p) is the watermark W of the newest statement that covers nothing beyond
settled(p): before that time everything of this process is accounted for.

An example. Records 1, 2 and 4 came, then a statement that covers 1 to 4 with W = 10:00:05. Sequence 3 is missing: an
incident, and settled by it. low(p) is 10:00:05.

Usually a statement is judged when it comes. In two cases an absent record may still arrive: the process moved to
another partition, or what was read of it first is not its beginning (a record above 1, a statement that is not number
1). Then judging waits for a fence that is taken after that, because by then everything that was appended before has
been read; until then low(p) stays where it was. If the beginning has not come by then, and the partition began above
offset 0, the sequences below the first one that was read were removed before this index came. They are settled without
an incident, and `complete_from` covers them.

Bounds: ranges are kept, never single sequences: at most 10,000 beyond the last statement, 10,000 of an incident, 64
promises that wait, and one hash for each level of the Merkle tree.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ..record.ids import started_ms
from ..record.merkle import Tree
from ..record.statement import Statement
from ..store.state import Incident, ProcessState
from .incidents import IncidentKind, Incidents
from .ranges import Ranges

__all__ = ["RecordEvent", "StatementEvent", "StatementTree", "TrackedProcess", "started_of"]

_RECENT_MS = 60_000  # as the recorder has it: an exchange open for longer no longer holds a watermark back
_RANGES_MAX = 10_000
_PROMISES_MAX = 64
# A process makes a statement at least every 10 s; the rest is for its way to the index.
_CUT_MS = 15_000


class RecordEvent(msgspec.Struct, frozen=True, gc=False):
    """A record (also one that the store will drop as a duplicate), a dead letter whose process and sequence are known,
    or a loss entry. `leaf`: the RFC 6962 hash of the record's bytes."""

    process: bytes
    partition: str
    sequence: int
    timestamp: int | None = None  # ms; None when it cannot be read
    leaf: bytes | None = None
    is_loss: bool = False


class StatementEvent(msgspec.Struct, frozen=True):
    """`digest`: SHA-256 of the statement's bytes, hex."""

    process: bytes
    partition: str
    statement: Statement
    digest: str


class StatementTree(NamedTuple):
    """The Merkle tree of the records between the statement before and this one. `is_whole`: all of them are in it."""

    root: bytes
    size: int
    is_whole: bool


class TrackedProcess:
    """A process in memory: its stored state, and those parts of it that change often."""

    __slots__ = (
        "above", "begun", "book", "claim", "earliest", "heard", "is_new", "latest", "missing", "others", "state",
        "tree", "tree_number", "waiting", "waiting_numbers",
    )  # fmt: skip

    def __init__(
        self, book: Incidents, state: ProcessState, incidents: Iterable[Incident] = (), *, is_new: bool = False
    ) -> None:
        self.book = book
        self.state = state
        self.above = Ranges(state.above)
        self.waiting = Ranges(state.waiting)
        self.waiting_numbers = Ranges(state.waiting_numbers)
        self.tree = Tree(state.leaf_count, state.leaves)
        self.tree_number = state.number
        self.latest = state.digest  # of the statement after which the tree began
        self.heard: tuple[str, int] | None = None
        self.is_new = is_new
        self.earliest: int | None = None  # the first timestamp of its records in its first batch
        self.begun: int | None = None
        self.claim: Incident | None = None  # `silent` or `late`: T claims more than the process has promised
        self.missing: list[tuple[Incident, Ranges]] = []  # also gaps in the numbers of its statements
        self.others: list[Incident] = []  # `unproven` and `altered`
        for incident in incidents:
            if incident.kind in ("silent", "late"):
                self.claim = incident
            elif incident.kind in ("missing", "gap"):
                self.missing.append((incident, Ranges(incident.ranges)))
            else:
                self.others.append(incident)

    @property
    def low(self) -> int:
        """low(p), or less: after the clock was set back, a later promise that still waits may be lower."""
        return min([self.state.low, *[promise for _, promise in self.state.promises]])

    def stored_state(self) -> ProcessState:
        """The state with everything written back into it."""
        s = self.state
        s.above = list(self.above)
        s.waiting, s.waiting_numbers = list(self.waiting), list(self.waiting_numbers)
        s.leaves, s.leaf_count = self.tree.stack, self.tree.size
        s.missing = sum(incident.count for incident, _ in self.missing if incident.kind == "missing")
        return s

    # -- what comes

    def begins_with(self, e: RecordEvent | StatementEvent) -> bool:
        """Whether this is the beginning of a new process."""
        return e.statement.number == 1 if isinstance(e, StatementEvent) else e.sequence <= 1

    def wait_for_fence(self, boot: int, *, is_cut: bool) -> None:
        """Absent sequences may still come: judge them when a fence has passed that was taken after `boot` (ms)."""
        self.state.judged_after = boot
        self.state.is_cut = self.state.is_cut or is_cut

    def add_record(self, e: RecordEvent) -> None:
        s = self.state
        sequence = e.sequence
        if sequence < 1:
            return
        if s.first_read is not None:
            s.first_read = None if sequence == 1 else min(s.first_read, sequence)
        if sequence > s.last:
            if e.is_loss and sequence not in self.above:
                s.lost += 1
                self.book.refused += 1
            self.above.add(sequence, sequence)
            if len(self.above) > _RANGES_MAX:
                self.above.close_smallest_gap()
                if not any(incident.kind == "unproven" for incident in self.others):
                    detail = "more gaps than can be kept until the next statement"
                    self.open("unproven", s.low, self.book.now, detail)
        elif self.waiting and self._remove_waiting(sequence, sequence, is_loss=e.is_loss):
            self.book.refused += e.is_loss
        elif self.missing:
            found = self._note_arrived("missing", sequence, sequence, is_loss=e.is_loss)
            self.book.refused += found if e.is_loss else 0
        if sequence > s.leaf_last:
            s.leaf_last = sequence
            if e.leaf is not None:
                self.tree.append(e.leaf)
            else:
                s.leaves_whole = False
        if self.is_new:
            at = s.started if e.timestamp is None else e.timestamp
            self.earliest = at if self.earliest is None else min(at, self.earliest)

    def checked(self, said: Statement, digest: str) -> StatementTree | None:
        """The tree of the records since the statement before, and a new tree; None for a statement that came before."""
        s = self.state
        # An adopter numbers its statement from what it finds; with the headers gone, the number may be one that was
        # used.
        is_adopted = (
            said.closed == "adopted" and digest != self.latest and s.closed != "adopted" and said.last >= s.last
        )
        if said.number <= self.tree_number and not is_adopted:
            return None
        checked = StatementTree(self.tree.root(), self.tree.size, s.leaves_whole and s.leaf_last <= said.last)
        # A record beyond the statement came before it, so the next tree lacks that record.
        s.leaves_whole = s.leaf_last <= said.last
        s.leaf_last = max(s.leaf_last, said.last)
        self.tree = Tree()
        self.tree_number = max(self.tree_number, said.number)
        self.latest = digest
        return checked

    def add_statement(self, e: StatementEvent, checked: StatementTree | None) -> None:
        s, said = self.state, e.statement
        if checked is None:  # it came before
            self._note_arrived("gap", said.number, said.number)
            self.waiting_numbers.remove(said.number, said.number)
            for r in said.lost:
                self._remove_waiting(r.first, r.last, is_loss=True)
                self._note_arrived("missing", r.first, r.last, is_loss=True)
            self.settle()
            return
        if said.started and not s.number:
            s.started = said.started
        window = self._window(said)
        if said.number == 1:
            s.first_read = None
        s.first_at = s.first_at or said.at
        s.first_number = s.first_number or said.number
        self._check(e, checked, window)
        self._cover(said, window)
        if not said.proven:
            self.open("unproven", *window, "it ended without proof of its last sequence")
        self._note_open(said, window)
        if said.watermark:
            s.promises.append((max(s.last, said.last), self._promise(said)))
        s.number = max(s.number, said.number)
        s.last = max(s.last, said.last)
        self.above.remove(1, s.last)
        s.latest = max(s.latest, said.at)
        s.at, s.digest, s.closed, s.open_oldest = said.at, e.digest, said.closed, said.open_oldest
        self.settle()
        if self.is_new:
            self._note_begun(said)

    def _window(self, said: Statement) -> tuple[int, int]:
        """When the exchanges that the statement covers can have begun: from the promise before it, or the start of the
        oldest exchange that was open then, until it was made. (start, end) in ms, end exclusive."""
        s = self.state
        before = min(s.low, s.started) if not s.number else s.low
        if s.open_oldest is not None:
            before = min(before, s.open_oldest)
        start, end = min(before, said.at), max(before, said.at)
        if said.watermark > said.at or s.latest > said.at or said.clock_steps != s.clock_steps:
            # The clock was set in between: some exchanges began by the old clock, which may have gone on for a while
            # after the latest statement, the others by the new one.
            start = min(start, said.at - _RECENT_MS)
            end = max(end, s.latest + _RECENT_MS, said.watermark + _RECENT_MS)
        return start, end + 1

    def settle(self) -> None:
        """Move low(p) to W of the newest statement that covers nothing beyond what is settled."""
        s = self.state
        settled = next(iter(self.waiting))[0] - 1 if self.waiting else s.last
        while s.promises and s.promises[0][0] <= settled:
            s.low = s.promises.pop(0)[1]
        if len(s.promises) > _PROMISES_MAX:
            del s.promises[1:-1:2]

    def mark_missing(self, begins: int) -> int:
        """A fence has passed, so a sequence that is absent now will not arrive: it is missing. `begins`:
        `complete_from` (ms). Returns the time that `complete_from` must be at least."""
        s = self.state
        s.judged_after = None
        at_least = self._skip_removed(begins) if s.first_read is not None and s.is_cut else 0
        s.first_read = None
        count = self.waiting.total()
        window = s.waiting_from, s.waiting_to
        if count > s.waiting_more:
            self.open_ranges("missing", self.waiting, *window, "absent although everything written before was read")
        elif self.waiting_numbers:
            self.open_ranges("gap", self.waiting_numbers, *window, "absent although everything written before was read")
        self.waiting, self.waiting_numbers = Ranges(), Ranges()
        s.waiting_more = s.waiting_from = s.waiting_to = 0
        self.settle()
        return at_least

    def _skip_removed(self, begins: int) -> int:
        """Settle the sequences that were removed from the source before it was read. Returns as `mark_missing` does."""
        s = self.state
        assert s.first_read is not None
        self.waiting_numbers.remove(1, s.first_number - 1)
        earlier = Ranges([(a, min(b, s.first_read - 1)) for a, b in self.waiting if a < s.first_read])
        count = self.waiting.remove(1, s.first_read - 1)
        if not count:
            return 0
        # They were all sealed before the first statement that was read. If that was made long after `complete_from`, by
        # a clock that is ahead of the broker's, they may belong to the time that is claimed as complete.
        if s.first_at > begins + _CUT_MS:
            window = min(max(begins, s.started), s.first_at), s.first_at + 1
            self.open_ranges("missing", earlier, *window, "removed from the source before it was read")
            return 0
        s.earlier += count
        return s.first_at + 1

    def _remove_waiting(self, first: int, last: int, *, is_loss: bool = False) -> int:
        found = self.waiting.remove(first, last)
        if found:
            if is_loss:
                self.state.lost += found
            self.settle()
        return found

    def _note_arrived(self, kind: str, first: int, last: int, *, is_loss: bool = False) -> int:
        """Some missing sequences arrived, or were stated lost. Returns how many."""
        came = 0
        for incident, ranges in self.missing:
            if incident.kind == kind and (found := ranges.remove(first, last)):
                came += found
                incident.count -= found
                incident.ranges = list(ranges)
                if is_loss:
                    self.state.lost += found
                self.book.changed(incident)
                if not incident.count:
                    self.book.resolve(incident)
        self.missing = [(incident, ranges) for incident, ranges in self.missing if incident.resolved_at is None]
        return came

    def _check(self, e: StatementEvent, checked: StatementTree, window: tuple[int, int]) -> None:
        s, said = self.state, e.statement
        if s.digest and said.previous is not None and said.number == s.number + 1 and said.previous != s.digest:
            self.open("altered", *window, f"statement {said.number} does not follow the one received before it")
        if said.root is None:
            return
        if checked.is_whole and checked.size == said.count and said.first == s.last + 1:
            if said.root != checked.root.hex():
                detail = f"records {said.first} to {said.last} are not those that statement {said.number} covers"
                self.open("altered", *window, detail)
        else:
            s.unverified += 1

    def _cover(self, said: Statement, window: tuple[int, int]) -> None:
        """Settle the sequences that the statement covers: each arrived, is stated lost, or is missing. Or let them wait
        for a fence."""
        s = self.state
        s.lost += said.lost_more
        absent = Ranges(self.above.gaps(s.last + 1, said.last)) if said.last > s.last else Ranges()
        for r in said.lost:
            s.lost += r.last - max(r.first, s.last + 1) + 1 if r.last > s.last else 0
            absent.remove(r.first, r.last)
            if r.first <= s.last:
                self._remove_waiting(r.first, min(r.last, s.last), is_loss=True)
                self._note_arrived("missing", r.first, min(r.last, s.last), is_loss=True)
        numbers = range(s.number + 1, said.number)
        is_missing = absent.total() > said.lost_more
        if s.judged_after is not None:
            self._await_fence_for(absent if is_missing else Ranges(), numbers, said.lost_more, window)
            return
        if is_missing:
            nameless = f"; {said.lost_more} of them are stated lost without their numbers" if said.lost_more else ""
            self.open_ranges("missing", absent, *window, f"covered by statement {said.number}{nameless}")
        if numbers and not any(first < said.first for first, _ in absent):
            gap = Ranges([(numbers[0], numbers[-1])])
            self.open_ranges("gap", gap, *window, f"statements before {said.number}")

    def _await_fence_for(self, absent: Ranges, numbers: range, more: int, window: tuple[int, int]) -> None:
        s = self.state
        if not absent and not numbers:
            return
        for first, last in absent:
            self.waiting.add(first, last)
        s.waiting_more += more if absent else 0
        if numbers:
            self.waiting_numbers.add(numbers[0], numbers[-1])
        while len(self.waiting) > _RANGES_MAX:
            self.waiting.close_smallest_gap()
        s.waiting_from = min(s.waiting_from, window[0]) if s.waiting_to else window[0]
        s.waiting_to = max(s.waiting_to, window[1])

    def _promise(self, said: Statement) -> int:
        """W, or less after the clock was set back. W never decreases, so after that it is ahead of the process's
        clock, and exchanges begin before it again. Two signs show this: W is later than the statement's own time, or an
        exchange is open that began before W and is not long open. What the statement says of open exchanges is by the
        clock as it is now, so the promise is taken from them."""
        s = self.state
        if said.clock_steps != s.clock_steps:
            s.clock_steps, s.stale = said.clock_steps, said.watermark
        promise = min(said.watermark, said.at)
        if said.closed or said.open_count <= said.open_long or said.open_oldest is None:
            return promise  # no open exchange holds W back
        if not said.open_long:
            return min(promise, said.open_oldest)
        # The oldest exchange that holds W back is younger than a minute; the statement tells no more than that.
        return min(promise, said.at - _RECENT_MS) if said.watermark <= s.stale else promise

    def _note_open(self, said: Statement, window: tuple[int, int]) -> None:
        """Note the open exchanges that do not hold T back: of a running process the long-open ones, of a closed one
        all. While something waits to be judged, low(p) is an earlier statement's promise, so what that statement
        counted as open still counts."""
        s = self.state
        before = (s.open_count, s.open_from, s.open_to) if self.waiting and s.open_count else None
        if said.closed:
            s.open_count = said.open_count
            s.open_from = window[0] if said.open_oldest is None else said.open_oldest
            s.open_to = window[1] - 1
        else:
            s.open_count = said.open_long
            s.open_from = said.open_oldest or 0
            s.open_to = said.open_long_newest or s.open_from
        s.open_accounts = [(of.account, of.count) for of in said.open_accounts]
        if before is not None:
            s.open_from = min(s.open_from, before[1]) if s.open_count else before[1]
            s.open_to = max(s.open_to, before[2])
            s.open_count = max(s.open_count, before[0])
            s.open_accounts = []

    def _note_begun(self, said: Statement) -> None:
        """The earliest start of an exchange of a new process. That is later than the process's own start when its first
        statement says that nothing had begun, or when everything that it covers is here, so that it can be looked
        at."""
        is_missing = self.missing or self.waiting
        if said.number != 1 or said.lost or said.lost_more or is_missing or (said.last and self.earliest is None):
            return
        self.begun = min(t for t in (self.state.low, said.open_oldest, self.earliest) if t is not None)

    # -- incidents

    def open(self, kind: IncidentKind, start: int, end: int | None, detail: str) -> Incident:
        incident = self.book.open(self.state.process, kind, start, end, detail)
        if kind in ("unproven", "altered"):
            self.others.append(incident)
        return incident

    def open_ranges(self, kind: IncidentKind, ranges: Ranges, start: int, end: int, detail: str) -> None:
        count = ranges.total()
        ranges = Ranges(list(ranges)[:_RANGES_MAX])
        self.missing.append((self.book.open(self.state.process, kind, start, end, detail, list(ranges), count), ranges))

    def forget(self, horizon: int) -> None:
        """Records before `horizon` (ms) are expired: resolve the incidents that concern only them."""
        found = [i for i in (*(i for i, _ in self.missing), *self.others) if i.end is not None and i.end <= horizon]
        for incident in found:
            self.book.resolve(incident)
        if found:
            self.missing = [(i, ranges) for i, ranges in self.missing if i.resolved_at is None]
            self.others = [i for i in self.others if i.resolved_at is None]


def started_of(e: RecordEvent | StatementEvent, now: int) -> int:
    """When a process began, in ms: from its statement, else from its UUIDv7, else the time of its first record."""
    if isinstance(e, StatementEvent) and e.statement.started:
        return e.statement.started
    made = started_ms(e.process)
    if made is not None:
        return made
    at = e.statement.at if isinstance(e, StatementEvent) else e.timestamp
    return now if at is None else at
