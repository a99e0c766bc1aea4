"""Decides why a batch failed: the broker refuses an entry, this machine's clock is wrong, or the producer is broken.

Place in the path: the forwarder calls it after each batch that was not acknowledged. An entry that the broker refuses
does not block later entries: the batch is halved until the refused entry is sent alone. The entry goes to the local
dead letters, and a loss entry with its leaf hash takes its place.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from ...record.loss import Loss, encode_loss
from ...record.merkle import leaf_hash
from ..base import Kind
from .dead_letters import DeadLetters
from .errors import blames_batch_size, blames_clock, blames_data
from .partition_queues import PartitionQueue, PartitionQueues
from .state import Condition, log

__all__ = ["Refusals"]

_BATCH_BYTES_MIN = 16_384
_REFUSALS_MAX = 3  # attempts with a single entry that is refused as corrupt, because it can be corrupted on its way
_CLOCK_SECONDS = 600.0  # how long no timestamps are sent after the broker refused one
_NO_TIMESTAMP = -1  # Kafka's value for "none", which brokers do not check


class Refusals:
    """Of one forwarder, used by its thread. `batch_bytes`: how large the next batch may be; it becomes smaller when the
    broker refuses a batch for its size. `counts`: entries that were `refused`, and how many of them were
    `refused_records`. `clock`: seconds since the epoch."""

    def __init__(
        self,
        queues: PartitionQueues,
        dead_letters: DeadLetters,
        condition: Condition,
        *,
        batch_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self.batch_bytes = batch_bytes
        self.counts: Counter[str] = Counter()
        self._queues = queues
        self._dead_letters = dead_letters
        self._condition = condition
        self._clock = clock
        self._timestamps_off_until = 0.0  # monotonic

    def timestamp(self) -> int:
        """The time (ms) that the next batch's messages carry."""
        return _NO_TIMESTAMP if time.monotonic() < self._timestamps_off_until else self._now_ms()

    def judge(self, queue: PartitionQueue, count: int, error: BaseException, *, is_idempotent: bool) -> bool:
        """Decide what made a batch of `count` entries fail. Returns whether the producer must be replaced."""
        if blames_clock(error):
            # Every batch of this machine would be refused; the broker accepts them without timestamps.
            self._timestamps_off_until = time.monotonic() + _CLOCK_SECONDS
            self._condition.once(self._condition.error_text(error))
            return True
        if not blames_data(error) or not count:
            return True
        if count > 1:
            queue.suspect(count)
            if blames_batch_size(error):
                self.batch_bytes = max(_BATCH_BYTES_MIN, self.batch_bytes // 2)
            return is_idempotent
        queue.suspect(1)
        queue.refusals += 1
        if blames_batch_size(error) or queue.refusals >= _REFUSALS_MAX:
            self._give_up(queue, error)
        return is_idempotent

    def keep(self, process: str, sequence: int, kind: str, reason: str, entry: bytes) -> None:
        """Write a local dead letter."""
        self._dead_letters.write(
            at=self._now_ms(), process=process, sequence=sequence, kind=kind, reason=reason, entry=entry
        )

    def _give_up(self, queue: PartitionQueue, error: BaseException) -> None:
        """The broker refuses the entry at the head of the queue: keep it as a dead letter, and send a loss entry in its
        place."""
        message = queue.head
        reason = self._condition.error_text(error)
        self.counts["refused"] += 1
        self.counts["refused_records"] += message.kind is Kind.RECORD
        self.keep(message.partition, message.sequence, message.kind.name.lower(), reason, message.payload)
        log.error(
            "Kafka refused entry %d of process %s (%d bytes); it is kept in %s: %s",
            message.sequence,
            message.partition,
            len(message.payload),
            self._dead_letters.path,
            reason,
        )
        if message.kind is Kind.LOSS:
            # A loss entry has a few hundred bytes and is not refused for its size. If it is refused nevertheless, skip
            # it so that later entries are sent; the index reports its sequence as missing.
            self._queues.acknowledge(queue, 1)
            return
        loss = Loss(
            process=message.partition,
            sequence=message.sequence,
            at=self._now_ms(),
            reason="refused",
            leaf=leaf_hash(message.payload).hex(),
            bytes=len(message.payload),
            detail=type(error).__name__,
        )
        self._queues.replace_head(queue, message._replace(kind=Kind.LOSS, payload=encode_loss(loss)))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
