"""Puts the middleware around a whole Starlette or FastAPI application, including its error handling.

`add_middleware` puts a layer inside ServerErrorMiddleware and the body limit: their 500s and 413s do not pass it. Both
frameworks build their stack of middleware late, by the method `build_middleware_stack`; the application keeps its
identity and type, and its method is replaced by one that wraps what the original built. Starlette itself is not
imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ConfigError
from .asgi import ASGIApp

__all__ = ["has_stack", "install_on"]

_MARK = "_asgi_audit_installed"


def has_stack(app: object) -> bool:
    """Whether `app` builds a stack of layers as Starlette does, in which ours can be the outermost."""
    return (
        not isinstance(app, type)
        and callable(getattr(app, "build_middleware_stack", None))
        and hasattr(app, "middleware_stack")
    )


def install_on(app: Any, wrap: Callable[[ASGIApp], ASGIApp]) -> None:
    """Works before its first request, and after (its stack is wrapped in place).

    `app`: one that `has_stack`. Raises ConfigError when it was done before: a second call's settings would be
    ignored."""
    build = app.build_middleware_stack
    if getattr(build, _MARK, False):
        raise ConfigError(
            "install was called twice on this application", hint="Remove one of the calls. The first one is in effect."
        )

    def build_audited() -> ASGIApp:
        return wrap(build())

    setattr(build_audited, _MARK, True)
    if app.middleware_stack is not None:
        app.middleware_stack = wrap(app.middleware_stack)
    app.build_middleware_stack = build_audited
