"""The application of the fault table: Starlette with the middleware, configured by the environment alone.

    python -m tests.fault.kafka_app FD

FAULT_CLOCK names a file that holds the error of this process's wall clock, in seconds; it is read at every use of
the clock. FAULT_SEGMENT_BYTES: the size at which its journal closes a file."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path


def _bend_the_clock(path: Path) -> None:
    real_ns, real = time.time_ns, time.time

    def offset() -> float:
        try:
            return float(path.read_text() or 0)
        except (OSError, ValueError):
            return 0.0

    time.time_ns = lambda: real_ns() + int(offset() * 1e9)  # type: ignore[assignment]
    time.time = lambda: real() + offset()  # type: ignore[assignment]


def main() -> None:
    if os.environ.get("FAULT_CLOCK"):
        _bend_the_clock(Path(os.environ["FAULT_CLOCK"]))
    import logging

    import uvicorn
    from tests.fault.kill_application import application

    logging.basicConfig(level=logging.INFO)
    config = uvicorn.Config(
        application, factory=True, log_level="error", access_log=False, backlog=64, timeout_graceful_shutdown=5
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
