"""The sidecar's loop: poll, decode, write, commit. One thread, the caller's.

    source.poll ─► decode ─► writer.write ─► source.commit ─► forget, with the next batch
                             records,        unlink what
                             positions and   is stored
                             the fence

Invariants:
* At most one batch is in memory: at most `batch_max` messages and, estimated from the last ones, about 32 MiB.
* Positions are committed to the source after the batch is durable in the store. A crash at any point only repeats a
  batch, and the store drops duplicates.
* A batch that the store cannot take now (full disk, lock) is kept and tried again. None of its records becomes a dead
  letter, and no later batch is written before it.
* A batch that does not fit on the disk is written in halves, each with its own positions. What the source may remove
  after the first half can make the room for the second.

What cannot be read becomes a dead letter with its position and the reason. Entries of a kind that only a later version
knows (intent) are not dead letters: they are skipped, counted, and logged once.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from ..errors import AuditError, RecordError, StoreError, TransportError, sentences
from ..record.codec import Decoded, decode
from ..record.loss import decode_loss
from ..record.merkle import leaf_hash, statement_digest
from ..record.statement import Statement, decode_statement
from ..store.base import Batch, Writer, Written
from ..store.state import Completion, DeadLetter, Known
from ..transport import base as transport
from ..transport.base import Kind, Message, Position, Source
from ..transport.fences import boot_seconds
from .completeness import Consumed, RecordEvent, StatementEvent, Tracker
from .retention import Retention

__all__ = ["Indexer", "IndexerProgress"]

_log = logging.getLogger("asgi_audit.indexing")

_BATCH_FIRST = 256  # messages of the first batch; doubled while more is waiting
_BYTES_MAX = 32 << 20  # of one batch, estimated from the last ones
_NARROW_BATCHES = 32  # number of batches that stay small after one that did not fit
_IDLE_SECONDS = 0.025  # between two fences that are stored while no messages come
_ASKED_SECONDS = 1.0  # between two looks for acknowledgements by an operator
_PAUSE_FIRST = 0.1
_PAUSE_MAX = 5.0
_UUIDS_MAX = 10_000
_RECORD = Kind.RECORD  # a lookup of an enum member costs as much as comparing it

T = TypeVar("T")


class IndexerProgress(NamedTuple):
    """Counters since the indexer began. `lag`: seconds since the newest fence that has passed was taken (everything
    that was appended before it is indexed); None before the first. `paused`: the error after which it tries again,
    '' when it works."""

    indexed: int = 0
    duplicates: int = 0
    expired: int = 0
    dead: int = 0
    statements: int = 0
    skipped: int = 0
    batches: int = 0
    lag: float | None = None
    paused: str = ""
    batch_seconds: float = 0.0  # to write the last batch


class _Stopped(Exception):
    """`stop` was set while the indexer waited for something to work again."""


class _TooLarge(Exception):
    """The store has no room for this batch."""


class Indexer:
    """Call `run` in a thread; setting `stop` ends it after the current batch. The caller closes `source` and `writer`.

    `batch_max`: the largest number of messages that are written together. `linger_seconds`: how long a small batch
    waits for more messages, so that slow traffic does not cost one disk sync for each record. `on_progress` is called
    in the loop's thread after each batch and when a pause begins or ends; what it raises ends the loop."""

    def __init__(
        self,
        source: Source,
        writer: Writer,
        *,
        clock: Callable[[], float] = time.time,
        boot: Callable[[], float] = boot_seconds,
        batch_max: int = 4000,
        linger_seconds: float = 0.02,
        stop: threading.Event | None = None,
        on_progress: Callable[[IndexerProgress], None] | None = None,
        retention_days: int = 0,
    ) -> None:
        self._source = source
        self._writer = writer
        self._clock = clock
        self._boot = boot
        self._batch_max = batch_max
        self._linger = linger_seconds
        self._stop = stop if stop is not None else threading.Event()
        self._on_progress = on_progress
        self._retention = Retention(
            writer,
            days=retention_days,
            clock=clock,
            on_purged=lambda horizon: self._tracker.forget(horizon, int(clock() * 1000)),
        )
        self._size = min(batch_max, _BATCH_FIRST)
        self._narrow = 0  # batches to come that are not to be larger
        self._message_bytes = 2048.0  # moving average
        self._to_commit: dict[str, Position] = {}
        self._to_forget: dict[str, None] = {}
        self._commit_failing = False
        self._noted_at = float("-inf")  # monotonic
        self._asked_at = float("-inf")
        self._said_skipped = False
        self._said_narrow = False
        self._uuids: dict[str, bytes | None] = {}
        self._tracker = Tracker()
        self._progress = IndexerProgress()

    @property
    def progress(self) -> IndexerProgress:
        """May be read from any thread."""
        mark = self._tracker.mark
        return self._progress._replace(lag=None if mark is None else max(0.0, self._clock() - mark.taken_at / 1000))

    def run(self) -> None:
        """Index until `stop` is set. Raises StoreError and TransportError that are not retriable."""
        try:
            positions = self._retry("read the positions", lambda: self._writer.positions(self._source.name))
            self._retry("open the source", lambda: self._source.open(positions))
            self._begin_tracking()
            # The last run may have ended between its write and its commit: commit what is stored.
            self._commit(positions)
            while not self._stop.is_set():
                self._retention.tend()
                self._look_for_lost_partitions()
                found = self._retry("read the source", self._poll)
                # After the poll, whose messages may be the first ones of a topic that was created again.
                incidents = self._source.take_incidents()
                if found.messages or found.damaged or found.positions or self._to_forget or incidents:
                    self._index(found, incidents)
                else:
                    self._on_empty_poll(found)
            if self._to_forget:  # the source names these partitions only once, so forget their positions now
                self._index(transport.Polled((), {}))
        except _Stopped:
            pass

    def _begin_tracking(self) -> None:
        resumed = self._retry("read how far the index is complete", self._writer.resumed)
        made = self._retry("read when the source was created", self._source.made_at)
        self._tracker = Tracker(resumed, begins=resumed.made_at if made is None else int(made * 1000))
        self._source.ignore(self._tracker.lost_partitions)

    def _look_for_lost_partitions(self) -> None:
        """An operator may have acknowledged that a partition is permanently lost."""
        now = time.monotonic()
        if now - self._asked_at < _ASKED_SECONDS:
            return
        self._asked_at = now
        for partition in self._retry("read which partitions are acknowledged as lost", self._writer.partitions_lost):
            if self._tracker.give_up(partition, int(self._clock() * 1000)):
                _log.warning("acknowledged by the operator: partition %s is permanently lost", partition)
            self._index(transport.Polled((), {}))
            self._source.ignore(self._tracker.lost_partitions)
            noted = functools.partial(self._writer.partition_noted, partition)
            self._retry("store the acknowledgement of a lost partition", noted)

    def _note_incidents(self, incidents: Sequence[transport.SourceIncident]) -> None:
        """What happened to the source itself becomes incidents, stored with this batch."""
        for i in incidents:
            if i.kind == "retention_passed":
                detail = (
                    f"partition {i.partition}: messages {i.start} to {i.end - 1} were removed before they were read"
                )
                self._tracker.note("retention_passed", int(i.at * 1000), detail)
            else:
                detail = (
                    f"partition {i.partition} was deleted and created again: message {i.start} is gone; reading "
                    f"continues at {i.end}"
                )
                self._tracker.note("topic_recreated", int(i.at * 1000), detail)

    # -- one batch

    def _poll(self) -> transport.Polled:
        """One poll. When it returned few messages and nothing more is waiting, a second one follows after the
        linger."""
        room = max(1, min(self._size, int(_BYTES_MAX / self._message_bytes)))
        first = self._source.poll(room, max(self._linger, _IDLE_SECONDS))
        if not first.messages or first.more or len(first.messages) >= room or self._linger <= 0:
            return first
        self._stop.wait(self._linger)
        try:
            second = self._source.poll(room - len(first.messages), 0)
        except TransportError as e:
            # The first poll's messages must not be lost with this error; the next poll will meet it again.
            _log.debug("the second poll of the source failed: %s", e)
            return first
        return transport.Polled(
            [*first.messages, *second.messages],
            {**first.positions, **second.positions},
            second.more,
            # A fence from before the partitions changed proves nothing about the present ones.
            second.fence if second.has_changed else second.fence or first.fence,
            [*first.damaged, *second.damaged],
            {**first.times, **second.times},
            {**second.begins, **first.begins},
            second.holds if second.holds is not None else first.holds,
            first.has_changed or second.has_changed,
            {*first.recovered, *second.recovered},
        )

    def _index(self, found: transport.Polled, incidents: Sequence[transport.SourceIncident] = ()) -> None:
        self._note_incidents(incidents)
        try:
            self._index_whole(found)
        except _TooLarge:
            if not self._said_narrow:
                self._said_narrow = True
                _log.warning(
                    "the disk of the index has too little space for %d messages; trying fewer", len(found.messages)
                )
            first, second = _split(found)
            self._size, self._narrow = len(first.messages), _NARROW_BATCHES
            # The tracker has taken the whole batch already: begin again from what is stored, as after a crash.
            self._begin_tracking()
            self._index(first, incidents)
            self._index(second)

    def _index_whole(self, found: transport.Polled) -> None:
        """Raises _TooLarge when the batch does not fit and can be halved."""
        records, statements, dead, events, skipped = self._read(found)
        # Once for each batch, also when its write is tried several times.
        completion = self._complete(events, found)
        batch = Batch(
            source=self._source.name,
            records=records,
            statements=statements,
            dead_letters=dead,
            positions=found.positions,
            forget=tuple(self._to_forget),
            read_until=self._tracker.mark if found.fence is not None else None,
            completion=completion,
        )
        can_be_less = len(found.messages) > 1
        written = self._retry("write to the index", lambda: self._write(batch), can_be_less=can_be_less)
        self._to_forget.clear()
        self._count(written, len(statements), skipped)
        self._adapt_batch_size(found)
        self._commit(found.positions)
        self._report_progress()

    def _complete(self, events: Sequence[RecordEvent | StatementEvent], found: transport.Polled) -> Completion | None:
        unknown = self._tracker.unknown(events)
        known: dict[bytes, Known] = {}
        if unknown:
            stored = self._retry("read the state of a process", lambda: [self._writer.known(p) for p in unknown])
            known = {k.state.process: k for k in stored if k is not None}
        lost = self._tracker.lost_partitions
        completion = self._tracker.take(
            Consumed(
                events,
                now=int(self._clock() * 1000),
                boot=int(self._boot() * 1000),
                fence=found.fence,
                times={partition: int(at * 1000) for partition, at in found.times.items()},
                begins={partition: None if at is None else int(at * 1000) for partition, at in found.begins.items()},
                holds=found.holds,
                has_changed=found.has_changed,
                recovered=found.recovered,
            ),
            known,
        )
        if self._tracker.lost_partitions != lost:  # one of them is read again
            self._source.ignore(self._tracker.lost_partitions)
        return completion

    def _read(
        self, found: transport.Polled
    ) -> tuple[list[Decoded], list[Statement], list[DeadLetter], list[RecordEvent | StatementEvent], int]:
        records: list[Decoded] = []
        events: list[RecordEvent | StatementEvent] = []
        statements: list[Statement] = []
        name = self._source.name
        dead = [DeadLetter(name, partition, at, why, data) for partition, at, why, data in found.damaged]
        skipped = 0
        for m in found.messages:
            try:
                kind = m.kind
                if kind == _RECORD:
                    d = self._record(m)
                    records.append(d)
                    if d.process is not None:
                        leaf = leaf_hash(m.payload)
                        events.append(RecordEvent(d.process, m.partition, d.sequence, d.timestamp, leaf, False))
                elif kind == Kind.STATEMENT:
                    process, s = self._statement(m)
                    statements.append(s)
                    events.append(StatementEvent(process, m.partition, s, statement_digest(m.payload)))
                elif kind == Kind.LOSS:
                    events.append(self._loss(m))
                else:
                    skipped += 1
                    if not self._said_skipped:
                        self._said_skipped = True
                        _log.warning(
                            "%s offset %d: this version does not support entries of kind %s; they are skipped and "
                            "counted",
                            m.partition, m.offset, getattr(m.kind, "name", m.kind),
                        )  # fmt: skip
            except RecordError as e:
                dead.append(DeadLetter(name, m.partition, m.offset, str(e), m.payload))
                process_of = self._process_of(m.partition)
                if m.kind == Kind.RECORD and 0 < m.sequence < 1 << 63 and process_of is not None:
                    events.append(RecordEvent(process_of, m.partition, m.sequence, None, leaf_hash(m.payload)))
        return records, statements, dead, events, skipped

    def _record(self, m: Message) -> Decoded:
        d = decode(m.payload)
        if m.sequence and d.sequence != m.sequence:  # not every source has a header of its own
            raise RecordError(f"the entry's header has sequence {m.sequence}, its record {d.sequence}")
        # The common case is decided here: a call would cost a tenth of what a record costs without its decoding.
        if d.process is not None and self._uuids.get(m.partition) != d.process:
            self._same_process(m.partition, d.process)
        return d

    def _statement(self, m: Message) -> tuple[bytes, Statement]:
        s = decode_statement(m.payload)
        try:
            process = uuid.UUID(s.process).bytes
        except ValueError:
            raise RecordError("the statement's process is not a UUID") from None
        self._same_process(m.partition, process)
        if m.sequence and s.last != m.sequence:
            raise RecordError(f"the entry's header has sequence {m.sequence}, its statement ends at {s.last}")
        return process, s

    def _loss(self, m: Message) -> RecordEvent:
        loss = decode_loss(m.payload)
        try:
            process, leaf = uuid.UUID(loss.process).bytes, bytes.fromhex(loss.leaf)
        except ValueError:
            raise RecordError("the loss entry's process is not a UUID, or its leaf is not a hash") from None
        self._same_process(m.partition, process)
        return RecordEvent(process, m.partition, loss.sequence, None, leaf, is_loss=True)

    def _same_process(self, partition: str, process: bytes) -> None:
        known = self._process_of(partition)
        if known is not None and known != process:
            raise RecordError(f"it is of process {uuid.UUID(bytes=process)}, but in the journal of {partition}")

    def _process_of(self, partition: str) -> bytes | None:
        """The process whose journal this partition is; None when the partition's name is no UUID, as with Kafka."""
        known = self._uuids.get(partition, b"")
        if known == b"":
            if len(self._uuids) >= _UUIDS_MAX:
                self._uuids.clear()
            try:
                known = uuid.UUID(partition).bytes
            except ValueError:
                known = None
            self._uuids[partition] = known
        return known

    # -- around it

    def _commit(self, positions: Mapping[str, Position]) -> None:
        """Commit the stored positions to the source. A failure stops nothing: it is tried again with the next batch."""
        self._to_commit.update(positions)
        if not self._to_commit:
            return
        try:
            gone = self._source.commit(self._to_commit)
        except TransportError as e:
            if not e.retriable:
                raise
            if not self._commit_failing:
                _log.warning("indexed records cannot be removed from the source yet: %s", _said(e))
            self._commit_failing = True
            return
        self._commit_failing = False
        self._to_commit.clear()
        self._to_forget.update(dict.fromkeys(gone))

    def _on_empty_poll(self, found: transport.Polled) -> None:
        """No messages came. A fence may have passed, or a partition may keep fences from passing."""
        now = time.monotonic()
        is_plain = not found.begins and not found.has_changed
        if is_plain and now - self._noted_at < _IDLE_SECONDS:
            return  # the next fence says the same, and more
        if found.fence is not None:
            self._noted_at = now
        completion = self._complete((), found)
        mark = self._tracker.mark if found.fence is not None else None
        if completion is not None:
            batch = Batch(source=self._source.name, positions={}, read_until=mark, completion=completion)
            self._retry("write to the index", lambda: self._writer.write(batch))
        elif mark is not None:
            self._retry("write to the index", lambda: self._writer.read_until(mark))
        if self._commit_failing:
            self._commit({})

    def _adapt_batch_size(self, found: transport.Polled) -> None:
        """Make the next batch larger while more is waiting, within the memory that the last sizes allow."""
        number = len(found.messages)
        if number:
            average = sum([len(m.payload) for m in found.messages]) / number
            self._message_bytes = max(average, 0.5 * self._message_bytes + 0.5 * average, 1.0)
        if self._narrow:
            self._narrow -= 1
        elif found.more:
            self._size = min(self._batch_max, self._size * 2)

    def _retry(self, doing: str, attempt: Callable[[], T], *, can_be_less: bool = False) -> T:
        """Call `attempt` until it succeeds, with pauses after retriable errors; the first is logged. Other errors are
        raised. Raises _Stopped when `stop` is set in a pause and, with `can_be_less`, _TooLarge when the store is
        full."""
        pause = _PAUSE_FIRST
        while True:
            try:
                result = attempt()
            except (StoreError, TransportError) as e:
                if not e.retriable:
                    raise
                if can_be_less and isinstance(e, StoreError) and e.is_full:
                    raise _TooLarge from e
                if not self._progress.paused:
                    _log.warning("cannot %s; trying again until it works: %s", doing, _said(e))
                    self._progress = self._progress._replace(paused=_said(e))
                    self._report_progress()
                if self._stop.wait(pause):
                    raise _Stopped from None
                self._retention.tend()  # a purge may be what ends a full disk
                pause = min(_PAUSE_MAX, pause * 2)
                continue
            if self._progress.paused:
                _log.info("it works again: %s", doing)
                self._progress = self._progress._replace(paused="")
                self._report_progress()
            return result

    def _write(self, batch: Batch) -> Written:
        began = time.perf_counter()
        written = self._writer.write(batch)
        self._progress = self._progress._replace(batch_seconds=time.perf_counter() - began)
        return written

    def _count(self, written: Written, statements: int, skipped: int) -> None:
        p = self._progress
        self._progress = p._replace(
            indexed=p.indexed + written.inserted,
            duplicates=p.duplicates + written.duplicates,
            expired=p.expired + written.expired,
            dead=p.dead + written.dead,
            statements=p.statements + statements,
            skipped=p.skipped + skipped,
            batches=p.batches + 1,
        )

    def _report_progress(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.progress)


def _split(found: transport.Polled) -> tuple[transport.Polled, transport.Polled]:
    """Two halves of at least two messages, each with the positions after it. The fence passes with the second."""
    middle = len(found.messages) // 2
    messages = found.messages[:middle]
    last = {m.partition: m for m in messages}
    positions = {partition: Position(m.next, transport.digest_of(m.payload)) for partition, m in last.items()}
    # Damage goes with the half whose positions pass it: a crash between the halves must not hide it.
    before = [d for d in found.damaged if d[0] in last and d[1] < last[d[0]].next]
    after = [d for d in found.damaged if not (d[0] in last and d[1] < last[d[0]].next)]
    first = transport.Polled(
        messages, positions, True, None, before, found.times, found.begins, None, found.has_changed
    )
    return first, found._replace(messages=found.messages[middle:], damaged=after, begins={}, has_changed=False)


def _said(e: AuditError) -> str:
    return sentences(str(e), e.hint)
