"""The parts that run inside the audited application: the middleware, `install`, and the recorder behind them.

Modules that only some settings need are imported inside functions: the application must not load unused code.
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

# Wider than asgiref's types: frameworks annotate scope and messages as dicts, mappings or TypedDicts, and a callable
# with one of these types is not assignable to a callable with another.
AnyApplication = Callable[[Any, Any, Any], Awaitable[Any]]


class HasMiddlewareStack(Protocol):
    """Starlette, FastAPI and frameworks built on them."""

    middleware_stack: Any

    def build_middleware_stack(self) -> Any: ...


Application = TypeVar("Application", bound=HasMiddlewareStack)


class AuditMiddleware(Capture):
    """Audits every HTTP exchange of `app`: `AuditMiddleware(app)`, `app.add_middleware(AuditMiddleware,
    service="shop")`.

    `settings`: names from the settings table; the environment supplies those not given. Raises ConfigError for a wrong
    setting. Some frameworks create the middleware late, inside a call of the application; then the start fails instead:
    the server's `lifespan.startup` gets `startup.failed` with the error's text, and every request raises the error.
    Otherwise it never raises into a request. `metrics`: a prometheus_client registry in which to register `stats()`;
    without it nothing is registered."""

    def __init__(
        self, app: AnyApplication, *, metrics: Registry | None = None, **settings: Unpack[ApplicationSettings]
    ) -> None:
        try:
            made = application_settings(**settings)
            recorder = recorder_of(made) if made.enabled else None
            if metrics is not None and recorder is not None:
                with extra():
                    attach(metrics, made.transport_url, _Counted(recorder, made))
        except Exception as e:  # also for an invalid registry: servers would silently drop any other error too
            if not is_in_a_call():
                raise
            made, recorder, app = Settings(enabled=False), None, Refused(e)
        super().__init__(app, made, recorder)

    def __getattr__(self, name: str) -> Any:
        # Forward attributes of a wrapped application (`app.state`, `app.get`), for code that uses the wrapper as the
        # application.
        if name.startswith("_") or name in ("app", "settings"):
            raise AttributeError(name)
        return getattr(self.app, name)

    def stats(self) -> dict[str, int]:
        """Counters of this process since its start; {} when recording is off."""
        return {} if self.recorder is None else _Counted(self.recorder, self.settings).stats()


class _Counted:
    """`stats()` of a recorder and its forwarder, for a registry. Registering the middleware itself would keep its
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
    """Audits `app` outside of all its middleware, so that every response that a client sees is recorded.

    A Starlette or FastAPI application is changed in place and returned; routes and middleware may be added afterwards.
    Any other ASGI application is wrapped: serve the returned object. Arguments and errors as for AuditMiddleware. Also
    raises ConfigError when `app` is not an ASGI application, or when `install` was called on it before."""
    from ..capture.install import has_stack, install_on

    if isinstance(app, AuditMiddleware):
        raise ConfigError("the application of install has an AuditMiddleware already", hint="Remove one of the two.")
    if not has_stack(app):
        if not callable(app) or isinstance(app, type):
            raise ConfigError(
                f"install was given {type(app).__name__}; accepted: an ASGI application, such as FastAPI()"
            )
        return AuditMiddleware(app, metrics=metrics, **settings)
    # Check now: the stack is built at the first request, too late to report a wrong setting.
    checked = application_settings(**settings)
    if not checked.enabled:
        return app
    recorder_of(checked)
    # Paths are made absolute now, because the stack may be built in another working directory.
    paths = {name: value for name in settings if isinstance(value := getattr(checked, name, None), Path)}
    settings |= cast(ApplicationSettings, {**paths, "home": checked.home, "transport": checked.transport})
    install_on(app, lambda inner: AuditMiddleware(inner, metrics=metrics, **settings))
    return app


def recorder_of(settings: Settings) -> RecorderBase:
    """The recorder of this OS process for the journal that the settings name: one per journal root."""
    from ..recording.recorder import shared_recorder

    # Modules that `open_journal` needs. Import them here, not in the recorder's thread: pytest parses imported modules,
    # and in CPython 3.11 two threads that parse at the same time fail (SystemError: AST constructor recursion depth
    # mismatch).
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
        settings, opened, on_closed=forwarding.closed, on_begun=forwarding.send_now, full_reason=forwarding.held_reason
    )


def open_journal(settings: Settings, facts: transport_base.ProcessFacts) -> transport_base.EntryWriter:
    """Opens a new journal for this process, in the place that the settings define. Called in the recorder's thread.
    Raises TransportError."""
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
