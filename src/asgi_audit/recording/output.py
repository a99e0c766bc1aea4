"""Where built records go: into the journal or, while it cannot be written, into memory until it can.

`held` contains what is built and not in the journal yet, in order of sequence, at most 8 MiB. A machine with a
read-only disk is served from there, too. After a failure the next attempt comes 50 ms to 2 s later. When the memory is
full the newest records are lost, so that what is held has no gaps. A record that the journal refuses because of its
size is lost alone. A statement that a failed turn left behind is written before anything else. Each loss is counted,
and stated.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from itertools import islice

from ..errors import TransportError
from ..record.statement import Statement
from ..transport.base import Entry, EntryWriter, Kind
from .log import RecorderLog
from .state import RecorderState

__all__ = ["BATCH_BYTES", "Output"]

BATCH_BYTES = 1 << 20
_HELD_BYTES_MAX = 8 << 20
_RETRY_SECONDS = (0.05, 2.0)
_SHED_BODIES, _SHED_HEADERS = 0.90, 0.95


class Output:
    """Used only by the recorder's thread. After a broken turn, and in the thread that follows, `Writing` puts `held`
    in order before anything is appended."""

    def __init__(self, state: RecorderState, log: RecorderLog) -> None:
        self._state = state
        self._log = log
        self.writer: EntryWriter | None = None  # None until the journal is open
        # With the leaf hash, which is made where the record is built, in slices.
        self.held: deque[tuple[Entry, bytes]] = deque()
        self.held_bytes = 0
        self.unwritten: list[tuple[Statement, bytes]] = []  # statements that may or may not be in the journal
        self.is_failing = False
        self.retry_at = 0.0  # monotonic
        self._retry_after = _RETRY_SECONDS[0]
        self._tried_at = 0.0
        self._counters: memoryview | None = None
        self._is_half_full_said = False

    def open(self) -> None:
        state = self._state
        try:
            self.writer = state.open_writer(state.facts)
        except Exception as e:
            self._failed()
            why: object = type(e).__name__
            if isinstance(e, TransportError):
                why = f"{e} ({e.hint})" if e.hint else e
            self._log(
                logging.ERROR,
                "open",
                "asgi-audit: the journal cannot be opened; records stay in memory (at most %d MiB) until it can: %s",
                _HELD_BYTES_MAX >> 20,
                why,
            )
            return
        finally:
            state.opened.set()
        self.attach()
        self.is_failing = False
        self._retry_after = _RETRY_SECONDS[0]

    def attach(self) -> None:
        """Let the counters live in the journal's page. The journal has a new page when its directory was removed."""
        if self.writer is not None and self.writer.counters is not self._counters:
            self._state.attach(self.writer.counters)
            self._counters = self.writer.counters

    def _failed(self) -> None:
        now = time.monotonic()
        self.is_failing = True
        self.retry_at = now + self._retry_after
        self._retry_after = min(self._retry_after * 2, _RETRY_SECONDS[1])
        self._state.count("journal_errors")

    def pressure(self) -> tuple[int, str]:
        """What to leave out of records (0 nothing, 1 bodies, 2 headers too), and the reason why records are refused, or
        ''."""
        held = self.held_bytes / _HELD_BYTES_MAX
        if held >= 1.0:
            return 2, "journal"
        room = self.writer.room() if self.writer is not None else 0.0
        if room >= 0.5 and not self._is_half_full_said:
            self._is_half_full_said = True
            self._log(
                logging.WARNING,
                "half",
                "asgi-audit: the journal is half full; %s When it is full, records are lost",
                self._state.full_reason(),
            )
        elif room < 0.4:
            self._is_half_full_said = False
        if room >= 1.0:
            return 2, "journal_full"
        used = max(held, room)
        return (2 if used >= _SHED_HEADERS else 1 if used >= _SHED_BODIES else 0), ""

    def is_full(self) -> bool:
        return self.writer is not None and self.writer.room() >= 1.0

    def append_held(self, *, is_asked: bool) -> bool:
        """Append all that is held, in order. Returns True when all of it is in the journal. After a failure, attempts
        are 50 ms to 2 s apart; with `is_asked` (a request or a flush waits) always 50 ms."""
        writer = self.writer
        now = time.monotonic()
        if writer is None or self.unwritten:  # a statement goes first
            self._cut_held()
            return False
        if self.is_failing and now < self.retry_at and not (is_asked and now >= self._tried_at + _RETRY_SECONDS[0]):
            self._cut_held()
            return False
        self._tried_at = now
        while self.held:
            chunk = [entry for entry, _ in self.held]
            size = self.held_bytes
            if size > BATCH_BYTES:
                size = 0
                for count, entry in enumerate(chunk, 1):
                    size += len(entry.payload)
                    if size >= BATCH_BYTES:
                        del chunk[count:]
                        break
            try:
                writer.append(chunk)
            except TransportError as e:
                if not e.retriable and len(chunk) > 1:
                    chunk = chunk[:1]  # one by one, to find the entry that the journal refuses
                    size = len(chunk[0].payload)
                    try:
                        writer.append(chunk)
                    except TransportError as alone:
                        if alone.retriable:
                            self._failed()
                            return False
                        self._refuse(chunk[0], alone)
                        continue
                elif not e.retriable:
                    self._refuse(chunk[0], e)
                    continue
                else:
                    self._failed()
                    self._log(
                        logging.ERROR,
                        "append",
                        "asgi-audit: the journal cannot be written; records wait in memory: %s%s",
                        e,
                        f" ({e.hint})" if e.hint else "",
                    )
                    self._cut_held()
                    return False
            self._state.ledger.recorded([leaf for _, leaf in islice(self.held, len(chunk))])
            for _ in chunk:
                self.held.popleft()
            self.held_bytes -= size
            with self._state.lock:
                self._state.recorded += len(chunk)
        if self.is_failing:
            self.is_failing = False
            self._retry_after = _RETRY_SECONDS[0]
            self._log(logging.WARNING, "again", "asgi-audit: the journal can be written again")
        self.attach()
        return True

    def _refuse(self, entry: Entry, e: TransportError) -> None:
        self._state.record_loss(entry.sequence, entry.sequence, "journal")
        self.held.popleft()
        self.held_bytes -= len(entry.payload)
        self._log(logging.ERROR, "refuse", "asgi-audit: the journal refuses a record: %s", e)

    def _cut_held(self) -> None:
        """Lose what does not fit into memory. The newest go first, so that what is held has no gaps."""
        while self.held_bytes > _HELD_BYTES_MAX:
            entry, _ = self.held[-1]
            self._state.record_loss(entry.sequence, entry.sequence, "journal")
            self.held.pop()
            self.held_bytes -= len(entry.payload)

    def sync(self) -> bool:
        if self.writer is None:
            return False
        try:
            self.writer.sync()
        except TransportError as e:
            self._state.count("sync_errors")
            self._log(logging.ERROR, "sync", "asgi-audit: records may not survive a crash of the machine: %s", e)
            return False
        return True

    def write_again(self, entries: list[Entry]) -> bool:
        """Append the same records again, in a new segment. After a failed sync the kernel may have dropped their pages,
        and a second sync of the old segment would succeed without writing them. The index drops what comes twice."""
        if self.writer is None:
            return False
        try:
            self.writer.append(entries)
        except TransportError:
            return False
        return self.sync()

    def write_statements(self) -> bool:
        """Returns True when all are written. A statement that a failed turn left behind is appended with the same
        bytes: it may be in the journal already."""
        state = self._state
        while self.unwritten and self.writer is not None:
            statement, data = self.unwritten[0]
            try:
                self.writer.append([Entry(Kind.STATEMENT, statement.last, data)])
            except TransportError as e:
                self._failed()
                self._log(logging.ERROR, "append", "asgi-audit: the journal cannot be written: %s", e)
                return False
            with state.lock:
                state.ledger.written([statement], data)
            self.unwritten.pop(0)
        return not self.unwritten
