"""Settings to objects: the only module that knows all rooms, reads the environment and imports adapters.

Imports stand inside the functions: the middleware's process must not load the server's packages.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .capture.middleware import Capture
from .settings import Settings, make_settings, url_path

if TYPE_CHECKING:
    from .capture.middleware import ASGIApp, Receive, Send
    from .recording.base import RecorderBase
    from .transport import base as transport_base

__all__ = ["AuditMiddleware", "install", "settings_from"]


def settings_from(**given: Any) -> Settings:
    """Arguments or flags over this process's environment over the defaults. Raises ConfigError."""
    return make_settings(os.environ, **given)


class AuditMiddleware:
    """Audits every HTTP exchange of `app`: `AuditMiddleware(app)`, `app.add_middleware(AuditMiddleware, service="gateway")`.

    `settings` are those of the settings table by name; the environment fills what is not given. Raises ConfigError at once for a
    wrong setting; never raises into a request."""

    def __init__(self, app: ASGIApp, **settings: Any) -> None:
        self.settings = settings_from(**settings)
        self.app = app
        self._capture: Capture | None = None
        if self.settings.enabled:
            self._capture = Capture(app, self.settings, recorder_of(self.settings))

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if self._capture is None:
            await self.app(scope, receive, send)
        else:
            await self._capture(scope, receive, send)

    def __getattr__(self, name: str) -> Any:
        # An application wrapped by hand keeps its own attributes (`app.state`, `app.get`) for whoever holds the wrapper.
        if name.startswith("__") or name in ("app", "_capture", "settings"):
            raise AttributeError(name)
        return getattr(self.app, name)

    def stats(self) -> dict[str, int]:
        """Counters of this process since its start; {} when turned off."""
        return self._capture.recorder.stats() if self._capture is not None else {}


def install(app: Any, **settings: Any) -> Any:
    """Audit a Starlette or FastAPI application from outside everything else in it (its error handling too). Answers `app`."""
    from .capture.install import install_on

    return install_on(app, lambda inner: AuditMiddleware(inner, **settings))


def recorder_of(settings: Settings) -> RecorderBase:
    """The recorder of this OS process for the journal that the settings name: one per journal root."""
    from .recording.recorder import shared_recorder

    return shared_recorder(settings, lambda facts: open_journal(settings, facts))


def open_journal(settings: Settings, facts: transport_base.ProcessFacts) -> transport_base.Writer:
    """A new journal for this process, where the settings say. Called in the recorder's thread. Raises TransportError."""
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
