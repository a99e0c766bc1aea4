"""Who may connect: the door takes connections from the listening socket, bounds them, and closes what is overdue.

Invariants: at most `connections_max` connections, so that descriptors for the index, the keys and the journal are left;
a new connection gets in while another one waits for its client: the one that is closed for it belongs to the address
with the most of them, and is its oldest. So connections that send nothing, however many, keep nobody out. Clients
that left while they waited to be taken are closed before they cost a parser and a task: the kernel's queue holds
2,048, which at 1 ms each is 2 s for the client behind them. Overdue connections are closed every `SWEEP_SECONDS`.
When the system has no descriptor left, the door closes one connection and looks again after `PAUSE_SECONDS`; asyncio's
own loop logs each such failure. Log lines are bounded by `RepeatFilter`.
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

__all__ = ["CONNECTIONS_MAX", "Door", "connections_max"]

CONNECTIONS_MAX = 512
# What the process opens beside connections: readers (5, each with up to 9 files of 3 descriptors), keys, journal,
# event loop, pipes, and those accepted in one turn of the loop.
DESCRIPTORS_KEPT = 150
# So many are on the way from the kernel's queue to the first bytes that they sent, so that a turn of the loop stays
# short, and whoever leaves does so where it costs 15 µs; and so many are looked at in one turn.
FRESH_MAX = 16
LOOKED_AT_MAX = 256
CROWDED_SECONDS = 0.001
# What `poll` says of a client that has closed its side. uvicorn answers no client that has (it closes at its EOF).
_LEFT = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)  # the last: Linux alone
SWEEP_SECONDS = 0.5
PAUSE_SECONDS = 0.1
# A new connection has so long to send its request before it may be closed for the next one: a client sends it with the
# end of the handshake, so it is there when the connection is taken.
SETTLE_SECONDS = 0.005

_log = logging.getLogger("asgi_audit.api.server")


def connections_max() -> int:
    """What the limit of descriptors leaves for connections, at least 16."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(16, min(CONNECTIONS_MAX, soft - DESCRIPTORS_KEPT))


class Door:
    """`make` gives a new connection. All in one event loop."""

    def __init__(
        self,
        make: Callable[[Door], Connection],
        *,
        most: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._most = connections_max() if most is None else most
        self._monotonic = monotonic
        self._connections: dict[Connection, None] = {}  # in the order of their coming
        self._arriving: set[asyncio.Task[None]] = set()
        self._fresh: set[Connection] = set()  # made, and not known to have sent anything or to be silent
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
        """No new connections; those that are there go on, and are still closed when overdue."""
        for one in self._listening:
            if one.fileno() >= 0:
                self._loop.remove_reader(one.fileno())
        self._listening = ()
        for task in self._arriving:
            task.cancel()

    def abort(self) -> None:
        """Closes every connection, whatever is not sent yet."""
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
        for _ in range(LOOKED_AT_MAX):
            if self._is_crowded():
                if not self._arriving:  # else the next turn of the loop comes at once
                    self._pause(listening, CROWDED_SECONDS)
                return
            if len(self._connections) + len(self._arriving) >= self._most and not self._evict():
                # The next ones wait in the kernel's queue, where they cost no descriptor.
                self._pause(listening, SETTLE_SECONDS)
                return
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as e:
                _log.error("no connection can be taken: %s; is the limit of open files too low?", e.strerror or e)
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
        """Whether `FRESH_MAX` connections are on the way from the kernel's queue to the first bytes that they sent."""
        now = self._monotonic()
        self._fresh = {c for c in self._fresh if not c.has_sent and now - c.since < SETTLE_SECONDS}
        return len(self._arriving) + len(self._fresh) >= FRESH_MAX

    async def _arrive(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self._make(self), accepted)
        except OSError:
            accepted.close()  # it has left already
        except asyncio.CancelledError:
            accepted.close()
            raise

    def _evict(self) -> bool:
        """Closes the connection that is missed least; False when there is none."""
        now = self._monotonic()
        waiting = [
            c
            for c in self._connections
            if (c.phase is not Phase.ANSWER and now - c.since >= SETTLE_SECONDS)
            and (c.phase is not Phase.SEND or c.is_reading_slowly)
        ]
        if not waiting:
            return False
        # Those that have sent nothing, or nothing whole, before those that are in the middle of something.
        idle = [c for c in waiting if c.phase is Phase.HEAD and not c.is_reading_slowly] or waiting
        of_address = Counter(c.address for c in idle)
        least = max(idle, key=lambda c: (of_address[c.address], -c.since))
        self.lost(least)
        least.abort()
        self._evicted += 1
        _log.warning(
            "%d connections are open, the most: the one that waited longest for its client is closed (%d so far)",
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
    """Whether the client has closed its side already, or reset the connection."""
    look = select.poll()
    look.register(accepted, _LEFT & ~(select.POLLHUP | select.POLLERR))  # those two are always looked for
    return any(found & _LEFT for _, found in look.poll(0))
