"""Who and what an exchange was: read from the scope at the seal, or said by the application with `annotate`.

A request's *slot* is what the application can reach of its exchange: by a context variable (sync handlers, `to_thread`)
and as `scope["asgi_audit"]` (plain threads, which inherit no context). It is emptied at the seal, because a task
created during a request keeps its context alive as long as it lives: an emptied slot pins 150 bytes, a full one would
pin the bodies.

The key is put into the server's own scope, not into a copy: middleware outside us reads there what the application put
in (`scope["user"]`, `scope["route"]`), and a copy would hide it. ASGI lets anyone add keys that it does not define.

Bounds: 32 annotations, 8 KiB of JSON in total; texts 200 characters, a message 1,000. Nothing here raises into the
application.
"""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import msgspec
import orjson

from ..record.summary import LEVELS
from ..recording.base import RecorderBase
from .exchange import Draft

__all__ = ["SCOPE_KEY", "Current", "Slot", "annotate", "current", "current_slot", "framework_route", "principal_of"]

SCOPE_KEY = "asgi_audit"
TEXT_MAX = 200
MESSAGE_MAX = 1000
ANNOTATIONS_MAX = 32
ANNOTATION_BYTES_MAX = 8192

_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INSTANCE = re.compile(r"[^/\x00-\x1f]{1,200}")


class Slot(msgspec.Struct, eq=False, weakref=True):
    """`draft` is None once it is sealed. `notes` is what was annotated: a dict that is replaced, never changed.

    The seal empties `draft` first and reads `notes` after; `annotate` writes `notes` first and looks at `draft` after.
    So an annotation that answered True is in the record, without a lock on the request path."""

    draft: Draft | None
    recorder: RecorderBase
    request_id: str
    notes: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<asgi_audit slot of request {self.request_id}>"

    def __copy__(self) -> Slot:
        return self

    def __deepcopy__(self, memo: object) -> Slot:
        return self  # a copied scope is of the same request

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # Pickled with a scope, it is text: another process has no such request, and perhaps not this package.
        return str, (self.request_id,)


class Current(NamedTuple):
    """The request that is being served. `request_id` is the one that its record and its response carry."""

    request_id: str


current_slot: ContextVar[Slot | None] = ContextVar("asgi_audit_slot", default=None)
_lock = threading.Lock()  # only between annotators; the request path never takes it


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def current() -> Current | None:
    """The request that is being served here, or None outside of one."""
    slot = current_slot.get()
    return Current(slot.request_id) if slot is not None else None


def annotate(
    scope: Any = None,
    /,
    *,
    account_id: Any = None,
    service: str | None = None,
    instance_id: Any = None,
    principal: Any = None,
    auth_method: str | None = None,
    public_key: str | None = None,
    org_id: Any = None,
    org_key: str | None = None,
    operation: str | None = None,
    level: str | None = None,
    message: str | None = None,
    **annotations: Any,
) -> bool:
    """Say more about the request that is being served; the last word on a name counts. Never raises.

    Without `scope` it is the request of the current context; else that of an ASGI scope, or of anything with a `.scope`
    (a Request). Names with a meaning take text (numbers and UUIDs are taken as text); any other name becomes an
    annotation, of anything that JSON can hold, copied.

    False, and nothing is changed, when a value is not accepted (counted as `annotate_invalid`), when the record is
    sealed already (`annotate_late`), or outside of an audited request."""
    slot = current_slot.get() if scope is None else _slot_of(scope)
    if slot is None:
        return False
    try:
        draft = slot.draft
        if draft is None:
            slot.recorder.count("annotate_late")
            return False
        named: dict[str, Any] = {
            "account_id": account_id,
            "service": service,
            "instance_id": instance_id,
            "principal": principal,
            "auth_method": auth_method,
            "auth_public_key": public_key,
            "org_id": org_id,
            "org_key": org_key,
            "operation": operation,
            "level": level,
            "message": message,
        }
        try:
            notes: dict[str, Any] = {name: _accepted(name, value) for name, value in named.items() if value is not None}
            more = _copied(annotations) if annotations else None
            with _lock:
                before = slot.notes or {}
                if more is not None:
                    notes["annotations"] = _merged(before.get("annotations"), more)
                slot.notes = {**before, **notes}
                if "account_id" in notes:
                    slot.recorder.learn_account(draft, notes["account_id"])
        except (ValueError, TypeError, RecursionError):  # orjson's errors are one of the first two
            slot.recorder.count("annotate_invalid")
            return False
        if slot.draft is None:  # sealed meanwhile by another thread
            slot.recorder.count("annotate_late")
            return False
        return True
    except Exception:
        return False


