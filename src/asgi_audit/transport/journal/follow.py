"""Entries of all processes as they are written, for `asgi-audit tail`: reads, and changes nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from ..base import Message
from ..files import Files
from . import format as fmt
from .reader import SegmentReader

__all__ = ["follow"]

_READ_BYTES_MAX = 8 << 20
_POLL_SECONDS = 0.1


def follow(
    root: Path,
    *,
    from_beginning: bool = False,
    stop: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
    files: Files | None = None,
) -> Iterator[Message]:
    """Entries of all processes as they are written, without adopting, committing or removing anything: for `tail`.

    Yields what is written from now on or, with `from_beginning`, everything that is left. `stop()` is called whenever
    nothing is waiting; True ends it."""
    files = files or Files()
    readers: dict[str, SegmentReader] = {}
    is_first = True
    try:
        while True:
            found = 0
            try:
                names = files.names(root)
            except OSError:
                names = []
            for name in names:
                if name.startswith(".") or fmt.segment_base(name) is not None:
                    continue
                try:
                    reader = readers.get(name)
                    if reader is None:
                        uuid.UUID(name)
                        reader = SegmentReader(root / name, name, files)
                        if is_first and not from_beginning:
                            reader.at = reader.committed()
                        readers[name] = reader
                    elif reader.page_is_gone():
                        reader.close()
                    end = reader.committed()
                    if reader.at < end:
                        taken = reader.take(1000, _READ_BYTES_MAX, end)
                        found += len(taken.messages)
                        yield from taken.messages
                except (OSError, ValueError):
                    continue
            for name in [n for n in readers if n not in names]:
                readers.pop(name).close()
            is_first = False
            if not found:
                if stop():
                    return
                sleep(_POLL_SECONDS)
    finally:
        for reader in readers.values():
            reader.close()
