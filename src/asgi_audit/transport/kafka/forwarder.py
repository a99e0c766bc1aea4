"""The forwarder: reads entries from a journal and sends them to the topic, in order, until each is acknowledged.

Place in the path: Journal ═► *Forwarder* ═► Kafka. It is a thread of the application, or the command
`asgi-audit forward`.

Invariants:
* All entries of a process go to one partition (murmur2 of the process's UUID, as Java clients place a key) in the order
  in which they were read: one batch of a partition is in flight at a time, several partitions at once.
* Nothing is removed from the source before the broker has acknowledged it with acks=all. What is sent again after a
  failure is in the topic twice; the index drops the second.
* At most 8 MiB (plus one read of 2,000 entries) wait in memory. While no broker responds, only the journal grows.
* Every wait for a broker is bounded, also at the end. A producer that failed is replaced (aiokafka #1017), after a
  pause with jitter.
* Every message has the header `asgi-audit-kind`, so that other consumers can tell records from statements.
* An entry that the broker refuses does not block later entries (see `refusals.py`).

A crash loses nothing: what was not acknowledged is still at the source, and the next forwarder sends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...disk import PRIVATE, Access
from ...errors import AuditError, TransportError
from ..base import Kind, Polled, Source
from .client import LoopThread, cause_of, connection_options, cut_off, dispose, new_producer
from .config import KafkaConfig
from .dead_letters import DeadLetters
from .errors import blames_clock, blames_data, vendor_calls, vendor_errors
from .partition_queues import PartitionQueue, PartitionQueues
from .refusals import Refusals
from .state import Condition, ForwarderStats, KafkaState

__all__ = ["KIND_HEADER", "Forwarder"]

KIND_HEADER = "asgi-audit-kind"
"""Kafka header of every message: `record`, `statement` or `loss`."""

_READ_MAX = 2_000  # entries a read
_BUFFER_BYTES = 8 << 20  # of entries that wait in memory
# Entries packed before the loop yields: 0.5 ms, so that the application's threads get the interpreter.
_SLICE = 200
_TOPIC_SECONDS = 5.0  # how long a new producer may look for the topic
_COMMIT_SECONDS = 0.5  # between two commits to the source: each costs some file operations
_STOPPING_SECONDS = 0.02  # how often the source is read after `stop` was called
# For other consumers. The index looks at the first bytes of the value: messages of 0.1.0 have no header.
_HEADERS = {kind: [(KIND_HEADER, kind.name.lower().encode())] for kind in Kind}


class Forwarder:
    """Sends everything that `source` has to `config.topic`. Only the forwarder's thread uses the source.

    dead_letters: the directory for what the broker refuses; `access` says who may read it.
    on_broken(error): called last in the thread, when it ends because of a bug; the source is closed then.
    linger_seconds: how often a source that was empty is read again. More makes larger batches and a longer delay.
    delivery_seconds: how long one batch may take before its producer is replaced.
    drain: end when the source is empty and everything is acknowledged.

    Raises ConfigError when the codec or the TLS files cannot be used."""

    def __init__(
        self,
        source: Source,
        config: KafkaConfig,
        *,
        dead_letters: Path,
        access: Access = PRIVATE,
        on_broken: Callable[[BaseException], object] | None = None,
        linger_seconds: float = 0.1,
        batch_bytes: int = 524_288,
        delivery_seconds: float = 30.0,
        backoff_seconds: tuple[float, float] = (0.2, 15.0),
        drain: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        connection_options(config)
        self._source = source
        self._config = config
        self._dead_letters = DeadLetters(dead_letters, access=access)
        self._linger = linger_seconds
        self._delivery = delivery_seconds
        self._backoff = backoff_seconds
        self._drain = drain
        self._thread = LoopThread("asgi-audit-forwarder", self._main, on_broken)
        self._stop_at = float("inf")  # monotonic: when a stop ends without sending the rest
        self._ended = threading.Event()

        self._queues = PartitionQueues()
        self._partitions: list[int] = []
        self._producer: Any = None
        self._idempotent = True
        self._failed: BaseException | None = None  # why the producer must be replaced
        self._reached = True  # the last attempt to get a producer succeeded, or there was none yet
        self._caught_up = False
        self._read_from = self._read_at = 0.0
        # (monotonic time of the request; event that is set when everything from before it is sent)
        self._flushes: list[tuple[float, threading.Event]] = []
        self._stop = asyncio.Event()
        self._waiter: asyncio.Future[None] | None = None
        self._committed_at = 0.0  # monotonic

        self._condition = Condition("send to", config.address, "Records wait in the journal.")
        self._refusals = Refusals(
            self._queues, self._dead_letters, self._condition, batch_bytes=batch_bytes, clock=clock
        )
        self._counts: Counter[str] = Counter()

    # For callers, from any thread

    def start(self) -> None:
        """Start the thread. Does not wait for Kafka."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Send what the source still has for at most `timeout_seconds`, then end. Returns whether all was acknowledged.

        Returns at most a second after the timeout, even when the broker hangs; the thread is a daemon."""
        until = time.monotonic() + timeout_seconds + 1.0
        self._stop_at = until - 1.0 - min(0.5, timeout_seconds)
        self._thread.ask()
        self._thread.join(until - time.monotonic())
        return self._ended.is_set() and self._caught_up and not self._queues.entries

    def park(self, timeout_seconds: float = 0.5) -> bool:
        """Stop the thread where it is, for good: see `LoopThread.park`. What it has not sent is still at the source."""
        return self._thread.park(timeout_seconds)

    def flush(self, timeout_seconds: float) -> bool:
        """Send what the source has now, without waiting for a batch to grow, and keep running. Returns whether all of
        it was acknowledged in time; False at once while Kafka does not respond (the entries stay in the journal)."""
        if self._condition.state not in (KafkaState.RUNNING, KafkaState.STARTING) or self._ended.is_set():
            return False
        done = threading.Event()
        self._flushes.append((time.monotonic(), done))
        self._thread.call_soon(self._wake)
        return done.wait(timeout_seconds)

    def send_now(self) -> None:
        """Read the source now, and send what is there without waiting for more; returns at once."""
        self._thread.call_soon(self._read_soon)

    def _read_soon(self) -> None:
        self._read_at = 0.0
        self._wake()

    def join(self, timeout_seconds: float) -> bool:
        """Wait until it has ended by itself (`drain`). Returns whether it did so in time."""
        return self._ended.wait(timeout_seconds)

    @property
    def state(self) -> KafkaState:
        return self._condition.state

    def stats(self) -> ForwarderStats:
        c = self._counts
        return ForwarderStats(
            state=self._condition.state,
            sent=c["sent"],
            acknowledged=c["acknowledged"],
            refused=self._refusals.counts["refused"],
            refused_records=self._refusals.counts["refused_records"],
            damaged=c["damaged"],
            batches=c["batches"],
            retries=c["retries"],
            pending=self._queues.entries,
            pending_bytes=self._queues.pending_bytes,
            dead_letters=self._dead_letters.written,
            last_error=self._condition.last_error,
        )

    # In the thread

    async def _main(self, stop: asyncio.Event) -> None:
        self._stop = stop
        pauses = 0
        try:
            await self._open_source()
            while not self._should_end():
                before = self._counts["acknowledged"]
                try:
                    await self._connect()
                    self._condition.enter(KafkaState.RUNNING)
                    await self._pump()
                    if self._failed is not None:
                        raise self._failed
                except vendor_errors() as e:  # only these: a bug in our code would fail again
                    if self._counts["acknowledged"] > before:
                        pauses = 0
                    if blames_data(e) or blames_clock(e):
                        # The producer is replaced at once, but many refusals in a row must not become a busy loop.
                        await asyncio.sleep(0.01)
                    else:
                        pauses += 1
                        self._counts["retries"] += 1
                        if not self._stop.is_set():  # stopping: there is no time to find the cause
                            self._condition.failed(await self._explained(e))
                        await self._disconnect()
                        await self._pause(pauses)
                await self._disconnect()
        finally:
            self._commit()
            await self._disconnect()
            with contextlib.suppress(AuditError, OSError):
                self._source.close()
            self._condition.enter(KafkaState.STOPPED)
            self._ended.set()

    def _should_end(self) -> bool:
        """Whether to end. Yes when everything is drained; when stopped, also when nothing is left, the time is over, or
        Kafka does not respond (what waits is safe in the journal)."""
        if self._stop.is_set() and (not self._reached or time.monotonic() >= self._stop_at):
            return True
        return (self._stop.is_set() or self._drain) and self._caught_up and not self._queues.entries

    async def _open_source(self) -> None:
        attempt = 0
        while not self._should_end():
            try:
                self._source.open({})
                return
            except TransportError as e:
                attempt += 1
                self._condition.once(str(e))
                await self._pause(attempt)

    async def _connect(self) -> None:
        """A producer that knows the topic's partitions. Raises what aiokafka raises."""
        self._failed, self._reached = None, False
        # After a refused batch the numbering of an idempotent producer has a gap, and the broker would refuse every
        # later batch of the partition as out of order. So a refused batch is sent again in parts by a producer without
        # idempotence.
        self._idempotent = not self._queues.careful
        self._producer = new_producer(self._config, batch_bytes=self._refusals.batch_bytes, idempotent=self._idempotent)
        with vendor_calls():
            await asyncio.wait_for(self._producer.start(), self._bounded(self._config.request_seconds))
        try:
            with vendor_calls():
                found = await asyncio.wait_for(
                    self._producer.partitions_for(self._config.topic), self._bounded(_TOPIC_SECONDS)
                )
        except TimeoutError:
            cluster = self._producer.client.cluster
            if cluster.brokers() and not cluster.partitions_for_topic(self._config.topic):
                self._condition.no_topic()
            raise
        self._reached = True
        self._partitions = sorted(found)
        self._queues.fit(self._partitions)

    async def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        await dispose(producer.stop, self._bounded(2.0))
        await cut_off()

    async def _pump(self) -> None:
        """Read, send and commit until the producer fails, another kind of producer is needed, or `_should_end` returns
        True."""
        sends: set[asyncio.Task[None]] = set()
        stopping = asyncio.create_task(self._stop.wait())
        stopping.add_done_callback(self._wake)
        try:
            while not self._should_end() and self._failed is None and self._queues.careful != self._idempotent:
                linger = _STOPPING_SECONDS if self._stop.is_set() or self._flushes else self._linger
                room = self._queues.pending_bytes < _BUFFER_BYTES
                if room and (not self._caught_up or time.monotonic() >= self._read_at + linger):
                    self._read()
                for queue in self._queues.idle():
                    queue.busy = True
                    sends.add(asyncio.create_task(self._send(queue)))
                now = time.monotonic()
                if now - self._committed_at >= _COMMIT_SECONDS:
                    self._committed_at = now
                    self._commit()
                self._flushed()
                if self._drain and self._should_end():
                    break
                if room and not self._caught_up:
                    await asyncio.sleep(0)
                else:
                    await self._wait(max(0.001, self._read_at + linger - now if room else linger))
                sends = {task for task in sends if not task.done()}
        finally:
            stopping.cancel()
            await self._finish(sends)

    def _flushed(self) -> None:
        """Wake the callers of `flush`: what the source had when they called is acknowledged."""
        if self._flushes and self._caught_up and not self._queues.entries:
            self._commit()  # the process may end now
            for flush in list(self._flushes):
                if flush[0] < self._read_from:
                    self._flushes.remove(flush)
                    flush[1].set()

    async def _wait(self, seconds: float) -> None:
        """Wait for `_wake` or the end of the time. Runs for every batch, so it uses one future instead of tasks."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()

    def _wake(self, *_: object) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _finish(self, sends: set[asyncio.Task[None]]) -> None:
        """Wait until each batch in flight has its response or its timeout."""
        if sends:
            await asyncio.wait(sends, timeout=self._bounded(self._delivery))
            for task in sends:
                task.cancel()
            await asyncio.wait(sends, timeout=1.0)
        for queue in self._queues.all():
            queue.busy = False
        self._commit()

    def _read(self) -> None:
        """One read of the source, distributed over the queues."""
        began = time.monotonic()
        try:
            batch = self._source.poll(_READ_MAX, 0)
        except TransportError as e:
            # The journal's disk failed, not Kafka: keep sending what is in memory; read again after the linger.
            self._condition.once(str(e))
            self._caught_up, self._read_at = True, time.monotonic()
            return
        # The source returns each entry once. If this raises, the entries are in no queue: the thread ends, and the next
        # forwarder reads them again from the committed position.
        self._take(batch, began)

    def _take(self, batch: Polled, began: float) -> None:
        self._caught_up, self._read_from, self._read_at = not batch.more, began, time.monotonic()
        for process, offset, reason, data in batch.damaged:
            self._counts["damaged"] += 1
            self._refusals.keep(process, 0, f"damaged at {offset}", reason, data)
        self._queues.add(batch.messages, batch.positions, self._partitions)

    async def _send(self, queue: PartitionQueue) -> None:
        """Send one batch from the head of the queue. The result is in the queue and in `_failed`."""
        count = 0
        try:
            batch = await self._packed(queue)
            count = batch.record_count()
            self._counts["sent"] += count
            self._counts["batches"] += 1
            async with asyncio.timeout(self._delivery):
                with vendor_calls():
                    # The first await sends, because a closed batch does not linger; the second waits for the response.
                    await (await self._producer.send_batch(batch, self._config.topic, partition=queue.partition))
            self._queues.acknowledge(queue, count)
            self._counts["acknowledged"] += count
        except vendor_errors() as e:
            if self._refusals.judge(queue, count, e, is_idempotent=self._idempotent):
                self._failed = e
        except Exception as e:
            self._failed = e  # a bug: it ends the thread
        finally:
            queue.busy = False
            # In the usual case there is nothing to do before the next read, so do not wake the pump.
            if queue.runs or self._failed is not None or self._drain or self._flushes or self._stop.is_set():
                self._wake()

    async def _packed(self, queue: PartitionQueue) -> Any:
        """A batch of the queue's first entries: at least one, even when it is too large."""
        with vendor_calls():
            batch = self._producer.create_batch()
        append = batch.append
        stamp = self._refusals.timestamp()
        for key, entries in queue.slices(_SLICE):
            if batch.record_count():
                await asyncio.sleep(0)  # meanwhile the queue is only appended to
            packed = [(message.payload, _HEADERS[message.kind]) for message in entries]
            with vendor_calls():
                for payload, headers in packed:
                    if append(timestamp=stamp, key=key, value=payload, headers=headers) is None:
                        return batch
        with vendor_calls():
            batch.close()
        return batch

    def _commit(self) -> None:
        """Tell the source what it may remove. After a failure the next commit repeats it."""
        moved = self._queues.moved()
        if not moved:
            return
        try:
            gone = self._source.commit(moved)
        except TransportError as e:
            self._condition.once(str(e))
            return
        self._queues.forget(gone)

    def _bounded(self, seconds: float) -> float:
        """Returns `seconds`, or less (at least 0.1) when a requested stop ends earlier."""
        return max(0.1, min(seconds, self._stop_at - time.monotonic()))

    async def _pause(self, attempt: int) -> None:
        """Wait, twice as long each time up to the maximum. Half of it is random, so that a thousand processes do not
        all try at the same moment."""
        low, high = self._backoff
        seconds = min(high, low * 2.0 ** min(attempt - 1, 16)) * (0.5 + 0.5 * random.random())
        if self._stop.is_set():
            await asyncio.sleep(self._bounded(min(seconds, 0.5)))
        else:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), seconds)

    async def _explained(self, error: BaseException) -> BaseException:
        try:
            return await asyncio.wait_for(cause_of(self._config, error), self._bounded(self._config.request_seconds))
        except vendor_errors():
            return error
