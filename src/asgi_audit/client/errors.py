"""Errors of the client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import AuditError

__all__ = ["ApiError", "NotReachable", "ProtocolError", "error_of"]


class ApiError(AuditError):
    """The API refused or failed. `status`: of HTTP, 400 to 599; 200 for a command of `usage.api.list` that failed.
    The text is the API's own message; `hint`: its advice, or ''."""

    def __init__(self, status: int, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class NotReachable(AuditError):
    """No connection, or it was lost before the response was complete."""


class ProtocolError(AuditError):
    """The response is not of this API, or a download does not match its manifest."""


def error_of(status: int, content: bytes) -> ApiError:
    """From the error body of any dialect, or of a proxy in front of the API."""
    try:
        body: Any = json.loads(content)
    except ValueError:
        body = None
    said = body if isinstance(body, Mapping) else {}
    texts = [said.get(name) for name in ("message", "detail", "title", "errorMessages", "reason")]
    if isinstance(texts[3], list):
        texts[3] = "; ".join(str(text) for text in texts[3])
    message = next((text for text in texts if isinstance(text, str) and text), f"HTTP status {status}")
    action = said.get("action")
    return ApiError(status, message, hint=action if isinstance(action, str) else "")
