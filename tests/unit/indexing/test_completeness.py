"""T and the incidents, case by case. Times in ms after `BASE`; one process unless a test has more."""

from __future__ import annotations

from typing import Any

import msgspec
from tests.support.digest import root_of

from asgi_audit.indexing.completeness import Consumed, RecordEvent, StatementEvent, Tracker
from asgi_audit.record.merkle import leaf_hash
from asgi_audit.record.statement import Lost, OpenOf, Statement
from asgi_audit.store.state import MARGIN_MS, Completion, Hold, Incident, Known, ProcessState, Resumed, reached
from asgi_audit.transport.base import Fence

BASE = 1_795_348_800_000


class Indexer:
    """A tracker with a store that keeps its results. A fence that holds nothing back passes with each batch, unless
    `fence` gives another time, or None for no fence."""

    def __init__(self) -> None:
        self.tracker = Tracker()
        self.states: dict[bytes, ProcessState] = {}
        self.incidents: dict[int, Incident] = {}
        self.told = Resumed()
        self.boot = 0

    def take(
        self,
        *events: RecordEvent | StatementEvent,
        now: int,
        fence: int | None = 0,
        boot: int | None = None,
        **more: Any,
    ) -> Completion | None:
        """`fence` 0: a late one that holds nothing. `boot`: the fence's, ms; by default it counts with every batch."""
        known = {p: self.known(p) for p in self.tracker.unknown(events) if p in self.states}
        self.boot += 1
        passed = None
        if fence is not None:
            at = BASE + (now + MARGIN_MS if fence == 0 else fence)
            passed = Fence(at / 1000, (self.boot if boot is None else boot) / 1000, f"boot {self.boot}")
        completion = self.tracker.take(Consumed(events, BASE + now, self.boot, passed, **more), known)
        if completion is not None:
            self.states |= {s.process: s for s in completion.processes}
            self.incidents |= {i.id: i for i in completion.incidents}
            holds = self.told.holds if completion.holds is None else completion.holds
            self.told = self.told._replace(extent=completion.extent, holds=holds)
        self.told = self.told._replace(read_until=self.tracker.mark)
        return completion

    def known(self, process: bytes) -> Known:
        return Known(self.states[process], [i for i in self.open() if i.process.bytes[-1] == process[-1]])

    def open(self) -> list[Incident]:
        return [i for i in self.incidents.values() if i.resolved_at is None]

    def until(self) -> int | None:
        """As readers compute it."""
        mark = self.told.read_until
        until = reached(self.told.extent, None if mark is None else mark.at)
        assert until == self.tracker.until
        return None if until is None else until - BASE

    def restart(self) -> None:
        known = [self.known(p) for p, s in self.states.items() if s.standing == "active"]
        self.told = self.told._replace(known=known, last_incident=max(self.incidents, default=0))
        self.tracker = Tracker(self.told)


def process(n: int, started: int = 0) -> bytes:
    return (BASE + started).to_bytes(6, "big") + bytes([0x70, 0, 0x80]) + n.to_bytes(7, "big")


P = process(1)
Q = process(2)


def data(sequence: int) -> bytes:
    return f"record {sequence}".encode()


def rec(sequence: int, *, at: int = 0, of: bytes = P) -> RecordEvent:
    return RecordEvent(of, "p", sequence, BASE + at, leaf_hash(data(sequence)))


def said(
    number: int, first: int, last: int, *, at: int, watermark: int | None = None, of: bytes = P, **more: Any
) -> StatementEvent:
    lost = [Lost(*r) for r in more.pop("lost", [])]
    count = last - first + 1 - sum(r.last - r.first + 1 for r in lost)
    more.setdefault("started", BASE + int.from_bytes(of[:6], "big") - BASE)
    for name in ("open_oldest", "open_long_newest"):
        if name in more:
            more[name] += BASE
    statement = Statement(
        process="", number=number, at=BASE + at, first=first, last=last, count=count, lost=lost,
        watermark=BASE + (at if watermark is None else watermark), **more,
    )  # fmt: skip
    return StatementEvent(of, "p", statement, f"digest {number}")


def test_nothing_is_claimed_before_the_first_statement() -> None:
    i = Indexer()
    i.take(now=5)
    assert i.take(now=6) is None
    completion = i.take(rec(1), now=10)
    assert completion is not None
    assert completion.extent.until is None
    i.take(said(1, 1, 1, at=11), now=12)
    assert i.until() == 11


