"""An export of many records: records per second, and the exporter's peak memory above its idle state."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.support.export_home import Home, kib
from tests.support.waiting import until


class Figures(NamedTuple):
    records: int
    bytes: int
    plain_bytes: int
    seconds: float
    idle_mib: float
    peak_mib: float
    faults: list[str]


def measure(number: int, seed: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="asgi-audit-bench-") as directory:
        home = Home(Path(directory), number, seed)
        child = home.start()
        try:
            until(home.control.exports.is_running, "the exporter runs")
            time.sleep(1.0)  # memory needed at its start is freed
            idle = kib(child.pid, "VmRSS")
            export = home.ask()
            begun = time.monotonic()
            found = home.wait(export, child)
            seconds = time.monotonic() - begun
            peak = kib(child.pid, "VmHWM")
            faults = home.faults(export)
            progress = found.progress
            written = (progress.bytes, progress.plain_bytes) if progress else (0, 0)
            return Figures(number, *written, seconds, idle / 1024, peak / 1024, faults)
        finally:
            child.kill()
            child.wait()
            home.close()


def report(f: Figures) -> list[str]:
    return [
        f"{f.records:,} records, {f.plain_bytes / 1e6:,.0f} MB, compressed {f.bytes / 1e6:,.0f} MB: "
        f"{f.seconds:.1f} s, {f.records / f.seconds:,.0f} records a second",
        f"memory: idle {f.idle_mib:.0f} MiB, peak {f.peak_mib:.0f} MiB, {f.peak_mib - f.idle_mib:.0f} MiB above idle",
        *(f"wrong: {fault}" for fault in f.faults),
    ]
