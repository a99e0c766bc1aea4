"""What the recorder's thread does: builds records, appends them to the journal, wakes who waits, makes the statements.

One turn: wait (20 ms while there is traffic, parked until the next statement when there is none, not at all when
somebody waits), build in slices of at most 1 ms, append, sync when a waiter is in the batch, wake, state. Records that
the journal does not take are held, in order, up to 8 MiB, and tried again; a machine that cannot be written to is so
served by a bounded journal in memory. Under pressure bodies are left out first, then headers, then records; all of it
is counted, losses are stated.

A turn may break anywhere, on a bug or for want of memory. An exchange is always in one of four places: the queue,
`in_progress`, `held`, or the journal or the losses; it gets into the next one before it leaves the last. So whoever
goes on after that (the next turn, or another thread with the same `Writing`) takes stock first: what was being built is
stated lost, what was built is written. What may stand in the journal already is written again, a statement with the
same bytes; the index knows what it has.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from itertools import islice

from ..errors import TransportError
from ..exchange.sealed import SealedExchange, Wake, exchange_of
from ..record.digest import leaf_hash
from ..record.statement import Statement, encode_statement
from ..transport.base import Entry, Kind, Writer
from .core import ENDS, Core, FlushRequest, Phase
from .statements import Closed, Snapshot

__all__ = ["Writing"]

# How long a sealed exchange may stay in memory: what kill -9 loses. One turn costs about the same for one record as for
# a hundred, so a shorter time costs more for each record; a longer one loses more.
FLUSH_SECONDS = 0.02
_SLICE_NS = 1_000_000
# Long enough that a thread that waits for the GIL gets it; sleep(0) gives it up and often takes it straight back.
_YIELD_SECONDS = 5e-5
# Sealed this long ago and still not written: the machine has no time left, and each yield would cost us the
# interpreter's whole switch interval (5 ms) while the backlog, and with it what a kill can take, grows. So we yield no
# more than the interpreter makes us.
_LATE_NS = 40_000_000
_BATCH_RECORDS = 250
_BATCH_BYTES = 1 << 20
_HELD_BYTES_MAX = 8 << 20
_QUIET_TURNS = 10  # turns without work before the thread parks
_BUSY_SECONDS = 1.0
_IDLE_SECONDS = 10.0
_RETRY_SECONDS = (0.05, 2.0)
_SHED_BODIES, _SHED_HEADERS = 0.90, 0.95
_LOG_SECONDS = 60.0
_END_TRIES = 3
log = logging.getLogger("asgi_audit")


class Writing:
    """See `core.Work`. Used by one thread at a time."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._runs = 0
        self._requests: list[FlushRequest] = []  # taken, and not told yet
        self._waiters: list[Wake] = []  # of records that are built
        self._unwritten: list[tuple[Statement, bytes]] = []  # statements that may stand in the journal, or not
        self._generation = core.generation
        self._writer: Writer | None = None
        self._counters: memoryview | None = None
        self._held: deque[tuple[Entry, bytes]] = (
            deque()
        )  # with the leaf hash, made where the record is built, in slices
        self._held_bytes = 0
        self._retry_at = 0.0
        self._retry_after = _RETRY_SECONDS[0]
        self._is_failing = False
        self._tried_at = 0.0
        self._quiet = 0
        self._stated: tuple[int, ...] = ()
        self._last_closed: Closed = ""
        self._stated_steps = 0
        self._stated_at = float("-inf")
        self._is_half_full_said = False
        self._logged: dict[str, float] = {}

    # ---------------------------------------------------------------------------------------------------------- turns

    def run(self) -> None:
        core = self._core
        self._runs += 1
        if self._runs > 1:
            self._take_stock()
        ends = 0
        while core.generation == self._generation:
            try:
                if core.phase in ENDS:
                    ends += 1
                    if ends <= _END_TRIES:
                        self._finish()
                    return
                self._turn()
                core.succeeded()
            except BaseException as e:
                self._recover(e)
                core.back_off()

    def _turn(self) -> None:
        core = self._core
        self._wait()
        now = time.monotonic()
        if self._writer is None and now >= self._retry_at:
            self._open()
        self._attach()
        if not self._is_failing or now >= self._retry_at:
            self._write_statements()
        with core.lock:
            self._requests += core.requests
            core.requests.clear()
        closed: Closed = ""
        for request in self._requests:
            closed = request.closed or closed
        is_due = self._writer is not None and now >= self._statement_at()
        seen = core.snapshot() if is_due or self._requests else None
        is_stating = is_due or bool(closed)
        self._drain(seen, is_asked=bool(self._requests), is_exact=is_stating)
        is_written = not self._held
        if seen is not None and core.queue and core.queue[0].sequence <= seen.last:
            is_written = False  # the recorder is ending: what is left is stated then
        elif seen is not None and is_stating:
            is_written = self._state(seen, closed) and is_written
        if self._requests:
            self._tell(self._sync() and is_written)

    def _tell(self, is_written: bool) -> None:
        while self._requests:
            self._requests[-1].is_written = is_written
            self._requests[-1].done.set()
            self._requests.pop()

    def _finish(self) -> None:
        """The recorder ends: what is built is written, the rest is lost and stated."""
        core = self._core
        if self._writer is None:
            self._open()
        self._attach()
        seen = core.snapshot()  # nothing is put into the queue any more
        lost = len(core.queue)
        while core.queue:
            item = self._begin_next()
            core.record_loss(item.sequence, item.sequence, "exit")
            self._release(item)
            core.in_progress.clear()
        self._write_statements()
        self._append_held(is_asked=True)
        lost += len(self._held)
        if lost:
            self._say(logging.ERROR, "exit", "asgi-audit: the program ended before %d records were written", lost)
        is_stated = self._last_closed == "final" and self._stated == self._counted()
        is_written = not self._held and (is_stated or self._state(seen, "final"))
        self._tell(self._sync() and is_written)
        if core.phase is Phase.CLOSING and self._writer is not None:
            self._writer.close()

    def _wait(self) -> None:
        """Until there may be something to do. On return nobody is urgent: this turn does what they want."""
        core = self._core
        with core.lock:
            if core.queue or core.requests or self._held:
                self._quiet = 0
            is_asked = core.phase is not Phase.RUNNING or core.requests
            if is_asked or self._oldest_ns(time.perf_counter_ns()) > _LATE_NS:
                self._resume()
                return
            self._quiet += 1
            is_parking = self._quiet > _QUIET_TURNS
            if is_parking:
                core.phase = Phase.PARKED
        timeout = FLUSH_SECONDS
        if is_parking:
            wanted = self._retry_at if self._writer is None else self._statement_at()
            timeout = min(_IDLE_SECONDS, max(timeout, wanted - time.monotonic()))
        is_woken = core.wakeup.acquire(timeout=timeout)
        with core.lock:
            is_first = is_woken and core.phase is Phase.PARKED
            self._resume()
        if is_first:  # of what may be many: gather for as long as a record may wait
            core.wakeup.acquire(timeout=FLUSH_SECONDS)
            with core.lock:
                self._resume()

    def _resume(self) -> None:
        """Called with the lock held."""
        if self._core.phase is Phase.PARKED or self._core.phase is Phase.URGENT:
            self._core.phase = Phase.RUNNING

    def _counted(self) -> tuple[int, ...]:
        core = self._core
        return core.begun, core.last, core.excluded, core.unwaited

    def _statement_at(self) -> float:
        """When the next statement is due (monotonic seconds)."""
        core = self._core
        is_going_on = core.closed_at is not None and core.begun > core.closed_at
        if is_going_on or core.clock.steps != self._stated_steps:
            return self._retry_at if self._is_failing else float("-inf")
        is_changed = self._stated != self._counted()
        return self._stated_at + (_BUSY_SECONDS if is_changed and not self._is_full() else _IDLE_SECONDS)

    def _recover(self, e: BaseException) -> None:
        """A turn broke: a bug of ours, or no memory."""
        self._take_stock()
        self._core.count("internal_errors")
        self._say(logging.ERROR, "broken", "asgi-audit: the recorder's turn broke: %s", type(e).__name__)

    def _take_stock(self) -> None:
        """Whatever was interrupted: what was being built is lost, and stated. Interrupted itself, it begins again."""
        core = self._core
        if core.queue and core.in_progress and core.queue[0] is core.in_progress[-1]:
            core.queue.popleft()
        taken = [entry.sequence for entry, _ in self._held] + [item.sequence for item in core.in_progress]
        with core.lock:
            core.ledger.doubt()
            lost = core.ledger.losses.within(min(taken), max(taken)) if taken else set()
        self._held = deque(held for held in self._held if held[0].sequence not in lost)
        self._held_bytes = sum(len(entry.payload) for entry, _ in self._held)
        lost.update(entry.sequence for entry, _ in self._held)
        while core.in_progress:
            item = core.in_progress[-1]
            if item.sequence not in lost:
                core.record_loss(item.sequence, item.sequence, "journal")
                lost.add(item.sequence)
            self._release(item)
            self._wake(item.wake, False)
            core.in_progress.pop()
        while self._waiters:
            self._wake(self._waiters[-1], False)
            self._waiters.pop()
        self._tell(False)

    # ------------------------------------------------------------------------------------------------------- building

    def _drain(self, seen: Snapshot | None, *, is_asked: bool, is_exact: bool) -> None:
        """Write what waits: all that was there at the beginning, or all that `seen` covers. `is_exact`: nothing else,
        because a statement follows, and its root is checked over what stands before it."""
        core = self._core
        left = 0 if is_exact else len(core.queue)
        until = seen.last if seen is not None else 0
        while core.queue and core.phase not in ENDS and (left > 0 or core.queue[0].sequence <= until):
            left -= self._write_batch(until if is_exact else None)
        if self._held:
            self._append_held(is_asked=is_asked)

    def _begin_next(self) -> SealedExchange:
        core = self._core
        item = core.queue[0]
        core.in_progress.append(item)
        core.queue.popleft()
        return item

    def _write_batch(self, until: int | None) -> int:
        core = self._core
        shed, refused = self._pressure()
        size = count = 0
        entries: list[Entry] = []
        now_ns = time.perf_counter_ns()
        is_late = self._oldest_ns(now_ns) > _LATE_NS
        slice_end = now_ns + _SLICE_NS
        while core.queue and count < _BATCH_RECORDS and size < _BATCH_BYTES and core.phase not in ENDS:
            if until is not None and core.queue[0].sequence > until:
                break
            if core.shed_at is not None:
                shed = max(shed, self._shed_at_end())
            item = self._begin_next()
            count += 1
            data = self._build(item, shed) if not refused else None
            if data is None:
                core.record_loss(item.sequence, item.sequence, refused or "build")
                self._wake(item.wake, False)
                self._release(item)
                core.in_progress.pop()
                continue
            entry = Entry(Kind.RECORD, item.sequence, data)
            self._held.append((entry, leaf_hash(data)))
            self._held_bytes += len(data)
            entries.append(entry)
            size += len(data)
            if item.wake is not None:
                self._waiters.append(item.wake)
            if not is_late and time.perf_counter_ns() >= slice_end:
                time.sleep(_YIELD_SECONDS)
                slice_end = time.perf_counter_ns() + _SLICE_NS
        if shed:
            core.count("shed_headers" if shed > 1 else "shed_bodies", len(entries))
        if refused:
            self._say(
                logging.ERROR, refused, "asgi-audit: records are lost, reason %s; they are counted and stated", refused
            )
        # Once for a batch: a request that was interrupted while it held the lock costs us a whole switch interval.
        self._release(*core.in_progress)
        core.in_progress.clear()
        is_written = self._append_held(is_asked=bool(self._waiters))
        if self._waiters and is_written:
            is_written = self._sync() or self._write_again(entries)
        while self._waiters:
            self._wake(self._waiters[-1], is_written)
            self._waiters.pop()
        return count

    def _build(self, item: SealedExchange, shed: int) -> bytes | None:
        try:
            return item.builder.build(exchange_of(item), shed)
        except BaseException as e:
            # The exception's text may hold what the request held: only its type is said.
            self._say(logging.ERROR, "build", "asgi-audit: a record could not be built: %s", type(e).__name__)
            return None

    def _shed_at_end(self) -> int:
        """What to leave out so that as many records as can be are written before the program is gone."""
        bodies_at, headers_at = self._core.shed_at or (0.0, 0.0)
        now = time.monotonic()
        return 2 if now >= headers_at else 1 if now >= bodies_at else 0

    def _oldest_ns(self, now_ns: int) -> int:
        """For how long the oldest sealed exchange has waited."""
        try:
            return now_ns - self._core.queue[0].ended_ns
        except IndexError:
            return 0

    def _pressure(self) -> tuple[int, str]:
        """What to leave out (0 nothing, 1 bodies, 2 headers too), and the reason why records are refused, or ''."""
        held = self._held_bytes / _HELD_BYTES_MAX
        if held >= 1.0:
            return 2, "journal"
        room = self._writer.room() if self._writer is not None else 0.0
        if room >= 0.5 and not self._is_half_full_said:
            self._is_half_full_said = True
            self._say(
                logging.WARNING,
                "half",
                "asgi-audit: the journal is half full; is an indexer running? When it is full, records are lost",
            )
        elif room < 0.4:
            self._is_half_full_said = False
        if room >= 1.0:
            return 2, "journal_full"
        used = max(held, room)
        return (2 if used >= _SHED_HEADERS else 1 if used >= _SHED_BODIES else 0), ""

    def _is_full(self) -> bool:
        return self._writer is not None and self._writer.room() >= 1.0

    def _release(self, *items: SealedExchange) -> None:
        """Give back what these hold of the budget. The second time does nothing."""
        if any(item.draft.held for item in items):
            with self._core.lock:
                for item in items:
                    self._core.budget -= item.draft.held
                    item.draft.held = 0

    def _wake(self, wake: Wake | None, is_durable: bool) -> None:
        if wake is not None:
            try:
                wake(is_durable)
            except BaseException:
                self._core.count("internal_errors")

    # -------------------------------------------------------------------------------------------------------- writing

    def _open(self) -> None:
        core = self._core
        try:
            self._writer = core.open_writer(core.facts)
        except Exception as e:
            self._failed()
            why: object = type(e).__name__
            if isinstance(e, TransportError):
                why = f"{e} ({e.hint})" if e.hint else e
            self._say(
                logging.ERROR,
                "open",
                "asgi-audit: no journal, records are kept in memory (%d MiB) until there is one: %s",
                _HELD_BYTES_MAX >> 20,
                why,
            )
            return
        finally:
            core.opened.set()
        self._attach()
        self._is_failing = False
        self._retry_after = _RETRY_SECONDS[0]

    def _attach(self) -> None:
        """The counters stand in the journal's page, which is another one when somebody removed the directory."""
        if self._writer is not None and self._writer.counters is not self._counters:
            self._core.attach(self._writer.counters)
            self._counters = self._writer.counters

    def _failed(self) -> None:
        now = time.monotonic()
        self._is_failing = True
        self._retry_at = now + self._retry_after
        self._retry_after = min(self._retry_after * 2, _RETRY_SECONDS[1])
        self._core.count("journal_errors")

    def _append_held(self, *, is_asked: bool) -> bool:
        """Append all that is held, in order. After a failure it waits before the next try (50 ms to 2 s), or 50 ms when
        somebody asks. True when all of it is in the journal."""
        writer = self._writer
        now = time.monotonic()
        if writer is None or self._unwritten:  # a statement goes first
            self._cut_held()
            return False
        if self._is_failing and now < self._retry_at and not (is_asked and now >= self._tried_at + _RETRY_SECONDS[0]):
            self._cut_held()
            return False
        self._tried_at = now
        while self._held:
            chunk = [entry for entry, _ in self._held]
            size = self._held_bytes
            if size > _BATCH_BYTES:
                size = 0
                for count, entry in enumerate(chunk, 1):
                    size += len(entry.payload)
                    if size >= _BATCH_BYTES:
                        del chunk[count:]
                        break
            try:
                writer.append(chunk)
            except TransportError as e:
                if not e.retriable and len(chunk) > 1:
                    chunk = chunk[:1]  # find the one that the journal refuses
                    size = len(chunk[0].payload)
                    try:
                        writer.append(chunk)
                    except TransportError as alone:
                        if alone.retriable:
                            self._failed()
                            return False
                        self._refuse(chunk[0], alone)
                        continue
                elif not e.retriable:
                    self._refuse(chunk[0], e)
                    continue
                else:
                    self._failed()
                    self._say(
                        logging.ERROR,
                        "append",
                        "asgi-audit: the journal cannot be written, records wait in memory: %s%s",
                        e,
                        f" ({e.hint})" if e.hint else "",
                    )
                    self._cut_held()
                    return False
            self._core.ledger.recorded([leaf for _, leaf in islice(self._held, len(chunk))])
            for _ in chunk:
                self._held.popleft()
            self._held_bytes -= size
            with self._core.lock:
                self._core.recorded += len(chunk)
        if self._is_failing:
            self._is_failing = False
            self._retry_after = _RETRY_SECONDS[0]
            self._say(logging.WARNING, "again", "asgi-audit: the journal can be written again")
        self._attach()
        return True

    def _refuse(self, entry: Entry, e: TransportError) -> None:
        self._core.record_loss(entry.sequence, entry.sequence, "journal")
        self._held.popleft()
        self._held_bytes -= len(entry.payload)
        self._say(logging.ERROR, "refuse", "asgi-audit: the journal refuses a record: %s", e)

    def _cut_held(self) -> None:
        """What does not fit into memory is lost: the newest, so that what is held stays without gaps."""
        while self._held_bytes > _HELD_BYTES_MAX:
            entry, _ = self._held[-1]
            self._core.record_loss(entry.sequence, entry.sequence, "journal")
            self._held.pop()
            self._held_bytes -= len(entry.payload)

    def _sync(self) -> bool:
        if self._writer is None:
            return False
        try:
            self._writer.sync()
        except TransportError as e:
            self._core.count("sync_errors")
            self._say(logging.ERROR, "sync", "asgi-audit: records may not survive the machine: %s", e)
            return False
        return True

    def _write_again(self, entries: list[Entry]) -> bool:
        """After a failed sync the pages may be gone, and asking again proves nothing: the same records once more, in a
        new segment. Repeats do no harm, the index knows what it has."""
        if self._writer is None:
            return False
        try:
            self._writer.append(entries)
        except TransportError:
            return False
        return self._sync()

    # -------------------------------------------------------------------------------------------------------- stating

    def _state(self, seen: Snapshot, closed: Closed) -> bool:
        """Append the statements that cover `seen`; only when everything up to its `last` stands in the journal."""
        core = self._core
        if self._writer is None or self._held or self._unwritten:
            return False
        is_beginning = not core.ledger.number or core.closed_at is not None or seen.clock_steps != self._stated_steps
        with core.lock:
            statements = core.ledger.make(seen, closed)
        self._stated_at = time.monotonic()
        for statement in statements:
            chained = core.ledger.chained(statement)
            self._unwritten.append((statement, encode_statement(chained)))
            if not self._write_statements():
                self._unwritten.clear()  # it does not stand there: the next one says the same, and more
                return False
        self._stated_steps = seen.clock_steps
        self._stated = seen.begun, seen.last, seen.excluded, seen.unwaited
        self._last_closed = closed
        core.closed_at = seen.begun if closed else None
        if is_beginning and not closed and core.on_begun is not None:
            try:
                core.on_begun()
            except Exception:
                core.count("internal_errors")
        return True

    def _write_statements(self) -> bool:
        """True when all are written. One that a broken turn left goes before anything else, and with the same bytes:
        nobody knows whether it stands in the journal."""
        core = self._core
        while self._unwritten and self._writer is not None:
            statement, data = self._unwritten[0]
            try:
                self._writer.append([Entry(Kind.STATEMENT, statement.last, data)])
            except TransportError as e:
                self._failed()
                self._say(logging.ERROR, "append", "asgi-audit: the journal cannot be written: %s", e)
                return False
            with core.lock:
                core.ledger.written([statement], data)
            self._unwritten.pop(0)
        return not self._unwritten

    def _say(self, level: int, key: str, text: str, *values: object) -> None:
        """A log line, at most one a minute of each kind; never an exception out of somebody's log handler."""
        now = time.monotonic()
        if now - self._logged.get(key, float("-inf")) < _LOG_SECONDS:
            return
        self._logged[key] = now
        try:
            log.log(level, text, *values)
        except BaseException:
            self._core.count("internal_errors")