def test_t_is_the_lowest_watermark_of_those_that_are_active() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), said(1, 1, 0, at=10, of=Q), now=11)
    i.take(said(2, 1, 0, at=500), now=501)
    assert i.until() == 10
    i.take(said(2, 1, 0, at=400, of=Q), now=501)
    assert i.until() == 400
    assert i.incidents == {}


def test_t_follows_the_fences_when_all_have_closed_and_nothing_is_written_meanwhile() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10, closed="final"), now=20, fence=15)
    assert i.until() == 15 - MARGIN_MS
    assert i.take(now=8900, fence=8890) is None
    assert i.until() == 8890 - MARGIN_MS
    assert i.take(now=70_000, fence=70_000) is not None, "a power cut may leave an older fence"


def test_t_stands_behind_what_was_read_when_the_processes_promise_more() -> None:
    """One process has stated something, and messages of others are unread in the source: the oldest false claim."""
    i = Indexer()
    i.take(said(1, 1, 0, at=9_000), now=9_500, fence=None)
    assert i.until() is None
    i.take(said(2, 1, 0, at=10_000), now=10_500, fence=4_000)
    assert i.until() == 4_000 - MARGIN_MS
    assert i.take(now=11_000, fence=11_000) is None, "readers reckon it themselves"
    assert i.until() == 9_000
    i.take(now=13_000, fence=13_000)
    assert i.until() == 10_000, "a promise holds it"


def test_t_stands_after_a_start_until_a_fence_has_passed() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=20)
    assert i.until() == 10
    i.restart()
    i.take(said(2, 1, 0, at=1000), now=1000, fence=None)
    assert i.until() == 10
    i.take(now=1001)
    assert i.until() == 1000


def test_t_stands_when_the_partitions_change_until_a_fence_has_passed() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=20)
    i.take(said(2, 1, 0, at=1000), now=1000, fence=None, has_changed=True)
    i.take(said(3, 1, 0, at=1500), now=1500, fence=None)
    assert i.until() == 10
    i.take(now=1501)
    assert i.until() == 1500


def test_t_stands_while_a_process_has_stated_nothing() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=20)
    i.take(said(2, 1, 0, at=1000), rec(1, at=900, of=Q), now=1000)
    assert i.until() == 10
    i.take(said(1, 1, 1, at=1100, of=Q), now=1100)
    assert i.until() == 1000


def test_t_does_not_go_back_when_the_indexers_clock_does() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10, closed="final"), now=20, fence=15)
    i.take(now=7_000_000, fence=7_000_000)
    i.take(now=100, fence=100)
    assert i.until() == 7_000_000 - MARGIN_MS


def test_a_hole_is_missing_when_a_statement_covers_it_and_resolved_when_it_comes() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10, watermark=8), rec(1), rec(4), now=20)
    i.take(said(2, 1, 5, at=30, watermark=25, lost=[(3, 3, "queue")]), now=40)
    (incident,) = i.open()
    assert (incident.kind, incident.ranges, incident.count) == ("missing", [(2, 2), (5, 5)], 2)
    # Begun after the earlier promise, and sealed before the statement was made.
    assert (incident.start - BASE, incident.end) == (8, BASE + 31)
    assert i.until() == 25
    assert (i.states[P].missing, i.states[P].lost) == (2, 1)
    i.take(rec(5), rec(5), now=50)
    assert i.open()[0].ranges == [(2, 2)]
    i.restart()
    i.take(RecordEvent(P, "p", 2, None, None, is_loss=True), now=60)
    assert i.open() == []
    assert (i.states[P].missing, i.states[P].lost) == (0, 2)


def test_the_window_of_a_hole_begins_with_the_oldest_open_exchange_when_one_was_open_for_long() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=100_000, open_count=1, open_oldest=7, open_long=1, open_long_newest=7), now=100_000)
    i.take(said(2, 1, 1, at=200_000), now=200_000)
    assert i.open()[0].start == BASE + 7


def test_a_record_behind_its_statement_is_not_missing_when_both_are_in_one_batch() -> None:
    i = Indexer()
    i.take(said(1, 1, 2, at=10), rec(2), rec(1), now=20)
    assert i.incidents == {}


