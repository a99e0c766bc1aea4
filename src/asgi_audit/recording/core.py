"""What one recorder's faces, on the request path, and its thread, off it, share: the lock, the queue, the counters.

Place: `recorder` puts in, `writing` takes out; neither knows the other's inside. Everything here is made anew in a
forked child, where locks may be held by threads that no longer exist.

Here it is also decided whether a thread runs. One that ends by itself is started again: by itself, as the last thing
that it does, or by whoever begins an exchange, flushes or asks for `stats` and finds it gone. Between two starts there
are 50 ms to 2 s. While none can be started, the log, `stats()["recorder_down"]` and the metric of that name say so;
what is sealed waits, up to QUEUE_MAX, and what finds no room is a loss that is stated as soon as a thread runs.

When the program ends, the thread is given EXIT_SECONDS to write what waits; then it stops at the next record. The
interpreter must not end while it builds one: a daemon thread that comes back from compiled code after that is unwound
through it, and Rust aborts the process.
"""

from __future__ import annotations

import _thread
import enum
import logging
import os
import socket
import struct
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from ..exchange.draft import SMALL_BYTES, Body, Draft
from ..exchange.sealed import SealedExchange
from ..record.ids import new_process
from ..settings import Settings
from ..transport.base import ProcessFacts, Writer
from .clock import Clock
from .statements import RECENT_SECONDS, Closed, Ledger, Snapshot, policy_digest, policy_of

__all__ = ["ENDS", "EXIT_SECONDS", "Core", "Face", "FlushRequest", "OpenWriter", "Phase", "Work"]

EXIT_SECONDS = 2.0
# Sealed exchanges that wait to be written: ten seconds of 5,000 requests a second. The thread falls so far behind only
# when it gets no processor or no disk at all. Bodies are bounded apart, by `capture_bytes_max`.
QUEUE_MAX = 50_000
_JOIN_SECONDS = 1.0  # for the record in hand, the statement and one write
RESTART_SECONDS = (0.05, 2.0)
_LOG_SECONDS = 60.0
log = logging.getLogger("asgi_audit")
_FEW = 64
_SMALL_BYTES = 2 * SMALL_BYTES

OpenWriter = Callable[[ProcessFacts], Writer]


class Face(Protocol):
    known_account: str | None


class Phase(enum.Enum):
    """Of the recorder. In all but RUNNING and URGENT, `begin` must call `ensure_running`.

    IDLE ──► RUNNING ◄──► PARKED
             ▲  ▲  │         │
        DOWN ◄──┘  └─► URGENT ◄┘        each of them ──► ENDING or CLOSING ──► ENDED
    """

    IDLE = "idle"  # no thread was needed yet
    DOWN = "down"  # a thread is needed and there is none: the last one broke, or none can be started
    RUNNING = "running"  # the thread works, or gathers records for FLUSH_SECONDS
    URGENT = "urgent"  # as RUNNING, and somebody waits for a record: the thread does not gather
    PARKED = "parked"  # nothing came for a while: the thread waits until it is woken or a statement is due
    ENDING = "ending"  # the thread writes only what it has built; the rest is lost, and stated
    CLOSING = "closing"  # as ENDING, and then the journal is closed
    ENDED = "ended"


_RUNNING, _URGENT, _PARKED = Phase.RUNNING, Phase.URGENT, Phase.PARKED
ENDS = (Phase.ENDING, Phase.CLOSING)
_OVER = (*ENDS, Phase.ENDED)


class Work(Protocol):
    """What the thread does. It belongs to the process, and not to the thread: the next thread goes on with it."""

    def run(self) -> None:
        """Until the recorder ends. Whatever it raises ends this thread only."""


class FlushRequest:
    """Somebody waits until all that is sealed is written and synced."""

    def __init__(self, closed: Closed) -> None:
        self.closed = closed
        self.done = threading.Event()
        self.is_written = False


