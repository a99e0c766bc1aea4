"""Runs export requests: waits until the index is complete for the window, reads a snapshot oldest first in short
transactions, one chunk at a time, and completes the object.

Place: in a separate process beside the API. Progress is noted in `control.db` after the data is on disk, so kill -9 at
any point neither repeats nor loses a record: the next runner truncates the part to the noted progress and continues.
Several runners may run; the one that holds the lock of a part writes it. Memory: at most `JOBS_MAX` open parts, of
which one set of accounts has `JOBS_OF_ACCOUNTS_MAX`, and one chunk. Jobs take turns, a chunk each, so that a long
export does not delay others. When the disk is full or has less than `free_bytes_min` free, the export ends in Failed
and its space is freed for the index.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from ..control.exports import ENDED, Export, Exports, Progress, State
from ..disk import PRIVATE, Access
from ..errors import AuditError, QueryError, StoreError, types_and_places
from ..store.base import Reader
from .base import Target, TargetError
from .files import unlink
from .manifest import claims_of, manifest_of
from .part import Damaged, Part, PartHeld, part_path
from .waiting import complete_until, incomplete_reason, shown_time

__all__ = ["CHUNK_BYTES", "JOBS_MAX", "JOBS_OF_ACCOUNTS_MAX", "PATIENCE_MS", "Runner"]

# How long to wait for T, counted from the request or the end of its window, whichever is later; also how long retriable
# errors are retried.
PATIENCE_MS = 15 * 60_000
CHUNK_BYTES = 2 << 20
CHUNK_RECORDS = 10_000
JOBS_MAX = 32
JOBS_OF_ACCOUNTS_MAX = 2  # open at once for keys with the same accounts
_POLL_SECONDS = 0.5
_BEAT_SECONDS = 5.0
_SWEEP_SECONDS = 60.0
_REST_SECONDS = 5.0  # after a retriable error
_FREE_BYTES = 512 << 20  # left free for journal and index, often on the same disk; a twentieth of a small disk
_WAITS_FOR_OTHERS = "it waits for exports that were requested earlier"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger("asgi_audit.exports")
T = TypeVar("T")


class _Refused(Exception):
    """The export can never be completed; the text is the reason."""


class _IndexFailed(Exception):
    """Caused by a StoreError of the index, not of the control database."""


@dataclass
class _Job:
    """One export whose part is open. `ready`: the part was truncated to the noted progress. `progress`: as noted."""

    export: Export
    part: Part
    progress: Progress
    ready: bool = False


class _Trouble(NamedTuple):
    """An export has had errors since `since` (ms) and is not retried before `rests_until` (monotonic)."""

    since: int
    rests_until: float


class Runner:
    """Used by one thread. `named_index`: returns the id of the expected index, '' while unknown. `days`: how long
    objects and requests are kept after their end."""

    def __init__(
        self,
        exports: Exports,
        target: Target,
        open_reader: Callable[[], Reader],
        *,
        named_index: Callable[[], str] = lambda: "",
        days: int = 7,
        access: Access = PRIVATE,
        chunk_bytes: int = CHUNK_BYTES,
        free_bytes_min: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = secrets.token_hex(8)
        self._exports = exports
        self._target = target
        self._open_reader = open_reader
        self._named_index = named_index
        self._days = days
        self._access = access
        self._chunk_bytes = chunk_bytes
        self._free_bytes_min = free_bytes_min
        self._monotonic = monotonic
        self._reader: Reader | None = None
        self._jobs: dict[str, _Job] = {}
        self._failing: dict[str, str] = {}  # failures that could not be noted yet: id to reason
        self._troubled: dict[str, _Trouble] = {}
        self._beaten = self._looked = self._swept = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Runs until `stop` is set. Errors of the control database are logged and retried."""
        said = ""
        try:
            while not stop.is_set():
                try:
                    worked, said = self.step(), ""
                except AuditError as e:
                    self._close_jobs()
                    worked = False
                    if str(e) != said:
                        said = str(e)
                        _log.error("exports cannot continue: %s; trying again", e)
                if not worked:
                    stop.wait(_POLL_SECONDS)
        finally:
            self.close()

    def step(self) -> bool:
        """Handles every export once, one chunk of each that is being written. Returns whether more work is ready now.
        Raises StoreError when the control database cannot be used."""
        self._beat()
        self._note_failures()
        self._sweep()
        if not self._jobs or self._monotonic() - self._looked >= _POLL_SECONDS:
            self._looked = self._monotonic()
            there = self._exports.open()
            self._troubled = {e.id: self._troubled[e.id] for e in there if e.id in self._troubled}
            for export in there:
                if export.id not in self._jobs and export.id not in self._failing and not self._rests(export):
                    self._guarded(export, lambda e=export: self._look(e))  # type: ignore[misc]
        going = [job for job in self._jobs.values() if not self._rests(job.export)]
        for job in going:
            self._guarded(job.export, lambda j=job: self._advance(j))  # type: ignore[misc]
        return bool(going)

    def close(self) -> None:
        """Keeps parts and progress; another runner continues with them."""
        self._close_jobs()
        self._close_reader()
        with contextlib.suppress(AuditError):
            self._exports.leave(self.id)

    # -- one export

    def _look(self, export: Export) -> None:
        now = self._exports.now_ms()
        query = export.query
        if export.progress is not None:
            self._take_up(export, export.progress)
        elif now < query.end:
            self._exports.say(export.id, f"it waits until its time range has passed, {shown_time(query.end)}")
        else:
            until = self._ask(lambda reader: complete_until(reader, query.start, query.end, query.accounts))
            if until is not None and until >= query.end:
                if self._has_room(export):
                    self._begin(export, until)
            elif now >= max(export.created_ms, query.end) + PATIENCE_MS:
                why = self._ask(lambda reader: incomplete_reason(reader, query.end, until, export.reach))
                self._exports.end(export.id, State.TIMED_OUT, why)
            elif not (export.state is State.PENDING and export.reason):
                self._exports.say(export.id, f"it waits until the index is complete until {shown_time(query.end)}")

    def _has_room(self, export: Export) -> bool:
        of_accounts = sum(job.export.reach == export.reach for job in self._jobs.values())
        if len(self._jobs) < JOBS_MAX and of_accounts < JOBS_OF_ACCOUNTS_MAX:
            return True
        if export.progress is None and export.reason != _WAITS_FOR_OTHERS:
            self._exports.say(export.id, _WAITS_FOR_OTHERS)
        return False

    def _begin(self, export: Export, until: int) -> None:
        # Read completeness before the snapshot: in the other order the manifest could claim records that are not in the
        # object.
        claims, published = self._ask(
            lambda reader: (claims_of(reader, export.query, until), reader.snapshot().published)
        )
        progress = Progress(index=self._named_index(), published=published)
        self._exports.begin(export.id, progress, claims)
        self._take_up(replace(export, state=State.PENDING, progress=progress, claims=claims), progress)

    def _take_up(self, export: Export, progress: Progress) -> None:
        if not self._has_room(export):
            return
        if export.state is State.CREATING and (manifest := self._target.finished(export.id)) is not None:
            self._complete(export, manifest)
            return
        try:
            part = Part(part_path(self._target.work, export.id), self._access)
        except PartHeld:
            return
        current = self._exports.get(
            export.id, days=self._days
        )  # progress that another runner noted before it released the part
        if current is None or current.state in ENDED or current.progress is None:
            part.discard()
            part.close()
        else:
            self._jobs[export.id] = _Job(current, part, current.progress)

    def _advance(self, job: _Job) -> None:
        if not job.ready:
            self._resume(job)
            return
        export, progress = job.export, job.progress
        if export.state is State.CREATING:
            self._finish(job)
            return
        self._check_room()
        rows, more = self._ask(
            lambda reader: reader.page(
                export.query,
                published=progress.published,
                before=progress.after,
                limit=CHUNK_RECORDS,
                bytes_max=self._chunk_bytes,
            )
        )
        if rows:
            appended = job.part.append(b"\n".join([*(row.record for row in rows), b""]))
            progress = replace(
                progress,
                after=rows[-1].id,
                records=progress.records + len(rows),
                bytes=progress.bytes + appended.bytes,
                plain_bytes=progress.plain_bytes + appended.plain_bytes,
            )
        is_written = not more and progress.records > 0
        if rows or is_written:
            if not self._exports.advance(export.id, progress, _so_far(progress), is_written=is_written):
                self._drop(job, discard=True)  # it has ended meanwhile
                return
            job.progress = progress
        if is_written:
            job.export = replace(export, state=State.CREATING, progress=progress)
        elif not more:
            self._check_index(job)
            self._drop(job, discard=True)
            self._exports.end(export.id, State.DOES_NOT_EXIST)
        self._troubled.pop(export.id, None)

    def _resume(self, job: _Job) -> None:
        self._check_index(job)
        try:
            job.part.resume(job.progress.bytes, job.progress.plain_bytes, self._beat)
        except Damaged:
            if job.progress.bytes:
                _log.warning(
                    "export %s: its partial file does not match the stored progress; starting again", job.export.id
                )
            job.progress = Progress(index=job.progress.index, published=job.progress.published)
            job.export = replace(job.export, state=State.PENDING)
            self._exports.advance(job.export.id, job.progress, _so_far(job.progress))
            job.part.resume(0, 0, self._beat)
        job.ready = True

    def _finish(self, job: _Job) -> None:
        export = job.export
        self._check_index(job)
        query = export.query
        begins = self._ask(lambda reader: reader.completeness(query.start, query.end, query.accounts).begins)
        manifest = manifest_of(export, job.progress, job.part.sha256, begins)
        self._target.put(export.id, job.part.path, manifest, self._beat)
        self._complete(export, manifest)
        self._drop(job, discard=False)
        unlink(job.part.path)  # left over when the target did not rename it

    def _complete(self, export: Export, manifest: bytes) -> None:
        self._exports.end(export.id, State.COMPLETE, manifest=hashlib.sha256(manifest).hexdigest())
        self._troubled.pop(export.id, None)

    # -- what goes wrong

    def _guarded(self, export: Export, work: Callable[[], None]) -> None:
        """Runs `work`; its errors end or delay this export only. Raises StoreErrors of the control database."""
        try:
            work()
        except OSError as e:
            if e.errno in _FULL:
                self._fail(export, "the disk of the exports has too little free space for it")
            else:
                self._trouble(export, f"its file could not be written: {e.strerror}", e)
        except QueryError as e:
            self._fail(export, str(e))
        except TargetError as e:
            if e.retriable:
                self._trouble(export, "its object could not be stored", e)
            else:
                _log.error("export %s failed: %s", export.id, e)
                self._fail(export, "its object could not be stored; the server's log says why")
        except _Refused as e:
            self._fail(export, str(e))
        except _IndexFailed as failed:
            error = failed.__cause__
            if isinstance(error, StoreError) and error.retriable:
                self._trouble(export, "the index could not be read", error)
            else:
                _log.error("export %s failed: %s", export.id, error)
                self._fail(export, "the index could not be read; the server's log says why")
        except StoreError:
            raise
        except Exception as e:
            _log.error("export %s failed: %s", export.id, types_and_places(e))
            self._fail(export, "an unexpected error happened; the server's log has details")

    def _trouble(self, export: Export, why: str, error: Exception) -> None:
        """Schedules a retry, until `PATIENCE_MS` is over. After an error of its file the part is resumed first, because
        it is unknown how much was written."""
        now = self._exports.now_ms()
        before = self._troubled.get(export.id)
        if before is None:
            _log.warning("export %s: %s (%s); trying again", export.id, why, error)
        since = now if before is None else before.since
        if abs(now - since) >= PATIENCE_MS:
            self._fail(export, f"{why}; the server's log has details")
            return
        self._troubled[export.id] = _Trouble(since, self._monotonic() + _REST_SECONDS)
        job = self._jobs.get(export.id)
        if job is not None and isinstance(error, OSError):
            job.ready = False

    def _rests(self, export: Export) -> bool:
        trouble = self._troubled.get(export.id)
        return trouble is not None and self._monotonic() < trouble.rests_until

    def _fail(self, export: Export, reason: str) -> None:
        """Frees the space before noting the failure, which may need it."""
        job = self._jobs.get(export.id)
        if job is not None:
            self._drop(job, discard=True)
        with contextlib.suppress(OSError, TargetError):
            self._target.discard(export.id)
        self._failing[export.id] = reason
        self._note_failures()

    def _note_failures(self) -> None:
        for id_, reason in list(self._failing.items()):
            self._exports.end(id_, State.FAILED, reason)
            del self._failing[id_]
            self._troubled.pop(id_, None)

    def _drop(self, job: _Job, *, discard: bool) -> None:
        self._jobs.pop(job.export.id, None)
        try:
            if discard:
                job.part.discard()
        except OSError as e:
            _log.warning("export %s: its partial file could not be removed: %s", job.export.id, e.strerror)
        finally:
            job.part.close()

    def _check_index(self, job: _Job) -> None:
        index = self._named_index()
        if job.progress.index and index and index != job.progress.index:
            raise _Refused("the index was replaced while its records were read")

    def _check_room(self) -> None:
        found = shutil.disk_usage(self._target.work)
        least = min(_FREE_BYTES, found.total // 20) if self._free_bytes_min is None else self._free_bytes_min
        if found.free < least + self._chunk_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # -- around them

    def _beat(self) -> None:
        now = self._monotonic()
        if now - self._beaten >= _BEAT_SECONDS:
            self._exports.beat(self.id)
            self._beaten = now

    def _sweep(self) -> None:
        """Removes expired exports: the object first, so that no object remains without its request."""
        if self._monotonic() - self._swept < _SWEEP_SECONDS:
            return
        self._swept = self._monotonic()
        removed = []
        for id_ in self._exports.over(days=self._days):
            try:
                self._target.remove(id_)
                unlink(part_path(self._target.work, id_))
            except (OSError, TargetError) as e:
                _log.warning("the object of export %s could not be removed: %s; trying again", id_, e)
            else:
                removed.append(id_)
        if removed:
            self._exports.remove(removed)

    def _ask(self, question: Callable[[Reader], T]) -> T:
        """Raises _IndexFailed, QueryError."""
        try:
            if self._reader is not None:
                try:
                    return question(self._reader)
                except StoreError:
                    # A file was purged or rebuilt under an open connection: retry once with a new connection.
                    self._close_reader()
            self._reader = self._open_reader()
            return question(self._reader)
        except StoreError as e:
            self._close_reader()
            raise _IndexFailed from e

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with contextlib.suppress(AuditError):
                reader.close()

    def _close_jobs(self) -> None:
        for job in list(self._jobs.values()):
            self._drop(job, discard=False)


def _so_far(progress: Progress) -> str:
    return f"{progress.records} records ({progress.plain_bytes} bytes) are written"
