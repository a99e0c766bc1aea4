"""The recorder: takes sealed exchanges off the request path and sees to it that each becomes a record or a stated loss.

Place: capture calls `Recorder` on the request path; one daemon thread per (OS process, journal) writes (`writing`).
Invariants: every sequence given ends up in the journal or in a statement's losses; nothing here blocks, raises into the
caller, or grows without bound: at most `QUEUE_MAX` sealed exchanges wait, and the bodies of all that are open or
waiting share `capture_bytes_max`. kill -9 loses what is in memory, at most `FLUSH_SECONDS` of it when the disk keeps
up; whoever adopts the journal states how many that were. After fork the child starts anew: new process, sequence from
1, a journal of its own.

The lock is reentrant because the garbage collector may finish somebody's abandoned request, and so seal it, in the
middle of our own critical section; no call stands there between reading and writing one of the numbers.
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
from .core import EXIT_SECONDS, Core, OpenWriter, Phase
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
    """See `RecorderBase`: one middleware's face, with its own identity and builder, over the shared recorder."""

    def __init__(self, core: Core, settings: Settings, builder_factory: BuilderFactory) -> None:
        self._core = core
        self._settings = settings
        self._builder_factory = builder_factory
        core.govern(settings)
        self._builder: RecordBuilder | None = None
        self._built_for = 0
        self.is_crowded = False
        # A configured account holds until the application is seen to annotate others: then any may turn up late.
        is_configured = settings.account_id != Settings.account_id
        self.known_account: str | None = settings.account_id if is_configured else None

    @property
    def is_open(self) -> bool:
        return self._core.thread is not None and self._core.opened.is_set()

    def open(self, wait_seconds: float) -> None:
        core = self._core
        if not core.is_alive():
            core.start()
        if core.is_alive() and not core.opened.is_set():
            core.opened.wait(wait_seconds)

    def begin(self) -> Begun:
        core = self._core
        if core.phase is not _RUNNING and core.phase is not _URGENT:
            core.ensure_running()
        with core.lock:
            core.begun = begun = core.begun + 1
            core.words[0] = begun
            ticket = core.tickets + begun
            mono_ns = perf_counter_ns()
            core.open[ticket] = started_ns = core.clock.offset_ns + mono_ns
            if self.known_account is not None:
                core.accounts[ticket] = self
            self.is_crowded = len(core.open) > core.few
        return ticket, mono_ns, started_ns

    def learn_account(self, draft: Draft, account_id: str) -> None:
        core, ticket = self._core, draft.ticket
        if account_id != self.known_account:
            self.known_account = None
        with core.lock:
            core.accounts[ticket] = account_id
            if ticket not in core.open:  # sealed, or begun before a fork
                core.accounts.pop(ticket, None)

    def reserve(self, draft: Draft, size: int) -> bool:
        core = self._core
        with core.lock:
            if core.budget + size > core.bytes_max:
                return False
            if draft.ticket not in core.open:
                return False  # sealed, or begun before a fork: nobody would give it back
            core.budget += size
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
        core = self._core
        ended_ns = perf_counter_ns()
        with core.lock:
            if core.open.pop(draft.ticket, None) is None:
                return False
            if core.accounts:
                core.accounts.pop(draft.ticket, None)
            if draft.detail.excluded:
                core.excluded += 1
                core.words[2] = core.excluded
                core.budget -= draft.held
                return False
            core.last = sequence = core.last + 1
            core.words[1] = sequence
            if len(core.queue) + len(core.in_progress) >= core.few and (why := core.find_room(draft)):
                core.record_loss(sequence, sequence, why)
                return False
            core.queue.append(
                SealedExchange(sequence, ended_ns, draft, outcome, route, endpoint, principal, notes, self, wake)
            )
            if wake is not None:
                core.urge()
            elif core.phase is _PARKED:
                core.awake()
        return True

    def unwaited(self) -> None:
        with self._core.lock:
            self._core.unwaited += 1

    def flush(self, timeout_seconds: float, *, close: bool = False) -> bool:
        return self._core.flush(timeout_seconds, "provisional" if close else "")

    def count(self, name: str, amount: int = 1) -> None:
        self._core.count(name, amount)

    def stats(self) -> dict[str, int]:
        core = self._core
        if core.is_down():
            core.start()
        with core.lock:
            return {
                "begun": core.begun,
                "sealed": core.last,
                "recorded": core.recorded,
                "excluded": core.excluded,
                "open": len(core.open),
                "unwaited": core.unwaited,
                "waiting": len(core.queue),
                "held_bytes": core.budget,
                "recorder_down": int(core.is_down()),
                "recorder_restarts": max(0, core.started - 1),
                **core.counts,
            }

    def stop(self, timeout_seconds: float = EXIT_SECONDS) -> None:
        """Ends the shared recorder; the next `shared_recorder` for its journal makes a new one."""
        _forget(self._core)
        self._core.stop(timeout_seconds)

    def build(self, exchange: Exchange, shed: int) -> bytes:
        """The record's bytes, in the recorder's thread."""
        core = self._core
        if self._builder is None or self._built_for != core.generation:
            self._builder = self._builder_factory(self._settings, core.facts)
            self._built_for = core.generation
        return self._builder.build(exchange, shed)


# One per journal in this OS process. `_every` also holds those that were made beside it, so that fork resets them too.
_cores: dict[str, Core] = {}
_every: weakref.WeakSet[Core] = weakref.WeakSet()
_cores_lock = threading.Lock()


def _after_fork() -> None:
    global _cores_lock
    _cores_lock = threading.Lock()
    for core in list(_every):
        core.reset_after_fork()


after_fork_in_child(Step.RECORDER, _after_fork)


def shared_recorder(
    settings: Settings,
    open_writer: OpenWriter,
    *,
    builder_factory: BuilderFactory = Builder,
    clock: Clock | None = None,
    on_closed: Callable[[float, bool], object] | None = None,
    on_begun: Callable[[], object] | None = None,
) -> Recorder:
    """A face, with its own identity (service, account, instance …), over the one recorder of this OS process for the
    journal that the settings name. The first call gives it `open_writer`, which is called in its thread, and
    `on_closed(seconds, is_end)`, which is called when all is written at a shutdown, after which the process may yet go
    on, or at the end: at most so long may it take to carry the journal on; and `on_begun()`, which is called when a
    statement stands in the journal by which this process is heard of, or heard of again.

    Raises ConfigError when two callers want the shared part differently."""
    with _cores_lock:
        core = _cores.get(settings.transport_url)
        if core is None:
            core = Core(settings, open_writer, Writing, clock, on_closed, on_begun)
            _cores[settings.transport_url] = core
            _every.add(core)
            atexit.register(core.at_exit)
    for name in _OWN:
        ours, theirs = getattr(core.settings, name), getattr(settings, name)
        if ours != theirs:
            if name in _SECRET:
                ours = theirs = "***"
            name = name.removesuffix("_path")  # `journal` or `home`, whichever says where it is
            raise ConfigError(
                f"setting {name} is {theirs!r}; accepted: {ours!r}, as another middleware of this process has it",
                hint=f"both write to {settings.transport_url}; give them the same {name} or journals of their own",
            )
    return Recorder(core, settings, builder_factory)


def _forget(core: Core) -> None:
    with _cores_lock:
        for url in [url for url, known in _cores.items() if known is core]:
            del _cores[url]
    atexit.unregister(core.at_exit)
