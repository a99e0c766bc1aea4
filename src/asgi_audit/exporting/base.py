"""The contract of export targets, and the names of their objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from ..errors import AuditError

__all__ = ["CONTENT_TYPE", "Presigned", "Target", "TargetError", "is_id", "manifest_name", "object_name"]

CONTENT_TYPE = "application/gzip"
_ID = re.compile(r"[0-9a-f]{32}")


class TargetError(AuditError):
    """An object could not be completed or removed. `retriable`: a retry may succeed. The message contains no secret."""

    def __init__(self, message: str, *, retriable: bool = True, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retriable = retriable


class Presigned(NamedTuple):
    """A presigned URL. `expires`: seconds since the epoch."""

    url: str
    expires: int


class Target(Protocol):
    """Stores objects by the id of their export. Only one runner completes an object at a time; any process may read.
    Raises TargetError, and OSError for the work directory."""

    @property
    def work(self) -> Path:
        """The directory in which parts are written, on the disk whose space they use."""

    def finished(self, id_: str) -> bytes | None:
        """The manifest of an object that was completed before a crash could be noted; None when the object must still
        be completed."""

    def put(self, id_: str, part: Path, manifest: bytes, beat: Callable[[], None]) -> None:
        """Completes the object from the file `part` and stores its manifest beside it. May be repeated after a crash.
        Calls `beat` regularly."""

    def discard(self, id_: str) -> None:
        """Removes temporary data of `put`, after the object was noted as complete or after a failure."""

    def remove(self, id_: str) -> None:
        """Removes object and manifest; missing ones are no error."""

    def presign(self, id_: str, seconds: int, now: float, *, manifest: bool = False) -> Presigned | None:
        """A URL that downloads the object, or its manifest, from the storage itself; None when the API must serve
        it."""

    def open_path(self, id_: str, *, manifest: bool = False) -> Path | None:
        """The file for the API to serve; None when there is none."""


def object_name(id_: str) -> str:
    return f"{id_}.ndjson.gz"


def manifest_name(id_: str) -> str:
    return f"{id_}.manifest.json"


def is_id(text: str) -> bool:
    """Whether `text` has the form of an export id: any other text must not become a path."""
    return _ID.fullmatch(text) is not None
