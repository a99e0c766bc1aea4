"""What the application says about its request.

Bounds: 32 annotations, 8 KiB of JSON in total; texts 200 characters, a message 1,000. Nothing here raises into the
application.
"""

from __future__ import annotations

import re
import threading
import uuid
from typing import Any

import orjson

from ..forking import Step, after_fork_in_child
from ..record.derived import LEVELS
from .handle import current_handle, handle_of
from .identity import TEXT_MAX, encodes

__all__ = ["annotate"]

MESSAGE_MAX = 1000
ANNOTATIONS_MAX = 32
ANNOTATION_BYTES_MAX = 8192

_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INSTANCE = re.compile(r"[^/\x00-\x1f]{1,200}")
_lock = threading.Lock()  # only `annotate` takes it, never the request path


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


after_fork_in_child(Step.ANNOTATE, _after_fork)


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
    """Add information to the record of the current request. A later value for a name replaces an earlier one. Never
    raises.

    `scope`: the ASGI scope of the request, or an object with a `.scope` (a Request); by default the request of the
    current context. The named parameters take text (numbers and UUIDs become text). Any other name becomes an
    annotation with a value that JSON can express; the value is copied.

    Returns False, and changes nothing, when a value is not accepted (counted as `annotate_invalid`), when the record is
    sealed already (`annotate_late`), or outside of an audited request."""
    handle = current_handle.get() if scope is None else handle_of(scope)
    if handle is None:
        return False
    try:
        draft = handle.draft
        if draft is None:
            handle.recorder.count("annotate_late")
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
                before = handle.notes or {}
                if more is not None:
                    notes["annotations"] = _merged(before.get("annotations"), more)
                handle.notes = {**before, **notes}
                if "account_id" in notes:
                    handle.recorder.learn_account(draft, notes["account_id"])
        except (ValueError, TypeError, RecursionError):  # orjson's errors are one of the first two
            handle.recorder.count("annotate_invalid")
            return False
        if handle.draft is None:  # another thread sealed it in between
            handle.recorder.count("annotate_late")
            return False
        return True
    except Exception:
        return False


def _accepted(name: str, value: object) -> str:
    """The text of a value that the record can hold. Raises ValueError."""
    if isinstance(value, (int, uuid.UUID)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise ValueError(name)
    value = str.__str__(value)  # a subclass, such as a member of an enum, becomes plain text
    if name == "level":
        good = value in LEVELS
    elif name == "service":
        good = _SERVICE.fullmatch(value) is not None
    elif name == "instance_id":
        good = _INSTANCE.fullmatch(value) is not None and value not in (".", "..") and encodes(value)
    elif name == "message":
        good = len(value) <= MESSAGE_MAX and encodes(value)
    else:
        good = len(value) <= TEXT_MAX and value.isprintable() and not (name == "account_id" and value == "*")
    if not good:
        raise ValueError(name)
    return value


def _copied(annotations: dict[str, Any]) -> dict[str, Any]:
    """A deep copy, made through JSON: the application may change its objects while the recorder reads them. Raises
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
