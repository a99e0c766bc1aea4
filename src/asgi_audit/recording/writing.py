"""The recorder's thread: builds records, appends them to the journal, wakes who waits, and makes the statements.

One turn: wait (20 ms while there is traffic, parked until the next statement when there is none, not at all when
somebody waits), build in slices of at most 1 ms, append, sync when a waiter is in the batch, wake, state. Records that
the journal does not take are held, in order, up to 8 MiB, and tried again; a machine that cannot be written to is so
served by a bounded journal in memory. Under pressure bodies are left out first, then headers, then records; all of it
is counted, losses are stated.

Nothing escapes from this thread. If a turn breaks on a bug, what it had in hand is stated as lost and the next turn
goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from ..capture.exchange import exchange_of
from ..errors import TransportError
from ..record.digest import leaf_hash
from ..record.statement import encode_statement
from ..transport.base import Entry, Kind, Writer
from .base import Wake
from .core import Core, Waiting
from .statements import Closed, Snapshot

__all__ = ["RecorderThread"]

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
log = logging.getLogger("asgi_audit")


class RecorderThread(threading.Thread):
    def __init__(self, core: Core) -> None:
        super().__init__(name="asgi-audit-recorder", daemon=True)
        self._core = core
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
        self._stated_at = float("-inf")
        self._is_half_full_said = False
        self._logged: dict[str, float] = {}

    # ---------------------------------------------------------------------------------------------------------- turns

    def run(self) -> None:
        core = self._core
        while core.generation == self._generation:
            try:
                self._turn()
                if core.is_stopping:
                    break
            except BaseException as e:
                self._recover(e)
        if self._writer is not None and core.generation == self._generation:
            self._writer.close()

    def _turn(self) -> None:
        core = self._core
        self._wait()
        now = time.monotonic()
        if self._writer is None and now >= self._retry_at:
            self._open()
        with core.lock:
            requests, core.requests = core.requests, []
        try:
            closed: Closed = ""
            for request in requests:
                closed = request.closed or closed
            is_due = self._writer is not None and now >= self._statement_at()
            seen = core.snapshot() if is_due or requests else None
            is_stating = is_due or bool(closed)
            self._drain(seen, is_asked=bool(requests), is_exact=is_stating)
            is_written = not self._held
            if seen is not None and is_stating:
                is_written = self._state(seen, closed) and is_written
            if requests:
                is_written = self._sync() and is_written
            for request in requests:
                request.is_written = is_written
        finally:
            for request in requests:
                request.done.set()

    def _wait(self) -> None:
        core = self._core
        with core.lock:
            if core.queue or core.requests or self._held:
                self._quiet = 0
            if core.is_urgent or self._oldest_ns(time.perf_counter_ns()) > _LATE_NS:
                core.is_urgent = False
                return
            self._quiet += 1
            is_parking = self._quiet > _QUIET_TURNS
            core.is_parked = is_parking
        timeout = FLUSH_SECONDS
        if is_parking:
            wanted = self._retry_at if self._writer is None else self._statement_at()
            timeout = min(_IDLE_SECONDS, max(timeout, wanted - time.monotonic()))
        is_woken = core.signal.acquire(timeout=timeout)
        core.is_parked = False
        if is_parking and is_woken and not core.is_urgent:
            # The first of what may be many: gather for as long as a record may wait.
            core.signal.acquire(timeout=FLUSH_SECONDS)
        core.is_urgent = False

    def _statement_at(self) -> float:
        """When the next statement is due (monotonic seconds)."""
        core = self._core
        is_changed = self._stated != (core.begun, core.last, core.excluded, core.unwaited)
        return self._stated_at + (_BUSY_SECONDS if is_changed and not self._is_full() else _IDLE_SECONDS)

    def _recover(self, e: BaseException) -> None:
        """A turn broke: a bug of ours. What was in hand is lost, and stated."""
        core = self._core
        try:
            hand, core.hand = core.hand, []
            for item in hand:
                core.lose(item[0], item[0], "journal")
                self._give_back(item)
                self._wake(item[-1], False)
            core.count("internal_errors")
            self._say(logging.ERROR, "broken", "asgi-audit: the recorder's turn broke: %s", type(e).__name__)
        except BaseException:
            pass
        time.sleep(0.05)

    # ------------------------------------------------------------------------------------------------------- building

    def _drain(self, seen: Snapshot | None, *, is_asked: bool, is_exact: bool) -> None:
        """Write what waits: all that was there at the beginning, or all that `seen` covers. `is_exact`: nothing else,
        because a statement follows, and its root is checked over what stands before it."""
        core = self._core
        left = 0 if is_exact else len(core.queue)
        until = seen.last if seen is not None else 0
        while core.queue and (left > 0 or core.queue[0][0] <= until):
            left -= self._write_batch(until if is_exact else None)
        if self._held:
            self._append_held(is_asked=is_asked)

    def _write_batch(self, until: int | None) -> int:
        core = self._core
        shed, refused = self._pressure()
        size = count = 0
        waiters: list[Wake] = []
        entries: list[Entry] = []
        held: list[tuple[Entry, bytes]] = []
        hand = core.hand
        now_ns = time.perf_counter_ns()
        is_late = self._oldest_ns(now_ns) > _LATE_NS
        slice_end = now_ns + _SLICE_NS
        while core.queue and count < _BATCH_RECORDS and size < _BATCH_BYTES:
            if until is not None and core.queue[0][0] > until:
                break
            item = core.queue.popleft()
            hand.append(item)
            sequence, ended_ns, draft, sealed, face, wake = item
            count += 1
            if refused:
                core.lose(sequence, sequence, refused)
                self._wake(wake, False)
                self._give_back(item)
                hand.pop()
                continue
            try:
                exchange = exchange_of(draft, sealed, sequence, ended_ns - draft.begun[1])
                data = face.build(exchange, shed)
            except Exception as e:
                core.lose(sequence, sequence, "build")
                self._wake(wake, False)
                self._give_back(item)
                hand.pop()
                # The exception's text may hold what the request held: only its type is said.
                self._say(logging.ERROR, "build", "asgi-audit: a record could not be built: %s", type(e).__name__)
                continue
            entries.append(Entry(Kind.RECORD, sequence, data))
            held.append((entries[-1], leaf_hash(data)))
            size += len(data)
            if wake is not None:
                waiters.append(wake)
            if not is_late and time.perf_counter_ns() >= slice_end:
                time.sleep(_YIELD_SECONDS)
                slice_end = time.perf_counter_ns() + _SLICE_NS
        if shed:
            core.count("shed_headers" if shed > 1 else "shed_bodies", len(entries))
        if refused:
            self._say(
                logging.ERROR, refused, "asgi-audit: records are lost, reason %s; they are counted and stated", refused
            )
        self._give_back(*hand)
        hand.clear()
        self._held += held
        self._held_bytes += size
        is_written = False
        try:
            is_written = self._append_held(is_asked=bool(waiters))
            if waiters and is_written:
                is_written = self._sync() or self._write_again(entries)
        finally:
            for wake in waiters:
                self._wake(wake, is_written)
        return count

    def _oldest_ns(self, now_ns: int) -> int:
        """For how long the oldest sealed exchange has waited."""
        try:
            return now_ns - self._core.queue[0][1]
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

    def _give_back(self, *items: Waiting) -> None:
        # Once for a batch: a request that was interrupted while it held the lock costs us a whole switch interval.
        held = sum(item[2].held for item in items)
        if held:
            with self._core.lock:
                self._core.budget -= held

    def _wake(self, wake: Wake | None, is_durable: bool) -> None:
        if wake is not None:
            try:
                wake(is_durable)
            except Exception:
                self._core.count("internal_errors")

    # -------------------------------------------------------------------------------------------------------- writing

    def _open(self) -> None:
        core = self._core
        try:
            writer = core.open_writer(core.facts)
        except TransportError as e:
            self._failed(e)
            core.opened.set()
            self._say(
                logging.ERROR,
                "open",
                "asgi-audit: no journal, records are kept in memory (%d MiB) until there is one: %s%s",
                _HELD_BYTES_MAX >> 20,
                e,
                f" ({e.hint})" if e.hint else "",
            )
            return
        self._writer = writer
        self._counters = writer.counters
        core.attach(writer.counters)
        self._is_failing = False
        self._retry_after = _RETRY_SECONDS[0]
        core.opened.set()
        log.info("asgi-audit: auditing to %s, process %s", core.settings.transport_url, core.facts.process)

    def _failed(self, e: TransportError) -> None:
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
        if writer is None:
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
                            self._failed(alone)
                            return False
                        self._refuse(chunk[0], alone)
                        continue
                elif not e.retriable:
                    self._refuse(chunk[0], e)
                    continue
                else:
                    self._failed(e)
                    self._say(
                        logging.ERROR,
                        "append",
                        "asgi-audit: the journal cannot be written, records wait in memory: %s%s",
                        e,
                        f" ({e.hint})" if e.hint else "",
                    )
                    self._cut_held()
                    return False
            self._core.ledger.recorded([self._held.popleft()[1] for _ in chunk])
            self._held_bytes -= size
            with self._core.lock:
                self._core.recorded += len(chunk)
        if self._is_failing:
            self._is_failing = False
            self._retry_after = _RETRY_SECONDS[0]
            self._say(logging.WARNING, "again", "asgi-audit: the journal can be written again")
        if writer.counters is not self._counters:  # its directory was removed and made again
            self._counters = writer.counters
            self._core.attach(writer.counters)
        return True

    def _refuse(self, entry: Entry, e: TransportError) -> None:
        self._held.popleft()
        self._held_bytes -= len(entry.payload)
        self._core.lose(entry.sequence, entry.sequence, "journal")
        self._say(logging.ERROR, "refuse", "asgi-audit: the journal refuses a record: %s", e)

    def _cut_held(self) -> None:
        """What does not fit into memory is lost: the newest, so that what is held stays without gaps."""
        while self._held_bytes > _HELD_BYTES_MAX:
            entry, _ = self._held.pop()
            self._held_bytes -= len(entry.payload)
            self._core.lose(entry.sequence, entry.sequence, "journal")

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
        core, writer = self._core, self._writer
        if writer is None or self._held:
            return False
        with core.lock:
            stated = (core.begun, core.last, core.excluded, core.unwaited)
            statements = core.ledger.make(seen, closed)
        self._stated_at = time.monotonic()
        try:
            for statement in statements:
                data = encode_statement(core.ledger.chained(statement))
                writer.append([Entry(Kind.STATEMENT, statement.last, data)])
                with core.lock:
                    core.ledger.written([statement], data)
        except TransportError as e:
            self._failed(e)
            self._say(logging.ERROR, "append", "asgi-audit: the journal cannot be written: %s", e)
            return False
        self._stated = (stated[0], seen.last, seen.excluded, seen.unwaited)
        return True

    def _say(self, level: int, key: str, text: str, *values: object) -> None:
        """A log line, at most one a minute of each kind; never an exception out of somebody's log handler."""
        now = time.monotonic()
        if now - self._logged.get(key, float("-inf")) < _LOG_SECONDS:
            return
        self._logged[key] = now
        try:
            log.log(level, text, *values)
        except Exception:
            self._core.count("internal_errors")
