"""Export objects in a directory; the API serves them through URLs that it signs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..disk import PRIVATE, Access, sync
from .base import Presigned, manifest_name, object_name
from .files import unlink, write_whole

__all__ = ["DirectoryTarget"]


class DirectoryTarget:
    """Parts are written to the same directory, so that a rename completes an object."""

    def __init__(self, directory: Path, *, access: Access = PRIVATE) -> None:
        self._directory = directory
        self._access = access

    @property
    def work(self) -> Path:
        return self._directory

    def finished(self, id_: str) -> bytes | None:
        """The manifest is written before the object: when the object exists, both are complete."""
        if not (self._directory / object_name(id_)).is_file():
            return None
        return (self._directory / manifest_name(id_)).read_bytes()

    def put(self, id_: str, part: Path, manifest: bytes, beat: Callable[[], None]) -> None:
        write_whole(self._directory / manifest_name(id_), manifest, self._access)
        sync(self._directory)
        beat()
        os.replace(part, self._directory / object_name(id_))
        sync(self._directory)

    def discard(self, id_: str) -> None:
        if not (self._directory / object_name(id_)).exists():
            unlink(self._directory / manifest_name(id_))

    def remove(self, id_: str) -> None:
        unlink(self._directory / object_name(id_))
        unlink(self._directory / manifest_name(id_))

    def presign(self, id_: str, seconds: int, now: float, *, manifest: bool = False) -> Presigned | None:
        return None

    def open_path(self, id_: str, *, manifest: bool = False) -> Path | None:
        path = self._directory / (manifest_name(id_) if manifest else object_name(id_))
        return path if path.is_file() else None
