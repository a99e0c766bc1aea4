"""Accepts connections from the listening socket, limits their number, and closes overdue ones.

Invariants: at most `connections_max` connections, so that descriptors remain for the index, the keys and the journal.
At the limit, a new connection replaces one that waits for its client: the oldest of the address with the most
connections. So idle connections, however many, never lock other clients out. Clients that left while they were queued
are closed before they cost a parser and a task: the kernel's queue holds 2,048, at 1 ms each 2 s of delay for the next
client. Overdue connections are closed every `SWEEP_SECONDS`. When the system has no descriptor left, the listener
closes one connection and retries after `PAUSE_SECONDS`; asyncio's own loop would log each failure. Log lines are
bounded by `RepeatFilter`.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence

from .connection import Connection, Phase

__all__ = ["CONNECTIONS_MAX", "Listener", "connections_max"]

CONNECTIONS_MAX = 512
# Descriptors that the process needs besides connections: readers (5, each with up to 9 files of 3 descriptors), keys,
# journal, event loop, pipes, and those accepted in one turn of the loop.
DESCRIPTORS_KEPT = 150
# At most this many accepted connections may wait for their first bytes, and at most this many are checked in one turn
# of the loop. So turns stay short, and clients that leave do so while still queued, where it costs 15 µs.
FRESH_MAX = 16
CHECKED_MAX = 256
CROWDED_SECONDS = 0.001
# `poll` events of a client that has closed its side. uvicorn sends no response to such a client (it closes at EOF).
_LEFT = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)  # the last: Linux only
SWEEP_SECONDS = 0.5
PAUSE_SECONDS = 0.1
# Time for a new connection to send its request before it may be closed in favour of another: a client sends it together
# with the end of the handshake, so it has arrived when the connection is accepted.
SETTLE_SECONDS = 0.005

_log = logging.getLogger("asgi_audit.api.server")


def connections_max() -> int:
    """The number of connections that the limit of descriptors allows, at least 16."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(16, min(CONNECTIONS_MAX, soft - DESCRIPTORS_KEPT))


class Listener:
    """`make` creates a connection. Used by one event loop."""

    def __init__(
        self,
        make: Callable[[Listener], Connection],
        *,
        most: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._most = connections_max() if most is None else most
        self._monotonic = monotonic
        self._connections: dict[Connection, None] = {}  # in order of arrival
        self._arriving: set[asyncio.Task[None]] = set()
        self._fresh: set[Connection] = set()  # accepted, and not yet known to be active or silent
        self._listening: Sequence[socket.socket] = ()
        self._sweeper: asyncio.TimerHandle | None = None
        self._evicted = 0

    def open(self, listening: Sequence[socket.socket]) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        for one in listening:
            one.setblocking(False)
            self._loop.add_reader(one.fileno(), self._accept, one)
        self._sweep()

    def close(self) -> None:
        """Stops accepting. Open connections continue and are still closed when overdue."""
        for one in self._listening:
            if one.fileno() >= 0:
                self._loop.remove_reader(one.fileno())
        self._listening = ()
        for task in self._arriving:
            task.cancel()

    def abort(self) -> None:
        """Closes every connection and drops unsent bytes."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.abort()

    def made(self, connection: Connection) -> None:
        self._connections[connection] = None
        self._fresh.add(connection)

    def lost(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        self._fresh.discard(connection)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(CHECKED_MAX):
            if self._is_crowded():
                if not self._arriving:  # else the loop would run again at once
                    self._pause(listening, CROWDED_SECONDS)
                return
            if len(self._connections) + len(self._arriving) >= self._most and not self._evict():
                # Further clients wait in the kernel's queue, where they cost no descriptor.
                self._pause(listening, SETTLE_SECONDS)
                return
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as e:
                _log.error(
                    "no connection can be accepted: %s. Check the limit of open files (ulimit -n).", e.strerror or e
                )
                self._evict()
                self._pause(listening, PAUSE_SECONDS)
                return
            if _has_left(accepted):
                accepted.close()
                continue
            accepted.setblocking(False)
            task = self._loop.create_task(self._arrive(accepted))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    def _is_crowded(self) -> bool:
        """Whether `FRESH_MAX` accepted connections wait for their first bytes."""
        now = self._monotonic()
        self._fresh = {c for c in self._fresh if not c.has_sent and now - c.since < SETTLE_SECONDS}
        return len(self._arriving) + len(self._fresh) >= FRESH_MAX

    async def _arrive(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self._make(self), accepted)
        except OSError:
            accepted.close()  # the client has left already
        except asyncio.CancelledError:
            accepted.close()
            raise

    def _evict(self) -> bool:
        """Closes the least important connection; False when there is none to close."""
        now = self._monotonic()
        waiting = [
            c
            for c in self._connections
            if (c.phase is not Phase.ANSWER and now - c.since >= SETTLE_SECONDS)
            and (c.phase is not Phase.SEND or c.is_reading_slowly)
        ]
        if not waiting:
            return False
        # Prefer connections without a complete request over those being served.
        idle = [c for c in waiting if c.phase in (Phase.HEAD, Phase.LINGER) and not c.is_reading_slowly] or waiting
        of_address = Counter(c.address for c in idle)
        least = max(idle, key=lambda c: (of_address[c.address], -c.since))
        self.lost(least)
        least.abort()
        self._evicted += 1
        _log.warning(
            "%d connections are open, which is the limit: closed the one that has waited longest for its client (%d "
            "so far)",
            self._most,
            self._evicted,
        )
        return True

    def _pause(self, listening: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listening.fileno())
        self._loop.call_later(seconds, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._listening:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _sweep(self) -> None:
        now = self._monotonic()
        for connection in list(self._connections):
            if connection.is_overdue(now):
                connection.abort()
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)


def _has_left(accepted: socket.socket) -> bool:
    """Whether the client has closed its side or reset the connection."""
    look = select.poll()
    look.register(accepted, _LEFT & ~(select.POLLHUP | select.POLLERR))  # `poll` always reports these two
    return any(found & _LEFT for _, found in look.poll(0))
