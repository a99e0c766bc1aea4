"""What stands in the place of an application whose audit layer could not start: it refuses, and says why.

Starlette and what is built on it make the layers of `add_middleware` and of the `middleware` list at the first call of
the application. Under most servers that is the lifespan call, and servers take an exception there for "this application
knows no lifespan": they go on, and every request fails later. `lifespan.startup.failed` is what stops them.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import NoReturn

from ..errors import ConfigError, sentences
from .asgi import Receive, Scope, Send

__all__ = ["Refused", "is_in_a_call"]

_CALLS = ("lifespan", "http", "websocket")


class Refused:
    """An ASGI application that answers `lifespan.startup` with `startup.failed`, and raises the error at every other
    call: nothing is served unrecorded."""

    def __init__(self, error: Exception) -> None:
        is_ours = isinstance(error, ConfigError)
        self._text = str(error) if is_ours else f"it could not start: {type(error).__name__}: {error}"
        self._hint = error.hint if isinstance(error, ConfigError) else ""
        self._cause = None if is_ours else error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> NoReturn:
        if scope.get("type") == "lifespan":
            await receive()
            text = f"asgi-audit: {sentences(self._text, self._hint)}"
            await send({"type": "lifespan.startup.failed", "message": text})
            # Test clients raise what the application raises; servers have read the message above.
        # A new one each time: an exception that is raised again keeps the frames of every time before.
        raise ConfigError(self._text, hint=self._hint) from self._cause


def is_in_a_call() -> bool:
    """Whether we run inside a call of an ASGI application, so that what is raised reaches a server and not the
    developer's own line: some caller was given a scope, as in every framework."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        given = code.co_varnames[: code.co_argcount]
        if len(given) >= 3:  # scope, receive, send
            values = frame.f_locals
            if any(isinstance(v := values.get(name), dict) and dict.get(v, "type") in _CALLS for name in given):
                return True
        frame = frame.f_back
    return False
