"""How much is in a journal, without reading its entries: for metrics and for `asgi-audit doctor`.

Nothing is adopted, committed or removed. To find out whether a process runs, its lock is taken for an instant, which
fails while it runs. A reader that wants to adopt the journal in that instant tries again a second later.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ...errors import RecordError
from ...record.codec import decode
from ...record.statement import decode_statement
from ..base import Kind, Message, Position, ProcessFacts
from ..files import Files
from . import format as fmt
from .lock import take
from .reader import SegmentReader

__all__ = ["ProcessJournal", "look"]


class ProcessJournal(NamedTuple):
    """The journal of one process. `is_alive`: None when it was not requested. `waiting_since`: when the first entry
    that is not indexed yet was written, seconds since the epoch; None when all are indexed."""

    process: str
    service: str
    bytes: int
    is_alive: bool | None
    waiting_bytes: int
    waiting_since: float | None
    newest: float  # when it was written to last (seconds since the epoch, by the file system)


def look(root: Path, positions: Mapping[str, Position], *, ask_alive: bool = False) -> list[ProcessJournal]:
    """The journals of all processes under `root`; [] when there is none. `positions`: how far each is indexed. Raises
    OSError."""
    files = Files()
    try:
        names = sorted(files.names(root))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        try:
            if str(uuid.UUID(name)) != name:
                continue
        except ValueError:
            continue
        try:
            found.append(_one(root / name, name, positions.get(name, Position(0, b"")), files, ask_alive))
        except FileNotFoundError:
            continue  # removed in this moment
    return found


def _one(directory: Path, name: str, at: Position, files: Files, ask_alive: bool) -> ProcessJournal:
    stats = {inner: files.stat(directory / inner) for inner in files.names(directory)}
    # The page of counters is written through memory, so its modification time means nothing.
    segments = {base: stats[inner] for inner in stats if (base := fmt.segment_base(inner)) is not None}
    is_alive = None
    if ask_alive:
        lock = take(directory, name, files)
        is_alive = lock is None
        if lock is not None:
            lock.release()
    page = _page(directory, name, files)
    end = page.committed if page is not None else 0
    if segments and (is_alive is False or page is None):
        end = max(end, max(segments) + segments[max(segments)].st_size)
    waiting = max(0, end - at.next)
    return ProcessJournal(
        process=name,
        service=page.facts.service if page is not None and page.facts is not None else "",
        bytes=sum(s.st_blocks * 512 for s in stats.values()),
        is_alive=is_alive,
        waiting_bytes=waiting,
        waiting_since=_since(directory, name, at, end, files) if waiting else None,
        newest=max((s.st_mtime for s in segments.values()), default=0.0),
    )


def _page(directory: Path, name: str, files: Files) -> fmt.CounterPage | None:
    try:
        fd = files.open(directory / "counters", 0)
    except FileNotFoundError:
        return None
    try:
        return fmt.read_page(files.pread(fd, fmt.COUNTERS_BYTES, 0), ProcessFacts(uuid.UUID(name), "", "", 0))
    finally:
        files.close(fd)


def _since(directory: Path, name: str, at: Position, end: int, files: Files) -> float | None:
    reader = SegmentReader(directory, name, files, at.next)
    try:
        messages = reader.take(1, 1, end).messages
        return _time(messages[0]) if messages else None
    except RecordError:
        return None
    finally:
        reader.close()


def _time(message: Message) -> float | None:
    if message.kind is Kind.RECORD:
        return decode(message.payload).timestamp / 1000
    if message.kind is Kind.STATEMENT:
        return decode_statement(message.payload).at / 1000
    return None
