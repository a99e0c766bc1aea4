"""The shapes of ASGI 3, as far as capture needs them, and the step from ASGI 2 to ASGI 3."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["ASGIApp", "Message", "Receive", "Scope", "Send", "as_asgi3"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[Any]]  # servers complain about a result other than None


def as_asgi3(app: Any) -> ASGIApp:
    """`app`; an ASGI 2 application, called as `app(scope)(receive, send)`, gets a function of ASGI 3 around it.

    Servers accept both and tell them apart by the application's signature, which the middleware hides. Only a callable
    that is no coroutine function, takes one argument and does not take three counts as ASGI 2. Never raises."""
    if _is_coroutine_function(app) or not _takes(app, 1) or _takes(app, 3):
        return app  # type: ignore[no-any-return]

    async def asgi3(scope: Scope, receive: Receive, send: Send) -> Any:
        return await app(scope)(receive, send)

    return asgi3


def _is_coroutine_function(app: Any) -> bool:
    try:
        return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__)
    except Exception:
        return False


def _takes(app: Any, count: int) -> bool:
    try:
        # Not that of a function which `functools.wraps` names, an endpoint of one argument for example.
        inspect.signature(app, follow_wrapped=False).bind(*[None] * count)
    except Exception:  # also a signature that cannot be read, of a callable written in C
        return False
    return True