def test_a_batch_changes_nothing_when_it_comes_twice() -> None:
    i = Indexer()
    batch = [rec(1), rec(3), said(1, 1, 4, at=10, lost=[(2, 2, "queue")]), rec(5)]
    i.take(*batch, now=20)
    before = (i.until(), i.states[P].lost, i.states[P].missing, i.states[P].above, len(i.incidents))
    i.take(*batch, now=30)
    assert (i.until(), i.states[P].lost, i.states[P].missing, i.states[P].above, len(i.incidents)) == before


def test_a_provisional_end_is_revoked_by_a_later_statement() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=10)
    i.take(said(2, 1, 0, at=20, closed="provisional"), now=30, fence=20 + MARGIN_MS)
    assert (i.until(), i.states[P].standing) == (20, "left")
    i.take(now=1100, fence=100 + MARGIN_MS)
    i.take(rec(1, at=95), now=1130)
    assert i.states[P].standing == "active"
    (incident,) = i.open()
    assert (incident.kind, incident.start - BASE, incident.end) == ("late", 20, BASE + 100)
    i.take(said(3, 1, 1, at=140), now=1150)
    assert i.open() == []
    assert i.until() == 140


def test_a_process_is_written_off_when_silent_and_its_late_journal_resolves_it() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=10)
    i.take(said(1, 1, 0, at=11, of=Q), now=11)
    for step in range(1, 14):
        i.take(said(1 + step, 1, 0, at=step * 10_000, of=Q), now=step * 10_000)
    assert i.until() == 130_000
    (incident,) = i.open()
    assert (incident.kind, incident.start - BASE, incident.end) == ("silent", 10, None)
    assert i.states[P].standing == "off"
    i.take(rec(1, at=50), now=131_000)
    assert (i.states[P].standing, i.open()[0].end) == ("active", BASE + 130_000)
    i.take(said(15, 1, 0, at=140_000, of=Q), now=140_000)
    assert i.until() == 130_000  # T does not move while the process catches up
    i.take(said(2, 1, 1, at=141_000, closed="adopted"), now=141_000)
    assert (i.open(), i.until()) == ([], 140_000)


def test_nobody_is_written_off_when_the_clock_jumps() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=10)
    i.take(now=7_200_000)
    i.take(now=7_300_000)
    assert i.states[P].standing == "active"


def test_a_late_process_is_noted_when_t_had_passed_what_it_brings() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=10)
    i.take(said(2, 1, 0, at=1000), now=1000)
    # All exchanges in it began at 900, below T, and are indexed now: the incident is noted, and resolved at once.
    i.take(rec(1, at=900, of=Q), said(1, 1, 1, at=1100, of=Q), now=1100)
    (incident,) = i.incidents.values()
    assert (incident.kind, incident.start - BASE, incident.end) == ("late", 900, BASE + 1000)
    assert incident.resolved_at == BASE + 1100


def test_a_new_process_is_no_incident_when_it_had_nothing_to_state_below_t() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=10)
    i.take(said(2, 1, 0, at=1000), now=1000)
    i.take(said(1, 1, 0, at=1010, of=Q, open_count=1, open_oldest=1009, watermark=1009), now=1020)
    assert i.incidents == {}


def test_a_new_process_is_noted_from_its_first_exchange_when_it_went_on_at_once() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=10)
    i.take(said(2, 1, 0, at=1000), now=1000)
    first = said(1, 1, 0, at=1010, of=Q, started=BASE + 20)
    i.take(first, rec(1, at=1011, of=Q), rec(2, at=1012, of=Q), now=1020)
    assert i.incidents == {}
    # Its first statement reports a loss, whose start is unknown.
    i.take(said(3, 1, 0, at=2000), now=2000)
    r = process(3)
    i.take(said(1, 1, 1, at=2010, of=r, started=BASE + 20, lost=[(1, 1, "queue")]), now=2020)
    (incident,) = i.incidents.values()
    assert (incident.kind, incident.start - BASE) == ("late", 20)


def test_t_is_not_in_the_future_when_the_application_clock_is() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=7_200_000), now=50)
    assert i.until() == 50
    # The clock was set back: an earlier promise does not hold for the same times when they occur again.
    more = {"watermark": 7_200_000, "clock_steps": 1}
    i.take(said(2, 1, 0, at=100_060, open_count=1, open_oldest=90_000, **more), now=100_100)
    assert i.until() == 90_000
    i.take(said(3, 1, 0, at=100_070, **more), now=100_100)
    assert i.until() == 100_070, "nothing is open"
    long = {"open_count": 2, "open_oldest": 90_000, "open_long": 1, "open_long_newest": 90_000}
    i.take(said(4, 1, 0, at=170_000, **long, **more), now=170_000)
    assert i.until() == 110_000, "which is the oldest that is not long open, it does not say"


