"""Replaces an application whose audit layer could not start: every call fails with the reason.

Starlette, and what is built on it, makes the layers of `add_middleware` and of the `middleware` list at the first call
of the application. With most servers that is the lifespan call. Servers interpret an exception there as "this
application does not support lifespan" and continue, and every request fails. Only `lifespan.startup.failed` stops them.
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
    """An ASGI application that responds to `lifespan.startup` with `startup.failed` and raises the error at every other
    call, so that nothing is served without a record."""

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
            # Raised for test clients, which pass it to the test; servers have the message above.
        # A new exception each time: one that is raised again keeps the frames of all earlier times.
        raise ConfigError(self._text, hint=self._hint) from self._cause


def is_in_a_call() -> bool:
    """Whether this runs inside a call of an ASGI application, so that an exception would reach a server and not the
    developer's own code. It looks for a calling function that has a scope as argument, as in every framework."""
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
