"""Every exception of ours: one root, then one class per decision of the caller.

A message says the operation, the offending name with its redacted value, and what is accepted; advice to the operator
stands apart in `hint`.
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
    """A message and its hint, which may be '', as one line: `no such index. Start the indexer.`"""
    if not hint:
        return message
    if message.endswith((".", "?", "!")):
        return f"{message} {hint}"
    return f"{message}{'.' if hint[0].isupper() else ';'} {hint}"


def types_and_places(error: BaseException) -> str:
    """What a log may hold of an exception that is not ours: its type, those of up to three causes, and the last six
    places, the innermost first. No text of an exception and no line of source: both may hold values."""
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
    """The root. `hint` is advice to the operator, one sentence, or ''; a traceback shows it below the message."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(hint)


class ConfigError(AuditError):
    """A setting is wrong: fix it and start again."""


class TransportError(AuditError):
    """Records could not be carried; `retriable` says whether trying the same again can help."""

    def __init__(self, message: str, *, retriable: bool = True, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retriable = retriable


class StoreError(AuditError):
    """The store could not write or answer; `retriable` says whether trying the same again can help, `is_full` that
    there was no room for it: less may fit."""

    def __init__(self, message: str, *, retriable: bool = True, hint: str = "", is_full: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retriable = retriable
        self.is_full = is_full


class RecordError(AuditError):
    """Bytes that are no record (or statement) of ours: a dead letter."""


class QueryError(AuditError):
    """The client's fault. `kind` is 'invalid' (400), 'unauthorized' (401), 'forbidden' (403), 'missing' (404),
    'unacceptable' (406), 'gone' (410: what it went on from is not there any more), 'too_large' (413), 'busy' (429, come
    again later) or 'too_costly' (503: the same question over less would be answered). `field` names what was wrong, in
    our words (those of `Query`, and `execution`, `page_token` and `after`): the message begins with it and a colon, and
    `said_with` puts a dialect's word there. `retry_seconds`, above 0: when to come again, for 'busy'."""

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

    def said_with(self, words: Mapping[str, str]) -> str:
        """The message in a dialect's words. `words`: our name of a field to the client's; others stay as they are."""
        message = str(self)
        mine = f"{self.field}:"
        if self.field not in words or not message.startswith(mine):
            return message
        return f"{words[self.field]}:{message[len(mine) :]}"
