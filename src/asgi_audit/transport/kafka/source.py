"""The topic as a `Source`: it assigns all partitions itself, and continues each at a position that it has checked.

Place in the path: Kafka ═► *KafkaSource* ═► Indexer. A thread with its own event loop fetches into a bounded queue;
`poll` takes from it.

Invariants:
* A partition continues exactly at its position. On every connection the message before it is read again and its digest
  compared (see `partition.py`): a topic that was created again, or a range that retention removed, is an *incident* and
  never skipped silently. Between connections a new topic id and each "offset out of range" lead to the same check.
* Every 250 ms it takes a fence (see `transport/fences.py`): the clock, fresh metadata, then the end of each partition
  from its leader. A fence has passed when everything before its ends is in the queue; it is put into the queue after
  that. When a partition has no leader, or its end is not known, there is no fence, and `holds` names the
  partition; the others are read on.
* Ignored partitions do not count for fences until they are read up to the end that their leader named last.
* At most `queue_messages` messages and 32 MiB (plus one fetch) wait in memory; then fetching stops.
* A consumer that has gone silent (aiokafka #1154, #1037) is replaced after `silent_seconds`, which is harmless.

A crash loses nothing: the indexer stores the positions together with the records.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka import errors as vendor

from ...errors import TransportError
from ..base import Fence, Kind, Message, Polled, Position, SourceIncident
from ..fences import boot_id, boot_seconds
from .client import (
    LoopThread,
    Probe,
    TopicFacts,
    cause_of,
    connection_options,
    cut_off,
    dispose,
    new_consumer,
)
from .config import KafkaConfig
from .errors import defect, vendor_calls, vendor_errors
from .partition import Chunk, Partition
from .read_queue import ReadQueue
from .state import Condition, KafkaSourceStats, KafkaState, log
from .topic_fences import TopicFences

__all__ = ["KafkaSource"]

_QUEUE_BYTES = 32 << 20
_FETCH_MAX = 2_000  # messages from one call of getmany
_FOREIGN_SAMPLE = 100  # when none of this many first messages is of asgi-audit, it is the wrong topic
_COMMIT_SECONDS = 1.0
_RETENTION_SECONDS = 60.0  # how often the topic's retention is requested
_RECORD_HEAD = b'{"account_id":'


class FetchTimeout(vendor.KafkaError):  # type: ignore[misc]
    """No response to a fetch for `silent_seconds`."""


class _RestartSession(vendor.KafkaError):  # type: ignore[misc]
    """The partitions changed, or the topic was created again: begin a new session."""

    retriable = True


class KafkaSource:
    """See `base.Source`. A message's partition is the topic's partition, as text. Its `sequence` is 0, because only the
    record contains it.

    `name` connects (at most `connect_seconds`), because it contains the cluster's id: positions of another cluster must
    not be used. State, incidents and statistics may be read from any thread."""

    def __init__(
        self,
        config: KafkaConfig,
        *,
        queue_messages: int = 20_000,
        fetch_wait_ms: int = 50,
        facts_seconds: float = 0.25,
        silent_seconds: float = 20.0,
        connect_seconds: float = 30.0,
        backoff_seconds: tuple[float, float] = (0.2, 15.0),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`fetch_wait_ms`: how long a broker may wait for messages before it responds. `facts_seconds`: how often a
        fence is taken, which requests the topic's partitions and their ends. Raises ConfigError."""
        connection_options(config)
        self._config = config
        self._fetch_wait_ms = fetch_wait_ms
        self._facts_seconds = facts_seconds
        self._silent_seconds = silent_seconds
        self._connect_seconds = connect_seconds
        self._backoff = backoff_seconds
        self._clock = clock
        self._thread = LoopThread("asgi-audit-kafka-source", self._main)
        self._started = False

        # Shared with the caller's thread, under `_ready`'s lock.
        self._ready = threading.Condition()
        self._queue = ReadQueue(queue_messages, _QUEUE_BYTES)
        self._has_changed = False
        self._cluster = ""
        self._incidents: deque[SourceIncident] = deque(maxlen=1000)
        self._retention_ms: int | None = None
        self._condition = Condition("read", config.address, "Nothing is read.")
        # True while none of the first hundred or more messages is of asgi-audit: it is probably the wrong topic. Then
        # `poll` raises, so that a foreign topic does not become a flood of dead letters. What is read meanwhile stays
        # in the queue and is returned as soon as a message of asgi-audit arrives.
        self._wrong = False
        self._defect: Exception | None = None  # why the thread ended

        # Of the thread.
        self._opened = threading.Event()
        self._positions: dict[str, Position] = {}
        self._partitions: dict[int, Partition] = {}  # all of the topic
        self._fences = TopicFences(self._partitions)
        self._assigned: frozenset[int] = frozenset()  # those that had a leader when the session began
        self._leaderless: frozenset[int] = frozenset()
        self._boot_id = boot_id()
        self._topic_id: bytes | None = None
        self._consumer: Any = None
        self._probe: Probe | None = None
        self._to_commit: dict[int, int] = {}
        self._retention_at = 0.0
        self._seen = 0
        self._ours = 0
        self._counts = {"fetched": 0, "incidents": 0}

    # ------------------------------------------------------------------------------------------------- contract

    @property
    def name(self) -> str:
        """`kafka:<cluster id>:<topic>`. Raises TransportError when no broker responds in time."""
        self._start()
        with self._ready:
            is_known = self._ready.wait_for(lambda: bool(self._cluster or self._defect), self._connect_seconds)
            self._raise_defect()
            if not is_known:
                raise TransportError(
                    f"Kafka: connect to {self._config.address}: {self._condition.last_error or 'no response in time'}",
                    hint="Check that the broker runs and that its advertised.listeners can be reached from here.",
                )
            return f"kafka:{self._cluster}:{self._config.topic}"

    def open(self, positions: Mapping[str, Position]) -> None:
        """May be called once. The thread checks the positions; `poll` returns nothing of a partition before its
        position is checked."""
        if self._opened.is_set():
            raise TransportError("a KafkaSource can be opened only once; create a new one", retriable=False)
        self._positions = dict(positions)
        self._opened.set()
        self._start()

    def made_at(self) -> float | None:
        return 0.0  # the beginnings of the partitions show what the topic has removed

    def ignore(self, partitions: Collection[str]) -> None:
        self._fences.ignored = frozenset(partitions)

    def poll(self, messages_max: int, timeout_seconds: float) -> Polled:
        with self._ready:
            if not self._queue or self._wrong:
                self._ready.wait_for(lambda: bool(self._defect or (self._queue and not self._wrong)), timeout_seconds)
            self._raise_defect()
            if self._wrong:
                raise TransportError(
                    f"none of the first {self._seen} messages of {self._config.address} is a record of asgi-audit",
                    hint="Check the name of the topic. Nothing of it is indexed until a record of asgi-audit arrives.",
                )
            taken = self._queue.take(messages_max, self._handed_out)
            for number in taken.positions:
                if (partition := self._partitions.get(int(number))) is not None:
                    partition.is_unread = False
            has_changed, self._has_changed = self._has_changed, False
            more, holds, recovered = bool(self._queue), self._fences.holds, self._fences.recovered()
        return Polled(
            taken.messages, taken.positions, more, taken.fence, taken.damaged, taken.times, taken.begins, holds,
            has_changed, recovered,
        )  # fmt: skip

    def _handed_out(self, chunk: Chunk) -> None:
        if (partition := self._partitions.get(int(chunk.partition))) is not None:
            partition.handed_out(chunk)

    def commit(self, positions: Mapping[str, Position]) -> Sequence[str]:
        """See `Source`. Also commits the offsets under the consumer group, at most once a second and without guarantee;
        only lag tools read them. Returns the partitions that the topic no longer has."""
        offsets = {int(partition): position.next for partition, position in positions.items() if partition.isdigit()}
        self._thread.call_soon(lambda: self._to_commit.update(offsets))
        with self._ready:
            known = self._fences.known
            for number, following in offsets.items():
                if (partition := self._partitions.get(number)) is not None:
                    partition.stored(following)
        return [partition for partition in positions if partition not in known] if known else []

    def close(self) -> None:
        """Takes at most about 5 seconds, even when the broker hangs."""
        self._thread.ask()
        self._opened.set()
        if self._started:
            self._thread.join(5.0)

    def take_incidents(self) -> list[SourceIncident]:
        with self._ready:
            taken = list(self._incidents)
            self._incidents.clear()
            return taken

    def measures(self) -> Mapping[str, float]:
        s = self.stats()
        found = {
            "asgi_audit_indexer_lag_messages": s.lag,
            "asgi_audit_indexer_expiry_seconds": s.expires_in,
            "asgi_audit_indexer_statement_delay_seconds": s.statement_delay,
        }
        return {name: float(value) for name, value in found.items() if value is not None}

    # ------------------------------------------------------------------------------------- beside the contract

    @property
    def incidents(self) -> tuple[SourceIncident, ...]:
        """Those that were not taken yet, oldest first. What was not stored before a crash is found again."""
        with self._ready:
            return tuple(self._incidents)

    @property
    def state(self) -> KafkaState:
        return self._condition.state

    def stats(self) -> KafkaSourceStats:
        with self._ready:
            partitions = list(self._partitions.values())
            lags = [None if p.lag is None else p.lag + p.unstored for p in partitions]
        return KafkaSourceStats(
            state=self._condition.state,
            queued=self._queue.messages,
            lag=None if not lags or None in lags else sum(n for n in lags if n is not None) + self._queue.messages,
            expires_in=self._expires_in(),
            statement_delay=max((p.statement_delay for p in partitions if p.statement_delay is not None), default=None),
            incidents=self._counts["incidents"],
            last_error=self._condition.last_error,
        )

    def _expires_in(self) -> float | None:
        """Seconds until retention removes the oldest message that is not stored; None while it is not known."""
        retention, now = self._retention_ms, self._clock()
        if retention is None:
            return None
        with self._ready:
            queued = self._queue.waits_since()
            waits = [p.waits_since(queued.get(str(p.number))) for p in list(self._partitions.values())]
        since = [at for at in waits if at is not None]
        if any(at < 0 for at in since):
            return None
        return min(now, *(at / 1000 for at in since)) + retention / 1000 - now if since else retention / 1000

    def _raise_defect(self) -> None:
        if self._defect is not None:
            raise defect(f"read {self._config.address}", self._defect) from self._defect

    # --------------------------------------------------------------------------------------------- in the thread

    def _start(self) -> None:
        with self._ready:
            if self._started:
                return
            self._started = True
        self._thread.start()

    async def _main(self, stop: asyncio.Event) -> None:
        attempt = 0
        try:
            while not stop.is_set():
                before = self._counts["fetched"]
                began = time.monotonic()
                try:
                    await self._session(stop)
                except _RestartSession:
                    attempt = 0
                except vendor_errors() as e:
                    calm = self._counts["fetched"] > before or time.monotonic() - began > 60
                    attempt = 1 if calm else attempt + 1
                    with contextlib.suppress(*vendor_errors()):
                        e = await cause_of(self._config, e)
                    self._condition.failed(e)
                    self._fences.holds = None
                finally:
                    await self._disconnect()
                low, high = self._backoff
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stop.wait(), min(high, low * 2.0 ** min(attempt, 16)))
        except Exception as e:  # a bug: the next session would fail in the same way
            with self._ready:
                self._defect = e
                self._ready.notify_all()
        finally:
            self._condition.enter(KafkaState.STOPPED)

    async def _disconnect(self) -> None:
        self._fences.disconnected()
        consumer, self._consumer = self._consumer, None
        probe, self._probe = self._probe, None
        if consumer is not None:
            await dispose(consumer.stop)
        if probe is not None:
            await probe.close()
        await cut_off()

    async def _session(self, stop: asyncio.Event) -> None:
        """Run one consumer, until it fails, becomes silent, or needs another assignment."""
        self._probe = Probe(self._config)
        await self._probe.connect()
        facts = await self._probe.facts()
        with self._ready:
            self._cluster = self._cluster or facts.cluster_id
            self._ready.notify_all()
        if facts.error is not None:
            raise facts.error
        while not self._opened.is_set():  # noqa: ASYNC110 - set from another thread, once in a life
            await asyncio.sleep(0.01)
        if stop.is_set():
            return
        self._consumer = new_consumer(self._config, fetch_wait_ms=self._fetch_wait_ms)
        with vendor_calls():
            await asyncio.wait_for(self._consumer.start(), self._config.request_seconds)
        await self._assign(facts)
        self._condition.enter(KafkaState.RUNNING)
        beside = [asyncio.create_task(self._maintain()), asyncio.create_task(self._take_fences())]
        try:
            while not stop.is_set():
                for task in beside:
                    if task.done():
                        task.result()
                if self._queue.is_full():
                    await asyncio.sleep(0.01)
                    self._heard()
                    continue
                await self._fetch()
        finally:
            for task in beside:
                task.cancel()

    def _heard(self) -> None:
        now = time.monotonic()
        for partition in self._partitions.values():
            partition.heard_at = now

    async def _assign(self, facts: TopicFacts) -> None:
        """Assign all partitions that have a leader, each at its position. Raises what aiokafka raises."""
        is_recreated = self._topic_id is not None and facts.topic_id is not None and facts.topic_id != self._topic_id
        self._topic_id = facts.topic_id
        numbers = sorted(facts.leaders)
        if is_recreated or (self._partitions and set(numbers) != set(self._partitions)):
            self._forget_fences()
        for number in set(numbers) - set(self._partitions):
            self._partitions[number] = Partition(number, self._positions.get(str(number)))
        for number in set(self._partitions) - set(numbers):
            del self._partitions[number]
        with self._ready:
            self._fences.known = frozenset(str(number) for number in numbers)
        self._leaderless = frozenset(number for number, node in facts.leaders.items() if node < 0)
        self._assigned = frozenset(numbers) - self._leaderless
        tps = [self._tp(number) for number in sorted(self._assigned)]
        if not tps:
            self._fences.holds = {str(number): "it has no leader" for number in numbers}
            raise _RestartSession("no partition has a leader")
        wanted = {self._tp(number): self._partitions[number].next or 0 for number in self._assigned}
        with vendor_calls():
            self._consumer.assign(tps)
            for tp, offset in wanted.items():
                # Before any await: for a partition without a position aiokafka would look for one, and log an error.
                self._consumer.seek(tp, offset)
                self._consumer.pause(tp)
            begins, ends = await asyncio.wait_for(
                asyncio.gather(self._consumer.beginning_offsets(tps), self._consumer.end_offsets(tps)),
                self._config.request_seconds,
            )
        for number in sorted(self._assigned):
            tp = self._tp(number)
            start, incident = self._partitions[number].place(begins[tp], ends[tp], is_recreated, self._clock())
            self._report(incident)
            with vendor_calls():
                self._consumer.seek(tp, start)
        with vendor_calls():
            self._consumer.resume(*tps)

    def _forget_fences(self) -> None:
        """The partitions changed: T does not move before a fence over the new ones has passed."""
        with self._ready:
            self._fences.clear()
            self._queue.drop_fences()
            self._has_changed = True

    def _tp(self, number: int) -> Any:
        return TopicPartition(self._config.topic, number)

    def _report(self, incident: SourceIncident | None) -> None:
        if incident is None:
            return
        self._counts["incidents"] += 1
        with self._ready:
            self._incidents.append(incident)
        if incident.kind == "topic_recreated":
            self._forget_fences()
        if incident.kind == "retention_passed":
            text = "offsets %d to %d were removed before they were read (%s)"
        else:
            text = "the topic was deleted and created again: offset %d is gone, reading continues at %d (%s)"
        log.error(
            "partition %s of %s: " + text,
            incident.partition,
            self._config.address,
            incident.start,
            incident.end,
            incident.detail,
        )

    async def _fetch(self) -> None:
        """Put what has arrived into the queue, and see whether a fence has passed. Raises what aiokafka raises."""
        consumer = self._consumer
        try:
            with vendor_calls():
                found = await asyncio.wait_for(
                    consumer.getmany(timeout_ms=self._fetch_wait_ms, max_records=_FETCH_MAX), self._silent_seconds
                )
        except vendor.OffsetOutOfRangeError as e:
            # Retention, or a topic that was created again: the next session detects which.
            raise _RestartSession("a position is out of range") from e
        taken: list[tuple[Partition, Chunk]] = []
        must_restart = False
        for tp, records in found.items():
            partition = self._partitions[tp.partition]
            if partition.expected is not None:
                records, incident = partition.check(records, self._clock())
                self._report(incident)
                must_restart = must_restart or incident is not None
            if records:
                taken.append((partition, partition.take(records)))
                self._counts["fetched"] += len(records)
                if self._seen < _FOREIGN_SAMPLE or self._wrong:
                    self._sample(taken[-1][1].messages)
        with self._ready:
            for partition, chunk in taken:
                self._queue.put(chunk)
                partition.queued(chunk)
            if taken:
                self._ready.notify_all()
        if not must_restart:
            await self._look_at_fences()
        if must_restart:  # only now: the queue has the messages of the other partitions
            raise _RestartSession("another message is at a stored position")

    def _sample(self, messages: Sequence[Message]) -> None:
        self._seen += len(messages)
        self._ours += sum(m.kind is not Kind.RECORD or m.payload.startswith(_RECORD_HEAD) for m in messages)
        was_wrong, self._wrong = self._wrong, self._seen >= _FOREIGN_SAMPLE and not self._ours
        if self._wrong and not was_wrong:
            log.error("none of the first %d messages of %s is a record of asgi-audit; check the name of the topic",
                      self._seen, self._config.address)  # fmt: skip

    async def _look_at_fences(self) -> None:
        """Called when everything that was fetched is in the queue: put the fence that has passed there, too."""
        consumer = self._consumer
        for number in self._assigned:
            tp = self._tp(number)
            with vendor_calls():
                # `position` does not wait when there is one. It is also after the control records of transactions.
                position = await consumer.position(tp)
                heard = consumer.last_poll_timestamp(tp), consumer.highwater(tp)
            self._partitions[number].heard(*heard, position)
        fence = self._fences.passed()
        if fence is None:
            return
        cut_off = [p for p in self._partitions.values() if p.is_cut]
        for partition in cut_off:
            partition.is_cut = False
        empty = {str(p.number): p.beginning for p in self._partitions.values() if p.is_unread}
        with self._ready:
            self._queue.put_fence(fence, tuple(str(p.number) for p in cut_off), empty)
            self._ready.notify_all()

    async def _take_fences(self) -> None:
        """A task that runs during the session. Raises, to end it, when the topic's partitions or its id changed."""
        assert self._probe is not None
        while True:
            fence = Fence(self._clock(), boot_seconds(), self._boot_id)  # first, before the partitions and their ends
            try:
                facts = await self._probe.facts()
            except vendor_errors():
                pass  # no broker responds: if that lasts, the fetches fail
            else:
                self._check_topic(facts)
                ends, refused = await self._probe.ends(facts.leaders)
                self._fences.add(fence, ends, refused, is_full=self._queue.is_full())
            await asyncio.sleep(self._facts_seconds)

    def _check_topic(self, facts: TopicFacts) -> None:
        if facts.error is not None:
            raise facts.error
        if facts.topic_id != self._topic_id or set(facts.leaders) != set(self._partitions):
            raise _RestartSession("the topic changed")
        self._leaderless = frozenset(number for number, node in facts.leaders.items() if node < 0)
        if set(facts.leaders) - self._leaderless - self._assigned:
            raise _RestartSession("a partition has a leader again")

    async def _maintain(self) -> None:
        """A task that runs during the session: commits offsets, and raises FetchTimeout when fetches get no
        response."""
        assert self._probe is not None
        committed_at = 0.0
        while True:
            await asyncio.sleep(0.2)
            now = time.monotonic()
            asked = [self._partitions[number] for number in self._assigned - self._leaderless]
            silent = [p for p in asked if now - p.heard_at > self._silent_seconds]
            if silent:
                raise FetchTimeout(f"no response to a fetch for {self._silent_seconds:g} s")
            if now - committed_at >= _COMMIT_SECONDS:
                committed_at = now
                await self._commit_offsets()
            if now - self._retention_at >= _RETENTION_SECONDS:
                self._retention_at = now
                with contextlib.suppress(*vendor_errors()):  # only for a metric, and this user may lack the right
                    self._retention_ms = await self._probe.retention_ms()

    async def _commit_offsets(self) -> None:
        assert self._probe is not None
        if not self._to_commit or not self._config.group_id:
            return
        offsets, self._to_commit = self._to_commit, {}
        try:
            await self._probe.commit(offsets)
        except vendor_errors():
            self._to_commit = {**offsets, **self._to_commit}
