"""The handle by which the application reaches the record of its request: a context variable (for sync handlers and
`to_thread`) and `scope["asgi_audit"]` (for plain threads, which inherit no context).

The handle is emptied at the seal. A task that is created during a request keeps its context alive for as long as the
task lives: an empty handle keeps 150 bytes alive, a full one would keep the bodies.

The key is put into the server's own scope and not into a copy: middleware outside reads values there that the
application puts in (`scope["user"]`, `scope["route"]`), which a copy would hide. ASGI allows additional keys.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import msgspec

from ..exchange.draft import Draft
from ..exchange.recorder import RecorderBase
from ..policy.decision import Decision

__all__ = ["SCOPE_KEY", "Current", "RequestHandle", "current", "current_handle", "handle_of", "leave_out"]

SCOPE_KEY = "asgi_audit"
_NOTHING = Decision("none", "none", excluded=True)


class RequestHandle(msgspec.Struct, eq=False, weakref=True):
    """`draft`: None after the seal. `notes`: what was annotated; the dict is replaced, never changed.

    The seal first empties `draft` and then reads `notes`; `annotate` first writes `notes` and then checks `draft`. So
    an annotation that returned True is in the record, and the request path needs no lock."""

    draft: Draft | None
    recorder: RecorderBase
    request_id: str
    notes: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<asgi_audit handle of request {self.request_id}>"

    def __copy__(self) -> RequestHandle:
        return self

    def __deepcopy__(self, memo: object) -> RequestHandle:
        return self  # a copy of a scope belongs to the same request

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # Pickled with a scope it becomes text: another process has no such request, and may not have this package.
        return str, (self.request_id,)


class Current(NamedTuple):
    """The current request. `request_id`: the one in its record and in its response."""

    request_id: str


current_handle: ContextVar[RequestHandle | None] = ContextVar("asgi_audit_request", default=None)


def current() -> Current | None:
    """The request of the current context; None outside of an audited request."""
    handle = current_handle.get()
    return Current(handle.request_id) if handle is not None else None


def handle_of(scope: Any) -> RequestHandle | None:
    try:
        if not isinstance(scope, MutableMapping):
            scope = scope.scope
        handle = scope.get(SCOPE_KEY)
    except Exception:
        return None
    return handle if isinstance(handle, RequestHandle) else None


def leave_out(scope: Any) -> None:
    """Make no record of this request (an ASGI scope, or an object with a `.scope`); it is counted as excluded. Does
    nothing after the seal, or outside of an audited request."""
    handle = handle_of(scope)
    draft = None if handle is None else handle.draft
    if draft is not None:
        draft.detail = _NOTHING
