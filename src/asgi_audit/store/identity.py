"""Which index belongs here, and whether the one that is found is it.

An index has a random id from its making on. Whoever has seen it, and whoever takes records to it, remembers that id: a
process, the keys' database, the root of a journal. When another index, or none, stands in its place (a volume that is
not mounted, a directory that was moved), the truth is not "there are no records": nothing is answered and nothing is
made there, until somebody says that it is meant (`--new-index`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from ..errors import StoreError

__all__ = ["Expected", "IndexMemory", "Seen"]

_log = logging.getLogger("asgi_audit.store")
_MEANT = "start `index` or `serve` once with --new-index, which says that it is meant"


class IndexMemory(Protocol):
    """What is remembered of the index that belongs here. Any thread may ask. Raises AuditError when what is remembered
    cannot be read."""

    def named(self, *, again: bool = False) -> Mapping[str, str]:
        """Who remembers one -> its id; {} when nobody does. `again`: look again at what other processes may have
        changed."""

    def remember(self, index: str) -> None:
        """This is it. Never raises: what cannot be written down is remembered by this process alone."""


class Seen:
    """The memory of this process alone."""

    def __init__(self) -> None:
        self._index: str | None = None

    def named(self, *, again: bool = False) -> Mapping[str, str]:
        return {} if self._index is None else {"this process": self._index}

    def remember(self, index: str) -> None:
        self._index = index


class Expected:
    """The checks of one reader or writer of `directory`; without a memory every index is the right one. `retriable`:
    of the errors; who answers may be asked again, who writes must be started again."""

    def __init__(self, directory: Path, memory: IndexMemory | None, *, retriable: bool = True) -> None:
        self._directory = directory
        self._memory = memory
        self._retriable = retriable

    def absent(self, what: str = "nothing") -> None:
        """There is no index here (`what` stands there in its place). Raises StoreError when there should be one."""
        for who, index in self._named(None).items():
            text = f"the index {index} is gone: {what} stands in {self._directory}, and {who} names it"
            raise self._error(text, f"Mount or restore it, or {_MEANT}.")

    def found(self, index: str | None) -> None:
        """There is an index with this id; None: one that version 0.1.0 made and nobody has opened since. Raises
        StoreError when it is another one."""
        for who, other in self._named(index).items():
            if other != index:
                here = f"the index {index}" if index else "an index without an id, of version 0.1.0,"
                text = f"{here} stands in {self._directory}, and {who} names the index {other}"
                raise self._error(
                    text, f"Name the directory of the right one with --store, or restore it, or {_MEANT}."
                )
        if index is not None and self._memory is not None:
            self._memory.remember(index)
        _said.clear(self._directory)

    def taken(self, index: str) -> None:
        """From now on it is this one, whatever is remembered."""
        if self._memory is not None:
            self._memory.remember(index)

    def _named(self, index: str | None) -> Mapping[str, str]:
        if self._memory is None:
            return {}
        named = self._memory.named()
        if any(known != index for known in named.values()):
            # Another process may have been told that a new one is meant.
            named = self._memory.named(again=True)
        return named

    def _error(self, text: str, hint: str) -> StoreError:
        error = StoreError(text, retriable=self._retriable, hint=hint)
        return self.said(error) if self._retriable else error

    def said(self, error: StoreError) -> StoreError:
        """Logged, once until it is over: a client hears nothing of what is wrong with an index."""
        _said.once(self._directory, f"{error}. {error.hint}")
        return error


class _Said:
    """Each error once, until it is over: it may be met by every query."""

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
