"""What stands in somebody's application: the middleware, `install`, and the recorder behind them.

Imports of what only some settings need stand inside the functions: the application must not load what it does not use.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack, cast, overload

from ..capture.middleware import Capture
from ..capture.refused import Refused, is_in_a_call
from ..errors import ConfigError
from ..metrics import Registry, attach
from ..settings import ApplicationSettings, Settings
from .announce import announce
from .environment import application_settings, extra, ignore_home, share_home

if TYPE_CHECKING:
    from ..exchange.recorder import RecorderBase
    from ..transport import base as transport_base

__all__ = ["AuditMiddleware", "install", "open_journal", "recorder_of"]

# Wider than ASGI's own types: frameworks and applications write scope and messages as dicts, mappings or TypedDicts,
# and a function of the one is no function of the other.
AnyApplication = Callable[[Any, Any, Any], Awaitable[Any]]


class HasMiddlewareStack(Protocol):
    """Starlette, FastAPI and what is built on them."""

    middleware_stack: Any

    def build_middleware_stack(self) -> Any: ...


Application = TypeVar("Application", bound=HasMiddlewareStack)


class AuditMiddleware(Capture):
    """Audits every HTTP exchange of `app`: `AuditMiddleware(app)`, `app.add_middleware(AuditMiddleware,
    service="shop")`.

    `settings` are those of the settings table by name; the environment fills what is not given. Raises ConfigError at
    once for a wrong setting. Where a framework makes this layer late, inside a call of the application, it refuses the
    start instead: the server's `lifespan.startup` gets `startup.failed` with the error's text, and every request raises
    it. Otherwise it never raises into a request. `metrics`: a prometheus_client registry that shall show `stats()`;
    which one is yours to choose, and nothing is registered without."""

    def __init__(
        self, app: AnyApplication, *, metrics: Registry | None = None, **settings: Unpack[ApplicationSettings]
    ) -> None:
        try:
            made = application_settings(**settings)
            recorder = recorder_of(made) if made.enabled else None
            if metrics is not None and recorder is not None:
                with extra():
                    attach(metrics, made.transport_url, _Counted(recorder, made))
        except Exception as e:  # a registry that is none, too: servers would drop any error just as silently
            if not is_in_a_call():
                raise
            made, recorder, app = Settings(enabled=False), None, Refused(e)
        super().__init__(app, made, recorder)

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
        from .kafka import forward_stats

        return self._recorder.stats() | forward_stats(self._settings)


@overload
def install(
    app: Application, *, metrics: Registry | None = None, **settings: Unpack[ApplicationSettings]
) -> Application: ...


@overload
def install(
    app: AnyApplication, *, metrics: Registry | None = None, **settings: Unpack[ApplicationSettings]
) -> AuditMiddleware: ...


def install(app: Any, *, metrics: Registry | None = None, **settings: Unpack[ApplicationSettings]) -> Any:
    """Audit `app` from outside of all its layers, so that each response a client sees is recorded.

    A Starlette or FastAPI application is changed in place and returned; routes and middleware may be added afterwards.
    Any other ASGI application is wrapped: serve what is returned. Arguments and errors as for AuditMiddleware, and a
    ConfigError for what is no ASGI application, or when `install` was called on it before."""
    from ..capture.install import has_stack, install_on

    if isinstance(app, AuditMiddleware):
        raise ConfigError("install was given an application that AuditMiddleware wraps", hint="Remove one of the two.")
    if not has_stack(app):
        if not callable(app) or isinstance(app, type):
            raise ConfigError(
                f"install was given {type(app).__name__}; accepted: an ASGI application, such as FastAPI()"
            )
        return AuditMiddleware(app, metrics=metrics, **settings)
    # The stack is built at the first request, which would be too late to hear of a wrong setting.
    checked = application_settings(**settings)
    if not checked.enabled:
        return app
    recorder_of(checked)
    # The stack may be built in another working directory.
    paths = {name: value for name in settings if isinstance(value := getattr(checked, name, None), Path)}
    settings |= cast(ApplicationSettings, {**paths, "home": checked.home, "transport": checked.transport})
    install_on(app, lambda inner: AuditMiddleware(inner, metrics=metrics, **settings))
    return app


def recorder_of(settings: Settings) -> RecorderBase:
    """The recorder of this OS process for the journal that the settings name: one per journal root."""
    from ..recording.recorder import shared_recorder

    # What `open_journal` needs, imported by whoever makes the middleware, not by the recorder's thread: pytest parses
    # what is imported, and in CPython 3.11 two threads that parse at a time break each other (SystemError: AST
    # constructor recursion depth mismatch).
    from ..transport import journal, memory  # noqa: F401

    settings = settings.absolute()
    if not settings.is_kafka:
        return shared_recorder(settings, lambda facts: open_journal(settings, facts))
    from .kafka import forwarding_of

    forwarding = forwarding_of(settings)

    def opened(facts: transport_base.ProcessFacts) -> transport_base.EntryWriter:
        writer = open_journal(settings, facts)
        forwarding.start(str(facts.process))
        return writer

    return shared_recorder(
        settings, opened, on_closed=forwarding.closed, on_begun=forwarding.hurry, what_empties=forwarding.what_holds
    )


def open_journal(settings: Settings, facts: transport_base.ProcessFacts) -> transport_base.EntryWriter:
    """A new journal for this process, where the settings say. Called in the recorder's thread. Raises
    TransportError."""
    path = settings.journal_path
    if path is None:
        from ..transport.memory import MemoryJournal

        return MemoryJournal.shared(bytes_max=settings.journal_bytes_max).writer(facts)
    from ..transport.files import Files
    from ..transport.journal import JournalWriter

    share_home(settings)
    writer = JournalWriter(
        path,
        facts,
        bytes_max=settings.journal_bytes_max,
        files=Files.shared(settings.access),
    )
    ignore_home(settings)
    announce(settings, facts.process)
    return writer
