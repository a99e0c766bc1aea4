"""Settings to objects: the only module that knows all rooms, reads the environment and imports adapters.

Imports stand inside the functions: the middleware's process must not load the server's packages.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .capture.middleware import Capture
from .capture.refused import Refused, is_in_a_call
from .errors import AuditError, ConfigError, TransportError
from .metrics import Value, Values, attach, lost_by_reason
from .settings import Settings, environment_name, is_turned_off, make_settings, unknown_variables, url_path

if TYPE_CHECKING:
    import threading

    from prometheus_client import CollectorRegistry

    from .capture.middleware import ASGIApp, Receive, Send
    from .control import Control
    from .indexing.indexer import Indexer, Progress
    from .recording.base import RecorderBase
    from .store import base as store_base
    from .store.sqlite import Doomed, IndexFacts
    from .transport import base as transport_base
    from .transport.journal import ProcessJournal

__all__ = [
    "AuditMiddleware",
    "acknowledge",
    "build_api",
    "build_indexer",
    "check_index",
    "doomed",
    "follow_journal",
    "install",
    "journal_measures",
    "log_format",
    "look_at_index",
    "look_at_journal",
    "measures",
    "open_control",
    "open_source",
    "open_store_reader",
    "open_store_writer",
    "purge",
    "settings_from",
]

_log = logging.getLogger("asgi_audit")
_warned: set[str] = set()

# Packages by the extra that brings them.
EXTRAS = {
    "apsw": "server",
    "starlette": "server",
    "uvicorn": "server",
    "zstandard": "server",
    "prometheus_client": "server",
    "aiokafka": "kafka",
    "datasette": "server,demo",
    "datasette_auth_passwords": "server,demo",
}
# The account of reads that belong to no single account: only keys with `*`, or made for it, see them.
READS_ACCOUNT = "asgi-audit"
# What a client asks again and again for one question, and what machines ask: no read that an auditor would look for.
_UNRECORDED = ("/health/", "/metrics", "/openapi.json", "/docs")


def settings_from(**given: Any) -> Settings:
    """Arguments or flags over this process's environment over the defaults. Raises ConfigError; warns once of each
    environment variable that has our prefix and is no setting."""
    for name, text in unknown_variables(os.environ).items():
        if name not in _warned:
            _warned.add(name)
            _log.warning("asgi-audit: %s", text)
    return make_settings(os.environ, **given)


def application_settings(**given: Any) -> Settings:
    """`settings_from` for the middleware, with every path absolute: the application may change its working directory.

    `ASGI_AUDIT_ENABLED=0` beats everything, also what is wrong: it is the way out of a start that is refused."""
    if is_turned_off(os.environ):
        return Settings(enabled=False)
    return settings_from(**given).absolute()


def log_format(flag: str | None) -> str:
    """How a command logs, whatever its other settings are. A value that is no format is text until they are checked."""
    name = environment_name("log_format")
    try:
        return make_settings({k: v for k, v in os.environ.items() if k == name}, log_format=flag).log_format
    except ConfigError:
        return "text"


class AuditMiddleware(Capture):
    """Audits every HTTP exchange of `app`: `AuditMiddleware(app)`, `app.add_middleware(AuditMiddleware,
    service="shop")`.

    `settings` are those of the settings table by name; the environment fills what is not given. Raises ConfigError at
    once for a wrong setting. Where a framework makes this layer late, inside a call of the application, it refuses the
    start instead: the server's `lifespan.startup` gets `startup.failed` with the error's text, and every request raises
    it. Otherwise it never raises into a request. `metrics`: a prometheus_client registry that shall show `stats()`;
    which one is yours to choose, and nothing is registered without."""

    def __init__(self, app: ASGIApp, *, metrics: CollectorRegistry | None = None, **settings: Any) -> None:
        try:
            made = application_settings(**settings)
            recorder = recorder_of(made) if made.enabled else None
        except ConfigError as e:
            if not is_in_a_call():
                raise
            made, recorder, app = Settings(enabled=False), None, Refused(e)
        super().__init__(app, made, recorder)
        if metrics is not None and recorder is not None:
            with extra():
                attach(metrics, made.transport_url, _Counted(recorder, made))

    def __getattr__(self, name: str) -> Any:
        # An application wrapped by hand keeps its own attributes (`app.state`, `app.get`) for whoever holds the
        # wrapper.
        if name.startswith("_") or name in ("app", "settings"):
            raise AttributeError(name)
        return getattr(self.app, name)

    def stats(self) -> dict[str, int]:
        """Counters of this process since its start; {} when turned off."""
        return {} if self.recorder is None else _Counted(self.recorder, self.settings).stats()


class _Counted:
    """What `stats()` says of a recorder and of its forwarder, for a registry: the middleware itself would keep its
    application alive."""

    def __init__(self, recorder: RecorderBase, settings: Settings) -> None:
        self._recorder = recorder
        self._settings = settings

    def stats(self) -> dict[str, int]:
        if not self._settings.is_kafka:
            return self._recorder.stats()
        from .wiring_kafka import forward_stats

        return self._recorder.stats() | forward_stats(self._settings)


def install(app: Any, *, metrics: CollectorRegistry | None = None, **settings: Any) -> Any:
    """Audit a Starlette or FastAPI application from outside all else in it, its error handling too. Answers `app`.
    Arguments as for AuditMiddleware."""
    from .capture.install import install_on

    # The stack is built at the first request, which would be too late to hear of a wrong setting.
    checked = application_settings(**settings)
    if not checked.enabled:
        return app
    recorder_of(checked)
    # The stack may be built in another working directory.
    settings |= {name: getattr(checked, name) for name in ("home", "transport", "journal")}
    return install_on(app, lambda inner: AuditMiddleware(inner, metrics=metrics, **settings))


def recorder_of(settings: Settings) -> RecorderBase:
    """The recorder of this OS process for the journal that the settings name: one per journal root."""
    from .recording.recorder import shared_recorder

    # What `open_journal` needs, imported by whoever makes the middleware, not by the recorder's thread: pytest parses
    # what is imported, and in CPython 3.11 two threads that parse at a time break each other (SystemError: AST
    # constructor recursion depth mismatch).
    from .transport import journal, memory  # noqa: F401

    settings = settings.absolute()
    if not settings.is_kafka:
        return shared_recorder(settings, lambda facts: open_journal(settings, facts))
    from .wiring_kafka import forwarding_of

    forwarding = forwarding_of(settings)

    def opened(facts: transport_base.ProcessFacts) -> transport_base.Writer:
        writer = open_journal(settings, facts)
        forwarding.start(str(facts.process))
        return writer

    return shared_recorder(settings, opened, on_closed=forwarding.closed)


def open_journal(settings: Settings, facts: transport_base.ProcessFacts) -> transport_base.Writer:
    """A new journal for this process, where the settings say. Called in the recorder's thread. Raises
    TransportError."""
    if urlsplit(settings.transport_url).scheme == "memory":
        from .transport.memory import MemoryJournal

        return MemoryJournal.shared(bytes_max=settings.journal_bytes_max).writer(facts)
    from .transport.journal import JournalWriter

    path = settings.journal_path
    assert path is not None
    return JournalWriter(
        path,
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
    if settings.is_kafka:
        from .wiring_kafka import open_kafka_source

        return open_kafka_source(settings)
    if urlsplit(settings.transport_url).scheme != "journal":
        raise ConfigError(
            f"records cannot be indexed from {settings.transport_url!r} of another process; accepted: journal:///path "
            "or kafka://host:port[,host:port]/topic"
        )
    from .transport.journal import JournalSource

    return JournalSource(url_path(settings.transport_url))


def follow_journal(
    settings: Settings, *, from_beginning: bool, stop: Callable[[], bool]
) -> Iterator[transport_base.Message]:
    """What the processes of this machine write, read without removing anything; ends when `stop()`, asked when idle."""
    path = settings.journal_path
    if path is None:
        raise ConfigError(f"there is no journal to read at {settings.transport_url!r}; accepted: journal:///path")
    from .transport.journal import follow

    return follow(path, from_beginning=from_beginning, stop=stop)


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


def look_at_journal(settings: Settings, *, ask_alive: bool = False) -> Sequence[ProcessJournal]:
    """The journal of each process as it stands, [] when records do not go to one. Raises TransportError, StoreError."""
    path = settings.journal_path
    if path is None:
        return []
    from .transport.journal import look

    positions: Mapping[str, transport_base.Position]
    if settings.is_kafka:  # what waits is what is not forwarded yet
        from .wiring_kafka import forwarded_positions

        positions = forwarded_positions(path)
    else:
        facts = look_at_index(settings)
        positions = facts.positions if facts else {}
    try:
        return look(path, positions, ask_alive=ask_alive)
    except OSError as e:
        raise TransportError(f"the journal {path} cannot be read: {e.strerror or e}") from e


def look_at_index(settings: Settings) -> IndexFacts | None:
    """The index as it stands, without its records; None when there is none. Raises StoreError, ConfigError."""
    with extra():
        from .store.sqlite import inspect

    return inspect(url_path(settings.store_url))


def check_index(settings: Settings) -> str:
    """'' when main.db is sound, else what is wrong. Reads all of it. Raises StoreError, ConfigError."""
    with extra():
        from .store.sqlite import quick_check

    return quick_check(url_path(settings.store_url))


def journal_measures(settings: Settings) -> Values:
    """The journal as metrics, read now. Never raises: what cannot be read is left out."""
    values: dict[str, Value] = {}
    now = time.time()
    with contextlib.suppress(AuditError):
        journals = look_at_journal(settings)
        since = [j.waiting_since for j in journals if j.waiting_since is not None]
        values["asgi_audit_journal_bytes"] = sum(j.bytes for j in journals)
        values["asgi_audit_journal_bytes_max"] = settings.journal_bytes_max
        values["asgi_audit_journal_processes"] = len(journals)
        values["asgi_audit_journal_lag_bytes"] = sum(j.waiting_bytes for j in journals)
        values["asgi_audit_journal_oldest_age_seconds"] = max(0.0, now - min(since)) if since else 0.0
    return values


def measures(settings: Settings) -> Values:
    """Journal and index as metrics, read now. Never raises: what cannot be read is left out."""
    values: dict[str, Value] = {"asgi_audit_index_readable": 1.0, **journal_measures(settings)}
    now = time.time()
    try:
        facts = look_at_index(settings)
        if facts is None:
            return values
        values["asgi_audit_index_captured"] = facts.captured
        values["asgi_audit_index_excluded"] = facts.excluded
        values["asgi_audit_index_lost"] = lost_by_reason(facts.lost)
        values["asgi_audit_index_records"] = facts.indexed
        values["asgi_audit_index_dead_letters"] = facts.dead
        values["asgi_audit_index_published"] = facts.snapshot.published
        values["asgi_audit_index_bytes"] = facts.bytes
        values["asgi_audit_index_days"] = len(facts.days)
        if facts.snapshot.caught_up_at:
            values["asgi_audit_index_caught_up_age_seconds"] = max(0.0, now - facts.snapshot.caught_up_at)
        values |= _completeness_measures(settings, now)
    except AuditError:
        values["asgi_audit_index_readable"] = 0.0
    return values


def _completeness_measures(settings: Settings, now: float) -> dict[str, float]:
    reader = open_store_reader(settings)
    try:
        found = reader.completeness(0, 1 << 43)
    finally:
        reader.close()
    values = {"asgi_audit_index_incidents": float(found.incidents)}
    if found.until is not None:
        values["asgi_audit_index_complete_until_age_seconds"] = max(0.0, now - found.until / 1000)
    return values


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


def acknowledge(settings: Settings, process: uuid.UUID, *, wait_seconds: float) -> bool:
    """Write down that a silent process is gone for good, or let the indexer that runs do it; False when it has not yet
    done so after `wait_seconds`. Raises StoreError, ConfigError."""
    with extra():
        from .store.sqlite import acknowledge_in_directory

    return acknowledge_in_directory(url_path(settings.store_url), process, wait_seconds=wait_seconds)


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
    source: transport_base.Source | None = None,
) -> Indexer:
    """The sidecar's loop, not yet running: `run()` goes on until `stop` is set. `source`: an opened one, else that of
    the settings. Raises TransportError, ConfigError."""
    with extra():
        from .indexing.indexer import Indexer

    source = source or open_source(settings.absolute())
    return Indexer(
        source,
        writer,
        stop=stop,
        on_progress=on_progress,
        retention_days=settings.retention_days,
        # A journal has none: its directories are made once.
        take_incidents=getattr(source, "take_incidents", tuple),
    )


def build_api(settings: Settings, *, unready: Callable[[], str] = lambda: "") -> ASGIApp:
    """The API as an ASGI application, its reads audited: one record for each execution, none for each poll.

    `unready`: why what stands beside it is not ready, or ''. Raises StoreError when the keys cannot be read,
    ConfigError."""
    with extra():
        from .api.app import create_app
        from .query.service import QueryService

    settings = settings.absolute()  # readers are opened again and again
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

    app = create_app(service, control, settings, measures=lambda: measures(settings), unready=unready)
    return _audit_reads(app, settings, close)


def _audit_reads(app: ASGIApp, settings: Settings, close: Callable[[], None]) -> ASGIApp:
    given = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    given |= {"service": "logs", "instance_id": "default", "detail": "metadata", "delivery": "buffered"}
    # Calls without a valid key, and those of keys for several accounts: no tenant's trail shows them.
    given["account_id"] = READS_ACCOUNT
    audited = AuditMiddleware(app, **given)

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
