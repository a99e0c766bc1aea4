"""Settings to objects: the only module that knows all rooms, reads the environment and imports adapters.

Imports stand inside the functions: the middleware's process must not load the server's packages.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .capture.middleware import Capture
from .errors import ConfigError
from .settings import Settings, make_settings, url_path

if TYPE_CHECKING:
    import threading

    from .capture.middleware import ASGIApp, Receive, Send
    from .control import Control
    from .indexing.indexer import Indexer, Progress
    from .recording.base import RecorderBase
    from .store import base as store_base
    from .store.sqlite import Doomed
    from .transport import base as transport_base

__all__ = [
    "AuditMiddleware",
    "build_api",
    "build_indexer",
    "doomed",
    "follow_journal",
    "install",
    "open_control",
    "open_source",
    "open_store_reader",
    "open_store_writer",
    "purge",
    "settings_from",
]

# Packages by the extra that brings them.
EXTRAS = {
    "apsw": "server",
    "pydantic": "server",
    "starlette": "server",
    "uvicorn": "server",
    "zstandard": "server",
    "aiokafka": "kafka",
    "datasette": "server,demo",
    "datasette_auth_passwords": "server,demo",
}
# What a client asks again and again for one question, and what machines ask: no read that an auditor would look for.
_UNRECORDED = ("/health/", "/metrics", "/openapi.json", "/docs")


def settings_from(**given: Any) -> Settings:
    """Arguments or flags over this process's environment over the defaults. Raises ConfigError."""
    return make_settings(os.environ, **given)


class AuditMiddleware(Capture):
    """Audits every HTTP exchange of `app`: `AuditMiddleware(app)`, `app.add_middleware(AuditMiddleware,
    service="shop")`.

    `settings` are those of the settings table by name; the environment fills what is not given. Raises ConfigError at
    once for a wrong setting; never raises into a request."""

    def __init__(self, app: ASGIApp, **settings: Any) -> None:
        made = settings_from(**settings)
        super().__init__(app, made, recorder_of(made) if made.enabled else None)

    def __getattr__(self, name: str) -> Any:
        # An application wrapped by hand keeps its own attributes (`app.state`, `app.get`) for whoever holds the
        # wrapper.
        if name.startswith("_") or name in ("app", "settings"):
            raise AttributeError(name)
        return getattr(self.app, name)

    def stats(self) -> dict[str, int]:
        """Counters of this process since its start; {} when turned off."""
        return self.recorder.stats() if self.recorder is not None else {}


def install(app: Any, **settings: Any) -> Any:
    """Audit a Starlette or FastAPI application from outside all else in it, its error handling too. Answers `app`."""
    from .capture.install import install_on

    # The stack is built at the first request, which would be too late to hear of a wrong setting.
    checked = settings_from(**settings)
    if checked.enabled:
        recorder_of(checked)
    return install_on(app, lambda inner: AuditMiddleware(inner, **settings))


def recorder_of(settings: Settings) -> RecorderBase:
    """The recorder of this OS process for the journal that the settings name: one per journal root."""
    from .recording.recorder import shared_recorder

    return shared_recorder(settings, lambda facts: open_journal(settings, facts))


def open_journal(settings: Settings, facts: transport_base.ProcessFacts) -> transport_base.Writer:
    """A new journal for this process, where the settings say. Called in the recorder's thread. Raises
    TransportError."""
    if urlsplit(settings.transport_url).scheme == "memory":
        from .transport.memory import MemoryJournal

        return MemoryJournal.shared(bytes_max=settings.journal_bytes_max).writer(facts)
    from .transport.journal import JournalWriter

    return JournalWriter(
        url_path(settings.transport_url),
        facts,
        bytes_max=settings.journal_bytes_max,
        segment_bytes=settings.segment_bytes,
    )


