"""The API's server: uvicorn with its own `Listener` and `Connection`.

Robust against any client: connections are limited in number and in time (`listener`, `connection`), repeated log lines
are limited, and shutdown takes at most `SHUTDOWN_SECONDS`, even while clients read.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn

from .connection import Connection
from .listener import Listener

__all__ = ["SHUTDOWN_SECONDS", "RepeatFilter", "Server"]

SHUTDOWN_SECONDS = 1.5  # for requests in progress; then every connection is closed
BEAT_SECONDS = 1.0
_CANCEL_SECONDS = 3  # a safety net: uvicorn cancels remaining tasks
# How long a thread that reads a page may keep the interpreter from the event loop, which gives it away at each call of
# a socket: with CPython's 5 ms, 280 clients that sent a request and left at once delayed `/health/live` for 1.6 s.
SWITCH_SECONDS = 0.0005
REPEATS_MAX = 10
REPEATS_SECONDS = 60.0
TEXTS_MAX = 1_000
# Loggers whose lines clients can cause.
_NOISY = ("uvicorn.error", "asyncio", "asgi_audit.api", "asgi_audit.api.server")


class RepeatFilter(logging.Filter):
    """Passes `REPEATS_MAX` lines of one text per `REPEATS_SECONDS`; the next line then reports how many were
    suppressed. The text is the first line of the unformatted message. For one logger; thread-safe."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, int]] = {}  # text: begin of its window, lines in it; at most TEXTS_MAX

    def filter(self, record: logging.LogRecord) -> bool:
        text = str(record.msg).partition("\n")[0][:200]
        with self._lock:
            now = self._monotonic()
            began, number = self._seen.get(text, (now, 0))
            left_out = 0
            if now - began >= REPEATS_SECONDS:
                left_out = max(0, number - REPEATS_MAX)
                began, number = now, 0
            if len(self._seen) >= TEXTS_MAX and text not in self._seen:
                self._seen.clear()
            self._seen[text] = began, number + 1
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more like it were left out)", ()
        return number < REPEATS_MAX


class Server(uvicorn.Server):
    """Serves `app` on a socket that is bound already. `stopping` is called when the server begins to end, `beat` each
    `BEAT_SECONDS` from its start on while the event loop turns."""

    def __init__(
        self, app: Any, *, stopping: Callable[[], None] = lambda: None, beat: Callable[[], None] = lambda: None
    ) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            loop="asyncio",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_CANCEL_SECONDS,
        )
        super().__init__(config)
        self._stopping = stopping
        self._beat = beat
        self._next_beat: asyncio.TimerHandle | None = None
        self._listener = Listener(self._connection)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for name in _NOISY:
            logger = logging.getLogger(name)
            if not any(isinstance(f, RepeatFilter) for f in logger.filters):
                logger.addFilter(RepeatFilter())
        sys.setswitchinterval(SWITCH_SECONDS)
        await super().startup(sockets=[])  # nothing of uvicorn's listens
        # The 60,000 objects of modules and models are never freed; a full garbage collection would traverse them for 30
        # ms, once in some hundred responses.
        gc.collect()
        gc.freeze()
        self._listener.open(sockets or [])
        self._turn()

    def _turn(self) -> None:
        self._beat()
        self._next_beat = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._turn)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        self._listener.close()
        # Handlers end by themselves when their client has left.
        closing = asyncio.get_running_loop().call_later(SHUTDOWN_SECONDS, self._listener.abort)
        try:
            await super().shutdown(sockets=sockets)
        finally:
            closing.cancel()
            self._listener.abort()
            if self._next_beat is not None:
                self._next_beat.cancel()
            gc.unfreeze()

    def _connection(self, listener: Listener) -> Connection:
        return Connection(
            watch=listener,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
