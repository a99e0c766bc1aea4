"""The recorder: takes sealed exchanges off the request path, and makes each a record or a stated loss.

Place: capture calls `Recorder` on the request path; one daemon thread for each (OS process, journal) writes, see
`writing`.

Invariants:
* Every sequence number ends up in the journal or in the losses of a statement.
* Nothing here blocks the caller, raises into it, or grows without bound: at most `QUEUE_MAX` sealed exchanges wait, and
  the bodies of all open and waiting exchanges share `capture_bytes_max`.
* kill -9 loses what is in memory: at most the last `FLUSH_SECONDS` when the disk keeps up. The process that adopts the
  journal states how many records that were.
* A forked child begins with nothing: a new process id, sequence 1, a journal of its own.

The lock is reentrant: the garbage collector may close an abandoned request, and so seal it, while this very thread
holds the lock. Therefore there is no call between reading and writing one of the counters.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from ..encoding.builder import Builder
from ..errors import ConfigError
from ..exchange.draft import Draft
from ..exchange.recorder import Begun
from ..exchange.sealed import Exchange, RecordBuilder, SealedExchange, Wake
from ..forking import Step, after_fork_in_child
from ..settings import Settings
from ..transport.base import ProcessFacts
from .clock import Clock
from .state import OpenWriter, Phase, RecorderState, indexer_hint
from .thread import EXIT_SECONDS, RecorderThread
from .writing import Writing

__all__ = ["Recorder", "shared_recorder"]

# What belongs to the recorder itself: two middlewares over one journal must agree on it.
_OWN = ("capture_bytes_max", "journal_path", "journal_bytes_max",
        "kafka_ca_file", "kafka_cert_file", "kafka_key_file", "kafka_key_password", "kafka_sasl_mechanism",
        "kafka_username", "kafka_password", "kafka_linger_seconds")  # fmt: skip
_RUNNING, _URGENT, _PARKED = Phase.RUNNING, Phase.URGENT, Phase.PARKED  # looked at for each request
_SECRET = frozenset(("kafka_key_password", "kafka_password"))


BuilderFactory = Callable[[Settings, ProcessFacts], RecordBuilder]


class Recorder:
    """See `RecorderBase`. One for each middleware, with its own identity and builder; the thread and the journal are
    shared."""

    def __init__(self, thread: RecorderThread, settings: Settings, builder_factory: BuilderFactory) -> None:
        self._thread = thread
        self._state = thread.state
        self._settings = settings
        self._builder_factory = builder_factory
        self._builder: RecordBuilder | None = None
        self._built_for = 0
        self.is_crowded = False
        # A configured account holds until the application annotates another one. From then on any account is possible.
        is_configured = settings.account_id != Settings.account_id
        self.known_account: str | None = settings.account_id if is_configured else None
        self._state.govern(settings, self)

    @property
    def is_open(self) -> bool:
        return self._state.thread is not None and self._state.opened.is_set()

    def open(self, wait_seconds: float) -> None:
        state = self._state
        if not state.is_alive():
            self._thread.start()
        if state.is_alive() and not state.opened.is_set():
            state.opened.wait(wait_seconds)

    def begin(self) -> Begun:
        state = self._state
        if state.phase is not _RUNNING and state.phase is not _URGENT:
            self._thread.ensure_running()
        with state.lock:
            state.begun = begun = state.begun + 1
            state.words[0] = begun
            ticket = state.tickets + begun
            mono_ns = perf_counter_ns()
            state.open[ticket] = started_ns = state.clock.offset_ns + mono_ns
            if self.known_account is not None:
                state.accounts[ticket] = self
            self.is_crowded = len(state.open) > state.few
        return ticket, mono_ns, started_ns

    def learn_account(self, draft: Draft, account_id: str) -> None:
        state, ticket = self._state, draft.ticket
        if account_id != self.known_account:
            self.known_account = None
        with state.lock:
            state.accounts[ticket] = account_id
            if ticket not in state.open:  # sealed, or begun before a fork
                state.accounts.pop(ticket, None)

    def reserve(self, draft: Draft, size: int) -> bool:
        state = self._state
        with state.lock:
            if state.budget + size > state.bytes_max:
                return False
            if draft.ticket not in state.open:
                return False  # sealed, or begun before a fork: the bytes would never be given back
            state.budget += size
            draft.held += size
        return True

    def seal(
        self,
        draft: Draft,
        outcome: str,
        route: Any,
        endpoint: Any,
        principal: str | None,
        notes: dict[str, Any] | None,
        wake: Wake | None = None,
    ) -> bool:
        state = self._state
        ended_ns = perf_counter_ns()
        with state.lock:
            if state.open.pop(draft.ticket, None) is None:
                return False
            if state.accounts:
                state.accounts.pop(draft.ticket, None)
            if draft.detail.excluded:
                state.excluded += 1
                state.words[2] = state.excluded
                state.budget -= draft.held
                return False
            state.last = sequence = state.last + 1
            state.words[1] = sequence
            if len(state.queue) + len(state.in_progress) >= state.few and (why := state.find_room(draft)):
                state.record_loss(sequence, sequence, why)
                return False
            state.queue.append(
                SealedExchange(sequence, ended_ns, draft, outcome, route, endpoint, principal, notes, self, wake)
            )
            if wake is not None:
                state.wake_now()
            elif state.phase is _PARKED:
                state.wake_thread()
        return True

    def unwaited(self) -> None:
        with self._state.lock:
            self._state.unwaited += 1

    def flush(self, timeout_seconds: float, *, close: bool = False) -> bool:
        return self._thread.flush(timeout_seconds, "provisional" if close else "")

    def count(self, name: str, amount: int = 1) -> None:
        self._state.count(name, amount)

    def stats(self) -> dict[str, int]:
        state = self._state
        if self._thread.is_down():
            self._thread.start()
        with state.lock:
            return {
                "begun": state.begun,
                "sealed": state.last,
                "recorded": state.recorded,
                "excluded": state.excluded,
                "open": len(state.open),
                "unwaited": state.unwaited,
                "waiting": len(state.queue),
                "held_bytes": state.budget,
                "recorder_down": int(self._thread.is_down()),
                "recorder_restarts": max(0, state.started - 1),
                **state.counts,
            }

    def stop(self, timeout_seconds: float = EXIT_SECONDS) -> None:
        """Ends the shared recorder; the next `shared_recorder` for its journal makes a new one."""
        _forget(self._thread)
        self._thread.stop(timeout_seconds)

    def build(self, exchange: Exchange, shed: int) -> bytes:
        """The record's bytes, in the recorder's thread."""
        return self._made().build(exchange, shed)

    def prepare(self) -> None:
        """Makes the builder before the first record needs it, in the recorder's thread: its tables take up to 0.1 s of
        CPU, which would be taken from the first requests."""
        self._made()

    def _made(self) -> RecordBuilder:
        state = self._state
        builder = self._builder
        if builder is None or self._built_for != state.generation:
            builder = self._builder = self._builder_factory(self._settings, state.facts)
            self._built_for = state.generation
        return builder


# One per journal in this OS process. `_every` also holds those that were made beside it, so that fork resets them too.
_threads: dict[str, RecorderThread] = {}
_every: weakref.WeakSet[RecorderThread] = weakref.WeakSet()
_threads_lock = threading.Lock()


def _after_fork() -> None:
    global _threads_lock
    _threads_lock = threading.Lock()
    for thread in list(_every):
        thread.reset_after_fork()


after_fork_in_child(Step.RECORDER, _after_fork)


def shared_recorder(
    settings: Settings,
    open_writer: OpenWriter,
    *,
    builder_factory: BuilderFactory = Builder,
    clock: Clock | None = None,
    on_closed: Callable[[float, bool], object] | None = None,
    on_begun: Callable[[], object] | None = None,
    full_reason: Callable[[], str] = indexer_hint,
) -> Recorder:
    """A recorder with the identity that the settings give (service, account, instance …). All recorders of one OS
    process over one journal share their thread; the first call makes it, and its callbacks stay:

    open_writer: opens the journal; called in the thread.
    on_closed(seconds, is_end): called when all is written, at a shutdown (`is_end` False: the process may keep running)
        or at the end. It may take at most `seconds`, to send what is in the journal.
    on_begun(): called when the journal has a first statement of this process, or the first after one with
        `closed`.
    full_reason(): a sentence for the log, which names the reader that should empty a journal that fills up.

    Raises ConfigError when two callers configure the shared part differently."""
    with _threads_lock:
        thread = _threads.get(settings.transport_url)
        if thread is None:
            state = RecorderState(settings, open_writer, clock, on_begun, full_reason)
            thread = RecorderThread(state, Writing, on_closed)
            _threads[settings.transport_url] = thread
            _every.add(thread)
            atexit.register(thread.at_exit)
    for name in _OWN:
        ours, theirs = getattr(thread.state.settings, name), getattr(settings, name)
        if ours != theirs:
            if name in _SECRET:
                ours = theirs = "***"
            name = name.removesuffix("_path")  # `journal` or `home`, whichever defines the place of the journal
            raise ConfigError(
                f"setting {name} is {theirs!r}; accepted: {ours!r}, the value of another middleware in this process",
                hint=f"both write to {settings.transport_url}; use the same {name} for both, or separate journals",
            )
    return Recorder(thread, settings, builder_factory)


def _forget(thread: RecorderThread) -> None:
    with _threads_lock:
        for url in [url for url, known in _threads.items() if known is thread]:
            del _threads[url]
    atexit.unregister(thread.at_exit)
