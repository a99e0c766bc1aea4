"""All exceptions of asgi-audit: one root class, then one class per decision of the caller.

A message contains the operation, the offending name with its redacted value, and the accepted values. Advice for the
operator is separate, in `hint`.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Mapping
from typing import Literal

__all__ = [
    "AuditError",
    "ConfigError",
    "QueryError",
    "RecordError",
    "StoreError",
    "TransportError",
    "sentences",
    "types_and_places",
]

QueryErrorKind = Literal[
    "invalid", "unauthorized", "forbidden", "missing", "unacceptable", "gone", "too_large", "busy", "too_costly"
]  # fmt: skip


def sentences(message: str, hint: str) -> str:
    """A message and its hint (may be '') as one line: `no such index. Start the indexer.`"""
    if not hint:
        return message
    if message.endswith((".", "?", "!")):
        return f"{message} {hint}"
    return f"{message}{'.' if hint[0].isupper() else ';'} {hint}"


def types_and_places(error: BaseException) -> str:
    """The loggable part of a foreign exception: its type, the types of up to three causes, and the last six code
    locations, innermost first. Without exception texts and source lines, which may contain confidential values."""
    kinds = [type(error).__name__]
    cause = error.__cause__
    while cause is not None and len(kinds) < 4:
        kinds.append(type(cause).__name__)
        cause = cause.__cause__
    last = deque(traceback.walk_tb(error.__traceback__), maxlen=6)
    codes = [(frame.f_code, line) for frame, line in reversed(last)]
    where = " < ".join(f"{code.co_filename.rpartition('/')[2]}:{line} {code.co_name}" for code, line in codes)
    return f"{' from '.join(kinds)} at {where or '?'}"


class AuditError(Exception):
    """The root class. `hint`: advice for the operator, one sentence, or ''; a traceback shows it below the message."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(hint)


class ConfigError(AuditError):
    """A setting is wrong: fix it and start again."""


class TransportError(AuditError):
    """Records could not be transported. `retriable`: a retry of the same operation may succeed."""

    def __init__(self, message: str, *, retriable: bool = True, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retriable = retriable


class StoreError(AuditError):
    """The store could not write or read. `retriable`: a retry of the same operation may succeed. `is_full`: there was
    not enough space; a smaller batch may fit."""

    def __init__(self, message: str, *, retriable: bool = True, hint: str = "", is_full: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retriable = retriable
        self.is_full = is_full


class RecordError(AuditError):
    """Bytes that are not a valid record or statement; they become a dead letter."""


class QueryError(AuditError):
    """The request cannot be served as it is. `kind` is 'invalid' (400), 'unauthorized' (401), 'forbidden' (403),
    'missing' (404), 'unacceptable' (406), 'gone' (410: the position to continue from no longer exists), 'too_large'
    (413), 'busy' (429: retry later) or 'too_costly' (503: a narrower query would succeed). `field` names the wrong
    field (a field of `Query`, or `execution`, `page_token`, `after`): the message begins with it and a colon, and
    `message_with` replaces it by the dialect's name. `retry_seconds`: for 'busy', when to retry, above 0."""

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        kind: QueryErrorKind = "invalid",
        hint: str = "",
        retry_seconds: int = 1,
    ) -> None:
        super().__init__(message, hint=hint)
        self.field = field
        self.retry_seconds = retry_seconds
        self.kind: QueryErrorKind = kind

    def message_with(self, field_names: Mapping[str, str]) -> str:
        """The message with a dialect's field names. `field_names`: {our field: name in the dialect}; other fields keep
        their names."""
        message = str(self)
        mine = f"{self.field}:"
        if self.field not in field_names or not message.startswith(mine):
            return message
        return f"{field_names[self.field]}:{message[len(mine) :]}"
