"""The installed command as a user runs it; nothing of asgi_audit is imported here."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["COMMAND", "Running", "clean_environment", "run", "running"]

COMMAND = shutil.which("asgi-audit", path=str(Path(sys.executable).parent)) or "asgi-audit"


def clean_environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ASGI_AUDIT_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def run(*arguments: str, cwd: Path, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], cwd=cwd, env=clean_environment(), capture_output=True, text=True, timeout=seconds
    )


class Running:
    """A started process and its output so far."""

    def __init__(self, arguments: Sequence[str], cwd: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            list(arguments),
            cwd=cwd,
            env=clean_environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._new: queue.Queue[None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._new.put(None)

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """The first line that contains `text`."""
        deadline = time.monotonic() + seconds
        seen = 0
        while True:
            for line in self.lines[seen:]:
                if text in line:
                    return line
            seen = max(0, len(self.lines) - 1)
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} was not said within {seconds} s, but:\n{self.said}"
            assert self.process.poll() is None or not self._new.empty(), f"it ended:\n{self.said}"
            try:
                self._new.get(timeout=min(left, 0.2))
            except queue.Empty:
                continue

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        self._reader.join(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextmanager
def running(*arguments: str, cwd: Path, **environment: str) -> Iterator[Running]:
    """Kills (SIGKILL) what the test did not stop itself."""
    child = Running(arguments, cwd, **environment)
    try:
        yield child
    finally:
        if child.process.poll() is None:
            child.stop(signal.SIGKILL)
        elif child.process.stdout is not None:
            child.process.stdout.close()
