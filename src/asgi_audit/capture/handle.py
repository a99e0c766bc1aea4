"""What the application can reach of its request: by a context variable (sync handlers, `to_thread`) and as
`scope["asgi_audit"]` (plain threads, which inherit no context).

The handle is emptied at the seal, because a task created during a request keeps its context alive as long as it lives:
an emptied handle pins 150 bytes, a full one would pin the bodies.

The key is put into the server's own scope, not into a copy: middleware outside us reads there what the application put
in (`scope["user"]`, `scope["route"]`), and a copy would hide it. ASGI lets anyone add keys that it does not define.
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
    """`draft` is None once it is sealed. `notes` is what was annotated: a dict that is replaced, never changed.

    The seal empties `draft` first and reads `notes` after; `annotate` writes `notes` first and looks at `draft` after.
    So an annotation that answered True is in the record, without a lock on the request path."""

    draft: Draft | None
    recorder: RecorderBase
    request_id: str
    notes: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<asgi_audit handle of request {self.request_id}>"

    def __copy__(self) -> RequestHandle:
        return self

    def __deepcopy__(self, memo: object) -> RequestHandle:
        return self  # a copied scope is of the same request

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # Pickled with a scope, it is text: another process has no such request, and perhaps not this package.
        return str, (self.request_id,)


class Current(NamedTuple):
    """The request that is being served. `request_id` is the one that its record and its response carry."""

    request_id: str


current_handle: ContextVar[RequestHandle | None] = ContextVar("asgi_audit_request", default=None)


def current() -> Current | None:
    """The request that is being served here, or None outside of one."""
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
    """The request (an ASGI scope, or anything with a `.scope`) becomes no record, and is counted as excluded. Nothing
    happens once it is sealed, or outside of an audited one."""
    handle = handle_of(scope)
    draft = None if handle is None else handle.draft
    if draft is not None:
        draft.detail = _NOTHING
