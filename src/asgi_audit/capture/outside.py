"""Which layers lie outside of a layer that `add_middleware` made, in Starlette, FastAPI and what is built on them.

`app.add_middleware` puts each new layer outside of those before it, and Starlette's own ServerErrorMiddleware outside
of all. A layer outside of the audit can answer a request that the audit never sees: a preflight, a 401, a bad host. So
the audit looks once, at its first call, and the log names those layers. It looks at `scope["app"].middleware_stack`
and follows each layer's inner application; nothing is imported from a framework.

ServerErrorMiddleware sends a 500 when the application raises. Its response gets the request id of the record: its
three ways to make a response (`handler`, `error_response`, `debug_response`) are wrapped on that one instance, which
costs nothing while no request fails.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from .asgi import Scope
from .handle import SCOPE_KEY, RequestHandle

__all__ = ["carry_request_id", "layers_outside", "warn_of_layers"]

LAYERS_MAX = 100
_INNER = ("app", "_app", "application", "wrapped")
_ERRORS = "ServerErrorMiddleware"
_MAKERS = ("handler", "error_response", "debug_response")
_log = logging.getLogger("asgi_audit")


def layers_outside(layer: object, scope: Scope) -> list[Any]:
    """The layers of the framework's stack outside of `layer`, outermost first; [] when `layer` is not found in it."""
    node = getattr(scope.get("app"), "middleware_stack", None)
    found: list[Any] = []
    while node is not None and len(found) < LAYERS_MAX:
        if node is layer:
            return found
        found.append(node)
        node = next((inner for name in _INNER if callable(inner := getattr(node, name, None))), None)
    return []


def warn_of_layers(layers: list[Any], scope: Scope) -> None:
    """Log one warning that names the layers whose responses are not recorded, when there are any."""
    added = {getattr(made, "cls", None) for made in getattr(scope.get("app"), "user_middleware", ())}
    names = [_name(layer) for layer in layers if type(layer) in added or not _is_silent(layer)]
    if names:
        _log.warning(
            "asgi-audit: these layers are outside of AuditMiddleware, and responses that they make themselves are not "
            "recorded: %s. asgi_audit.install(app) in place of add_middleware records them.",
            ", ".join(names),
        )


def _is_silent(layer: object) -> bool:
    """Whether a layer is the framework's own and makes no response that the application configured: it has no handler
    of Exception, and no limit for bodies."""
    module = type(layer).__module__.partition(".")[0]
    if module not in ("starlette", "fastapi"):
        return False
    return getattr(layer, "handler", None) is None and getattr(layer, "max_body_size", None) is None


def _name(layer: object) -> str:
    """The name of its class; for `@app.middleware("http")` also that of the function."""
    name = type(layer).__name__
    if name == _ERRORS:
        return "the handler of Exception (or of status 500)"
    function = getattr(getattr(layer, "dispatch_func", None), "__name__", "dispatch")
    return name if function == "dispatch" else f"{name} ({function})"


def carry_request_id(layers: list[Any], header: str) -> None:
    """Responses of ServerErrorMiddleware get the request id, unless the application set that header."""
    for layer in layers:
        if type(layer).__name__ == _ERRORS:
            for name in _MAKERS:
                made = getattr(layer, name, None)
                if callable(made) and not hasattr(made, "_asgi_audit_carries"):
                    setattr(layer, name, _carrying(made, header))


def _carrying(make: Callable[..., Any], header: str) -> Callable[..., Any]:
    """`make(request, error)` with the header added to the response. Stays a coroutine function if it is one: the
    framework runs the others in a thread."""
    plain: Any = make
    while isinstance(plain, functools.partial):
        plain = plain.func
    if inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(type(plain).__call__):

        @functools.wraps(make)
        async def carrying_async(request: Any, error: Exception) -> Any:
            return _with_id(await make(request, error), request, header)

        made: Callable[..., Any] = carrying_async
    else:

        @functools.wraps(make)
        def carrying(request: Any, error: Exception) -> Any:
            return _with_id(make(request, error), request, header)

        made = carrying
    made._asgi_audit_carries = True  # type: ignore[attr-defined]
    return made


def _with_id(response: Any, request: Any, header: str) -> Any:
    try:
        handle = request.scope.get(SCOPE_KEY)
        if isinstance(handle, RequestHandle):
            response.headers.setdefault(header, handle.request_id)
    except Exception:
        pass  # a response of another kind, or headers of the application's own type
    return response
