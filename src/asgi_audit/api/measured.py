"""How long answers take, by dialect and status, and `/metrics`: without a key, because no number tells of a record.

Both labels are bounded: dialects are those of the routes, statuses those that we answer with.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Histogram, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..metrics import TABLE, Collector, Values
from ..query.model import Grant
from .operation import NO_STORE, Operation
from .problem import problem_dialect
from .routing import DIALECT_KEY
from .shared import Shared

__all__ = ["Measured", "share_histograms"]

_NAME = "asgi_audit_api_request_seconds"
_METRICS = problem_dialect("metrics", "Numbers of this process and of what is on disk, for Prometheus.")


def share_histograms(directory: str, slot: int) -> None:
    """Metrics that this process makes from now on live in files of `directory`, those of this worker named by its
    `slot`: the one that follows a worker goes on where it was, so a counter never decreases."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


class Measured:
    """A registry of its own, never the global one. `measures`: what is shown beside. `more`: text of further metrics,
    of other names. `directory`: where all workers of one `serve` keep their histograms, which are summed up; see
    `share_histograms`."""

    def __init__(
        self, measures: Callable[[], Values], more: Callable[[], bytes] = bytes, directory: str | None = None
    ) -> None:
        metric = TABLE[_NAME]
        registry = CollectorRegistry()
        self._seconds = Histogram(_NAME, metric.help, metric.labels, registry=registry)
        if directory is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
        registry.register(Collector(measures))
        self._shown = Shared(lambda: asyncio.to_thread(lambda: generate_latest(registry) + more()), rests=True)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                id="metrics.show",
                method="GET",
                path="/metrics",
                dialect=_METRICS,
                roles=frozenset(),
                is_recorded=False,
                handle=self.show,
                summary="Metrics in the text format of Prometheus.",
                content_type="text/plain",
            )
        ]

    async def show(self, _: Request, __: Grant) -> Response:
        body = await self._shown.get()
        return Response(body, headers={**NO_STORE, "content-type": CONTENT_TYPE_PLAIN_0_0_4})

    def around(self, app: ASGIApp) -> ASGIApp:
        async def measured(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            began = time.perf_counter()
            status = "none"  # nothing was answered: the client left

            async def noting(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = str(message["status"])
                await send(message)

            try:
                await app(scope, receive, noting)
            finally:
                self._seconds.labels(scope.get(DIALECT_KEY, "none"), status).observe(time.perf_counter() - began)

        return measured
