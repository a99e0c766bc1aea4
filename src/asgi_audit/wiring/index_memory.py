"""Remembers which index belongs to a home: in this process, in the keys' database and in the journal's root."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from ..errors import AuditError, TransportError
from ..settings import Settings
from .environment import extra

__all__ = ["HomeMemory", "memory_of"]

_log = logging.getLogger("asgi_audit.store")
_AGAIN_SECONDS = 1.0

_memories: dict[tuple[Path, Path | None, str], HomeMemory] = {}
_lock = threading.Lock()


def memory_of(settings: Settings) -> HomeMemory:
    """The memory of this process for a home, journal and store, shared by all readers and writers."""
    settings = settings.absolute()
    root = None if settings.is_kafka else settings.journal_path
    key = (settings.control_path, root, settings.store_url)
    with _lock:
        found = _memories.get(key)
        if found is None:
            found = _memories[key] = HomeMemory(settings, root)
        return found


class HomeMemory:
    """See `store.identity.IndexMemory`. A journal that is forwarded to Kafka has no index and remembers none: then only
    the keys' database remembers the index, and `index` and `serve` create that database in their home."""

    def __init__(self, settings: Settings, root: Path | None) -> None:
        self._control = settings.control_path
        self._access = settings.access
        self._root = root
        self._keeps = False
        self._seen: str | None = None
        self._elsewhere: dict[str, str] | None = None
        self._read_at = 0.0

    def keep(self) -> None:
        """From now on store the index's id in the keys' database: for `serve` and `index`. Read-only commands change
        nothing."""
        self._keeps = True

    def named(self, *, again: bool = False) -> Mapping[str, str]:
        elsewhere = self._elsewhere
        is_old = time.monotonic() - self._read_at >= _AGAIN_SECONDS
        if elsewhere is None or (is_old and (again or not (elsewhere or self._seen))):
            elsewhere = self._read()
            if elsewhere and self._seen not in elsewhere.values():
                self._seen = None  # another process was started with --new-index
        return elsewhere if self._seen is None else {**elsewhere, "this process": self._seen}

    def remember(self, index: str) -> None:
        self._seen = index
        if self._keeps and (self._elsewhere or {}).get(str(self._control)) != index:
            try:
                self._name(index)
                self._read()
            except AuditError as e:  # a full or read-only disk: the next process that opens the index tries again
                if self._root is None and not self._control.is_file():
                    _log.warning("%s; if the index is missing at the next start, a new one is created", e)

    def forget(self) -> None:
        """Forget the remembered index. Raises AuditError when that cannot be stored."""
        self._seen = None
        self._name(None)
        if self._root is not None and self._root.is_dir():
            from ..transport.files import Files
            from ..transport.journal.root import forget_index

            try:
                forget_index(self._root, Files.shared(self._access))
            except OSError as e:
                raise TransportError(
                    f"could not clear the stored index of the journal {self._root}: {e.strerror or e}"
                ) from e
        self._elsewhere = None

    def _name(self, index: str | None) -> None:
        # No journal remembers an index that is fed from a topic: then create the keys' database for it.
        makes = index is not None and self._root is None
        if makes or self._control.is_file():
            with extra():
                from ..control.served import name_index

            name_index(self._control, index, self._access, makes=makes)

    def _read(self) -> dict[str, str]:
        self._read_at = time.monotonic()
        found: dict[str, str] = {}
        if self._root is not None:
            from ..transport.files import Files
            from ..transport.journal.root import read_root

            try:
                facts = read_root(self._root, Files.shared(self._access))
            except OSError as e:
                raise TransportError(f"the journal {self._root} cannot be read: {e.strerror or e}") from e
            if facts is not None and facts.index is not None:
                found[f"the journal {self._root}"] = facts.index
        if self._control.is_file():
            with extra():
                from ..control.served import named_index

            index = named_index(self._control)
            if index is not None:
                found[str(self._control)] = index
        self._elsewhere = found
        return found
