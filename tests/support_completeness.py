"""A small world in which processes serve, lose, die and come late, with a perfect memory of what really happened.

The statements are made by the recorder's own ledger; time is simulated. `World.check` is the oracle: it knows of every
exchange when it began and where its record is."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from random import Random

import msgspec

from asgi_audit.indexing.completeness import Consumed, Seen, Stated, Tracker
from asgi_audit.record.digest import leaf_hash, statement_digest
from asgi_audit.record.statement import Lost, Statement, encode_statement
from asgi_audit.recording.statements import Ledger, Snapshot
from asgi_audit.store.base import FOLLOW_MS, Completion, Incident, Known, ProcessState, Resumed

from .support_digest import root_of

BASE = 1_795_348_800_000
RECENT = 60_000


@dataclass
class Exchange:
    begun: int
    sequence: int = 0
    is_excluded: bool = False
    is_stated_lost: bool = False


@dataclass
class Proc:
    process: bytes
    started: int
    skew: int
    ledger: Ledger
    exchanges: list[Exchange] = field(default_factory=list)
    open: list[Exchange] = field(default_factory=list)
    queue: list[Exchange] = field(default_factory=list)
    log: list[Seen | Stated] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)  # since the last statement
    previous: str | None = None
    covered: int = 0
    number: int = 0
    last: int = 0
    excluded: int = 0
    is_alive: bool = True
    is_ended: bool = False
    is_held: bool = False  # nobody can read its log now
    kept_back: list[Seen | Stated] = field(default_factory=list)  # taken out of the log, to come late
    is_read_again: bool = False  # all of it, after it was forgotten
    destroyed: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return str(uuid.UUID(bytes=self.process))


class Store:
    """What survives a crash of the indexer."""

    def __init__(self) -> None:
        self.until: int | None = None
        self.follows = False
        self.caught_up: int | None = None
        self.states: dict[bytes, bytes] = {}
        self.incidents: dict[int, bytes] = {}
        self.positions: dict[bytes, int] = {}
        self.records: set[tuple[bytes, int]] = set()
        self.lost: set[tuple[bytes, int]] = set()
        self.heard: set[bytes] = set()
        self.horizon = 0
        self.last_incident = 0

    def purge(self, horizon: int, waits: set[bytes]) -> None:
        """As the stores forget, without the day that they wait. `waits`: those that the day is for."""
        self.horizon = horizon
        active = {str(uuid.UUID(bytes=p)) for p in self.states if self._standing(p) == "active"}
        self.last_incident = max(self.last_incident, *self.incidents, 0)
        for i in self.all_incidents():
            end = i.resolved_at if i.end is None else i.end
            is_of_active = i.resolved_at is None and i.process in active
            if end is not None and end <= horizon and not is_of_active:
                del self.incidents[i.id]
        for process in list(self.states):
            known = self.known(process)
            assert known is not None
            s = known.state
            is_past = s.low < horizon and (not s.open_count or s.open_to < horizon)
            if s.standing != "active" and is_past and not known.incidents and process not in waits:
                del self.states[process]

    def _standing(self, process: bytes) -> str | None:
        state = self.state(process)
        return state.standing if state is not None else None

    def write(self, completion: Completion | None) -> None:
        if completion is not None:
            self.until, self.follows = completion.until, completion.follows
            for state in completion.processes:
                self.states[state.process] = msgspec.msgpack.encode(state)
            for incident in completion.incidents:
                self.incidents[incident.id] = msgspec.msgpack.encode(incident)

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
        name = str(uuid.UUID(bytes=process))
        return Known(state, [i for i in self.open_incidents() if i.process == name])

    def published(self) -> int | None:
        if self.follows and self.until is not None and self.caught_up is not None:
            return max(self.until, self.caught_up - FOLLOW_MS)
        return self.until

    def resumed(self) -> Resumed:
        known = [self.known(process) for process in self.states]
        active = [k for k in known if k is not None and k.state.standing == "active"]
        return Resumed(self.published(), active, max(self.last_incident, *self.incidents, 0), self.caught_up)


class World:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = BASE
        self.procs: list[Proc] = []
        self.store = Store()
        self.tracker = Tracker()
        self.highest = 0

    # -- processes

    def start(self, *, skew: int = 0) -> Proc:
        now = self.now + skew
        number = len(self.procs) + 1
        process = (now.to_bytes(6, "big") + bytes([0x70, number, 0x80]) + number.to_bytes(7, "big"))[:16]
        name = str(uuid.UUID(bytes=process))
        p = Proc(process, now, skew, Ledger(process=name, host="h", service="s", started=now))
        self.procs.append(p)
        return p

    def begin(self, p: Proc) -> None:
        exchange = Exchange(self.now + p.skew)
        p.exchanges.append(exchange)
        p.open.append(exchange)

    def seal(self, p: Proc, fate: str) -> None:
        exchange = p.open.pop(self.random.randrange(len(p.open)))
        if fate == "excluded":
            exchange.is_excluded = True
            p.excluded += 1
            return
        p.last += 1
        exchange.sequence = p.last
        if fate == "lost":
            exchange.is_stated_lost = True
            p.ledger.losses.add(p.last, p.last, "queue")
        else:
            p.queue.append(exchange)

    def write(self, p: Proc, most: int = 1000) -> None:
        for exchange in p.queue[:most]:
            leaf = leaf_hash(p.process + str(exchange.sequence).encode())
            p.log.append(Seen(p.process, p.name, exchange.sequence, exchange.begun, leaf))
            p.leaves.append(leaf)
        del p.queue[:most]

    def state(self, p: Proc, closed: str = "") -> None:
        now = self.now + p.skew
        self.write(p)
        starts = [e.begun for e in p.open]
        long = [s for s in starts if s <= now - RECENT]
        recent = [s for s in starts if s > now - RECENT]
        seen = Snapshot(
            now=now,
            open_count=len(starts),
            open_oldest=min(starts, default=None),
            recent_oldest=min(recent, default=None),
            last=p.last,
            excluded=p.excluded,
            unwaited=0,
            clock_steps=0,
        )
        for made in p.ledger.make(seen, closed):  # type: ignore[arg-type]
            said = msgspec.structs.replace(
                made,
                root=root_of(p.leaves).hex(),
                previous=p.previous,
                open_long=len(long),
                open_long_newest=max(long, default=None),
            )
            p.ledger.written([made])
            self.append(p, said)

    def append(self, p: Proc, said: Statement) -> None:
        digest = statement_digest(encode_statement(said))
        p.log.append(Stated(p.process, p.name, said, digest))
        p.leaves, p.previous, p.covered, p.number = [], digest, said.last, said.number

    def kill(self, p: Proc) -> None:
        p.is_alive = False
        p.queue.clear()

    def adopt(self, p: Proc) -> None:
        """Whoever finds the journal states the true tail."""
        assert not p.is_alive
        there = {e.sequence for e in p.log if isinstance(e, Seen)} | {
            e.sequence for e in p.kept_back if isinstance(e, Seen)
        }
        there |= p.destroyed
        absent = [n for n in range(p.covered + 1, p.last + 1) if n not in there]
        for exchange in p.exchanges:
            exchange.is_stated_lost |= exchange.sequence in absent
        said = Statement(
            process=p.name,
            number=p.number + 1,
            at=self.now,
            first=p.covered + 1,
            last=p.last,
            count=p.last - p.covered - len(absent),
            lost=[Lost(n, n, "killed") for n in absent],
            excluded=p.excluded,
            open_count=len(p.open),
            watermark=max(self.now, p.ledger.watermark),
            closed="adopted",
            started=p.started,
            root=root_of(p.leaves).hex(),
            previous=p.previous,
        )
        p.is_ended = True
        self.append(p, said)

    # -- the indexer

    def step(self, most: int, crash: str = "") -> None:
        """Consume at most so many entries; `crash`: before or after the commit."""
        store = self.store
        events: list[Seen | Stated] = []
        positions = dict(store.positions)
        for p in self.random.sample(self.procs, len(self.procs)):
            at = positions.get(p.process, 0)
            found = [] if p.is_held else p.log[at : at + most - len(events)]
            events += found
            positions[p.process] = at + len(found)
        is_all = all(p.is_held or positions.get(p.process, 0) == len(p.log) for p in self.procs)
        caught_up = self.now if is_all else None
        unknown = self.tracker.unknown(events)
        known = {process: k for process in unknown if (k := store.known(process)) is not None}
        completion = self.tracker.take(Consumed(events, self.now, caught_up), known)
        if crash == "before":
            self.tracker = Tracker(store.resumed())
            return
        store.write(completion)
        store.positions = positions
        store.caught_up = caught_up if caught_up is not None else store.caught_up
        for e in events:
            store.heard.add(e.process)
            if isinstance(e, Seen):
                store.records.add((e.process, e.sequence))
            else:
                store.lost |= {(e.process, n) for r in e.statement.lost for n in range(r.first, r.last + 1)}
        if crash == "after":
            self.tracker = Tracker(store.resumed())
        self.check()

    def purge(self, horizon: int, *, is_a_day_later: bool = False) -> None:
        """Between two batches, as the indexer does. The day that a store waits is for clocks that are set wrong and for
        what is on its way, the 90 days for processes that did not have their last word."""
        at = self.store.positions
        waits = {
            p.process for p in self.procs
            if not p.is_ended or p.skew or p.kept_back or at.get(p.process, 0) < len(p.log)
        }  # fmt: skip
        self.store.purge(max(horizon, self.store.horizon), set() if is_a_day_later else waits)
        self.tracker.forget(self.store.horizon, self.now)
        self.check()

    def is_forgotten(self, p: Proc) -> bool:
        return p.process in self.store.heard and self.store.state(p.process) is None

    # -- the oracle

    def check(self) -> None:
        store = self.store
        until = store.published()
        if until is None:
            return
        assert until >= self.highest, "T went back"
        assert until <= self.now, "T lies in the future"
        self.highest = until
        incidents = store.open_incidents()
        for p in self.procs:
            if p.process not in store.heard:
                continue  # nobody can know of it
            state = store.state(p.process)
            if state is None:
                assert all(e.begun < store.horizon for e in p.exchanges), f"{p.name} was forgotten too early"
                continue
            of_it = [i for i in incidents if i.process == p.name]
            for e in p.exchanges:
                if e.begun >= until or e.begun < store.horizon or e.is_excluded:
                    continue
                if state.closed == "provisional" and e.begun >= state.at:
                    continue  # it goes on after all, and did not say so yet
                key = (p.process, e.sequence)
                if e.sequence and (key in store.records or key in store.lost):
                    continue
                if any(i.start <= e.begun and (i.end is None or e.begun < i.end) for i in of_it):
                    continue
                if state.open_count and state.open_from <= e.begun <= state.open_to:
                    continue
                raise AssertionError(f"{e} of {p.name} is not there, though T is {until}; {state}; {of_it}")