@contextlib.contextmanager
def extra() -> Iterator[None]:
    """Around imports of what an extra brings: one clear line instead of a ModuleNotFoundError. Raises ConfigError."""
    try:
        yield
    except ModuleNotFoundError as e:
        package = (e.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        raise ConfigError(
            f"the package {package} is not installed", hint=f"pip install 'asgi-audit[{EXTRAS[package]}]'"
        ) from e


def open_source(settings: Settings) -> transport_base.Source:
    """Where the indexer takes records from. Raises TransportError, ConfigError."""
    if urlsplit(settings.transport_url).scheme != "journal":
        raise ConfigError(
            f"records cannot be indexed from {settings.transport_url!r} of another process; accepted: journal:///path"
        )
    from .transport.journal import JournalSource

    return JournalSource(url_path(settings.transport_url))


def follow_journal(
    settings: Settings, *, from_beginning: bool, stop: Callable[[], bool]
) -> Iterator[transport_base.Message]:
    """What the processes of this machine write, read without removing anything; ends when `stop()`, asked when idle."""
    if urlsplit(settings.transport_url).scheme != "journal":
        raise ConfigError(f"there is no journal to read at {settings.transport_url!r}; accepted: journal:///path")
    from .transport.journal import follow

    return follow(url_path(settings.transport_url), from_beginning=from_beginning, stop=stop)


def open_store_writer(
    settings: Settings, *, wait_seconds: float = 0.0, stop: threading.Event | None = None
) -> store_base.Writer:
    """The one writer of the index. Waits so long, or until `stop` is set, while another one holds its lease.

    Raises StoreError (retriable while another one holds it), ConfigError."""
    with extra():
        from .store.sqlite import SqliteWriter

    return SqliteWriter(url_path(settings.store_url), wait_seconds=wait_seconds, stop=stop)


def open_store_reader(settings: Settings) -> store_base.Reader:
    """One reader of the index, for one thread at a time. Raises StoreError, ConfigError."""
    with extra():
        from .store.sqlite import SqliteReader

    return SqliteReader(url_path(settings.store_url))


def doomed(settings: Settings, before: int) -> Sequence[Doomed]:
    """The days that a purge before `before` (ms) would remove, oldest first. Raises StoreError, ConfigError."""
    with extra():
        from .store.sqlite import doomed as of_directory

    return of_directory(url_path(settings.store_url), before)


def purge(settings: Settings, before: int, *, wait_seconds: float) -> bool:
    """Remove the days before `before` (ms), or let the indexer that runs do it; False when it has not yet done so after
    `wait_seconds`: it will, as soon as it can. Raises StoreError, ConfigError."""
    with extra():
        from .store.sqlite import purge_directory

    return purge_directory(url_path(settings.store_url), before, wait_seconds=wait_seconds)


def open_control(settings: Settings) -> Control:
    """Keys and the signing secret. Raises StoreError, ConfigError."""
    with extra():
        from .control import Control

    return Control(settings.control_path)


def build_indexer(
    settings: Settings,
    writer: store_base.Writer,
    *,
    stop: threading.Event,
    on_progress: Callable[[Progress], None] | None = None,
) -> Indexer:
    """The sidecar's loop, not yet running: `run()` goes on until `stop` is set. Raises TransportError, ConfigError."""
    with extra():
        from .indexing.indexer import Indexer

    return Indexer(
        open_source(settings), writer, stop=stop, on_progress=on_progress, retention_days=settings.retention_days
    )


def build_api(settings: Settings) -> ASGIApp:
    """The API as an ASGI application, its reads audited: one record for each execution, none for each poll.

    Raises StoreError when the keys cannot be read, ConfigError."""
    with extra():
        from .api.app import create_app
        from .query.service import QueryService

    control = open_control(settings)
    service = QueryService(
        lambda: open_store_reader(settings),
        control.secret(),
        wait_seconds=settings.query_wait_seconds,
        execution_seconds=settings.execution_seconds,
        page_bytes_max=settings.page_bytes_max,
    )

    def close() -> None:
        service.close()
        control.close()

    return _audit_reads(create_app(service, control, settings), settings, close)


def _audit_reads(app: ASGIApp, settings: Settings, close: Callable[[], None]) -> ASGIApp:
    audited = AuditMiddleware(
        app,
        home=settings.home,
        transport=settings.transport,
        enabled=settings.enabled,
        service="logs",
        instance_id="default",
        detail="metadata",
        delivery="buffered",
    )

    async def reads_audited(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            path = scope["path"]
            if "/query-result/" in path or path.startswith(_UNRECORDED):
                await app(scope, receive, send)
                return
        try:
            await audited(scope, receive, send)
        finally:
            if scope["type"] == "lifespan":
                close()

    return reads_audited
