"""Builds the API as an ASGI application, with its readers, and with audit records of each read.

The server's packages are imported inside functions, so that one line names a missing extra.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..capture.handle import leave_out
from ..capture.middleware import Capture
from ..metrics import Values
from ..settings import Settings
from . import application
from .environment import extra
from .exports import open_exports
from .index_memory import memory_of
from .issuer import open_issuer
from .operations import measures, open_control, open_store_reader
from .shared_memory import THROTTLES, SharedMemory

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from ..api.auth import Keys
    from ..api.server import Server
    from ..capture.middleware import ASGIApp, Receive, Send
    from ..control import Control
    from ..exporting.service import ExportService
    from ..query.service import QueryService

__all__ = ["READS_ACCOUNT", "Api", "Siblings", "build_api", "build_server", "check_dialects", "settings_of_reads"]

# The account for records of reads that belong to no single account: visible to keys with `*` or with this account.
READS_ACCOUNT = "asgi-audit"


class Siblings(NamedTuple):
    """What other processes of the same `serve` provide. `unready`: why they are not ready, or ''. `measures` and
    `text`: their metrics. `memory`: shared memory of the workers, None with one process; `histograms`: the workers'
    directory of histograms, set with `memory`."""

    unready: Callable[[], str] = lambda: ""
    measures: Callable[[], Values] = dict
    text: Callable[[], bytes] = bytes
    memory: SharedMemory | None = None
    histograms: str | None = None


def build_api(settings: Settings, siblings: Siblings = Siblings()) -> Api:  # noqa: B008 - never changed
    """The API as an ASGI application with audited reads: one record per execution, none per poll.

    Raises StoreError when the keys cannot be read, ConfigError."""
    with extra():
        from ..api.auth import Keys
        from ..api.listener import connections_max
        from ..api.throttle import Throttle
        from ..query.service import GRACE_SECONDS, KAFKA_GRACE_SECONDS, QueryService

    settings = settings.absolute()  # readers are reopened later
    check_dialects(settings)
    issuer = open_issuer(settings)
    control = open_control(settings)
    memory_of(settings).keep()
    memory = siblings.memory
    service = QueryService(
        lambda: open_store_reader(settings),
        control.secret(),
        wait_seconds=settings.query_wait_seconds,
        grace_seconds=KAFKA_GRACE_SECONDS if settings.is_kafka else GRACE_SECONDS,
        execution_seconds=settings.execution_seconds,
        # The other half is for connections without a response in flight: health checks and idle keys.
        in_flight_max=connections_max() // 2,
        tally=memory,
    )
    windows = [None, None] if memory is None else [memory.windows(n) for n in range(THROTTLES)]
    keys = Keys(control, *(Throttle(one) for one in windows), issuer=issuer)
    return Api(settings, service, control, open_exports(settings, control), keys, siblings)


def check_dialects(settings: Settings) -> None:
    """Raises ConfigError for an unknown dialect."""
    with extra():
        from ..api.app import chosen

    chosen(settings.dialects)
    chosen([name for _, name in settings.dialect_hosts], "dialect_hosts")


def build_server(
    app: ASGIApp, *, stopping: Callable[[], None] = lambda: None, beat: Callable[[], None] = lambda: None
) -> Server:
    """A server for `app`. `stopping` is called when shutdown begins, `beat` every second while its event loop runs.
    Raises ConfigError."""
    with extra():
        from ..api.server import Server

    return Server(app, stopping=stopping, beat=beat)


def settings_of_reads(settings: Settings) -> Settings:
    """The settings for recording reads."""
    return dataclasses.replace(
        settings,
        service="logs",
        # For requests without a valid key, and for keys of several accounts: they appear in no single tenant's trail.
        account_id=READS_ACCOUNT,
        instance_id="default",
        detail="metadata",
        delivery="buffered",
    )


class Api:
    """One application for each configured host and one for all other hosts, over one service and one control database.
    The end of the lifespan closes them, and so does `close`; closing is idempotent."""

    def __init__(
        self,
        settings: Settings,
        service: QueryService,
        control: Control,
        exports: ExportService,
        keys: Keys,
        siblings: Siblings = Siblings(),  # noqa: B008 - never changed
    ) -> None:
        with extra():
            from ..api.app import create_app
            from ..api.failure import REFUSED_KEY
            from ..api.request_metrics import RequestMetrics, share_histograms
            from ..api.routing import operation_of

        if siblings.memory is not None and siblings.histograms is not None:
            share_histograms(siblings.histograms, siblings.memory.slot)
        request_metrics = RequestMetrics(
            lambda: {
                **measures(settings),
                **keys.measures(),
                **exports.measures(),
                **siblings.measures(),
                **service.measures(),
            },
            siblings.text,
            siblings.histograms,
        )

        def made(dialects: Collection[str]) -> Starlette:
            return create_app(
                service,
                control,
                settings,
                exports,
                unready=siblings.unready,
                keys=keys,
                request_metrics=request_metrics,
                dialects=dialects,
            )

        self._operation_of = operation_of
        self._refused_key = REFUSED_KEY
        self._service = service
        self._control = control
        self._keys = keys
        self._app = made(settings.dialects)
        of_host: dict[str, list[str]] = {}
        for host, dialect in settings.dialect_hosts:
            of_host.setdefault(host, []).append(dialect)
        self._of_host = {host: made(dialects) for host, dialects in of_host.items()}
        ours = settings_of_reads(settings)
        self._audited = Capture(self._answer, ours, application.recorder_of(ours) if ours.enabled else None)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            # When mounted in an audited application: the host's record would contain the records that are read.
            leave_out(scope)
            if not await self._may_be_recorded(scope):
                await self._answer(scope, receive, send)
                return
        try:
            await self._audited(scope, receive, send)
        finally:
            if scope["type"] == "lifespan":
                self.close()

    def close(self) -> None:
        self._service.close()
        self._control.close()

    def flush(self, seconds: float) -> None:
        """Flushes the records of reads and the final statement of this process, for at most `seconds`."""
        if self._audited.recorder is not None:
            self._audited.recorder.flush(seconds, close=True)

    async def _may_be_recorded(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether to begin a record. `routing` leaves out again a poll that succeeds."""
        if self._refused_key in scope:
            return False  # not an HTTP request, so its caller is unknown
        operation = self._operation_of(self._at(scope).routes, scope)
        if operation is not None:
            if not (operation.is_recorded or operation.roles or operation.signed):
                return False  # it reveals nothing about records
            if operation.credentials_in_body or operation.signed:
                return True  # the caller is known when the body is read or the URL is verified: the handler decides
        return await self._keys.is_recorded(scope, is_known=operation is not None)

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await self._at(scope)(scope, receive, send)

    def _at(self, scope: MutableMapping[str, Any]) -> Starlette:
        if not self._of_host or scope["type"] != "http":
            return self._app
        return self._of_host.get(_host_of(scope), self._app)


def _host_of(scope: MutableMapping[str, Any]) -> str:
    """The requested host, in lower case, without port and trailing dot; '' for none."""
    for name, value in scope["headers"]:
        if name == b"host":
            text: str = value.decode("latin-1").strip().lower()
            end = text.find("]") + 1 if text.startswith("[") else text.find(":")
            return (text if end <= 0 else text[:end]).rstrip(".")
    return ""
