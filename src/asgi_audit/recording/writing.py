"""What the recorder's thread does: it builds records, appends them to the journal, wakes waiting requests, and makes
the statements.

One turn has these steps. Wait: 20 ms while there is traffic, until the next statement is due when there is none, not at
all when a request waits for its record. Build records, in slices of at most 1 ms. Append them. Sync when a request
waits for one of them, then wake it. Append a statement when one is due. Under pressure (memory or journal nearly full)
records are built without bodies, then without headers; when it is full they are lost. Each is counted, and losses are
stated.

A turn may fail at any point, because of a bug or lack of memory. Therefore an exchange moves through four places in
order and enters the next one before it leaves the previous one:

    the queue  ─►  in_progress  ─►  held  ─►  the journal, or the losses

The next turn, or the next thread, uses the same `Writing`. It first settles the interrupted turn: what was in progress
is recorded as lost, what is held is written. An entry that may be in the journal already is appended again with the
same bytes; the index drops the second one.
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

# How long a sealed exchange may stay in memory, and so be lost by kill -9. A turn costs about the same for one record
# as for a hundred: a shorter time costs more for each record, a longer one loses more.
FLUSH_SECONDS = 0.02
_SLICE_NS = 1_000_000
# Long enough for a waiting thread to get the GIL; after sleep(0) this thread often gets it back at once.
_YIELD_SECONDS = 5e-5
# When the oldest record has waited this long, the machine is overloaded. Each voluntary yield would then cost a whole
# switch interval of the interpreter (5 ms), and the backlog that a kill can lose would grow. So the thread stops
# yielding by itself.
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
        self._is_prepared = False
        self._requests: list[FlushRequest] = []  # taken from the state, and not woken yet
        self._waiters: list[Wake] = []  # of records that are built
        self._quiet = 0  # turns without work
        self._stated: tuple[int, ...] = ()
        self._last_closed: Closed = ""
        self._refused = ""  # why records were lost in the last batch, '' when none were
        self._stated_steps = 0
        self._stated_at = float("-inf")

    # ---------------------------------------------------------------------------------------------------------- turns

    def run(self, thread: RecorderThread) -> None:
        state = self._state
        self._runs += 1
        if self._runs > 1:
            self._settle_interrupted()
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
            is_written = False  # the recorder is ending: `_finish` states what is left
        elif seen is not None and is_stating:
            is_written = self._append_statements(seen, closed) and is_written
        if self._requests:
            self._complete_requests(output.sync() and is_written)
        if not self._is_prepared and output.writer is not None:
            self._is_prepared = True
            state.prepare()

    def _complete_requests(self, is_written: bool) -> None:
        while self._requests:
            self._requests[-1].is_written = is_written
            self._requests[-1].done.set()
            self._requests.pop()

    def _finish(self) -> None:
        """The recorder ends: write what is built; the rest is lost, and stated."""
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
        self._complete_requests(output.sync() and is_written)
        if state.phase is Phase.CLOSING and output.writer is not None:
            output.writer.close()

    def _wait(self) -> None:
        """Until there may be something to do. On return the phase is no longer URGENT: this turn serves the waiters."""
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
        if is_first:  # more records may follow it: gather for as long as a record may wait
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
        """A turn failed, because of a bug or lack of memory."""
        self._settle_interrupted()
        self._state.count("internal_errors")
        self._log(logging.ERROR, "broken", "asgi-audit: the recorder failed and continues: %s", type(e).__name__)

    def _settle_interrupted(self) -> None:
        """Bring every exchange to a defined place after a turn was interrupted: what was in progress is lost, and will
        be stated. May itself be interrupted, and called again."""
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
        self._complete_requests(False)

    # ------------------------------------------------------------------------------------------------------- building

    def _drain(self, seen: Tally | None, *, is_asked: bool, is_exact: bool) -> None:
        """Write what waits: what was in the queue at the beginning, and all that `seen` covers. `is_exact`: only what
        `seen` covers, because a statement follows, and its Merkle root covers the records that stand before it."""
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
            self._log_lost(refused)
        elif self._refused:
            self._log_lost("")
        # Once for the whole batch: waiting for the lock can cost a switch interval when its holder was interrupted.
        self._release(*state.in_progress)
        state.in_progress.clear()
        is_written = output.append_held(is_asked=bool(self._waiters))
        if self._waiters and is_written:
            is_written = output.sync() or output.write_again(entries)
        while self._waiters:
            self._wake(self._waiters[-1], is_written)
            self._waiters.pop()
        return count

    def _log_lost(self, reason: str) -> None:
        """`reason`: why records are lost now; '' when they are no longer."""
        before, self._refused = self._refused, reason
        lost = self._state.counts.get(f"lost_{reason or before}", 0)
        if reason:
            text = "asgi-audit: %d records are lost so far, reason %s; they are counted and stated as lost; %s"
            why = "the journal is full, " if reason == "journal_full" else "the journal cannot be written, "
            self._log(logging.ERROR, reason, text, lost, reason, why + self._state.full_reason())
        else:
            text = "asgi-audit: records are written again; %d were lost so far, reason %s"
            self._log(logging.WARNING, "not lost", text, lost, before)

    def _build(self, item: SealedExchange, shed: int) -> bytes | None:
        try:
            return item.builder.build(exchange_of(item), shed)
        except BaseException as e:
            # The text of the exception may contain data of the request: only its type is logged.
            self._log(logging.ERROR, "build", "asgi-audit: a record could not be built: %s", type(e).__name__)
            return None

    def _shed_at_end(self) -> int:
        """What to leave out (0 nothing, 1 bodies, 2 headers too), so that more records are written before the program
        is gone."""
        bodies_at, headers_at = self._state.shed_at or (0.0, 0.0)
        now = time.monotonic()
        return 2 if now >= headers_at else 1 if now >= bodies_at else 0

    def _oldest_ns(self, now_ns: int) -> int:
        """How long (ns) the oldest sealed exchange has waited."""
        try:
            return now_ns - self._state.queue[0].ended_ns
        except IndexError:
            return 0

    def _release(self, *items: SealedExchange) -> None:
        """Return the share of the byte budget that these hold. Calling it again does nothing."""
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
        """Append the statements that cover `seen`, if everything up to its `last` is in the journal. Returns whether
        they were appended."""
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
                output.unwritten.clear()  # it is not in the journal: the next statement will cover the same, and more
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
