"""The HTTP endpoints of a running `asgi-audit index` or `forward`: `/metrics`, `/health/live`, `/health/ready`, and of
`index` `/health/fresh`.

Place: in daemon threads beside the command's loop. Invariants: off unless a port is set; when the port cannot be bound,
one error is logged and the command continues; at most `_ASKING_MAX` requests at a time, others are refused. No key is
needed: responses hold numbers and the state of this process, never the name of an account, a service or a path.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs

from ..durations import AGE_ACCEPTED, age_seconds
from ..metrics import TABLE, Collector, Value, Values

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Counts", "Sidecar", "SidecarData", "serving"]

_log = logging.getLogger("asgi_audit.sidecar")
_ASKING_MAX = 8
MAX_AGE_SECONDS = 120.0  # as the API's
_BATCH = "asgi_audit_indexer_batch_seconds"
_COUNTED = ("indexed", "duplicates", "expired", "dead", "statements")


class Counts(Protocol):
    """The indexer's progress to show."""

    @property
    def indexed(self) -> int: ...
    @property
    def duplicates(self) -> int: ...
    @property
    def expired(self) -> int: ...
    @property
    def dead(self) -> int: ...
    @property
    def statements(self) -> int: ...
    @property
    def batches(self) -> int: ...
    @property
    def batch_seconds(self) -> float: ...
    @property
    def lag(self) -> float | None: ...
    @property
    def paused(self) -> str: ...


class SidecarData(Protocol):
    """The data to show: a registry, and why the command is not ready, or ''."""

    @property
    def registry(self) -> CollectorRegistry: ...
    def unready(self) -> str: ...
    def complete_age(self) -> float | None:
        """Age of T in seconds; None: unknown, or there is no index here."""


class Sidecar:
    """The indexer's endpoints; a standby until `active` is called. `measures`: returns metrics of journal and index."""

    def __init__(self, measures: Callable[[], Values]) -> None:
        from prometheus_client import CollectorRegistry, Histogram

        self._measures = measures
        self._progress: Callable[[], Counts] | None = None
        self._of_source: Callable[[], Mapping[str, float]] = dict
        self._batches = 0
        self.registry = CollectorRegistry()
        self._own = CollectorRegistry()
        self._batch_seconds = Histogram(_BATCH, TABLE[_BATCH].help, registry=self._own)
        self._own.register(Collector(self._own_values))
        self.registry.register(Collector(measures))
        for one in (self._batch_seconds, Collector(self._own_values)):
            self.registry.register(one)

    def active(
        self, progress: Callable[[], Counts], of_source: Callable[[], Mapping[str, float]] = dict[str, float]
    ) -> None:
        """Called when the indexer becomes active. `of_source`: returns the source's metrics."""
        self._progress, self._of_source = progress, of_source

    def tell(self, progress: Counts) -> None:
        """Called by the indexer after each batch, and when a pause begins or ends."""
        if progress.batches > self._batches:
            self._batches = progress.batches
            self._batch_seconds.observe(progress.batch_seconds)

    def unready(self) -> str:
        """Why it is not ready; '' also for a standby, which is ready to take over."""
        paused = self._progress().paused if self._progress is not None else ""
        return "the indexer waits; its log shows the reason" if paused else ""

    def complete_age(self) -> float | None:
        age = self._measures().get("asgi_audit_index_complete_until_age_seconds")
        return age if isinstance(age, float) else None

    def own_text(self) -> bytes:
        """The metrics of this process, as text: `asgi_audit_indexer_…`."""
        from prometheus_client import generate_latest

        return generate_latest(self._own)

    def _own_values(self) -> Values:
        values: dict[str, Value] = {"asgi_audit_indexer_active": float(self._progress is not None)}
        if self._progress is None:
            return values
        now = self._progress()
        for name in _COUNTED:
            shown = "dead_letters" if name == "dead" else name
            values[f"asgi_audit_indexer_{shown}"] = float(getattr(now, name))
        values["asgi_audit_indexer_paused"] = float(bool(now.paused))
        if now.lag is not None:
            values["asgi_audit_indexer_lag_seconds"] = now.lag
        values |= self._of_source()
        return values


@contextlib.contextmanager
def serving(sidecar: SidecarData, host: str, port: int | None) -> Iterator[None]:
    """Serves on `port` until the block ends (0: a free port, which is logged; None: does not listen)."""
    server = None if port is None else _listening(sidecar, host, port)
    if server is None:
        yield
        return
    thread = threading.Thread(target=server.serve_forever, name="asgi-audit-metrics", daemon=True)
    thread.start()
    shown = f"[{host}]" if ":" in host else host
    _log.info("metrics and health on http://%s:%d", shown, server.server_address[1])
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _listening(sidecar: SidecarData, host: str, port: int) -> ThreadingHTTPServer | None:
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

    asking = threading.BoundedSemaphore(_ASKING_MAX)

    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # of the socket: a silent client must not occupy a thread
        server_version = "asgi-audit"
        sys_version = ""

        def do_GET(self) -> None:
            if not asking.acquire(blocking=False):
                self._answer(503, b'{"status":"unavailable","reasons":["too many questions at once"]}')
                return
            try:
                path, _, query = self.path.partition("?")
                self._route(path.rstrip("/"), query)
            except OSError:
                raise  # the client left
            except Exception as e:  # an error here must never stop the work
                _log.warning("%s failed: %s", self.path[:100], type(e).__name__)
                _log.debug("an internal error happened", exc_info=True)
                self._answer(500, b'{"status":"error","message":"the log says which error"}')
            finally:
                asking.release()

        do_HEAD = do_GET

        def _route(self, path: str, query: str) -> None:
            if path == "/metrics":
                self._answer(200, generate_latest(sidecar.registry), CONTENT_TYPE_PLAIN_0_0_4)
            elif path == "/health/live":
                self._answer(200, b'{"status":"ok"}')
            elif path == "/health/ready":
                why = sidecar.unready()
                body = {"status": "unavailable", "reasons": [why]} if why else {"status": "ok"}
                self._answer(503 if why else 200, json.dumps(body).encode())
            elif path == "/health/fresh":
                self._fresh(query)
            else:
                known = "/metrics, /health/live, /health/ready and /health/fresh"
                self._answer(404, json.dumps({"status": "error", "message": f"there is {known}"}).encode())

        def _fresh(self, query: str) -> None:
            given = parse_qs(query).get("max_age", [])
            try:
                max_age = age_seconds(given[0]) if given else MAX_AGE_SECONDS
            except ValueError:
                message = f"max_age: accepted: {AGE_ACCEPTED}"
                self._answer(400, json.dumps({"status": "error", "message": message}).encode())
                return
            age = sidecar.complete_age()
            if age is None:
                why = "it is not known yet up to which time the index is complete"
            elif age > max_age:
                why = f"the index is complete only until {age:.1f} s ago; max_age is {max_age:g} s"
            else:
                self._answer(200, json.dumps({"status": "ok", "age_seconds": round(age, 3)}).encode())
                return
            self._answer(503, json.dumps({"status": "stale", "reasons": [why]}).encode())

        def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass  # do not log probes

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def handle_error(self, request: object, client_address: object) -> None:
            _log.debug("a response to a health check failed", exc_info=True)

    try:
        return Server((host, port), Handler)
    except OSError as e:
        _log.error(
            "metrics and health cannot be served on %s port %d: %s; continuing without them",
            host,
            port,
            e.strerror or e,
        )
        return None
