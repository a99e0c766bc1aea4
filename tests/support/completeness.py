"""A small simulated world in which processes serve, lose records, die, are cut off and return late, with a complete
memory of what happened.

Processes write to journals of their own; a forwarder appends their entries to a partition of a topic, while the host
reaches the brokers. A source reads the partitions in any order and takes fences; a tracker computes what is complete; a
store survives the kills of the indexer. Time, clocks, brokers and kills are simulated; the recorder's ledger, the queue
of fences and the tracker are the real ones. `World.check` is the oracle: for every exchange it knows when it began and
where its record is.

Safety, after every commit: every exchange begun from `complete_from` on and before T is indexed, dead-lettered,
expired, stated lost, excluded, counted as long open, or covered by an open incident. One exception: a process without
any message in the topic when the newest passed fence was taken; for exchanges that it began after it had closed, or
after its clock was set, earlier messages do not count. Such a process was cut off, or its clock is wrong: otherwise the
oracle reports a violation, too.

Liveness, at the end: once brokers respond and clocks are right, T is within 15 s of now (75 s while an exchange
younger than 60 s is open), and `late` incidents are resolved.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import msgspec

from asgi_audit.indexing.completeness import Consumed, RecordEvent, StatementEvent, Tracker
from asgi_audit.record.merkle import leaf_hash, statement_digest
from asgi_audit.record.statement import Lost, Statement, encode_statement
from asgi_audit.recording.ledger import Ledger, Tally
from asgi_audit.store.state import (
    NO_PROCESS,
    Completion,
    Extent,
    Hold,
    Incident,
    Known,
    ProcessState,
    ReadUntil,
    Resumed,
    reached,
)
from asgi_audit.transport.base import Fence
from asgi_audit.transport.fences import FenceQueue

from .digest import root_of

BASE = 1_795_348_800_000
RECENT = 60_000
IDLE = 10_000
SENT_WITHIN = 1_500  # from the beginning of what must be announced to its append, for a host that is not cut off
Event = RecordEvent | StatementEvent


@dataclass
class Exchange:
    begun: int  # by the clock of its process
    at: int  # true time
    epoch: int  # of the process, in which it began
    sequence: int = 0
    is_excluded: bool = False
    is_lost: bool = False  # by the process, which states it


@dataclass
class Appended:
    """An entry of a process in the topic. `place`: its number among all appends."""

    place: int
    epoch: int
    partition: str
    offset: int


@dataclass
class Proc:
    process: bytes
    skew: int
    ledger: Ledger
    partition: str
    exchanges: list[Exchange] = field(default_factory=list)
    open: list[Exchange] = field(default_factory=list)
    queue: list[Exchange] = field(default_factory=list)
    journal: list[Event] = field(default_factory=list)
    sent: int = 0  # of the journal
    appended: list[Appended] = field(default_factory=list)
    # A process begins an epoch when it closes, and when its clock is set: its earlier statements do not cover exchanges
    # that begin then. `epoch` is that of its exchanges, `stated_epoch` that of its messages.
    epoch: int = 0
    stated_epoch: int = 0
    epochs: list[int] = field(default_factory=list)  # of each entry of the journal
    leaves: list[bytes] = field(default_factory=list)  # since the last statement
    previous: str | None = None
    covered: int = 0
    number: int = 0
    last: int = 0
    excluded: int = 0
    clock_steps: int = 0
    is_closed: bool = False
    stated_at: int = 0  # true time
    must_be_heard_by: int | None = None  # true time
    must_be_sent: int | None = None  # the journal's length by then; None: it is not stated yet
    is_alive: bool = True
    is_ended: bool = False  # it has written its final statement
    is_cut_off: bool = False
    was_cut_off: bool = False
    was_skewed: bool = False
    is_asleep: bool = False
    disk_is_gone: bool = False
    destroyed: set[int] = field(default_factory=set)

    @property
    def id(self) -> uuid.UUID:
        return uuid.UUID(bytes=self.process)

    @property
    def name(self) -> str:
        return str(self.id)


@dataclass
class Partition:
    entries: list[tuple[Event, int]] = field(default_factory=list)  # with the true time of the append
    begin: int = 0
    has_leader: bool = True
    is_lost: bool = False


class Store:
    """State that survives a kill of the indexer."""

    def __init__(self, made_at: int) -> None:
        self.made_at = made_at
        self.extent = Extent()
        self.mark: ReadUntil | None = None
        self.holds: list[Hold] = []
        self.states: dict[bytes, bytes] = {}
        self.incidents: dict[int, bytes] = {}
        self.positions: dict[str, int] = {}
        self.records: set[tuple[bytes, int]] = set()
        self.lost: set[tuple[bytes, int]] = set()
        self.horizon = 0
        self.last_incident = 0
        self.fence_at = 0  # number of appends in the topic when the newest passed fence was taken
        self.heard: set[bytes] = set()
        self.read: set[tuple[str, int]] = set()  # (partition, offset)

    def write(self, completion: Completion | None, mark: ReadUntil | None) -> None:
        if completion is not None:
            self.extent = completion.extent
            self.holds = self.holds if completion.holds is None else list(completion.holds)
            for state in completion.processes:
                self.states[state.process] = msgspec.msgpack.encode(state)
            for incident in completion.incidents:
                self.incidents[incident.id] = msgspec.msgpack.encode(incident)
        self.mark = mark or self.mark

    def purge(self, horizon: int, waits: set[bytes]) -> None:
        """Deletes as the stores do, without the day that they wait. `waits`: those that the day is for."""
        self.horizon = horizon
        self.last_incident = max(self.last_incident, *self.incidents, 0)
        states = [(p, state) for p in list(self.states) if (state := self.state(p)) is not None]
        active = {uuid.UUID(bytes=p) for p, s in states if s.standing == "active"}
        for i in self.all_incidents():
            end = i.resolved_at if i.end is None else i.end
            is_of_active = i.resolved_at is None and i.process in active
            if end is not None and end <= horizon and not is_of_active:
                del self.incidents[i.id]
        for process, s in states:
            known = self.known(process)
            assert known is not None
            is_past = s.low < horizon and (not s.open_count or s.open_to < horizon)
            if s.standing != "active" and is_past and not known.incidents and process not in waits:
                del self.states[process]

    def all_incidents(self) -> list[Incident]:
        return [msgspec.msgpack.decode(data, type=Incident) for data in self.incidents.values()]

    def open_incidents(self) -> list[Incident]:
        return [i for i in self.all_incidents() if i.resolved_at is None]

    def state(self, process: bytes) -> ProcessState | None:
        data = self.states.get(process)
        return msgspec.msgpack.decode(data, type=ProcessState) if data else None

    def known(self, process: bytes) -> Known | None:
        state = self.state(process)
        if state is None:
            return None
        return Known(state, [i for i in self.open_incidents() if i.process.bytes == process])

    def until(self) -> int | None:
        return reached(self.extent, None if self.mark is None else self.mark.at)

    def begins(self) -> int | None:
        return max(self.extent.begins, self.horizon) if self.extent.is_begun else None

    def resumed(self) -> Resumed:
        known = [k for process in self.states if (k := self.known(process)) is not None]
        active = [k for k in known if k.state.standing == "active"]
        last = max(self.last_incident, *self.incidents, 0)
        return Resumed(self.extent, self.mark, active, last, self.holds, self.made_at)


class World:
    """`now` is the true time, ms. `ahead`: of the indexer's wall clock. `is_append_time`: whether the topic keeps
    append times."""

    def __init__(self, random: Random, *, partitions: int = 2, is_append_time: bool = False) -> None:
        self.random = random
        self.is_append_time = is_append_time
        self.now = BASE
        self.ahead = 0
        self.procs: list[Proc] = []
        self.partitions = {str(n): Partition() for n in range(partitions)}
        self.store = Store(self.now)
        self.highest = 0
        self.counts: Counter[str] = Counter()
        self.has_changed = False
        self.appends = 0
        self.begins_at: dict[int, dict[str, int]] = {0: {}}  # beginnings of the partitions, by number of appends
        self.open_source()

    # -- processes

    def start(self, *, skew: int = 0, is_cut_off: bool = False) -> Proc:
        made = self.now + skew
        number = len(self.procs) + 1
        process = (made.to_bytes(6, "big") + bytes([0x70, number % 256, 0x80]) + number.to_bytes(7, "big"))[:16]
        ledger = Ledger(process=str(uuid.UUID(bytes=process)), host="h", service="s", started=made)
        p = Proc(process, skew, ledger, self.random.choice(list(self.partitions)))
        p.is_cut_off = p.was_cut_off = is_cut_off
        p.was_skewed = bool(skew)
        p.stated_at = self.now
        p.must_be_heard_by = self.now + SENT_WITHIN  # it opens its journal
        self.procs.append(p)
        return p

    def clock(self, p: Proc) -> int:
        return self.now + p.skew

    def begin(self, p: Proc) -> None:
        exchange = Exchange(self.clock(p), self.now, p.epoch)
        p.exchanges.append(exchange)
        p.open.append(exchange)
        if p.is_closed:
            self._must_be_heard(p)

    def _must_be_heard(self, p: Proc) -> None:
        """Whether exchanges that begin now must be announced; a statement that is on its way does not cover them."""
        p.must_be_sent = None
        if p.must_be_heard_by is None:
            p.must_be_heard_by = self.now + SENT_WITHIN

    def seal(self, p: Proc, fate: str) -> None:
        exchange = p.open.pop(self.random.randrange(len(p.open)))
        if fate == "excluded":
            exchange.is_excluded = True
            p.excluded += 1
            return
        p.last += 1
        exchange.sequence = p.last
        if fate == "lost":
            exchange.is_lost = True
            p.ledger.losses.add(p.last, p.last, "queue")
        else:
            p.queue.append(exchange)

    def write(self, p: Proc, most: int = 1000) -> None:
        for exchange in p.queue[:most]:
            leaf = leaf_hash(p.process + str(exchange.sequence).encode())
            p.journal.append(RecordEvent(p.process, "", exchange.sequence, exchange.begun, leaf))
            p.epochs.append(p.stated_epoch)
            p.leaves.append(leaf)
        del p.queue[:most]

    def state(self, p: Proc, closed: str = "") -> None:
        now = self.clock(p)
        if p.is_closed and p.must_be_heard_by is None:
            p.must_be_heard_by = self.now + SENT_WITHIN
        self.write(p)
        starts = [e.begun for e in p.open]
        long = [s for s in starts if s <= now - RECENT]
        recent = [s for s in starts if s > now - RECENT]
        seen = Tally(
            now=now, open_count=len(starts), open_oldest=min(starts, default=None),
            recent_oldest=min(recent, default=None), last=p.last, excluded=p.excluded, unwaited=0,
            clock_steps=p.clock_steps,
            open_long=len(long), open_long_newest=max(long, default=None),
        )  # fmt: skip
        for made in p.ledger.make(seen, closed):  # type: ignore[arg-type]
            said = msgspec.structs.replace(made, root=root_of(p.leaves).hex(), previous=p.previous)
            p.ledger.written([made])
            self.put(p, said)
        if p.must_be_heard_by is not None and p.must_be_sent is None:
            p.must_be_sent = len(p.journal)
        p.is_closed = bool(closed)
        if p.is_closed:
            p.epoch = p.stated_epoch = p.epoch + 1

    def set_clock(self, p: Proc, skew: int) -> None:
        """The recorder detects it at its next use of the clock, and states it at once."""
        if skew == p.skew:
            return
        p.skew = skew
        p.clock_steps += 1
        p.epoch += 1
        p.was_skewed = True
        if p.is_alive:
            self._must_be_heard(p)

    def put(self, p: Proc, said: Statement) -> None:
        digest = statement_digest(encode_statement(said))
        p.stated_epoch = p.epoch
        p.journal.append(StatementEvent(p.process, "", said, digest))
        p.epochs.append(p.epoch)
        p.leaves, p.previous, p.covered, p.number = [], digest, said.last, said.number
        p.stated_at = self.now

    def kill(self, p: Proc) -> None:
        p.is_alive = False
        p.must_be_heard_by = None
        p.was_cut_off = True  # the process that adopts the journal sends what was not sent in time
        p.queue.clear()
        self.counts["kills of applications"] += 1

    def adopt(self, p: Proc) -> None:
        """The process that finds the journal states its true end."""
        assert not p.is_alive
        there = {e.sequence for e in p.journal if isinstance(e, RecordEvent)} | p.destroyed
        absent = [n for n in range(p.covered + 1, p.last + 1) if n not in there]
        for exchange in p.exchanges:
            exchange.is_lost |= exchange.sequence in absent
        said = Statement(
            process=p.name, number=p.number + 1, at=self.now, first=p.covered + 1, last=p.last,
            count=p.last - p.covered - len(absent), lost=[Lost(n, n, "killed") for n in absent], excluded=p.excluded,
            open_count=len(p.open), open_oldest=min((e.begun for e in p.open), default=None),
            watermark=max(self.now, p.ledger.watermark), closed="adopted", started=p.exchanges[0].begun
            if p.exchanges else self.now, root=root_of(p.leaves).hex(), previous=p.previous,
        )  # fmt: skip
        p.is_ended = True
        self.put(p, said)

    # -- the way to the topic

    def forward(self, p: Proc, most: int = 100_000) -> None:
        """Append the entries of the journal, if the brokers can be reached."""
        if p.is_cut_off or p.disk_is_gone or not self.partitions[p.partition].has_leader:
            return
        for e in p.journal[p.sent : p.sent + most]:
            self._append(p, e)
            self.appends += 1
            offset = len(self.partitions[p.partition].entries) - 1
            p.appended.append(Appended(self.appends, p.epochs[p.sent], p.partition, offset))
            p.sent += 1
        if p.must_be_sent is not None and p.sent >= p.must_be_sent:
            p.must_be_heard_by = p.must_be_sent = None

    def send_again(self, p: Proc) -> None:
        """The forwarder was restarted: it repeats its last entries, to its current partition. Not months later, when
        the index has deleted the process."""
        if p.process in self.store.heard and p.process not in self.store.states:
            return
        if p.is_cut_off or p.disk_is_gone or not self.partitions[p.partition].has_leader:
            return
        for e in p.journal[max(0, p.sent - self.random.randrange(8)) : p.sent]:
            self._append(p, e)

    def _append(self, p: Proc, e: Event) -> None:
        self.partitions[p.partition].entries.append((msgspec.structs.replace(e, partition=p.partition), self.now))

    def stood_in_topic(self, p: Proc, e: Exchange, at: int) -> bool:
        """Whether a message that announces this exchange was in the topic then and had not been removed by
        retention."""
        return any(
            a.place <= at and a.epoch >= e.epoch and a.offset >= self.begins_at[at].get(a.partition, 0)
            for a in p.appended
        )

    # -- time

    def advance(self, ms: int) -> None:
        """Processes act on time: they state while they live, and are announced when they begin."""
        end = self.now + ms
        while True:
            due = [(self._due(p), n) for n, p in enumerate(self.procs)]
            at, number = min(due, default=(end, -1))
            if at >= end:
                break
            self.now = max(self.now, at)
            self._do_due(self.procs[number])
        self.now = end

    def _due(self, p: Proc) -> int:
        if not p.is_alive or p.is_asleep:
            return 1 << 62
        due = p.stated_at + IDLE
        return due if p.must_be_heard_by is None else min(due, p.must_be_heard_by)

    def _do_due(self, p: Proc) -> None:
        is_hurried = p.must_be_heard_by is not None and self.now >= p.must_be_heard_by
        if (is_hurried and p.must_be_sent is None) or self.now >= p.stated_at + IDLE:
            self.state(p)
        self.forward(p)
        if is_hurried and p.must_be_heard_by is not None:
            p.was_cut_off = True  # it could not be sent
            p.must_be_heard_by = p.must_be_sent = None

    # -- the indexer

    def open_source(self) -> None:
        self.tracker = Tracker(self.store.resumed(), begins=0)
        self.fences = FenceQueue()
        self.taken_at: dict[Fence, int] = {}
        self.read = dict(self.store.positions)
        self.told: set[str] = set(self.store.positions)

    def wall(self) -> int:
        return self.now + self.ahead

    def boot(self) -> int:
        return self.now - BASE + 1_000_000

    def take_fence(self) -> None:
        fence = Fence(self.wall() / 1000, self.boot() / 1000, "00000000-0000-0000-0000-000000000001")
        at = self.appends
        self.begins_at[at] = {name: partition.begin for name, partition in self.partitions.items()}
        self.somebody_appends()
        names = list(self.partitions)
        self.somebody_appends()
        lost = set(self.tracker.lost_partitions)
        if any(not self.partitions[n].has_leader and n not in lost for n in names):
            return
        ends = {n: len(self.partitions[n].entries) for n in names if self.partitions[n].has_leader}
        self.fences.add(fence, ends)
        self.taken_at[fence] = at

    def somebody_appends(self) -> None:
        if self.procs and self.random.random() < 0.3:
            p = self.random.choice(self.procs)
            self.now += self.random.choice((0, 1, 30))
            if p.is_alive and not p.is_asleep and self.random.random() < 0.5:
                self.begin(p)
                self.state(p)
            self.forward(p)

    def poll(self, most: int) -> tuple[list[Event], Consumed]:
        """One batch; partitions in any order, each as far as it reaches, or not at all."""
        events: list[Event] = []
        self.polled: list[tuple[str, int]] = []
        begins: dict[str, int | None] = {}
        names = self.random.sample(list(self.partitions), len(self.partitions))
        for name in names:
            partition = self.partitions[name]
            if not partition.has_leader or self.random.random() < 0.2:
                continue
            at = self.read.get(name, 0)
            if at < partition.begin:
                if name in self.told:
                    self.counts["ranges lost to retention"] += 1
                    self.tracker.note("retention_passed", self.wall(), f"{name}: {at} to {partition.begin}")
                at = partition.begin
            found = partition.entries[at : at + most - len(events)]
            if partition.begin and name not in self.told:
                if found:
                    begins[name] = found[0][1] if self.is_append_time else None
                else:
                    begins[name] = None
                self.told.add(name)
            events += [e for e, _ in found]
            self.polled += [(name, at + n) for n in range(len(found))]
            self.read[name] = at + len(found)
            if found:
                self.told.add(name)
        lost = set(self.tracker.lost_partitions)
        # A single poll need not name what is permanently lost.
        holds = {
            n: "it has no leader"
            for n, p in self.partitions.items()
            if not p.has_leader and (n not in lost or self.random.random() < 0.5)
        }
        recovered = {n for n in lost if self.partitions[n].has_leader and self.is_read(n)}
        read = {n: max(self.read.get(n, 0), 0) for n in self.partitions if n not in lost - recovered}
        fence = self.fences.passed(read)
        changed, self.has_changed = self.has_changed, False
        return events, Consumed(
            events, self.wall(), self.boot(), fence, begins=begins, holds=holds, has_changed=changed,
            recovered=recovered,
        )  # fmt: skip

    def is_read(self, name: str) -> bool:
        return self.read.get(name, 0) >= len(self.partitions[name].entries)

    def step(self, most: int, crash: str = "") -> None:
        """Consume one batch; `crash`: before or after the commit."""
        store = self.store
        events, consumed = self.poll(most)
        known = {p: k for p in self.tracker.unknown(events) if (k := store.known(p)) is not None}
        lost = set(self.tracker.lost_partitions)
        completion = self.tracker.take(consumed, known)
        assert lost - set(self.tracker.lost_partitions) == consumed.recovered, "what is acknowledged as lost stays so"
        if crash == "before":
            self.counts["kills of the indexer"] += 1
            self.open_source()
            return
        store.write(completion, self.tracker.mark if consumed.fence is not None else None)
        store.positions = {n: at for n, at in self.read.items() if n in self.told}
        if consumed.fence is not None:
            store.fence_at = self.taken_at[consumed.fence]
        store.read |= set(self.polled)
        for e in events:
            store.heard.add(e.process)
            if isinstance(e, RecordEvent):
                store.records.add((e.process, e.sequence))
            else:
                store.lost |= {(e.process, n) for r in e.statement.lost for n in range(r.first, r.last + 1)}
        if crash == "after":
            self.counts["kills of the indexer"] += 1
            self.open_source()
        self.check()

    def add_partition(self) -> None:
        self.partitions[str(len(self.partitions))] = Partition()
        self.has_changed = True
        self.fences.clear()

    def give_up(self, name: str) -> None:
        if self.tracker.give_up(name, self.wall()):
            self.counts["partitions given up"] += 1

    def make_index_anew(self) -> None:
        self.store = Store(self.now)
        self.highest = 0
        self.counts["fresh indexes"] += 1
        self.open_source()

    def purge(self, horizon: int, *, is_a_day_later: bool = False) -> None:
        """Between two batches, as the indexer does. The day that a store waits is for wrong clocks and for messages on
        their way, the 90 days for processes without a final statement."""
        waits = {p.process for p in self.procs if not p.is_ended or p.was_skewed or p.sent < len(p.journal)}
        waits |= {e.process for n, p in self.partitions.items() for e, _ in p.entries[self.read.get(n, 0) :]}
        self.store.purge(max(horizon, self.store.horizon), set() if is_a_day_later else waits)
        self.tracker.forget(self.store.horizon, self.now)
        self.check()

    # -- the oracle

    def check(self) -> None:
        store = self.store
        until = store.until()
        self.counts["commits"] += 1
        if until is None:
            return
        assert until >= self.highest, "T went back"
        self.highest = until
        begins = store.begins()
        if begins is None:
            return
        incidents = store.open_incidents()
        for p in self.procs:
            state = store.state(p.process)
            of_it = [i for i in incidents if i.process in (p.id, NO_PROCESS)]
            for e in p.exchanges:
                if begins <= e.begun < until:
                    self.counts["exchanges checked"] += 1
                    self._check_exchange(p, e, state, of_it)

    def _check_exchange(self, p: Proc, e: Exchange, state: ProcessState | None, of_it: list[Incident]) -> None:
        store = self.store
        key = (p.process, e.sequence)
        if e.is_excluded or (e.sequence and (key in store.records or key in store.lost)):
            return
        if any(i.start <= e.begun and (i.end is None or e.begun < i.end) for i in of_it):
            return
        if state is not None and state.open_count and state.open_from <= e.begun <= state.open_to:
            return
        if not self.stood_in_topic(p, e, store.fence_at):
            self.counts["exchanges of processes not heard of"] += 1
            was_set = self.counts["steps of the indexer's clock"]
            assert p.was_cut_off or p.was_skewed or was_set, f"{e} of {p.name}: it was heard of in time"
            return
        is_taken = self.counts["ranges lost to retention"] or self.counts["partitions given up"]
        is_read = any(a.epoch >= e.epoch and (a.partition, a.offset) in store.read for a in p.appended)
        if (p.was_skewed or p.was_cut_off) and not is_read and is_taken:
            # All of its messages were removed unread: an incident covers that time, but it is unknown that its clock
            # was wrong, or that it had been cut off before.
            self.counts["exchanges of processes of which nothing was left to read"] += 1
            return
        raise AssertionError(
            f"{e} of {p.name} is not there, though T is {store.until()} and begins {store.begins()}; "
            f"{state}; {of_it}; fence {store.fence_at}; {p.appended[-5:]}"
        )
