"""The API mounted in another application: `app.mount("/audit", asgi_audit.create_app())`.

It does not index: run `asgi-audit serve` or `asgi-audit index` on the same home. Nothing is opened before the first
request, and only a wrong setting stops the host's start; while the keys cannot be opened, every request gets 503.

Frameworks run no lifespan for a mounted application, so open resources belong to an event loop: they are closed when
the lifespan ends, if there is one, else when the loop ends. At its end a loop closes all asynchronous generators that
were started in it (`loop.shutdown_asyncgens`, which `asyncio.run` and all servers call); one generator here waits for
that. A forked child shares nothing with its parent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Unpack, cast

from ..capture.middleware import CLOSE_SECONDS
from ..errors import StoreError, sentences
from ..metrics import Values
from ..settings import ApiSettings, Settings
from . import application, exports, server
from .environment import api_settings, extra
from .issuer import open_issuer

if TYPE_CHECKING:
    from ..capture.middleware import ASGIApp, Receive, Send
    from ..control import Control
    from ..exporting.service import ExportService

__all__ = ["MountedApi", "create_app"]

_log = logging.getLogger("asgi_audit.api")
_AGAIN_SECONDS = 1.0  # between two attempts to open


def create_app(**settings: Unpack[ApiSettings]) -> MountedApi:
    """The API as an ASGI application: mount it at a path (`app.mount("/audit", create_app())`) or on a host
    (`Host("audit.example.com", create_app())`) of a Starlette or FastAPI application, or run it in a server.

    `settings`: names from the settings table; the environment supplies those not given. `dialects`: the query dialects
    to serve; a single one is served at the root: `create_app(dialects=["usage"])`. The API does not index: run
    `asgi-audit serve` or `asgi-audit index` on the same home. Raises ConfigError."""
    made = api_settings(**settings)
    with extra():
        from ..api import app  # noqa: F401 - the extra is there
    server.check_dialects(made)
    open_issuer(made)  # raises when its package is missing, or its keys are in a file that is
    if made.export_bucket:
        exports.open_target(made)  # raises when its package is missing or rejects the settings
    if made.enabled:
        application.recorder_of(server.settings_of_reads(made))  # raises for settings that disagree about one journal
    return MountedApi(made)


class _Opened:
    """The open resources of one event loop. `until`: time.monotonic() at which to reopen. Must be closed; closing is
    idempotent."""

    def __init__(self, app: ASGIApp, close: Callable[[], None], until: float = float("inf")) -> None:
        self.app = app
        self.until = until
        self._close: Callable[[], None] | None = close
        self._ending: AsyncGenerator[None, None] | None = None

    async def close_with_loop(self) -> None:
        """Closes when the running loop ends. Called in that loop."""
        self._ending = self._at_the_end()
        await anext(self._ending)

    async def _at_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            close()

    @property
    def is_usable(self) -> bool:
        return self._close is not None and time.monotonic() < self.until


class MountedApi:
    """See `create_app`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pid = os.getpid()
        # By event loop. A future while opening: concurrent requests wait for it.
        self._opened: dict[asyncio.AbstractEventLoop, asyncio.Future[_Opened]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        opened = await self._open()
        await opened.app(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            if kind == "lifespan.startup":
                await self._open()
            elif kind == "lifespan.shutdown":
                await asyncio.to_thread(self._close, asyncio.get_running_loop())
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return

    async def _open(self) -> _Opened:
        if self._pid != os.getpid():  # the parent's open resources must not be used
            self._opened, self._pid = {}, os.getpid()
        loop = asyncio.get_running_loop()
        opening = self._opened.get(loop)
        if opening is None or not _is_usable(opening):
            self._close(loop)
            for ended in [known for known in self._opened if known.is_closed()]:
                self._close(ended)  # a loop that ended without closing its generators
            opening = self._opened[loop] = asyncio.ensure_future(self._make())
        return await asyncio.shield(opening)  # a cancelled request does not cancel the opening for others

    async def _make(self) -> _Opened:
        made = await asyncio.to_thread(self._build)
        await made.close_with_loop()
        return made

    def _build(self) -> _Opened:
        try:
            api, until = server.build_api(self._settings), float("inf")
        except StoreError as e:
            _log.error("the API cannot serve requests: %s", sentences(str(e), e.hint))
            api, until = _refusing(self._settings, e), time.monotonic() + _AGAIN_SECONDS

        def close() -> None:
            api.flush(CLOSE_SECONDS)
            api.close()

        return _Opened(api, close, until)

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        opening = self._opened.pop(loop, None)
        if opening is not None and _is_done(opening):
            opening.result().close()


def _is_done(opening: asyncio.Future[_Opened]) -> bool:
    return opening.done() and not opening.cancelled() and opening.exception() is None


def _is_usable(opening: asyncio.Future[_Opened]) -> bool:
    return not opening.done() or (_is_done(opening) and opening.result().is_usable)


def _refusing(settings: Settings, error: StoreError) -> server.Api:
    """An API in which each dialect responds with its error for unreadable keys."""
    from ..api.auth import Keys
    from ..query.service import QueryService

    def fail() -> Any:
        raise StoreError(str(error), hint=error.hint)

    class Unreadable:
        regions: Mapping[str, str] = {}

        def __getattr__(self, name: str) -> Any:
            return fail()

        def close(self) -> None:
            pass

        def measures(self) -> Values:
            return {}

    control, service = cast("Control", Unreadable()), cast("ExportService", Unreadable())
    return server.Api(settings, QueryService(fail, os.urandom(32)), control, service, Keys(control))