class Core:
    """What all faces of one recorder share. `words` are the three counters that survive kill -9 once the journal is
    open."""

    def __init__(
        self,
        settings: Settings,
        open_writer: OpenWriter,
        new_work: Callable[[Core], Work],
        clock: Clock | None = None,
        on_closed: Callable[[float, bool], object] | None = None,
        on_begun: Callable[[], object] | None = None,
    ) -> None:
        self.settings = settings
        self.tickets = self.begun = 0
        self.open_writer = open_writer
        self.on_closed = on_closed
        self._new_work = new_work
        self.on_begun = on_begun
        self.clock = clock or Clock()
        self.generation = 0
        self.policies: set[str] = set()
        self._begin_process()

    def _begin_process(self) -> None:
        """A process's state from nothing: at creation and in a forked child, where locks may be held by threads that no
        longer exist."""
        self.lock = threading.RLock()
        self.pid = os.getpid()
        settings = self.settings
        # The small bodies of so many open exchanges, and of so many sealed ones, are not counted one by one; they have
        # a share of the budget set aside.
        self.few = min(_FEW, QUEUE_MAX, settings.capture_bytes_max // (16 * _SMALL_BYTES))
        self.bytes_max = settings.capture_bytes_max - 2 * self.few * _SMALL_BYTES
        self.generation += 1
        now = self.clock.now_ms()
        self.facts = ProcessFacts(new_process(now), socket.gethostname()[:255], self.settings.service, now)
        self.ledger = Ledger(
            process=str(self.facts.process), host=self.facts.host, service=self.facts.service, started=now
        )
        self.ledger.policy = policy_digest(self.policies) if self.policies else None
        self.queue: deque[SealedExchange] = deque()
        self.in_progress: list[SealedExchange] = []  # what the thread builds and has not given back
        self.open: dict[int, int] = {}  # when it started (ns since the epoch), by ticket
        self.accounts: dict[int, str | Face] = {}  # by ticket of an open exchange, where it is known; or whose it is
        # Tickets go on: an exchange that was begun before fork must not be taken for one of the child's.
        self.tickets += self.begun
        self.begun = 0
        self.last = 0
        self.excluded = 0
        self.unwaited = 0
        self.recorded = 0
        self.budget = 0
        self.counts: dict[str, int] = {"annotate_late": 0, "internal_errors": 0}
        self.words = words_of(memoryview(bytearray(24)))
        self.requests: list[FlushRequest] = []
        self.phase = Phase.IDLE
        self.shed_at: tuple[float, float] | None = None  # at the end, monotonic: when bodies go, when headers go, too
        # While the last statement said `closed`: how many exchanges had begun by then. Whoever reads the statements no
        # longer waits for this process, so the next one that begins must be stated at once.
        self.closed_at: int | None = None
        # The thread sleeps by acquiring this lock, which is held unless somebody wants it to wake up.
        self.wakeup = _thread.allocate_lock()
        self.wakeup.acquire()
        self.opened = threading.Event()  # or the first attempt failed: nobody waits for the next ones
        self.work = self._new_work(self)
        self.thread: threading.Thread | None = None
        self.started = 0  # how many threads
        self.restart_seconds = RESTART_SECONDS[0]  # the next pause; a turn that succeeds makes it the first again
        self._start_at = self._said_at = float("-inf")  # monotonic: no start before it; when it was logged last

    def reset_after_fork(self) -> None:
        self._begin_process()

    # ----------------------------------------------------------------------------------------------------- the thread

    def is_alive(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def start(self) -> None:
        """Unless a thread runs, or the recorder ends, or the last attempt was a moment ago."""
        with self.lock:
            if self.is_alive() or self.phase in _OVER:
                return
            now = time.monotonic()
            if now < self._start_at:
                return
            pause = 0.0
            if self.phase is not Phase.IDLE:  # it is not the first
                pause = self.restart_seconds
                self.restart_seconds = min(2 * pause, RESTART_SECONDS[1])
            self.phase = Phase.DOWN
            self._start_at = now + pause
            try:
                # Known before it runs: an interrupt in the middle of `start` leaves a thread that runs, or may yet.
                self.thread = thread = threading.Thread(
                    target=self._run, args=(pause,), name="asgi-audit-recorder", daemon=True
                )
                thread.start()
            except (RuntimeError, MemoryError):  # the interpreter is ending, or the machine has no thread left
                self.thread = None
                self.counts["internal_errors"] += 1
            except BaseException:  # a signal handler raises
                self._note_start()
                raise
            else:
                self._note_start()
                return
        self._say_down("no thread can be started")

    def _note_start(self) -> None:
        """Called with the lock held. A thread that has not begun yet finds that it is not wanted when it does."""
        if self.is_alive():
            self.phase = Phase.RUNNING
            self.started += 1
        else:
            self.thread = None

    def is_down(self) -> bool:
        """A thread is needed, and none runs or none has finished a turn since one broke."""
        if self.phase is Phase.IDLE or self.phase is Phase.ENDED:
            return False
        return not (self.is_alive() and self.restart_seconds == RESTART_SECONDS[0])

    def back_off(self) -> None:
        """A turn broke: the thread waits, longer each time until one succeeds."""
        seconds = self.restart_seconds
        self.restart_seconds = min(2 * seconds, RESTART_SECONDS[1])
        self.pause(seconds)

    def succeeded(self) -> None:
        self.restart_seconds = RESTART_SECONDS[0]

    def pause(self, seconds: float) -> None:
        """Of the thread; the end of the recorder cuts it short. No `sleep`: an application's test may replace it."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self.phase not in _OVER:
            self.wakeup.acquire(timeout=left)

    def _run(self, pause: float) -> None:
        with self.lock:
            if self.thread is not threading.current_thread():
                return  # its start was interrupted, and another one was started or the recorder has ended
            generation = self.generation
        why = "it ended"
        try:
            self.pause(pause)
            self.work.run()
        except BaseException as e:
            why = type(e).__name__
        finally:
            if generation == self.generation:
                self._thread_ended(why)

    def _thread_ended(self, why: str) -> None:
        with self.lock:
            self.thread = None
            if self.phase in _OVER:
                self.phase = Phase.ENDED
                return
            self.phase = Phase.DOWN
            self._start_at = float("-inf")  # the next one begins with the pause
        self.start()
        self._say_down(why)  # last: a log handler may hang, and takes this thread with it alone

    def _say_down(self, why: str) -> None:
        now = time.monotonic()
        if now - self._said_at >= _LOG_SECONDS:
            self._said_at = now
            try:
                log.error(
                    "asgi-audit: the recorder's thread is down (%s) and is started again; until then records wait in "
                    "memory, or are lost and stated",
                    why,
                )
            except BaseException:
                self.count("internal_errors")

    def find_room(self, draft: Draft) -> str:
        """Many wait already: count what its small bodies hold, and drop them when the budget has no room for them
        (larger ones have their share of it already). Answers why there is none: the queue is full, or nobody will empty
        it; else ''. Called with the lock held."""
        waiting = len(self.queue)
        phase = self.phase
        if phase is _RUNNING or phase is _URGENT:
            if not waiting % _FEW and not self.is_alive():
                # The next that begins starts another: here the garbage collector may have called.
                self.phase = Phase.DOWN
        elif phase in _OVER:
            self.budget -= draft.held
            return "exit"
        if waiting >= QUEUE_MAX:
            self.budget -= draft.held
            return "queue"
        request, response = draft.request, draft.response
        small = len(request) if isinstance(request, bytes) else 0
        small += len(response) if isinstance(response, bytes) else 0
        if self.budget + small > self.bytes_max:
            draft.request, draft.response = _without_data(request), _without_data(response)
        else:
            self.budget += small
            draft.held += small
        return ""

    def ensure_running(self) -> None:
        """Something begins after a pause, or for the first time in this OS process."""
        if not self.is_alive():
            self.start()
        # What was stated does not speak of what begins now: the thread states anew, and at once.
        elif self.clock.check() or self.closed_at is not None:
            with self.lock:
                self.awake()

    def urge(self) -> None:
        """Somebody waits: let the thread write at once. Called with the lock held."""
        if self.phase is _RUNNING or self.phase is _PARKED:
            self.phase = _URGENT
        self.awake()

    def awake(self) -> None:
        """Let the thread look at once. Called with the lock held."""
        try:
            if self.wakeup.locked():
                self.wakeup.release()
        except RuntimeError:
            pass  # released between the two by a seal inside the garbage collector

    def record_loss(self, first: int, last: int, reason: str) -> None:
        with self.lock:
            self.ledger.losses.add(first, last, reason)
            self._count(f"lost_{reason}", last - first + 1)

    def count(self, name: str, amount: int = 1) -> None:
        with self.lock:
            self._count(name, amount)

    def _count(self, name: str, amount: int) -> None:
        counts = self.counts
        if name not in counts:
            counts[name] = 0
        counts[name] += amount  # no call between reading and writing

    def attach(self, counters: memoryview) -> None:
        """From now on the counters stand in the journal's page."""
        words = words_of(counters)
        with self.lock:
            words[0], words[1], words[2] = self.begun, self.last, self.excluded
            self.words = words

    def snapshot(self) -> Snapshot:
        """Now first, then the open exchanges, then `last`: what registers after that takes its time, under the same
        lock, at or after `now`."""
        self.clock.check()
        now_ns = self.clock.now_ns()
        with self.lock:
            # Copies, and no lists of items: those would be made one by one, and the garbage collector may seal an
            # exchange in between.
            opened, accounts = self.open.copy(), self.accounts.copy()
            begun, last, excluded, unwaited = self.begun, self.last, self.excluded, self.unwaited
        starts = list(opened.values())
        recent_from = now_ns - RECENT_SECONDS * 1_000_000_000
        recent = [start for start in starts if start > recent_from]
        long_newest = max((start for start in starts if start <= recent_from), default=None)
        return Snapshot(
            now=now_ns // 1_000_000,
            open_count=len(starts),
            open_oldest=min(starts) // 1_000_000 if starts else None,
            recent_oldest=min(recent) // 1_000_000 if recent else None,
            last=last,
            excluded=excluded,
            unwaited=unwaited,
            clock_steps=self.clock.steps,
            open_long=len(starts) - len(recent),
            open_long_newest=None if long_newest is None else long_newest // 1_000_000,
            open_of=_counted(accounts, opened),
            open_long_of=_counted(accounts, (t for t, start in opened.items() if start <= recent_from)),
            begun=begun,
        )

    def govern(self, settings: Settings) -> None:
        """Another middleware with settings of its own; statements say by which policies records were made."""
        with self.lock:
            self.policies.add(policy_of(settings))
            self.ledger.policy = policy_digest(self.policies)

    def flush(self, timeout_seconds: float, closed: Closed = "") -> bool:
        request = FlushRequest(closed)
        deadline = time.monotonic() + timeout_seconds
        with self.lock:
            if self.phase in _OVER:
                return False
            if self.thread is None and not (self.begun or closed):
                return True
            self.start()
            self.requests.append(request)
            self.urge()
        is_written = request.done.wait(timeout_seconds) and request.is_written
        if closed:
            self._carry_on(deadline - time.monotonic(), is_end=False)
        return is_written

    def _carry_on(self, seconds: float, *, is_end: bool) -> None:
        """Let whoever takes the journal on do so before the process ends; what it cannot, stays in the journal."""
        if self.on_closed is not None:
            try:
                self.on_closed(max(0.0, seconds), is_end)
            except Exception:
                self.count("internal_errors")

    def stop(self, timeout_seconds: float = EXIT_SECONDS) -> None:
        """Flush, state the end, end the thread and close the journal: for tests and programs that end by themselves."""
        self._end(timeout_seconds, closes=True)

    def at_exit(self) -> None:
        """The interpreter ends. The journal stays open: its page goes on to count what other threads still begin, so
        that whoever adopts it can state that they were lost."""
        if self.pid == os.getpid() and (self.begun or self.thread is not None):
            self._end(EXIT_SECONDS, closes=False)

    def _end(self, seconds: float, *, closes: bool) -> None:
        now = time.monotonic()
        deadline = now + seconds
        self.shed_at = now + seconds / 2, now + seconds * 3 / 4
        try:
            if self.is_alive():
                self.flush(seconds, "final")
        finally:  # also when somebody presses Ctrl-C a second time
            with self.lock:
                if self.phase is Phase.IDLE:
                    self.phase = Phase.ENDED
                elif self.phase is not Phase.ENDED:
                    self.phase = Phase.CLOSING if closes else Phase.ENDING
                self.few = 0  # what is sealed from now on asks for room, and is a loss
                self.awake()
                thread = self.thread
            if thread is not None and thread.is_alive():
                try:
                    thread.join(max(0.0, deadline - time.monotonic()) + _JOIN_SECONDS)
                except KeyboardInterrupt:  # it stops at its next record, and not to wait for that aborts the process
                    thread.join(_JOIN_SECONDS)
            self._end_here()
            self._carry_on(deadline - time.monotonic(), is_end=True)

    def _end_here(self) -> None:
        """Unless the thread still runs. Had it died and could not be started again, this one states what it leaves
        behind."""
        with self.lock:
            if self.is_alive():
                return
            self.thread = None  # one that begins to run only now ends at once
        try:
            if self.phase is not Phase.ENDED:
                self.work.run()
        except Exception:
            self.count("internal_errors")
        self.phase = Phase.ENDED


def _counted(accounts: Mapping[int, str | Face], tickets: Iterable[int]) -> Counter[str]:
    """How many of these exchanges belong to which account, as far as it is known."""
    found: Counter[str] = Counter()
    for ticket in tickets if accounts else ():
        known = accounts.get(ticket)
        account = known if known is None or isinstance(known, str) else known.known_account
        if account is not None:
            found[account] += 1
    return found


def _without_data(body: bytes | Body | None) -> bytes | Body | None:
    if isinstance(body, bytes) and body:
        return Body(total=len(body), complete=True, pressure=True)
    return body


class _PackedWords:
    """Three counters on a big-endian machine."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def __setitem__(self, at: int, value: int) -> None:
        struct.pack_into("<Q", self._view, at * 8, value)


def words_of(view: memoryview) -> memoryview | _PackedWords:
    """24 bytes as three counters, each written by one aligned store of the processor."""
    return view.cast("B").cast("Q") if sys.byteorder == "little" else _PackedWords(view)