def test_a_promise_does_not_speak_of_what_began_after_the_clock_was_set_back() -> None:
    """W never decreases: after a step back an exchange may be open that began before it."""
    i = Indexer()
    i.take(said(1, 1, 0, at=50_000), now=50_000)
    i.take(said(2, 1, 0, at=51_000, watermark=50_000, clock_steps=1, open_count=1, open_oldest=30_000), now=51_000)
    (late,) = i.open()
    assert (late.kind, late.start - BASE, late.end) == ("late", 30_000, BASE + 50_000)
    i.take(said(3, 1, 1, at=60_000, clock_steps=1), rec(1, at=30_000), now=60_000)
    assert i.open() == []
    assert i.until() == 60_000


def test_an_adopted_tail_without_proof_stays_an_incident() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=10)
    i.take(said(2, 1, 0, at=500, closed="adopted", proven=False), now=500)
    assert [(x.kind, x.start - BASE, x.end) for x in i.open()] == [("unproven", 10, BASE + 501)]
    assert i.until() == 500


def test_an_adopted_end_counts_when_its_number_is_lower_than_one_that_came() -> None:
    i = Indexer()
    i.take(rec(1), said(7, 1, 1, at=10), now=10)
    end = said(1, 2, 2, at=20, closed="adopted", lost=[(2, 2, "killed")])
    i.take(end, end, now=30)
    assert (i.states[P].standing, i.states[P].lost, i.states[P].last) == ("left", 1, 2)


def test_missing_statements_are_a_gap_when_no_record_of_theirs_is_missing() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=10)
    i.take(said(4, 1, 0, at=40), now=40)
    (incident,) = i.open()
    assert (incident.kind, incident.ranges) == ("gap", [(2, 3)])
    i.take(said(3, 1, 0, at=30), said(2, 1, 0, at=20), now=50)
    assert i.open() == []
    assert i.until() == 40


def test_open_exchanges_are_counted_when_nothing_waits_for_them() -> None:
    i = Indexer()
    long = {"open_count": 3, "open_oldest": 5, "open_long": 2, "open_long_newest": 9,
            "open_accounts": [OpenOf("b", 2)]}  # fmt: skip
    i.take(said(1, 1, 0, at=100_000, **long), now=100_000)
    s = i.states[P]
    assert (s.open_count, s.open_from - BASE, s.open_to - BASE) == (2, 5, 9)
    assert s.open_accounts == [("b", 2)]
    i.take(said(2, 1, 0, at=100_500, closed="adopted", open_count=3), now=100_500)
    assert not i.states[P].open_accounts, "whoever adopts a journal does not know whose they were"
    s = i.states[P]
    assert (s.open_count, s.open_from - BASE, s.open_to - BASE) == (3, 5, 100_500)


def test_losses_without_numbers_are_no_hole_when_they_explain_it() -> None:
    i = Indexer()
    i.take(rec(1), said(1, 1, 5, at=10, lost=[(2, 2, "queue")], lost_more=3), now=10)
    assert i.incidents == {}
    assert i.states[P].lost == 4
    i.take(said(2, 6, 9, at=20, lost_more=3), now=20)
    (incident,) = i.open()
    assert incident.count == 4
    assert "3 of them are stated lost" in incident.detail


def roots(*sequences: int) -> str:
    return root_of([leaf_hash(data(n)) for n in sequences]).hex()


def test_roots_are_checked_across_batches_restarts_and_repeats() -> None:
    i = Indexer()
    i.take(rec(1), rec(2), now=10)
    i.restart()
    i.take(rec(2), rec(3), said(1, 1, 3, at=10, root=roots(1, 2, 3)), rec(3), rec(4), now=10)
    i.take(rec(6), said(2, 4, 6, at=20, root=roots(4, 6), previous="digest 1", lost=[(5, 5, "build")]), now=20)
    assert i.incidents == {}
    assert i.states[P].unverified == 0


def test_another_record_than_the_stated_one_is_altered() -> None:
    i = Indexer()
    i.take(rec(1), RecordEvent(P, "p", 2, BASE, leaf_hash(b"forged")), said(1, 1, 2, at=10, root=roots(1, 2)), now=10)
    assert [x.kind for x in i.open()] == ["altered"]


