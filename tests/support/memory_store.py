"""A store in memory: the simplest implementation of the contract, for tests and for comparison with the real one.

Everything is lost with the process. Not bounded: never wired into anything.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from time import time
from typing import Literal

import msgspec

from asgi_audit.record.codec import Decoded
from asgi_audit.record.ids import started_ms
from asgi_audit.record.statement import Statement
from asgi_audit.store.base import COUNT_SECONDS, Batch, Fed, IndexVersion, Place, Query, Row, Snapshot, Written, gone
from asgi_audit.store.maintenance import Purged
from asgi_audit.store.query import matches
from asgi_audit.store.state import (
    Completeness,
    DeadLetter,
    Extent,
    Hold,
    Incident,
    Known,
    Process,
    ProcessState,
    ReadUntil,
    Resumed,
    Window,
    reached,
)
from asgi_audit.store.window import losses_in, lost_of
from asgi_audit.transport.base import Position

__all__ = ["MemoryStore"]

_DAY_MS = 86_400_000
_SLOTS = 1 << 16
_END = (1 << 63) - 1


class MemoryStore:
    """Both sides in one object: a Writer and a Reader."""

    def __init__(self, *, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: dict[int, tuple[int, Decoded]] = {}  # id → (iseq, record)
        self._keys: set[tuple[bytes | None, int | str]] = set()
        self._positions: dict[str, dict[str, Position]] = {}
        self._statements: dict[tuple[uuid.UUID, int], Statement] = {}
        self._indexed: dict[bytes, tuple[str, int]] = {}
        self._dead: list[DeadLetter] = []
        self._published = 0
        self._mark: ReadUntil | None = None
        self._extent = Extent()
        self._holds: list[Hold] = []
        self._made_at = int(clock() * 1000)
        self._tracked: dict[bytes, bytes] = {}
        self._incidents: dict[int, bytes] = {}
        self._last_incident = 0
        self._horizon = 0
        self._departed: list[tuple[str, int, int]] = []  # account, batch, and the horizon after the purge
        self._past: set[tuple[str, str, str]] = set()  # streams of purged records
        self.id = uuid.uuid4().hex
        self.generation = 1
        self.made_at_ms: int | None = int(clock() * 1000)

    def check(self) -> None:
        """None of its files can be missing."""

    def purge(self, before: int) -> Purged:
        with self._lock:
            before = min(before, int(self._clock() * 1000))
            self._horizon = max(self._horizon, before - before % _DAY_MS)
            gone = [n for n, (_, d) in self._rows.items() if d.timestamp < self._horizon]
            days = {self._rows[n][1].timestamp // _DAY_MS for n in gone}
            for number in gone:
                iseq, d = self._rows.pop(number)
                self._departed.append((d.account, iseq, self._horizon))
                self._past.add(_stream(d))
            self._forget()
            return Purged(self._horizon, len(days), 0)

    def _forget(self) -> None:
        states = {p: msgspec.msgpack.decode(data, type=ProcessState) for p, data in self._tracked.items()}
        active = {uuid.UUID(bytes=p) for p, s in states.items() if s.standing == "active"}
        self._last_incident = max(self._last_incident, *self._incidents, 0)
        for i in self._all_incidents():
            end = i.resolved_at if i.end is None else i.end
            is_open = i.resolved_at is None
            if end is not None and end <= self._horizon and not (is_open and i.process in active):
                del self._incidents[i.id]
        for process, s in states.items():
            if s.missing and s.standing != "active" and (left := self.known(process)) is not None:
                s.missing = sum(i.count for i in left.incidents if i.kind == "missing")
                self._tracked[process] = msgspec.msgpack.encode(s)
        waiting = {i.process for i in self._all_incidents() if i.resolved_at is None}
        before = self._horizon - _DAY_MS
        for process, s in states.items():
            name = uuid.UUID(bytes=process)
            waits = 0 if s.closed in ("final", "adopted") else 90 * _DAY_MS
            is_past = s.low < before - waits and (not s.open_count or s.open_to < before)
            if s.standing != "active" and is_past and name not in waiting:
                del self._tracked[process]
                self._indexed.pop(process, None)
                self._statements = {key: v for key, v in self._statements.items() if key[0] != name}

    def purge_asked(self) -> int | None:
        return None

    def replay_asked(self) -> int:
        return 0

    def acknowledge_asked(self) -> int:
        return 0

    def take_reindexed(self) -> int:
        return 0

    def last_believed(self) -> float | None:
        return None

    def note_believed(self, at: float) -> None:
        pass

    def positions(self, source: str) -> dict[str, Position]:
        return dict(self._positions.get(source, {}))

    def write(self, batch: Batch) -> Written:
        with self._lock:
            return self._write(batch)

    def _write(self, batch: Batch) -> Written:
        inserted = duplicates = expired = 0
        dead = list(batch.dead_letters)
        now = int(self._clock() * 1000)
        for d in sorted(batch.records, key=lambda d: d.timestamp):
            key = (d.process, d.sequence if d.process is not None else d.id)
            if d.timestamp > now + _DAY_MS:
                dead.append(DeadLetter(batch.source, "", -1, "timestamp is ahead of the indexer's clock", d.data))
            elif d.timestamp < self._horizon:
                expired += 1
            elif key in self._keys:
                duplicates += 1
            else:
                number = d.timestamp * _SLOTS
                while number in self._rows:
                    number += 1
                self._keys.add(key)
                self._rows[number] = (self._published + 1, d)
                inserted += 1
                if d.process is not None:
                    service, count = self._indexed.get(d.process, (d.service, 0))
                    self._indexed[d.process] = (service, count + 1)
        for s in batch.statements:
            self._statements.setdefault((uuid.UUID(s.process), s.number), s)
        self._dead += dead
        kept = self._positions.setdefault(batch.source, {})
        for partition in batch.forget:
            kept.pop(partition, None)
        kept.update(batch.positions)
        self._published += bool(inserted)
        if batch.read_until is not None:
            self._mark = batch.read_until
        if batch.completion is not None:
            self._extent = batch.completion.extent
            self._holds = self._holds if batch.completion.holds is None else list(batch.completion.holds)
            # As bytes, because the indexer continues to change the object.
            self._tracked |= {s.process: msgspec.msgpack.encode(s) for s in batch.completion.processes}
            self._incidents |= {i.id: msgspec.msgpack.encode(i) for i in batch.completion.incidents}
        return Written(inserted, duplicates, expired, len(dead))

    def read_until(self, mark: ReadUntil) -> None:
        self._mark = mark

    def resumed(self) -> Resumed:
        known = [k for p in self._tracked if (k := self.known(p)) is not None and k.state.standing == "active"]
        last = max(self._last_incident, *self._incidents, 0)
        return Resumed(self._extent, self._mark, known, last, list(self._holds), self._made_at)

    def holds(self) -> list[Hold]:
        return list(self._holds)

    def partitions_lost(self) -> list[str]:
        return []

    def partition_noted(self, partition: str) -> None:
        pass

    def known(self, process: bytes) -> Known | None:
        data = self._tracked.get(process)
        if data is None:
            return None
        name = uuid.UUID(bytes=process)
        found = [i for i in self._all_incidents() if i.process == name and i.resolved_at is None]
        return Known(msgspec.msgpack.decode(data, type=ProcessState), found)

    def _until(self) -> int | None:
        return reached(self._extent, None if self._mark is None else self._mark.at)

    def _begins(self) -> int | None:
        return max(self._extent.begins, self._horizon) if self._extent.is_begun else None

    def _all_incidents(self) -> list[Incident]:
        return [msgspec.msgpack.decode(self._incidents[n], type=Incident) for n in sorted(self._incidents)]

    def completeness(self, start: int, end: int, accounts: frozenset[str] | None = None) -> Completeness:
        if start >= end:
            return Completeness(self._until(), 0, 0, self._begins())
        states = [msgspec.msgpack.decode(data, type=ProcessState) for data in self._tracked.values()]
        states = [s for s in states if s.open_count and s.open_from < end and s.open_to >= start]
        others = [n for s in states for a, n in s.open_accounts if accounts is not None and a not in accounts]
        open_count = sum(s.open_count for s in states) - sum(others)
        count = sum(i.resolved_at is None for i in self.incidents(start, end))
        return Completeness(self._until(), count, open_count, self._begins())

    def incidents(self, start: int, end: int, *, limit: int = 1000) -> list[Incident]:
        found = [i for i in self._all_incidents() if i.start < end and (i.end is None or i.end > start)]
        found.sort(key=lambda i: (i.resolved_at is not None, -i.id))
        for incident in found:
            incident.ranges = incident.ranges[:100]
        return found[:limit]

    def stop_when(self, stopped: Callable[[], bool]) -> None:
        pass  # nothing here takes long, and all threads share this one

    def close(self) -> None:
        pass

    def index(self) -> IndexVersion:
        return IndexVersion(self.id, self.generation)

    def snapshot(self) -> Snapshot:
        with self._lock:
            return Snapshot(self._published, 0.0 if self._mark is None else self._mark.taken_at / 1000)

    def page(
        self, query: Query, *, published: int, before: int | None, limit: int, bytes_max: int, skip: int = 0
    ) -> tuple[list[Row], bool]:
        rows: list[Row] = []
        left = bytes_max
        is_newest_first = query.order == "newest"
        with self._lock:
            for number in sorted(self._rows, reverse=is_newest_first):
                iseq, d = self._rows[number]
                is_read = before is not None and (number >= before if is_newest_first else number <= before)
                if iseq > published or is_read or not matches(query, d):
                    continue
                if skip:
                    skip -= 1
                    continue
                if len(rows) >= limit or (rows and len(d.data) > left):
                    return rows, True
                left -= len(d.data)
                rows.append(Row(number, d.data, d.cuts))
        return rows, False

    def count(self, query: Query, *, published: int, work_seconds: float = COUNT_SECONDS) -> int:
        with self._lock:
            return sum(iseq <= published and matches(query, d) for iseq, d in self._rows.values())

    def histogram(
        self, query: Query, *, published: int, by: Literal["level", "status"], minutes: int
    ) -> list[tuple[int, dict[str, int]]]:
        found: dict[int, Counter[str]] = {}
        with self._lock:
            for iseq, d in self._rows.values():
                if iseq <= published and matches(query, d):
                    at = d.timestamp // (minutes * 60_000) * minutes * 60_000
                    label = d.level if by == "level" else f"{d.status // 100}xx"
                    found.setdefault(at, Counter())[label] += 1
        return [(at, dict(found[at])) for at in sorted(found)]

    def find(self, accounts: frozenset[str] | None, record_id: str, *, published: int) -> Row | None:
        with self._lock:
            for number, (iseq, d) in self._rows.items():
                if d.id == record_id and iseq <= published and (accounts is None or d.account in accounts):
                    return Row(number, d.data, d.cuts)
        return None

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
        with self._lock:
            own = sorted(
                (iseq, number, d)
                for number, (iseq, d) in self._rows.items()
                if iseq <= self._published and (accounts is None or d.account in accounts)
            )
            at = (0, _END)
            if after is not None:
                at = (after.iseq, after.id)
                left_unread = [
                    iseq
                    for account, iseq, horizon in self._departed
                    if horizon > after.horizon and (accounts is None or account in accounts)
                ]
                if after.iseq > self._published or any(iseq > after.iseq - (after.id < _END) for iseq in left_unread):
                    raise gone("it is gone")
            elif since is not None:
                first = min((iseq for iseq, _, d in own if d.timestamp >= since), default=self._published + 1)
                at = (first - 1, _END)
            left = [(iseq, number, d) for iseq, number, d in own if (iseq, number) > at]
            rows: list[Row] = []
            for n, (iseq, number, d) in enumerate(left):
                bytes_max -= len(d.data)
                if len(rows) >= limit or (rows and bytes_max < 0):
                    return Fed(rows, Place(at[0], at[1] if at[0] == iseq else _END, self._horizon), True)
                rows.append(Row(number, d.data, d.cuts))
                at = (iseq, number if n + 1 < len(left) and left[n + 1][0] == iseq else _END)
            return Fed(rows, Place(self._published, _END, self._horizon), False)

    def seen(self, accounts: frozenset[str] | None, service: str, instance: str) -> bool:
        with self._lock:
            streams = self._past | {_stream(d) for _, d in self._rows.values()}
            return any((accounts is None or a in accounts) and (s, i) == (service, instance) for a, s, i in streams)

    def processes(self) -> list[Process]:
        found: list[Process] = []
        with self._lock:
            stated = {process for process, _ in self._statements}
            for name in stated | {uuid.UUID(bytes=p) for p in self._indexed}:
                service, indexed = self._indexed.get(name.bytes, ("", 0))
                of = [self._statements[key] for key in sorted(self._statements) if key[0] == name]
                latest = of[-1] if of else None
                at = started_ms(name.bytes) or 0
                tracked = self.known(name.bytes)
                state = tracked.state if tracked else None
                found.append(
                    Process(
                        process=name,
                        service=latest.service if latest else service,
                        host=latest.host if latest else "",
                        started=latest.started if latest else at,
                        last=max((s.last for s in of), default=0),
                        indexed=indexed,
                        lost=state.lost
                        if state
                        else sum(s.lost_more + sum(r.last - r.first + 1 for r in s.lost) for s in of),
                        excluded=latest.excluded if latest else 0,
                        open_count=latest.open_count if latest else 0,
                        watermark=max((s.watermark for s in of), default=0),
                        closed=latest.closed if latest else "",
                        proven=all(s.proven for s in of),
                        missing=state.missing if state else 0,
                        standing=state.standing if state else "active",
                        low=state.low if state else 0,
                        earlier=state.earlier if state else 0,
                        unverified=state.unverified if state else 0,
                    )
                )
        return sorted(found, key=lambda p: (p.started, p.process))

    def window(self, start: int, end: int) -> list[Window]:
        found: list[Window] = []
        for p in self.processes():
            rows = [d for _, d in self._rows.values() if d.process == p.process.bytes and start <= d.timestamp < end]
            of = sorted((n, s) for (name, n), s in self._statements.items() if name == p.process)
            found.append(
                Window(
                    p.process,
                    len(rows),
                    losses_in([s for _, s in of], start, end) + max(0, p.lost - sum(map(lost_of, (s for _, s in of)))),
                )
            )
        return found

    def dead_letters(self) -> int:
        return len(self._dead)

    def records(self) -> int:
        return len(self._rows)


def _stream(d: Decoded) -> tuple[str, str, str]:
    return d.account, d.service, d.instance
