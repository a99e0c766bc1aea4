"""The contract of where objects go, and their names."""

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
    """An object could not be completed or removed. `retriable`: trying again can help. The message names no secret."""

    def __init__(self, message: str, *, retriable: bool = True, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retriable = retriable


class Presigned(NamedTuple):
    """`expires`: seconds since the epoch."""

    url: str
    expires: int


class Target(Protocol):
    """Objects by the id of their export. One runner completes an object at a time; anybody reads. Errors are
    TargetErrors, or OSErrors of the work directory."""

    @property
    def work(self) -> Path:
        """The directory in which parts are written, on the disk that they need room on."""

    def finished(self, id_: str) -> bytes | None:
        """The manifest of an object that is complete although nobody could note it; None when it must be made."""

    def put(self, id_: str, part: Path, manifest: bytes, beat: Callable[[], None]) -> None:
        """Completes the object from the file `part`, with its manifest beside it; again after a crash is fine. Calls
        `beat` now and then."""

    def discard(self, id_: str) -> None:
        """What `put` has left that is needed no more once the object counts, or what a failed one left."""

    def remove(self, id_: str) -> None:
        """Object and manifest; those that are not there are fine."""

    def presign(self, id_: str, seconds: int, now: float, *, manifest: bool = False) -> Presigned | None:
        """A URL that gets the object, or its manifest, from where it is; None when the API must serve it."""

    def open_path(self, id_: str, *, manifest: bool = False) -> Path | None:
        """The file that the API serves; None when there is none."""


def object_name(id_: str) -> str:
    return f"{id_}.ndjson.gz"


def manifest_name(id_: str) -> str:
    return f"{id_}.manifest.json"


def is_id(text: str) -> bool:
    """Whether it can be the id of an export: what is no id never becomes a path."""
    return _ID.fullmatch(text) is not None