def test_another_statement_than_the_one_before_is_altered() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), said(2, 1, 0, at=20, previous="digest of another"), now=20)
    assert [x.kind for x in i.open()] == ["altered"]


def test_a_root_is_unverified_when_not_all_came_in_order() -> None:
    i = Indexer()
    i.take(rec(2), rec(1), said(1, 1, 2, at=10, root=roots(1, 2)), now=10)
    assert i.incidents == {}
    assert i.states[P].unverified == 1
    i.take(rec(3), said(2, 3, 3, at=20, root=roots(3)), now=20)
    assert i.states[P].unverified == 1


def test_memory_holds_active_processes_only() -> None:
    i = Indexer()
    for n in range(1, 50):
        of = process(n)
        i.take(said(1, 1, 0, at=10, of=of), now=10)
        i.take(said(2, 1, 0, at=20, of=of, closed="adopted"), now=20)
    assert i.tracker._processes == {}
    assert {s.standing for s in i.states.values()} == {"left"}


def test_purge_resolves_what_concerned_removed_days_alone_when_it_comes_first_after_a_restart() -> None:
    i = Indexer()
    forged = RecordEvent(P, "p", 2, BASE, leaf_hash(b"forged"))
    i.take(rec(1), forged, said(1, 1, 2, at=10, root=roots(1, 2)), said(2, 3, 5, at=20, proven=False), now=20)
    assert sorted(x.kind for x in i.open()) == ["altered", "missing", "unproven"]
    i.restart()
    i.tracker.forget(BASE + 30, BASE + 40)
    told = i.take(now=50)
    assert told is not None
    assert sorted((x.kind, x.resolved_at) for x in told.incidents) == [
        ("altered", BASE + 40), ("missing", BASE + 40), ("unproven", BASE + 40),
    ]  # fmt: skip


def test_refused_losses_are_counted_once_when_they_come_before_or_after_their_statement() -> None:
    i = Indexer()

    def refused(*events: RecordEvent | StatementEvent, now: int) -> int:
        completion = i.take(*events, now=now)
        return 0 if completion is None else completion.refused

    def loss(sequence: int) -> RecordEvent:
        return RecordEvent(P, "p", sequence, None, leaf_hash(b"x"), is_loss=True)

    assert refused(rec(1), loss(2), said(1, 1, 3, at=10), now=10) == 1
    assert refused(loss(2), loss(3), now=20) == 1, "3 was missing"
    i.restart()
    assert refused(loss(2), loss(3), now=30) == 0
    # Losses that an adopter states for settled sequences are not counted again, and no count decreases.
    assert refused(said(2, 2, 5, at=40, lost=[(1, 5, "killed")], closed="adopted"), now=40) == 0


def test_missing_is_judged_after_a_fence_when_what_is_first_read_is_not_the_beginning() -> None:
    i = Indexer()
    i.take(rec(3), said(2, 3, 3, at=20), now=20, fence=None)
    assert (i.incidents, i.states[P].waiting) == ({}, [(1, 2)])
    i.take(now=21, boot=1)
    assert i.open() == [], "that fence was taken before"
    assert i.until() == 0, "low(p) is its start: nothing is settled yet"
    i.take(rec(1), now=22)  # it was in another partition
    (incident,) = i.open()
    assert (incident.kind, incident.ranges) == ("missing", [(2, 2)])
    assert i.until() == 20
    i.take(rec(2), now=23)
    assert i.open() == []


def test_what_lies_before_the_beginning_of_a_partition_is_settled_without_an_incident() -> None:
    i = Indexer()
    begins = {"p": BASE + 15}
    i.take(rec(501), said(9, 480, 502, at=20), now=20, fence=None, begins=begins)
    i.restart()
    i.take(now=30)
    assert [(x.kind, x.ranges) for x in i.open()] == [("missing", [(502, 502)])], "behind what was first read"
    assert i.states[P].earlier == 500
    assert i.told.extent.begins == BASE + 21, "all that was removed was sealed before that statement"


def test_what_lies_before_the_beginning_is_missing_when_complete_from_does_not_speak_for_it() -> None:
    """The clock of a process is two hours ahead: by that clock, the removed exchanges began after `complete_from`."""
    i = Indexer()
    at = 7_200_000
    i.take(rec(501, at=at), said(9, 1, 501, at=at), now=20, fence=None, begins={"p": BASE + 15})
    i.take(now=30)
    (incident,) = i.open()
    assert (incident.kind, incident.count) == ("missing", 500)
    assert (incident.start, incident.end) == (BASE + 15, BASE + at + 1)


