"""The API as an application: what answers stands on, and the record of each read.

Imports of the server's packages stand inside the functions, so that one line says which extra is missing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from ..capture.middleware import Capture
from ..settings import Settings
from . import application
from .environment import extra
from .index_memory import memory_of
from .operations import measures, open_control, open_store_reader

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from ..api.auth import Keys
    from ..api.server import Server
    from ..capture.middleware import ASGIApp, Receive, Send

__all__ = ["READS_ACCOUNT", "build_api", "build_server"]

# The account of reads that belong to no single account: only keys with `*`, or made for it, see them.
READS_ACCOUNT = "asgi-audit"


def build_api(settings: Settings, *, unready: Callable[[], str] = lambda: "") -> ASGIApp:
    """The API as an ASGI application, its reads audited: one record for each execution, none for each poll.

    `unready`: why what stands beside it is not ready, or ''. Raises StoreError when the keys cannot be read,
    ConfigError."""
    with extra():
        from ..api.app import create_app
        from ..api.auth import Keys
        from ..api.door import connections_max
        from ..query.service import GRACE_SECONDS, KAFKA_GRACE_SECONDS, QueryService

    settings = settings.absolute()  # readers are opened again and again
    control = open_control(settings)
    memory_of(settings).keep()
    service = QueryService(
        lambda: open_store_reader(settings),
        control.secret(),
        wait_seconds=settings.query_wait_seconds,
        grace_seconds=KAFKA_GRACE_SECONDS if settings.is_kafka else GRACE_SECONDS,
        execution_seconds=settings.execution_seconds,
        # The other half is for those who are not answered yet: health, and keys that ask for nothing.
        in_flight_max=connections_max() // 2,
    )

    def close() -> None:
        service.close()
        control.close()

    keys = Keys(control)
    app = create_app(service, control, settings, measures=lambda: measures(settings), unready=unready, keys=keys)
    return _audit_reads(app, settings, keys, close)


def build_server(app: ASGIApp, *, stopping: Callable[[], None] = lambda: None) -> Server:
    """The server that serves `app`; `stopping` is called when it begins to end. Raises ConfigError."""
    with extra():
        from ..api.server import Server

    return Server(app, stopping=stopping)


def _audit_reads(app: Starlette, settings: Settings, keys: Keys, close: Callable[[], None]) -> ASGIApp:
    with extra():
        from ..api.routing import operation_of

    ours = dataclasses.replace(
        settings,
        service="logs",
        # Calls without a valid key, and those of keys for several accounts: no tenant's trail shows them.
        account_id=READS_ACCOUNT,
        instance_id="default",
        detail="metadata",
        delivery="buffered",
    )
    audited = Capture(app, ours, application.recorder_of(ours) if ours.enabled else None)

    async def reads_audited(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            operation = operation_of(app.routes, scope)
            is_recorded = operation is None or operation.is_recorded
            if not is_recorded or not await keys.is_recorded(scope, is_known=operation is not None):
                await app(scope, receive, send)
                return
        try:
            await audited(scope, receive, send)
        finally:
            if scope["type"] == "lifespan":
                close()

    return reads_audited
