"""The life of the recorder's thread: it is started when it is needed, started again when it broke, and ended.

A thread that breaks starts its successor as its last act. When it fails before that, the next call of `begin`, `flush`
or `stats` notices and starts one. Between two starts there are 50 ms to 2 s. While none can be started, the log,
`stats()["recorder_down"]` and the metric of that name say so; sealed exchanges wait, up to QUEUE_MAX; further ones are
losses, stated as soon as a thread runs.

When the program ends, the thread has EXIT_SECONDS to write what waits; then it stops at the next record. The
interpreter must not end while the thread builds one: CPython then ends a daemon thread by unwinding it through the
compiled code that it runs, and Rust aborts the process.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from .ledger import Closed
from .log import RecorderLog
from .state import OVER, FlushRequest, Phase, RecorderState

__all__ = ["EXIT_SECONDS", "RecorderThread", "Work"]

EXIT_SECONDS = 2.0
_JOIN_SECONDS = 1.0  # for the record in hand, the statement and one write
RESTART_SECONDS = (0.05, 2.0)


class Work(Protocol):
    """The work of the thread. It belongs to the process, not to the thread: the next thread continues it."""

    def run(self, thread: RecorderThread) -> None:
        """Until the recorder ends. Whatever it raises ends this thread only."""


class RecorderThread:
    """Starts, restarts and ends the one thread of a recorder. `start` and `ensure_running` are called from any thread,
    `pause`, `back_off` and `succeeded` by the thread itself."""

    def __init__(
        self,
        state: RecorderState,
        new_work: Callable[[RecorderState], Work],
        on_closed: Callable[[float, bool], object] | None = None,
    ) -> None:
        self.state = state
        self._new_work = new_work
        self._on_closed = on_closed
        self._begin_process()

    def _begin_process(self) -> None:
        self.work = self._new_work(self.state)
        self._restart_seconds = RESTART_SECONDS[0]  # the next pause; a turn that succeeds makes it the first again
        self._start_at = float("-inf")  # monotonic: no start before it
        self._log = RecorderLog(self.state.count)

    def reset_after_fork(self) -> None:
        self.state.begin_process()
        self._begin_process()

    def start(self) -> None:
        """Start a thread, unless one runs, the recorder ends, or the last attempt was too recent."""
        state = self.state
        with state.lock:
            if state.is_alive() or state.phase in OVER:
                return
            now = time.monotonic()
            if now < self._start_at:
                return
            pause = 0.0
            if state.phase is not Phase.IDLE:  # it is not the first
                pause = self._restart_seconds
                self._restart_seconds = min(2 * pause, RESTART_SECONDS[1])
            state.phase = Phase.DOWN
            self._start_at = now + pause
            try:
                # Noted before it runs: an interrupt in the middle of `start` leaves a thread that runs, or will run.
                state.thread = thread = threading.Thread(
                    target=self._run, args=(pause,), name="asgi-audit-recorder", daemon=True
                )
                thread.start()
            except (RuntimeError, MemoryError):  # the interpreter is ending, or the machine has no thread left
                state.thread = None
                state.counts["internal_errors"] += 1
            except BaseException:  # a signal handler raises
                self._note_start()
                raise
            else:
                self._note_start()
                return
        self._log_down("no thread can be started")

    def _note_start(self) -> None:
        """Called with the lock held. A thread that is not alive yet will find, when it runs, that it was replaced."""
        state = self.state
        if state.is_alive():
            state.phase = Phase.RUNNING
            state.started += 1
        else:
            state.thread = None

    def is_down(self) -> bool:
        """Whether a thread is needed, and none runs or none has finished a turn since the last failure."""
        state = self.state
        if state.phase is Phase.IDLE or state.phase is Phase.ENDED:
            return False
        return not (state.is_alive() and self._restart_seconds == RESTART_SECONDS[0])

    def back_off(self) -> None:
        """Wait after a turn failed, longer each time until one succeeds."""
        seconds = self._restart_seconds
        self._restart_seconds = min(2 * seconds, RESTART_SECONDS[1])
        self.pause(seconds)

    def succeeded(self) -> None:
        self._restart_seconds = RESTART_SECONDS[0]

    def pause(self, seconds: float) -> None:
        """Wait, or until the recorder ends. Not by `time.sleep`: tests of applications replace it."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self.state.phase not in OVER:
            self.state.wakeup.acquire(timeout=left)

    def _run(self, pause: float) -> None:
        state = self.state
        with state.lock:
            if state.thread is not threading.current_thread():
                return  # its start was interrupted; meanwhile another one was started, or the recorder ended
            generation = state.generation
        why = "it ended"
        try:
            self.pause(pause)
            self.work.run(self)
        except BaseException as e:
            why = type(e).__name__
        finally:
            if generation == state.generation:
                self._thread_ended(why)

    def _thread_ended(self, why: str) -> None:
        state = self.state
        with state.lock:
            state.thread = None
            if state.phase in OVER:
                state.phase = Phase.ENDED
                return
            state.phase = Phase.DOWN
            self._start_at = float("-inf")  # the next thread itself begins with the pause
        self.start()
        self._log_down(why)  # last: a log handler may hang, and takes this thread with it alone

    def _log_down(self, why: str) -> None:
        self._log(
            logging.ERROR,
            "down",
            "asgi-audit: the recorder's thread is down (%s) and is started again; until then records wait in memory, "
            "or are lost and stated",
            why,
        )

    def ensure_running(self) -> None:
        """Called when an exchange begins and the thread is not running: after a pause, or for the first time."""
        state = self.state
        if not state.is_alive():
            self.start()
        # The last statement does not cover what begins now: wake the thread to make one at once.
        elif state.clock.check() or state.closed_at is not None:
            with state.lock:
                state.wake_thread()

    def flush(self, timeout_seconds: float, closed: Closed = "") -> bool:
        state = self.state
        request = FlushRequest(closed)
        deadline = time.monotonic() + timeout_seconds
        with state.lock:
            if state.phase in OVER:
                return False
            if state.thread is None and not (state.begun or closed):
                return True
            self.start()
            state.requests.append(request)
            state.wake_now()
        is_written = request.done.wait(timeout_seconds) and request.is_written
        if closed:
            self._carry_on(deadline - time.monotonic(), is_end=False)
        return is_written

    def _carry_on(self, seconds: float, *, is_end: bool) -> None:
        """Let the forwarder, if there is one, send what is in the journal before the process ends. What it cannot send
        stays in the journal."""
        if self._on_closed is not None:
            try:
                self._on_closed(max(0.0, seconds), is_end)
            except Exception:
                self.state.count("internal_errors")

    def stop(self, timeout_seconds: float = EXIT_SECONDS) -> None:
        """Flush, state the end, end the thread and close the journal: for tests and programs that end by themselves."""
        self._end(timeout_seconds, closes=True)

    def at_exit(self) -> None:
        """The interpreter ends. The journal stays open, so that its page still counts the exchanges that other threads
        begin: the process that adopts the journal then states them as lost."""
        state = self.state
        if state.pid == os.getpid() and (state.begun or state.thread is not None):
            self._end(EXIT_SECONDS, closes=False)

    def _end(self, seconds: float, *, closes: bool) -> None:
        state = self.state
        now = time.monotonic()
        deadline = now + seconds
        state.shed_at = now + seconds / 2, now + seconds * 3 / 4
        try:
            if state.is_alive():
                self.flush(seconds, "final")
        finally:  # also on a second Ctrl-C
            with state.lock:
                if state.phase is Phase.IDLE:
                    state.phase = Phase.ENDED
                elif state.phase is not Phase.ENDED:
                    state.phase = Phase.CLOSING if closes else Phase.ENDING
                state.few = 0  # exchanges sealed from now on find no room in the queue and are losses
                state.wake_thread()
                thread = state.thread
            if thread is not None and thread.is_alive():
                try:
                    thread.join(max(0.0, deadline - time.monotonic()) + _JOIN_SECONDS)
                except KeyboardInterrupt:  # without waiting for the thread to stop, the process may abort
                    thread.join(_JOIN_SECONDS)
            self._end_here()
            self._carry_on(deadline - time.monotonic(), is_end=True)

    def _end_here(self) -> None:
        """Do the thread's last work in this thread, if it had died and could not be started again."""
        state = self.state
        with state.lock:
            if state.is_alive():
                return
            state.thread = None  # a thread that starts to run only now ends at once
        try:
            if state.phase is not Phase.ENDED:
                self.work.run(self)
        except Exception:
            state.count("internal_errors")
        state.phase = Phase.ENDED
