"""Ports for servers that a test starts: free now, and also when a killed server starts again at its port."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

__all__ = ["free_port", "free_ports"]

_LEAST = 15_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Of the loopback address. They are below the kernel's range for client connections, of which other tests open
    hundreds meanwhile, and are random, so that two workers do not take the same."""
    with contextlib.ExitStack() as held:
        found: set[int] = set()
        while len(found) < count:
            port = random.SystemRandom().randrange(_LEAST, _first_of_connections())
            s = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                s.bind(("127.0.0.1", port))
                found.add(port)
        return sorted(found)


def free_port() -> int:
    return free_ports(1)[0]


def _first_of_connections() -> int:
    with contextlib.suppress(OSError):
        return max(int(_RANGE.read_text().split()[0]), _LEAST + 1_000)
    return 32_768  # the default on Linux
