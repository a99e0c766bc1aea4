"""Detects a missing or wrong index.

An index gets a random id when it is created. Its users remember that id: each process, the keys' database, the root of
a journal. When another index, or none, is found in its place (a volume that is not mounted, a directory that was
moved), answering "there are no records" would be wrong. So queries are refused and no new index is created there until
an operator confirms the change (`--new-index`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from ..errors import StoreError

__all__ = ["Expected", "IndexMemory", "Seen"]

T = TypeVar("T")

_log = logging.getLogger("asgi_audit.store")
_MEANT = "start `index` or `serve` once with --new-index to accept the change"


class IndexMemory(Protocol):
    """Remembers the id of the expected index. Thread-safe. Raises AuditError when the memory cannot be read."""

    def named(self, *, again: bool = False) -> Mapping[str, str]:
        """{where it is remembered: id of the index}; {} when no id is remembered. `again`: re-read what other processes
        may have changed."""

    def remember(self, index: str) -> None:
        """Remember this id. Never raises: an id that cannot be stored is remembered by this process only."""


class _Mismatch(StoreError):
    """Another index than the expected one, or none."""


class Seen:
    """Remembers within this process only."""

    def __init__(self) -> None:
        self._index: str | None = None

    def named(self, *, again: bool = False) -> Mapping[str, str]:
        return {} if self._index is None else {"this process": self._index}

    def remember(self, index: str) -> None:
        self._index = index


class Expected:
    """The checks of one reader or writer of `directory`; without a memory every index is accepted. `retriable`: set on
    the errors; True for readers, whose clients may retry, False for writers, which must be restarted."""

    def __init__(self, directory: Path, memory: IndexMemory | None, *, retriable: bool = True) -> None:
        self._directory = directory
        self._memory = memory
        self._retriable = retriable

    def settled(self, look: Callable[[], T]) -> T:
        """look(), which calls `absent` or `found`; for readers.

        A writer creates its index first, then names it. A reader that looks before the first step and reads the name
        after the second would report a new index as missing. So the names are read before the look as well; when they
        have changed, `look` is called again.
        """
        before = {} if self._memory is None else self._memory.named()
        try:
            try:
                return look()
            except _Mismatch:
                if self._memory is None or self._memory.named() == before:
                    raise
                return look()
        except _Mismatch as e:
            raise self.said(e) from None

    def absent(self, what: str = "nothing") -> None:
        """Called when there is no index. `what`: what was found in its place. Raises StoreError when one is
        expected."""
        for who, index in self._named(None).items():
            text = f"the index {index} is gone: {what} is in {self._directory}, but {who} expects that index"
            raise self._error(text, f"Mount or restore it, or {_MEANT}.")

    def found(self, index: str | None) -> None:
        """Called when an index with this id is found; None: created by version 0.1.0 and not opened for writing since.
        Raises StoreError when another one is expected."""
        for who, other in self._named(index).items():
            if other != index:
                here = f"the index {index}" if index else "an index without an id, of version 0.1.0,"
                text = f"{here} is in {self._directory}, but {who} expects the index {other}"
                raise self._error(text, f"Set the directory of the right one with --store, or restore it, or {_MEANT}.")
        if index is not None and self._memory is not None:
            self._memory.remember(index)
        _said.clear(self._directory)

    def taken(self, index: str) -> None:
        """Expect this index from now on, whatever was remembered."""
        if self._memory is not None:
            self._memory.remember(index)

    def _named(self, index: str | None) -> Mapping[str, str]:
        if self._memory is None:
            return {}
        named = self._memory.named()
        if any(known != index for known in named.values()):
            # Another process may have been started with --new-index.
            named = self._memory.named(again=True)
        return named

    def _error(self, text: str, hint: str) -> StoreError:
        return _Mismatch(text, retriable=self._retriable, hint=hint)

    def said(self, error: StoreError) -> StoreError:
        """Logs each error once until it is over: the response to the client does not describe the problem of the
        index."""
        _said.once(self._directory, f"{error}. {error.hint}")
        return error


class _Said:
    """Logs each error once until it is over, because every query may meet it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._last: dict[Path, str] = {}

    def once(self, directory: Path, text: str) -> None:
        with self._lock:
            if self._last.get(directory) == text:
                return
            self._last[directory] = text
        self._say(text)

    def clear(self, directory: Path) -> None:
        self._last.pop(directory, None)


_said = _Said(lambda text: _log.error("%s", text))
