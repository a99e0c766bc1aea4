"""A child process that is started again when it ends by itself, with a longer wait each time.

The thread that watches it never ends before it is told to: a child that cannot be started (no memory, no more
processes) is tried again like one that ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from .processes import Child

__all__ = ["Supervised"]

_log = logging.getLogger("asgi_audit.serve")
RESTART_SECONDS = (0.5, 30.0)  # first and longest wait before it is started again
HEALTHY_SECONDS = 60.0  # after so long a run the next wait is the first again
LOOK_SECONDS = 0.2


class Supervised:
    """`start` starts the child: at once, and again in a thread. `on_ended` is called in that thread with the exit code
    when it has ended by itself; False: it is not started again. `is_stuck`: asked while it runs; then it is killed."""

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
        """SIGTERM, and it is not started again. Does not wait."""
        self._stopping.set()
        self._child.ask_to_stop()

    def stop(self, seconds: float = 10) -> None:
        """So many seconds at most; then it is killed. Again is fine."""
        self._stopping.set()
        self._thread.join()
        self._child.stop(seconds)

    def _watch(self) -> None:
        wait, began = RESTART_SECONDS[0], self._monotonic()
        while not self._stopping.wait(LOOK_SECONDS):
            if self._child.running():
                if self._is_stuck():
                    _log.error("the %s does not respond; it is killed", self._name)
                    self._child.process.kill()
                continue
            code = self._child.stop()  # it has ended; this closes our end of its pipe
            if not self._on_ended(code):
                return
            if self._monotonic() - began >= HEALTHY_SECONDS:
                wait = RESTART_SECONDS[0]
            _log.error("the %s ended with code %s; starting it again in %g s", self._name, code, wait)
            began, wait = self._start_again(wait)

    def _start_again(self, wait: float) -> tuple[float, float]:
        """Waits, and goes on until a child is started. Returns when that was, and the next wait."""
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
