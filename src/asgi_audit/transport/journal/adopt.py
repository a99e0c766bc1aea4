"""Adoption: the reader of a journal writes the last statement in place of a process that died.

A server that is killed never writes a last statement, and most servers do not write one at SIGTERM either, so adoption
is the normal end of a journal. The adopter holds the dead process's lock, cuts off a torn entry at the end, and appends
one statement (`closed` = adopted). It covers all sequences that the process gave: those in the journal, and the others
as lost, with the reason `killed`.

An example. The page of counters says that the last sequence was 40; the journal ends with record 38 after a statement
that covers 1 to 30. The statement is: 31 to 40, 8 records, 39 and 40 lost (killed).

Only the segments from the last intact header on are read, because that header describes the contents of the segments
before it. When an adopter dies in the middle, the next one repeats all of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from ...record.merkle import Tree, leaf_hash, statement_digest
from ...record.statement import Lost, Statement, encode_statement
from ...recording.ledger import split
from ..base import Entry, Kind, Message, ProcessFacts
from ..files import Files
from . import format as fmt
from .reader import SegmentReader

__all__ = ["adopt"]

log = logging.getLogger("asgi_audit")


def adopt(directory: Path, facts: ProcessFacts, files: Files, *, boot: str, now_ms: int) -> int:
    """Close the journal of a dead process. The caller holds its lock. Returns the offset of its end. Raises OSError;
    then try again later.

    `facts`: its UUID counts; the rest is read from the page of counters."""
    name = str(facts.process)
    reader = SegmentReader(directory, name, files)
    reader.ended()
    try:
        page = _page(directory, facts, files)
        tail = _Tail(reader, files, name, page)
        statements = _closing(tail, page, facts, proven=page is not None and boot == page.boot != "", now_ms=now_ms)
        if statements:
            tail.append(_chained(statements))
            _say(statements)
        return tail.end
    finally:
        reader.close()


def _say(statements: Sequence[Statement]) -> None:
    """Log a process that ended without a last statement."""
    s = statements[-1]
    lost = [r for statement in statements for r in statement.lost]
    number = sum(r.last - r.first + 1 for r in lost) + sum(statement.lost_more for statement in statements)
    reasons = ", ".join(sorted({r.reason for r in lost}))
    of = f"process {s.process}" + (f" (service {s.service} on {s.host})" if s.service else "")
    still = f"; {s.open_count} requests were still open" if s.open_count else ""
    doubt = "" if s.proven else "; more may be lost: the machine was restarted, or files are missing"
    if number:
        log.error(
            "asgi-audit: %s ended and %d of its records are lost, reason %s%s%s", of, number, reasons, still, doubt
        )
    else:
        log.info("asgi-audit: %s ended and no record of it is lost%s%s", of, still, doubt)


def _chained(statements: Sequence[Statement]) -> list[Entry]:
    """The statements as entries, each with the digest of the one before it."""
    entries: list[Entry] = []
    previous = statements[0].previous
    for statement in statements:
        data = encode_statement(replace(statement, previous=previous))
        previous = statement_digest(data)
        entries.append(Entry(Kind.STATEMENT, statement.last, data))
    return entries


class _Tail:
    """What the segments contain, and where they end when the torn rest is cut off."""

    def __init__(self, reader: SegmentReader, files: Files, name: str, page: fmt.CounterPage | None) -> None:
        self._directory = reader.directory
        self._files = files
        self.known = fmt.SegmentHeader(process=name, base=0)
        self.is_exact = True
        self._tree = Tree()
        self._tree_last = 0
        self.base: int | None = None
        self.end = 0
        bases = reader.bases()
        sizes = {base: self._size(base) for base in bases}
        start = len(bases)
        while start:  # find the last segment with an intact header; a kill can leave at most one without it behind that
            start -= 1
            found = reader.header(bases[start])
            if found is not None:
                self.known = found[0]
                break
        else:
            # The very first segment has no predecessor, so its header is not needed. For any other one, segments or
            # headers were lost, and their records will be missing.
            self.is_exact = bases[0] == 0 if bases else page is None or page.committed == 0
            if not self.is_exact and page is not None:
                self.known.covered = page.last
            self.end = page.committed if page is not None and not bases else 0
        # Some records since the last statement may be in segments that were removed: then there is no root.
        self._is_tree_whole = not self.known.present
        if not bases:
            return
        reader.at = bases[start]
        end = bases[-1] + sizes[bases[-1]]
        torn: int | None = None
        while reader.at < end:
            before = reader.at
            taken = reader.take(10_000, 16 << 20, end)
            self._note(taken.messages)
            if taken.damaged and (not taken.messages or taken.damaged[-1][1] >= taken.messages[-1].next):
                torn = taken.damaged[-1][1]
            elif taken.messages:
                torn = None
            if reader.at == before:
                break
        self.base = bases[-1]
        self.end = end
        if torn is not None and torn >= self.base:
            self._cut(torn - self.base)
            self.end = torn

    def root(self, count: int) -> str | None:
        """The Merkle root of the `count` records since the last statement; None when not all of them can be read."""
        is_whole = self._is_tree_whole and self.is_exact and self._tree.size == count
        return self._tree.root().hex() if is_whole else None

    def _size(self, base: int) -> int:
        return self._files.stat(self._directory / fmt.segment_name(base)).st_size

    def _note(self, messages: Sequence[Message]) -> None:
        known = self.known
        for m in messages:
            if m.kind is Kind.RECORD and m.sequence > known.covered:
                fmt.add_sequence(known.present, m.sequence)
                if m.sequence > self._tree_last:  # else it was appended twice
                    self._tree.append(leaf_hash(m.payload))
                    self._tree_last = m.sequence
            elif m.kind is Kind.STATEMENT and fmt.note_statement(known, m.payload):
                self._tree, self._tree_last, self._is_tree_whole = Tree(), known.covered, True

    def _cut(self, size: int) -> None:
        fd = self._files.open(self._directory / fmt.segment_name(self.base or 0), os.O_RDWR)
        try:
            self._files.ftruncate(fd, size)
        finally:
            self._files.close(fd)

    def append(self, entries: Sequence[Entry]) -> None:
        base = self.end if self.base is None else self.base
        fd = self._files.open(self._directory / fmt.segment_name(base), os.O_RDWR | os.O_CREAT)
        try:
            data = fmt.encode_entries(entries)
            at = self.end - base
            if at == 0:  # a new segment, or one whose header was torn
                self.known.base = base
                data = fmt.encode_segment_header(self.known) + data
            done = 0
            while done < len(data):
                done += self._files.pwrite(fd, memoryview(data)[done:], at + done)
            self._files.fdatasync(fd)
            self.end += len(data)
        finally:
            self._files.close(fd)
        self._files.fsync_directory(self._directory)


def _page(directory: Path, facts: ProcessFacts, files: Files) -> fmt.CounterPage | None:
    try:
        fd = files.open(directory / "counters", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return fmt.read_page(files.pread(fd, fmt.COUNTERS_BYTES, 0), facts)
    finally:
        files.close(fd)


def _closing(
    tail: _Tail, page: fmt.CounterPage | None, facts: ProcessFacts, *, proven: bool, now_ms: int
) -> list[Statement]:
    """The statements to append; none when the process, or an earlier adopter, has stated everything."""
    known = tail.known
    highest = max(known.covered, known.present[-1][1] if known.present else 0)
    # After a restart of the machine the page may be out of date. Counters only grow, so it is still a lower bound.
    last = max(highest, page.last if page is not None else 0)
    excluded = max(known.excluded, page.excluded if page is not None else 0)
    if known.closed in ("final", "adopted") and last == known.covered and excluded == known.excluded:
        return []
    lost: list[Lost] = []
    after = known.covered
    for first, until in [*known.present, (last + 1, last)]:
        if first > after + 1:
            lost.append(Lost(after + 1, first - 1, "killed"))
        after = max(after, until)
    count = last - known.covered - sum(r.last - r.first + 1 for r in lost)
    said = page.facts if page is not None and page.facts is not None else facts
    statement = Statement(
        process=str(facts.process),
        number=known.number + 1,
        at=now_ms,
        first=known.covered + 1,
        last=last,
        count=count,
        lost=lost,
        excluded=excluded,
        unwaited=known.unwaited,
        # Exchanges that began and were never sealed ended with the process.
        open_count=max(0, page.begun - page.last - page.excluded) if page is not None else 0,
        watermark=max(now_ms, known.watermark),
        closed="adopted",
        proven=proven and tail.is_exact,
        clock_steps=known.clock_steps,
        host=said.host,
        service=said.service,
        started=said.started,
        root=tail.root(count),
        policy=known.policy,
        previous=known.previous,
    )
    return split(statement, watermark_before=known.watermark)