def _slot_of(scope: Any) -> Slot | None:
    try:
        if not isinstance(scope, MutableMapping):
            scope = scope.scope
        slot = scope.get(SCOPE_KEY)
    except Exception:
        return None
    return slot if isinstance(slot, Slot) else None


def _accepted(name: str, value: object) -> str:
    """The text of a value that the record can hold. Raises ValueError."""
    if isinstance(value, (int, uuid.UUID)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise ValueError(name)
    value = str.__str__(value)  # of a subclass (an enum's member) the plain text
    if name == "level":
        good = value in LEVELS
    elif name == "service":
        good = _SERVICE.fullmatch(value) is not None
    elif name == "instance_id":
        good = _INSTANCE.fullmatch(value) is not None and value not in (".", "..") and _encodes(value)
    elif name == "message":
        good = len(value) <= MESSAGE_MAX and _encodes(value)
    else:
        good = len(value) <= TEXT_MAX and value.isprintable() and not (name == "account_id" and value == "*")
    if not good:
        raise ValueError(name)
    return value


def _encodes(value: str) -> bool:
    """False for lone surrogates, which no UTF-8 record can hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _copied(annotations: dict[str, Any]) -> dict[str, Any]:
    """A deep copy by way of JSON: the application may change its objects while the recorder reads. Raises
    ValueError."""
    data = orjson.dumps(annotations)
    if len(data) > ANNOTATION_BYTES_MAX:
        raise ValueError("annotations")
    copied: dict[str, Any] = orjson.loads(data)
    return copied


def _merged(before: dict[str, Any] | None, more: dict[str, Any]) -> dict[str, Any]:
    if before is None:
        merged = more
    else:
        merged = {**before, **more}
        if len(orjson.dumps(merged)) > ANNOTATION_BYTES_MAX:
            raise ValueError("annotations")
    if len(merged) > ANNOTATIONS_MAX:
        raise ValueError("annotations")
    return merged


def framework_route(scope: MutableMapping[str, Any], route: Any, endpoint: Any) -> tuple[Any, Any]:
    """Route and endpoint of a framework that does not say them as Starlette does, by `scope["route"]` and
    `scope["endpoint"]`. Routes are kept as the framework's own objects, which live as long as the application."""
    if route is None:  # Litestar
        return scope.get("path_template"), getattr(scope.get("route_handler"), "handler_name", None)
    # FastAPI 0.165: an included router's routes do not know its prefix; the context of this inclusion does.
    fastapi = scope["fastapi"]
    context = fastapi.get("effective_route_context") if isinstance(fastapi, dict) else None
    if context is not None and getattr(context, "original_route", None) is route:
        route = context
    return route, endpoint


def _text(value: Any) -> str | None:
    return value[:TEXT_MAX] if isinstance(value, str) and value else None


def principal_of(user: Any) -> str | None:
    """The name of an authenticated user; None of an anonymous one or of an object that names nobody."""
    if isinstance(user, str):
        return _text(user)
    if not isinstance(user, dict) and not getattr(user, "is_authenticated", True):
        return None
    for name in ("display_name", "username", "identity"):
        try:
            text = _text(user.get(name) if isinstance(user, dict) else getattr(user, name, None))
        except Exception:  # Starlette's BaseUser raises NotImplementedError for what a subclass left out
            continue
        if text is not None and _encodes(text):
            return text
    return None
