"""Child processes that never outlive their parent: each child reads a pipe from the parent and exits when it closes,
even when the parent was killed.

Each child's output goes to a log file. Signals that a terminal sends to its process group do not reach them: the parent
stops them in order, with SIGTERM, a deadline, then SIGKILL.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..disk import PRIVATE
from ..errors import AuditError

__all__ = [
    "STOP_SECONDS",
    "Child",
    "free_port",
    "on_closed_stdin",
    "share_one_heap",
    "stop_by_signals",
    "wait_for_port",
]

STOP_SECONDS = 10.0
_M_ARENA_MAX = -8  # glibc's malloc.h

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class Child:
    """A started process. `log` None: it inherits the parent's output. `descriptors`: file descriptors that it
    inherits."""

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        first_line: str | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        output = os.fdopen(PRIVATE.open(log, _APPEND), "ab") if log is not None else None
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=dict(os.environ if environment is None else environment),
                start_new_session=True,
                pass_fds=descriptors,
            )
        finally:
            if output is not None:
                output.close()
        if first_line is not None and self.process.stdin is not None:
            self.process.stdin.write(first_line.encode() + b"\n")
            self.process.stdin.flush()

    def running(self) -> bool:
        return self.process.poll() is None

    def ask_to_stop(self) -> None:
        if self.running():
            self.process.send_signal(signal.SIGTERM)

    def stop(self, seconds: float = 5) -> int:
        """SIGTERM, wait up to `seconds`, SIGKILL. Returns the exit code. Idempotent."""
        self.ask_to_stop()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        return self.process.returncode

    def log_tail(self) -> str:
        """The end of its log, as one line."""
        if self.log is None or not self.log.exists():
            return ""
        lines = [line for line in self.log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""


def share_one_heap() -> None:
    """For a process that serves pages from several threads; before it starts the first of them. glibc gives each thread
    a heap of its own, and each heap keeps the room of the largest pages read there: 30 to 80 MiB more under clients
    that ask and leave. Without effect where malloc is another one."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def on_closed_stdin(then: Callable[[], None]) -> None:
    """In the child: call `then` in a thread when the parent is gone. (A prctl would work on Linux only.)"""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        then()

    threading.Thread(target=wait, name="asgi-audit-parent", daemon=True).start()


def stop_by_signals(log: logging.Logger, late: str, *, until_stdin_closes: bool) -> threading.Event:
    """An event that SIGTERM and SIGINT set; a second one raises KeyboardInterrupt. `until_stdin_closes`: the end of the
    parent counts as SIGTERM.

    When the process has not ended `STOP_SECONDS` later, it logs the error `late`, which is given these seconds, and
    exits with 1: a hung disk or network must not prevent a container from stopping."""
    stop = threading.Event()

    def give_up() -> None:
        time.sleep(STOP_SECONDS)
        log.error(late, STOP_SECONDS)
        os._exit(1)

    def ask_to_stop(*_: object) -> None:
        if stop.is_set():  # a second Ctrl-C
            raise KeyboardInterrupt
        stop.set()
        threading.Thread(target=give_up, name="asgi-audit-deadline", daemon=True).start()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    if until_stdin_closes:
        on_closed_stdin(lambda: os.kill(os.getpid(), signal.SIGTERM))
    return stop


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def wait_for_port(child: Child, port: int) -> None:
    """Waits until something listens on `port`. Raises AuditError when the child ends first, or after 20 s."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not child.running():
            raise AuditError(f"{child.name} ended with code {child.process.returncode}: {child.log_tail()}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AuditError(f"{child.name} did not listen on port {port} within 20 s: {child.log_tail()}")
