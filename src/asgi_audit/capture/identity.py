"""Route, endpoint and principal of a request, read at the seal from what frameworks put into the scope."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

__all__ = ["TEXT_MAX", "encodes", "framework_route", "principal_of"]

TEXT_MAX = 200


def framework_route(scope: MutableMapping[str, Any], route: Any, endpoint: Any) -> tuple[Any, Any]:
    """(route, endpoint) for frameworks that do not set `scope["route"]` and `scope["endpoint"]` as Starlette does.
    Routes are the framework's own objects, which live as long as the application."""
    if route is None:  # Litestar
        return scope.get("path_template"), getattr(scope.get("route_handler"), "handler_name", None)
    # FastAPI 0.165: the routes of an included router lack its prefix; only the context of the inclusion has it.
    fastapi = scope["fastapi"]
    context = fastapi.get("effective_route_context") if isinstance(fastapi, dict) else None
    if context is not None and getattr(context, "original_route", None) is route:
        route = context
    return route, endpoint


def principal_of(user: Any) -> str | None:
    """The name of an authenticated user; None for an anonymous one, or an object without a name."""
    if isinstance(user, str):
        return _text(user)
    if not isinstance(user, dict) and not getattr(user, "is_authenticated", True):
        return None
    for name in ("display_name", "username", "identity"):
        try:
            text = _text(user.get(name) if isinstance(user, dict) else getattr(user, name, None))
        except Exception:  # Starlette's BaseUser raises NotImplementedError for what a subclass does not define
            continue
        if text is not None and encodes(text):
            return text
    return None


def encodes(value: str) -> bool:
    """Whether it can be encoded as UTF-8; text with lone surrogates cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: Any) -> str | None:
    return value[:TEXT_MAX] if isinstance(value, str) and value else None
