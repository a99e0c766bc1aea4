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

from ..exchange.sealed import SealedExchange, Wake, exchange_of
from ..record.merkle import leaf_hash
from ..record.statement import encode_statement
from ..transport.base import Entry, Kind
from .ledger import Closed, Tally
from .log import RecorderLog
from .output import BATCH_BYTES, Output
from .state import ENDS, FlushRequest, Phase, RecorderState
from .thread import RecorderThread

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
_QUIET_TURNS = 10  # turns without work before the thread parks
_BUSY_SECONDS = 1.0
_IDLE_SECONDS = 10.0
_END_TRIES = 3


class Writing:
    """See `thread.Work`. Used by one thread at a time."""

    def __init__(self, state: RecorderState) -> None:
        self._state = state
        self._log = RecorderLog(state.count)
        self._output = Output(state, self._log)
        self._generation = state.generation
        self._runs = 0
        self._requests: list[FlushRequest] = []  # taken, and not told yet
        self._waiters: list[Wake] = []  # of records that are built
        self._quiet = 0  # turns without work
        self._stated: tuple[int, ...] = ()
        self._last_closed: Closed = ""
        self._stated_steps = 0
        self._stated_at = float("-inf")

    # ---------------------------------------------------------------------------------------------------------- turns

    def run(self, thread: RecorderThread) -> None:
        state = self._state
        self._runs += 1
        if self._runs > 1:
            self._take_stock()
        ends = 0
        while state.generation == self._generation:
            try:
                if state.phase in ENDS:
                    ends += 1
                    if ends <= _END_TRIES:
                        self._finish()
                    return
                self._turn()
                thread.succeeded()
            except BaseException as e:
                self._recover(e)
                thread.back_off()

    def _turn(self) -> None:
        state, output = self._state, self._output
        self._wait()
        now = time.monotonic()
        if output.writer is None and now >= output.retry_at:
            output.open()
        output.attach()
        if not output.is_failing or now >= output.retry_at:
            output.write_statements()
        with state.lock:
            self._requests += state.requests
            state.requests.clear()
        closed: Closed = ""
        for request in self._requests:
            closed = request.closed or closed
        is_due = output.writer is not None and now >= self._statement_at()
        seen = state.tally() if is_due or self._requests else None
        is_stating = is_due or bool(closed)
        self._drain(seen, is_asked=bool(self._requests), is_exact=is_stating)
        is_written = not output.held
        if seen is not None and state.queue and state.queue[0].sequence <= seen.last:
            is_written = False  # the recorder is ending: what is left is stated then
        elif seen is not None and is_stating:
            is_written = self._append_statements(seen, closed) and is_written
        if self._requests:
            self._tell(output.sync() and is_written)

    def _tell(self, is_written: bool) -> None:
        while self._requests:
            self._requests[-1].is_written = is_written
            self._requests[-1].done.set()
            self._requests.pop()

    def _finish(self) -> None:
        """The recorder ends: what is built is written, the rest is lost and stated."""
        state, output = self._state, self._output
        if output.writer is None:
            output.open()
        output.attach()
        seen = state.tally()  # nothing is put into the queue any more
        lost = len(state.queue)
        while state.queue:
            item = self._begin_next()
            state.record_loss(item.sequence, item.sequence, "exit")
            self._release(item)
            state.in_progress.clear()
        output.write_statements()
        output.append_held(is_asked=True)
        lost += len(output.held)
        if lost:
            self._log(logging.ERROR, "exit", "asgi-audit: the program ended before %d records were written", lost)
        is_stated = self._last_closed == "final" and self._stated == self._counted()
        is_written = not output.held and (is_stated or self._append_statements(seen, "final"))
        self._tell(output.sync() and is_written)
        if state.phase is Phase.CLOSING and output.writer is not None:
            output.writer.close()

    def _wait(self) -> None:
        """Until there may be something to do. On return nobody is urgent: this turn does what they want."""
        state = self._state
        with state.lock:
            if state.queue or state.requests or self._output.held:
                self._quiet = 0
            is_asked = state.phase is not Phase.RUNNING or state.requests
            if is_asked or self._oldest_ns(time.perf_counter_ns()) > _LATE_NS:
                self._resume()
                return
            self._quiet += 1
            is_parking = self._quiet > _QUIET_TURNS
            if is_parking:
                state.phase = Phase.PARKED
        timeout = FLUSH_SECONDS
        if is_parking:
            wanted = self._output.retry_at if self._output.writer is None else self._statement_at()
            timeout = min(_IDLE_SECONDS, max(timeout, wanted - time.monotonic()))
        is_woken = state.wakeup.acquire(timeout=timeout)
        with state.lock:
            is_first = is_woken and state.phase is Phase.PARKED
            self._resume()
        if is_first:  # of what may be many: gather for as long as a record may wait
            state.wakeup.acquire(timeout=FLUSH_SECONDS)
            with state.lock:
                self._resume()

    def _resume(self) -> None:
        """Called with the lock held."""
        if self._state.phase is Phase.PARKED or self._state.phase is Phase.URGENT:
            self._state.phase = Phase.RUNNING

    def _counted(self) -> tuple[int, ...]:
        state = self._state
        return state.begun, state.last, state.excluded, state.unwaited

    def _statement_at(self) -> float:
        """When the next statement is due (monotonic seconds)."""
        state = self._state
        is_going_on = state.closed_at is not None and state.begun > state.closed_at
        if is_going_on or state.clock.steps != self._stated_steps:
            return self._output.retry_at if self._output.is_failing else float("-inf")
        is_changed = self._stated != self._counted()
        return self._stated_at + (_BUSY_SECONDS if is_changed and not self._output.is_full() else _IDLE_SECONDS)

    def _recover(self, e: BaseException) -> None:
        """A turn broke: a bug of ours, or no memory."""
        self._take_stock()
        self._state.count("internal_errors")
        self._log(logging.ERROR, "broken", "asgi-audit: the recorder's turn broke: %s", type(e).__name__)

    def _take_stock(self) -> None:
        """Whatever was interrupted: what was being built is lost, and stated. Interrupted itself, it begins again."""
        state, output = self._state, self._output
        if state.queue and state.in_progress and state.queue[0] is state.in_progress[-1]:
            state.queue.popleft()
        taken = [entry.sequence for entry, _ in output.held] + [item.sequence for item in state.in_progress]
        with state.lock:
            state.ledger.doubt()
            lost = state.ledger.losses.within(min(taken), max(taken)) if taken else set()
        output.held = deque(held for held in output.held if held[0].sequence not in lost)
        output.held_bytes = sum(len(entry.payload) for entry, _ in output.held)
        lost.update(entry.sequence for entry, _ in output.held)
        while state.in_progress:
            item = state.in_progress[-1]
            if item.sequence not in lost:
                state.record_loss(item.sequence, item.sequence, "journal")
                lost.add(item.sequence)
            self._release(item)
            self._wake(item.wake, False)
            state.in_progress.pop()
        while self._waiters:
            self._wake(self._waiters[-1], False)
            self._waiters.pop()
        self._tell(False)

    # ------------------------------------------------------------------------------------------------------- building

    def _drain(self, seen: Tally | None, *, is_asked: bool, is_exact: bool) -> None:
        """Write what waits: all that was there at the beginning, or all that `seen` covers. `is_exact`: nothing else,
        because a statement follows, and its root is checked over what stands before it."""
        state = self._state
        left = 0 if is_exact else len(state.queue)
        until = seen.last if seen is not None else 0
        while state.queue and state.phase not in ENDS and (left > 0 or state.queue[0].sequence <= until):
            left -= self._write_batch(until if is_exact else None)
        if self._output.held:
            self._output.append_held(is_asked=is_asked)

    def _begin_next(self) -> SealedExchange:
        state = self._state
        item = state.queue[0]
        state.in_progress.append(item)
        state.queue.popleft()
        return item

    def _write_batch(self, until: int | None) -> int:
        state, output = self._state, self._output
        shed, refused = output.pressure()
        size = count = 0
        entries: list[Entry] = []
        now_ns = time.perf_counter_ns()
        is_late = self._oldest_ns(now_ns) > _LATE_NS
        slice_end = now_ns + _SLICE_NS
        while state.queue and count < _BATCH_RECORDS and size < BATCH_BYTES and state.phase not in ENDS:
            if until is not None and state.queue[0].sequence > until:
                break
            if state.shed_at is not None:
                shed = max(shed, self._shed_at_end())
            item = self._begin_next()
            count += 1
            data = self._build(item, shed) if not refused else None
            if data is None:
                state.record_loss(item.sequence, item.sequence, refused or "build")
                self._wake(item.wake, False)
                self._release(item)
                state.in_progress.pop()
                continue
            entry = Entry(Kind.RECORD, item.sequence, data)
            output.held.append((entry, leaf_hash(data)))
            output.held_bytes += len(data)
            entries.append(entry)
            size += len(data)
            if item.wake is not None:
                self._waiters.append(item.wake)
            if not is_late and time.perf_counter_ns() >= slice_end:
                time.sleep(_YIELD_SECONDS)
                slice_end = time.perf_counter_ns() + _SLICE_NS
        if shed:
            state.count("shed_headers" if shed > 1 else "shed_bodies", len(entries))
        if refused:
            self._log(
                logging.ERROR, refused, "asgi-audit: records are lost, reason %s; they are counted and stated", refused
            )
        # Once for a batch: a request that was interrupted while it held the lock costs us a whole switch interval.
        self._release(*state.in_progress)
        state.in_progress.clear()
        is_written = output.append_held(is_asked=bool(self._waiters))
        if self._waiters and is_written:
            is_written = output.sync() or output.write_again(entries)
        while self._waiters:
            self._wake(self._waiters[-1], is_written)
            self._waiters.pop()
        return count

    def _build(self, item: SealedExchange, shed: int) -> bytes | None:
        try:
            return item.builder.build(exchange_of(item), shed)
        except BaseException as e:
            # The exception's text may hold what the request held: only its type is said.
            self._log(logging.ERROR, "build", "asgi-audit: a record could not be built: %s", type(e).__name__)
            return None

    def _shed_at_end(self) -> int:
        """What to leave out so that as many records as can be are written before the program is gone."""
        bodies_at, headers_at = self._state.shed_at or (0.0, 0.0)
        now = time.monotonic()
        return 2 if now >= headers_at else 1 if now >= bodies_at else 0

    def _oldest_ns(self, now_ns: int) -> int:
        """For how long the oldest sealed exchange has waited."""
        try:
            return now_ns - self._state.queue[0].ended_ns
        except IndexError:
            return 0

    def _release(self, *items: SealedExchange) -> None:
        """Give back what these hold of the budget. The second time does nothing."""
        if any(item.draft.held for item in items):
            with self._state.lock:
                for item in items:
                    self._state.budget -= item.draft.held
                    item.draft.held = 0

    def _wake(self, wake: Wake | None, is_durable: bool) -> None:
        if wake is not None:
            try:
                wake(is_durable)
            except BaseException:
                self._state.count("internal_errors")

    # -------------------------------------------------------------------------------------------------------- stating

    def _append_statements(self, seen: Tally, closed: Closed) -> bool:
        """Append the statements that cover `seen`; only when everything up to its `last` stands in the journal."""
        state, output = self._state, self._output
        if output.writer is None or output.held or output.unwritten:
            return False
        is_beginning = not state.ledger.number or state.closed_at is not None or seen.clock_steps != self._stated_steps
        with state.lock:
            statements = state.ledger.make(seen, closed)
        self._stated_at = time.monotonic()
        for statement in statements:
            chained = state.ledger.chained(statement)
            output.unwritten.append((statement, encode_statement(chained)))
            if not output.write_statements():
                output.unwritten.clear()  # it does not stand there: the next one says the same, and more
                return False
        self._stated_steps = seen.clock_steps
        self._stated = seen.begun, seen.last, seen.excluded, seen.unwaited
        self._last_closed = closed
        state.closed_at = seen.begun if closed else None
        if is_beginning and not closed and state.on_begun is not None:
            try:
                state.on_begun()
            except Exception:
                state.count("internal_errors")
        return True
