"""Response times by dialect and status, and `/metrics`, which needs no key, because it reveals nothing about records.

Both labels are bounded: the dialects of the routes, and the statuses that the API sends.
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

__all__ = ["RequestMetrics", "share_histograms"]

_NAME = "asgi_audit_api_request_seconds"
_METRICS = problem_dialect("metrics", "Metrics of this process and of the files on disk, for Prometheus.")


def share_histograms(directory: str, slot: int) -> None:
    """From now on this process stores metrics in files of `directory`, named by its `slot`: the successor of a worker
    continues them, so a counter never decreases."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


class RequestMetrics:
    """Uses a private registry, never the global one. `measures`: further metrics. `more`: text of further metrics with
    other names. `directory`: holds the histograms of all workers of one `serve`, which are summed; see
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
                summary="Read metrics in the text format of Prometheus.",
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
            status = "none"  # no response was sent: the client left

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
