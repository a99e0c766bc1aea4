"""What the middleware adds to a request: µs on its path, and CPU µs of all threads until its record is in the journal.

Bare application, a `BaseHTTPMiddleware` that does nothing, and ours, in turn and in one run. Of each round the median
call, and of the rounds the lowest value: other programs and a slower processor only add, and change from second to
second.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import uvloop
from starlette.middleware.base import BaseHTTPMiddleware

from asgi_audit import AuditMiddleware
from asgi_audit.recording.recorder import Recorder
from tests.support.waiting import until_in_loop

from .load import BODY, LOGIN, App, make_app, median, percentile, timed_calls


class Cost(NamedTuple):
    """µs. `path` and `p99`: of one call; `cpu`: of all threads, per request, until everything is written."""

    path: float
    p99: float
    cpu: float


REQUESTS = {
    "POST 1 kB": ("POST", "/orders", BODY),
    "POST 1 kB with a password": ("POST", "/orders", LOGIN),
    "GET 1 kB": ("GET", "/orders/918273", b""),
}


async def _pass_on(request, call_next):  # type: ignore[no-untyped-def]
    return await call_next(request)


def measure(rounds: int, times: int) -> dict[str, dict[str, Cost]]:
    """{request: {variant: Cost}}."""
    with tempfile.TemporaryDirectory() as directory:
        audited = AuditMiddleware(make_app(), transport=f"journal:///{Path(directory) / 'journal'}")
        assert isinstance(audited.recorder, Recorder)
        variants: dict[str, tuple[App, AuditMiddleware | None]] = {
            "bare": (make_app(), None),
            "BaseHTTPMiddleware, no-op": (BaseHTTPMiddleware(make_app(), dispatch=_pass_on), None),
            "asgi-audit": (audited, audited),
        }
        try:
            return uvloop.run(_rounds(variants, rounds, times))
        finally:
            audited.recorder.stop()  # else it writes into a directory that is being removed


async def _rounds(
    variants: dict[str, tuple[App, AuditMiddleware | None]], rounds: int, times: int
) -> dict[str, dict[str, Cost]]:
    table: dict[str, dict[str, Cost]] = {}
    for name, (method, path, body) in REQUESTS.items():
        seen: dict[str, list[Cost]] = {variant: [] for variant in variants}
        for _ in range(rounds):
            for variant, (app, audit) in variants.items():
                await timed_calls(app, method, path, body, max(20, times // 10))  # warm
                await _written(audit)
                cpu = time.process_time()
                calls = await timed_calls(app, method, path, body, times)
                await _written(audit)
                cpu = time.process_time() - cpu
                seen[variant].append(Cost(median(calls) * 1e6, percentile(calls, 0.99) * 1e6, cpu / times * 1e6))
        table[name] = {v: Cost(*(min(column) for column in zip(*costs, strict=True))) for v, costs in seen.items()}
    return table


async def _written(audit: AuditMiddleware | None) -> None:
    """Waits until everything sealed is in the journal."""
    if audit is None:
        return

    def is_written() -> bool:
        stats = audit.stats()
        return stats["sealed"] == stats["recorded"]

    await until_in_loop(is_written)


def report(table: dict[str, dict[str, Cost]]) -> list[str]:
    lines = [f"{'request':<27}{'application':<28}{'path µs':>9}{'added':>8}{'p99 µs':>9}{'CPU µs':>9}{'added':>8}"]
    for request, costs in table.items():
        bare = costs["bare"]
        for variant, cost in costs.items():
            lines.append(
                f"{request:<27}{variant:<28}{cost.path:>9.1f}{cost.path - bare.path:>8.1f}{cost.p99:>9.0f}"
                f"{cost.cpu:>9.1f}{cost.cpu - bare.cpu:>8.1f}"
            )
    return lines