def test_all_is_missing_when_the_partition_began_at_its_beginning() -> None:
    i = Indexer()
    i.take(rec(5), said(9, 1, 5, at=20), now=20, fence=None)
    i.take(now=30)
    assert [(x.kind, x.ranges) for x in i.open()] == [("missing", [(1, 4)])]


def test_missing_is_judged_after_a_fence_when_the_partition_changed() -> None:
    i = Indexer()
    i.take(rec(1), said(1, 1, 1, at=10), now=10)
    elsewhere = msgspec.structs.replace(said(2, 2, 3, at=20), partition="q")
    i.take(elsewhere, now=20, fence=None)
    assert i.incidents == {}
    i.take(rec(2), rec(3), now=25, fence=None)
    assert i.states[P].waiting == []
    i.take(now=30)
    assert i.incidents == {}
    assert i.until() == 20


def test_complete_from_is_known_when_a_fence_has_passed() -> None:
    i = Indexer()
    i.tracker = Tracker(begins=BASE + 5)
    i.take(said(1, 1, 0, at=10), now=10, fence=None)
    assert not i.told.extent.is_begun
    i.take(now=11)
    assert (i.told.extent.is_begun, i.told.extent.begins) == (True, BASE + 5)
    i.take(now=20, fence=None, begins={"q": None})
    assert not i.told.extent.is_begun, "the next fence says it"
    i.take(now=21, fence=2_000, boot=1)
    assert not i.told.extent.is_begun, "one that was taken before says nothing of it"
    i.take(now=30, fence=3_000)
    assert (i.told.extent.is_begun, i.told.extent.begins) == (True, BASE + 3_000)


def test_partition_that_holds_t_is_told_and_given_up_with_an_incident() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=10)
    i.take(now=2_000, fence=None, holds={"3": "it has no leader"})
    (hold,) = i.told.holds
    assert (hold.partition, hold.since, hold.is_lost) == ("3", BASE + 2_000, False)
    i.restart()
    assert i.take(now=2_200, fence=None) is None, "unknown is not gone"
    assert not i.tracker.give_up("4", BASE + 2_300)
    assert i.tracker.give_up("3", BASE + 2_300)
    assert i.tracker.give_up("3", BASE + 2_400), "once more changes nothing"
    i.take(now=2_500, fence=None, holds={"3": "broker 3 does not answer"})
    assert i.tracker.lost_partitions == ["3"]
    assert i.told.holds == [Hold("3", "broker 3 does not answer", BASE + 2_000, True)]
    (incident,) = i.open()
    assert (incident.kind, incident.start, incident.end) == ("partition_lost", BASE + 10, BASE + 2_301)
    i.take(now=2_600, holds={}, recovered={"3"})
    assert (i.told.holds, i.tracker.lost_partitions) == ([], [])


def test_partition_that_is_given_up_stays_so_until_it_is_recovered() -> None:
    """A single poll that did not name it ended the acknowledgement, and it held T again."""
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=10)
    i.take(now=2_000, fence=None, holds={"3": "nothing can be read at offset 7", "4": "it has no leader"})
    assert i.tracker.give_up("3", BASE + 2_100)
    i.take(now=2_200, holds={})
    assert [(h.partition, h.is_lost) for h in i.told.holds] == [("3", True)], "the other one was only named"
    i.restart()
    assert i.tracker.lost_partitions == ["3"]
    i.take(now=2_300, holds={})
    i.take(now=2_400, holds={"3": "it is not read up to its end"})
    assert i.told.holds == [Hold("3", "it is not read up to its end", BASE + 2_000, True)]
    assert i.take(now=2_500, fence=None, recovered={"4"}) is None
    i.take(now=2_600, fence=None, recovered={"3"})
    assert (i.told.holds, i.tracker.lost_partitions) == ([], [])
    i.take(now=2_700, fence=None, holds={"3": "nothing can be read at offset 9"})
    assert i.told.holds == [Hold("3", "nothing can be read at offset 9", BASE + 2_700)], "it holds as any other"


def test_silence_goes_on_over_a_restart() -> None:
    i = Indexer()
    i.take(said(1, 1, 0, at=10), now=10)
    for n in range(1, 11):
        i.take(now=n * 9_000)
    i.restart()
    for n in range(11, 16):
        i.take(now=n * 9_000)
    assert [x.kind for x in i.open()] == ["silent"]
