"""What the request path and the recorder's thread share: the lock, the queue, the counters, the phase.

`recorder` puts sealed exchanges in, `writing` takes them out; neither uses the other's internals. All of it is made
again in a forked child, where locks may be held by threads that do not exist there.
"""

from __future__ import annotations

import _thread
import contextlib
import enum
import os
import socket
import struct
import sys
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from ..exchange.draft import SMALL_BYTES, Body, Draft
from ..exchange.sealed import SealedExchange
from ..record.ids import new_process
from ..settings import Settings
from ..transport.base import EntryWriter, ProcessFacts
from .clock import Clock
from .ledger import RECENT_SECONDS, Closed, Ledger, Tally, policy_digest, policy_of

__all__ = ["ENDS", "OVER", "FlushRequest", "HasAccount", "OpenWriter", "Phase", "RecorderState"]

# Sealed exchanges that wait to be written: ten seconds of 5,000 requests a second. The thread falls so far behind only
# when it gets no processor or no disk at all. Bodies are bounded apart, by `capture_bytes_max`.
QUEUE_MAX = 50_000
_FEW = 64
_SMALL_BYTES = 2 * SMALL_BYTES

OpenWriter = Callable[[ProcessFacts], EntryWriter]


class HasAccount(Protocol):
    """A middleware's recorder: whose exchanges it records, as far as that is known."""

    known_account: str | None


class Prepares(Protocol):
    """A middleware's recorder: makes what its first record needs."""

    def prepare(self) -> None: ...


class Phase(enum.Enum):
    """Of the recorder. In all but RUNNING and URGENT, `begin` must call `ensure_running`.

    IDLE ──► RUNNING ◄──► PARKED
             ▲  ▲  │         │
        DOWN ◄──┘  └─► URGENT ◄┘        each of them ──► ENDING or CLOSING ──► ENDED
    """

    IDLE = "idle"  # no thread was needed yet
    DOWN = "down"  # a thread is needed and there is none: the last one broke, or none can be started
    RUNNING = "running"  # the thread works, or gathers records for FLUSH_SECONDS
    URGENT = "urgent"  # as RUNNING, and a request or a flush waits: the thread does not gather
    PARKED = "parked"  # nothing came for a while: the thread waits until it is woken or a statement is due
    ENDING = "ending"  # the thread writes only what it has built; the rest is lost, and stated
    CLOSING = "closing"  # as ENDING, and then the journal is closed
    ENDED = "ended"


_RUNNING, _URGENT, _PARKED = Phase.RUNNING, Phase.URGENT, Phase.PARKED
ENDS = (Phase.ENDING, Phase.CLOSING)
OVER = (*ENDS, Phase.ENDED)


def indexer_hint() -> str:
    return "is an indexer running?"


class FlushRequest:
    """A caller waits until all that is sealed is written and synced. `closed`: also state that the process closes."""

    def __init__(self, closed: Closed) -> None:
        self.closed = closed
        self.done = threading.Event()
        self.is_written = False


class RecorderState:
    """What the recorders of all middlewares over one journal share. `words` are the three counters that survive kill -9
    once the journal is open."""

    def __init__(
        self,
        settings: Settings,
        open_writer: OpenWriter,
        clock: Clock | None = None,
        on_begun: Callable[[], object] | None = None,
        full_reason: Callable[[], str] = indexer_hint,
    ) -> None:
        self.settings = settings
        self.full_reason = full_reason
        self.tickets = self.begun = 0
        self.open_writer = open_writer
        self.on_begun = on_begun
        self.clock = clock or Clock()
        self.generation = 0
        self.policies: set[str] = set()
        self._recorders: weakref.WeakSet[Prepares] = weakref.WeakSet()
        self.begin_process()

    def begin_process(self) -> None:
        """Begin with nothing: when it is made, and in a forked child."""
        self.lock = threading.RLock()
        self.pid = os.getpid()
        settings = self.settings
        # The small bodies of this many open exchanges, and of as many sealed ones, are not counted one by one: a share
        # of the budget is set aside for them.
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
        self.accounts: dict[int, str | HasAccount] = {}  # by ticket of an open exchange: its account, or the middleware
        # Tickets continue: an exchange that began before fork must not be mistaken for one of the child's.
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
        # When the last statement said `closed`: how many exchanges had begun by then, else None. Readers of the
        # statements do not wait for a closed process, so the next exchange that begins must be stated at once.
        self.closed_at: int | None = None
        # The thread sleeps by acquiring this lock; `wake_thread` releases it.
        self.wakeup = _thread.allocate_lock()
        self.wakeup.acquire()
        self.opened = threading.Event()  # the journal is open, or the first attempt to open it failed
        self.thread: threading.Thread | None = None
        self.started = 0  # how many threads

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self.thread is not None and self.thread.is_alive()

    def find_room(self, draft: Draft) -> str:
        """Make room for one more sealed exchange when many wait. Its small bodies are counted now, or dropped when the
        budget has no room for them; larger ones were counted as they came. Returns '' when there is room, else the
        reason of the loss: `queue` (it is full) or `exit` (the thread will not empty it any more). Called with the lock
        held."""
        waiting = len(self.queue)
        phase = self.phase
        if phase is _RUNNING or phase is _URGENT:
            if not waiting % _FEW and not self.is_alive():
                # Do not start a thread here, because the garbage collector may be the caller: the next `begin` starts
                # one.
                self.phase = Phase.DOWN
        elif phase in OVER:
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

    def wake_now(self) -> None:
        """A request or a flush waits: let the thread write at once. Called with the lock held."""
        if self.phase is _RUNNING or self.phase is _PARKED:
            self.phase = _URGENT
        self.wake_thread()

    def wake_thread(self) -> None:
        """Let the thread look at once. Called with the lock held."""
        try:
            if self.wakeup.locked():
                self.wakeup.release()
        except RuntimeError:
            pass  # a seal inside the garbage collector released it between the two calls

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
        counts[name] += amount  # no function call between reading and writing

    def attach(self, counters: memoryview) -> None:
        """From now on the counters live in the journal's page."""
        words = words_of(counters)
        with self.lock:
            words[0], words[1], words[2] = self.begun, self.last, self.excluded
            self.words = words

    def tally(self) -> Tally:
        """Read the clock first, then, under the lock, the open exchanges and `last`. So every exchange that is not
        counted here began at or after `now`: `begin` takes its time under the same lock."""
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
        return Tally(
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

    def govern(self, settings: Settings, recorder: Prepares) -> None:
        """The middleware of this recorder, with these settings, records here. Statements say by which policies records
        were made."""
        with self.lock:
            self._recorders.add(recorder)
            self.policies.add(policy_of(settings))
            self.ledger.policy = policy_digest(self.policies)

    def prepare(self) -> None:
        """Makes what the records of each middleware need. Called in the recorder's thread; never raises."""
        with self.lock:
            recorders = list(self._recorders)
        for recorder in recorders:
            with contextlib.suppress(Exception):  # building the first record raises it again, and it is counted
                recorder.prepare()


def _counted(accounts: Mapping[int, str | HasAccount], tickets: Iterable[int]) -> Counter[str]:
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
