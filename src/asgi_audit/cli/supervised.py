"""A child process that is restarted when it ends by itself, with an increasing delay.

The watching thread ends only on request: a child that cannot be started (out of memory or processes) is retried like
one that ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from .processes import Child

__all__ = ["Supervised"]

_log = logging.getLogger("asgi_audit.serve")
RESTART_SECONDS = (0.5, 30.0)  # first and longest delay before a restart
HEALTHY_SECONDS = 60.0  # after a run of this length the delay starts from the first again
LOOK_SECONDS = 0.2


class Supervised:
    """`start`: starts the child; called at once, and for restarts in a thread. `on_ended`: called in that thread with
    the exit code when the child ended by itself; returns False to prevent a restart. `is_stuck`: polled while the child
    runs; True: the child is killed."""

    def __init__(
        self,
        name: str,
        start: Callable[[], Child],
        *,
        on_ended: Callable[[int], bool] = lambda code: True,
        is_stuck: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.restarts = 0
        self._name = name
        self._start = start
        self._on_ended = on_ended
        self._is_stuck = is_stuck
        self._monotonic = monotonic
        self._stopping = threading.Event()
        self._child: Child = start()
        self._thread = threading.Thread(target=self._watch, name=f"asgi-audit-{name.replace(' ', '-')}", daemon=True)
        self._thread.start()

    def running(self) -> bool:
        return self._child.running()

    @property
    def pid(self) -> int:
        return self._child.process.pid

    def ask_to_stop(self) -> None:
        """Sends SIGTERM and prevents restarts. Does not wait."""
        self._stopping.set()
        self._child.ask_to_stop()

    def stop(self, seconds: float = 10) -> None:
        """Waits up to `seconds`, then kills the child. Idempotent."""
        self._stopping.set()
        self._thread.join()
        self._child.stop(seconds)

    def _watch(self) -> None:
        wait, began = RESTART_SECONDS[0], self._monotonic()
        while not self._stopping.wait(LOOK_SECONDS):
            if self._child.running():
                if self._is_stuck():
                    _log.error("the %s does not respond; killing it", self._name)
                    self._child.process.kill()
                continue
            code = self._child.stop()  # it has ended; this closes the parent's end of its pipe
            if not self._on_ended(code):
                return
            if self._monotonic() - began >= HEALTHY_SECONDS:
                wait = RESTART_SECONDS[0]
            _log.error("the %s ended with code %s; starting it again in %g s", self._name, code, wait)
            began, wait = self._start_again(wait)

    def _start_again(self, wait: float) -> tuple[float, float]:
        """Waits and retries until a child is started. Returns (time of the start, next delay)."""
        while not self._stopping.wait(wait):
            wait = min(wait * 2, RESTART_SECONDS[1])
            began = self._monotonic()
            try:
                self._child = self._start()
            except OSError as e:
                _log.error("the %s cannot be started: %s; trying again in %g s", self._name, e.strerror or e, wait)
                continue
            self.restarts += 1
            if self._stopping.is_set():
                self._child.ask_to_stop()
            return began, wait
        return self._monotonic(), wait
