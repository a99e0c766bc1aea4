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
    """Returns `app`; or, for an ASGI 2 application, which is called as `app(scope)(receive, send)`, an ASGI 3 function
    that calls it.

    Servers accept both and tell them apart by the application's signature, which the middleware hides. A callable
    counts as ASGI 2 only when it is not a coroutine function, accepts one argument, and does not accept three. Never
    raises."""
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
        # The callable's own signature: `functools.wraps` may name another function, for example an endpoint with one
        # argument.
        inspect.signature(app, follow_wrapped=False).bind(*[None] * count)
    except Exception:  # the signature of a callable written in C may be unreadable
        return False
    return True
