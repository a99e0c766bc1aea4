"""One process's own journal: append-only segments under a lock, and a page of counters that survives kill -9.

Place: the recorder's thread appends here; a source reads the entries and removes them.

Invariants:
* An append is one write: either all of its entries are in the journal, or none. Readers stop at the published end, so
  they never see what a failed write left behind.
* kill -9 loses nothing that was appended. A crash of the machine loses what was appended after the last `sync`.

Bounds: the whole root, dead processes included, has at most `bytes_max`. The sizes are read once a second, so several
processes together may exceed it by one second's writing. The journal never fills the disk: when less than a floor is
free (16 MiB or two segments, at most a twentieth of the disk) it counts as full. An index on the same disk then has
room to take records in, which frees the journal's room. A segment is closed at `segment_bytes` (or half of the floor
when that is less, because only whole segments can be removed), or after a minute when it holds 64 KiB.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import struct
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import TransportError
from ...forking import Step, after_fork_in_child
from ..base import Entry, Kind, ProcessFacts
from ..fences import boot_id
from ..files import Files
from . import format as fmt
from .lock import DirectoryLock, take
from .root import make_root

__all__ = ["JournalWriter"]

_SCAN_SECONDS = 1.0
_SEGMENT_SECONDS = 60.0
# Readers can only unlink whole segments. Small enough that the journal shrinks while it is indexed; large enough that a
# busy process closes one in seconds, not several a second.
SEGMENT_BYTES = 8 << 20
_SEGMENT_BYTES_OLD = 1 << 16
_UNSYNCED_MAX = 8  # closed segments that are not synced yet; with more, each is synced when it is closed
_RESERVE_MAX = 1 << 20  # room for statements when records no longer fit
_FLOOR_BYTES = 16 << 20  # of the disk, left free for the index
_FLOOR_SHARE = 20  # at most this fraction of the disk (1/n)
_SEGMENT_BYTES_MIN = 1 << 16
_EXTENT = os.O_RDWR | os.O_CREAT | os.O_TRUNC

log = logging.getLogger("asgi_audit")

_writers: weakref.WeakSet[JournalWriter] = weakref.WeakSet()


def _after_fork() -> None:
    # The child must not keep the parent's files open, and must never write to its shared page.
    for writer in list(_writers):
        writer._abandon()
    _writers.clear()


after_fork_in_child(Step.JOURNAL, _after_fork)


class JournalWriter:
    """See `base.EntryWriter`. Raises TransportError when the directory cannot be made; used by one thread."""

    def __init__(
        self,
        root: Path,
        facts: ProcessFacts,
        *,
        bytes_max: int,
        segment_bytes: int | None = None,
        files: Files | None = None,
        boot: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self._facts = facts
        self._name = str(facts.process)
        self._directory = root / self._name
        self._bytes_max = bytes_max
        self._segment_bytes = SEGMENT_BYTES if segment_bytes is None else segment_bytes
        self._files = files or Files()
        self._boot = boot_id() if boot is None else boot
        self._monotonic = monotonic
        self._lock: DirectoryLock | None = None
        self._fd = -1
        self._end = 0  # the offset behind the last good entry
        self._size = 0  # good bytes of the open segment
        self._since = 0.0
        self._dirty = False  # the open segment has bytes that are not synced
        self._names_dirty = True  # names in the directory are not synced
        self._unsynced: list[int] = []
        self._scanned_at = float("-inf")
        self._used = 0
        self._free = 0
        self._floor = 0
        self._known = fmt.SegmentHeader(process=self._name, base=0)
        self._page: tuple[int, int] | None = None  # device and inode
        self._is_torn = False  # its page or its lock file was removed
        self._closed = False
        try:
            self._make_directory(bytes(24))
        except OSError as e:
            raise self._error("open", e) from e
        _writers.add(self)

    # ------------------------------------------------------------------------------------------------------- contract

    def append(self, entries: Sequence[Entry]) -> None:
        try:
            data = fmt.encode_entries(entries)
        except ValueError as e:
            raise TransportError(f"journal append: {e}", retriable=False) from e
        if self._closed:
            raise TransportError("journal append: the journal is closed", retriable=False)
        try:
            if self._used + len(data) > self._bytes_max or self._monotonic() - self._scanned_at >= _SCAN_SECONDS:
                self._scan()
                if self._used + len(data) > self._bytes_max:
                    raise TransportError(
                        f"journal append: {self._used} bytes in {self.root} and {len(data)} more; accepted: at most "
                        f"{self._bytes_max}",
                        retriable=len(data) <= self._bytes_max,
                        hint="an indexer or forwarder must read the journal",
                    )
            if self._is_torn:
                self._restore_directory()
            self._write(data)
        except OSError as e:
            raise self._error("append", e) from e
        self._note(entries)

    def sync(self) -> None:
        """See `EntryWriter`. After a failure the kernel may have dropped the written pages, and a second sync would
        succeed without writing them. So the open segment is abandoned, and the caller appends again what must be
        durable."""
        failed: OSError | None = None
        for fd in self._unsynced:
            try:
                self._files.fdatasync(fd)
            except OSError as e:
                failed = e
            self._close_fd(fd)
        self._unsynced = []
        if self._dirty and self._fd >= 0:
            try:
                self._files.fdatasync(self._fd)
                self._dirty = False
            except OSError as e:
                failed = e
                self._abandon_segment()
        if self._names_dirty and failed is None:
            try:
                self._files.fsync_directory(self._directory)
                self._files.fsync_directory(self.root)
                self._names_dirty = False
            except OSError as e:
                failed = e
        if failed is not None:
            raise self._error("sync", failed) from failed

    def room(self) -> float:
        if self._monotonic() - self._scanned_at >= _SCAN_SECONDS:
            self._scan()
        limit = min(self._bytes_max, self._used + max(0, self._free - self._floor))
        limit -= min(_RESERVE_MAX, limit // 16)
        return self._used / limit if limit > 0 else 1.0

    def close(self) -> None:
        """Close the files. The directory stays for the readers."""
        if self._closed:
            return
        self._closed = True
        _writers.discard(self)
        self._abandon()

    # -------------------------------------------------------------------------------------------------------- writing

    def _write(self, data: bytes) -> None:
        old = self._monotonic() - self._since >= _SEGMENT_SECONDS and self._size >= _SEGMENT_BYTES_OLD
        if self._fd >= 0 and (self._size >= self._segment_max() or old):
            self._retire_segment()
        for attempt in (1, 2):
            if self._fd < 0:
                self._begin_segment()
            self._put(data)
            # A write to a file that was unlinked succeeds, and is lost when the descriptor is closed.
            if self._files.fstat(self._fd).st_nlink or attempt == 2:
                break
            self._abandon_segment()
        self._size += len(data)
        self._end += len(data)
        self._used += len(data)
        self._free -= len(data)
        self._dirty = True
        self._publish(committed=self._end)

    def _segment_max(self) -> int:
        return (
            min(self._segment_bytes, max(_SEGMENT_BYTES_MIN, self._floor // 2)) if self._floor else self._segment_bytes
        )

    def _put(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                written = self._files.pwrite(self._fd, memoryview(data)[done:], self._size + done)
                if written <= 0:
                    raise OSError(errno.EIO, "nothing was written")
                done += written
        except OSError:
            try:
                self._files.ftruncate(self._fd, self._size)
            except OSError:
                # The bytes may stay: readers stop at the published end, and the next segment's base ends this one.
                self._abandon_segment()
            raise

    def _begin_segment(self) -> None:
        header = self._known
        header.base = self._end
        data = fmt.encode_segment_header(header)
        try:
            fd = self._files.open(self._directory / fmt.segment_name(self._end), _EXTENT)
        except FileNotFoundError:
            self._make_directory(bytes(self.counters))
            fd = self._files.open(self._directory / fmt.segment_name(self._end), _EXTENT)
        self._fd, self._size, self._since = fd, 0, self._monotonic()
        self._names_dirty = True
        try:
            self._put(data)
        except OSError:
            if self._fd >= 0:
                self._abandon_segment()
            raise
        base = self._end
        self._size = len(data)
        self._end += len(data)
        self._used += len(data)
        self._dirty = True
        # In this order: a reader that sees the new end looks for the new base next.
        self._publish(open_base=base)
        self._publish(committed=self._end)

    def _retire_segment(self) -> None:
        """Close the full segment. The next `sync` syncs it, or this call when too many wait for that."""
        fd, self._fd = self._fd, -1
        if self._dirty:
            self._unsynced.append(fd)
            self._dirty = False
        else:
            self._close_fd(fd)
        if len(self._unsynced) > _UNSYNCED_MAX:
            oldest = self._unsynced.pop(0)
            try:
                if self._files.fstat(oldest).st_nlink:
                    self._files.fdatasync(oldest)
            finally:
                self._close_fd(oldest)
        self._scanned_at = float("-inf")

    def _abandon_segment(self) -> None:
        fd, self._fd = self._fd, -1
        self._dirty = False
        self._close_fd(fd)

    def _note(self, entries: Sequence[Entry]) -> None:
        """Remember the facts about this segment that the next one's header must contain."""
        known = self._known
        for kind, sequence, payload in entries:
            if kind is Kind.RECORD:
                present = known.present
                if present and sequence == present[-1][1] + 1:  # nearly always: the next one
                    present[-1] = (present[-1][0], sequence)
                elif sequence > known.covered:
                    fmt.add_sequence(present, sequence)
            elif kind is Kind.STATEMENT:
                fmt.note_statement(known, payload)

    # ------------------------------------------------------------------------------------------------------ directory

    def _make_directory(self, counts: bytes) -> None:
        """Make it under a temporary name, lock it, then rename it: it never appears without its lock and its page."""
        if self._lock is not None:
            self._lock.release()  # of a directory that was removed
            self._lock = None
        making = self._begin_making()
        try:
            self._lock = self._new_lock(making)
            mapped = self._new_page(making, counts)
            self._files.rename(making, self._directory)
        except BaseException:
            self._remove_new(making)
            raise
        self._use_page(mapped)

    def _root_since(self) -> float:
        """The time to store as the making of the root (seconds since the epoch): the start of this process, because
        exchanges before the journal is open are recorded in it, too."""
        return min(time.time(), self._facts.started / 1000)

    def _restore_directory(self) -> None:
        """Restore the page or the lock file of a directory that still exists. Without the page the journal is not read;
        without the lock file other processes cannot see that this one runs. Its segments stay where they are."""
        if not self._is_there(self._directory):
            self._make_directory(bytes(self.counters))
            self._log_restored()
            return
        making = self._begin_making()
        try:
            if self._lock is None or not self._lock.is_current(self._directory):
                if self._lock is not None:
                    self._lock.release()
                    self._lock = None
                lock = self._new_lock(making)
                # Locked before it gets its name: otherwise an adopter could find the process dead in between.
                try:
                    self._files.rename(making / "lock", self._directory / "lock")
                except BaseException:
                    lock.release()
                    raise
                self._lock = lock
            if self._is_page_current():
                mapped = None
            else:
                mapped = self._new_page(making, bytes(self.counters))
                self._files.rename(making / "counters", self._directory / "counters")
        finally:
            self._remove_files(making)
        if mapped is not None:
            self._use_page(mapped)
        self._is_torn = False
        self._names_dirty = True
        self._log_restored()

    def _log_restored(self) -> None:
        log.warning("asgi-audit: files of the journal %s were removed while in use; created again", self._directory)

    def _begin_making(self) -> Path:
        make_root(self.root, self._files, self._root_since)
        making = self.root / f".new-{self._name}"
        try:
            self._files.mkdir(making)
        except FileExistsError:  # left by an earlier attempt of this process
            pass
        return making

    def _new_lock(self, making: Path) -> DirectoryLock:
        lock = take(making, self._name, self._files, create=True)
        if lock is None:
            raise OSError(errno.EWOULDBLOCK, "the directory of a new process is locked by another process", str(making))
        return lock

    def _new_page(self, making: Path, counts: bytes) -> mmap.mmap:
        files = self._files
        page = bytearray(fmt.new_page(self._facts, self._boot))
        page[fmt.COUNTERS] = counts
        page[fmt.COMMITTED] = struct.pack("<Q", self._end)
        page[fmt.OPEN_BASE] = struct.pack("<Q", self._end - self._size if self._fd >= 0 else self._end)
        fd = files.open(making / "counters", _EXTENT)
        try:
            # Written, not only truncated to its size: on a full disk, a store into a hole would raise SIGBUS.
            if files.pwrite(fd, bytes(page), 0) != len(page):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(making))
            there = files.fstat(fd)
            self._page = there.st_dev, there.st_ino
            return mmap.mmap(fd, len(page))
        finally:
            files.close(fd)

    def _use_page(self, mapped: mmap.mmap) -> None:
        self._is_torn = False
        self._names_dirty = True
        view = memoryview(mapped)
        self.counters = view[fmt.COUNTERS]
        self._ends = view[fmt.COMMITTED.start : fmt.OPEN_BASE.stop]
        self._end_words = self._ends.cast("Q") if sys.byteorder == "little" else None

    def _is_page_current(self) -> bool:
        try:
            there = self._files.stat(self._directory / "counters")
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == self._page

    def _is_there(self, path: Path) -> bool:
        try:
            self._files.stat(path)
        except FileNotFoundError:
            return False
        return True

    def _remove_new(self, making: Path) -> None:
        self._remove_files(making)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _remove_files(self, making: Path) -> None:
        for name in ("counters", "lock"):
            try:
                self._files.unlink(making / name)
            except OSError:
                pass
        try:
            self._files.rmdir(making)
        except OSError:
            pass

    def _publish(self, *, committed: int | None = None, open_base: int | None = None) -> None:
        at, value = (0, committed) if committed is not None else (1, open_base or 0)
        if self._end_words is not None:
            self._end_words[at] = value  # one aligned store, so a reader never sees half of the value
        else:
            struct.pack_into("<Q", self._ends, at * 8, value)

    def _scan(self) -> None:
        self._scanned_at = self._monotonic()
        used = 0
        try:
            # Indexed and unlinked before it was synced: close it, because an open file keeps its room on the disk.
            for fd in [fd for fd in self._unsynced if not self._files.fstat(fd).st_nlink]:
                self._unsynced.remove(fd)
                self._close_fd(fd)
            for name in self._files.names(self.root):
                try:
                    for inner in self._files.names(self.root / name):
                        if inner.endswith(".seg"):
                            used += self._files.stat(self.root / name / inner).st_size
                except OSError:
                    continue  # a reader removed it in this moment
            self._used = used
            self._free = self._files.free_bytes(self.root)
            floor = max(_FLOOR_BYTES, 2 * self._segment_bytes)
            self._floor = min(floor, self._files.disk_bytes(self.root) // _FLOOR_SHARE)
            self._is_torn = (
                not self._is_page_current() or self._lock is None or not self._lock.is_current(self._directory)
            )
        except OSError:
            return

    def _abandon(self) -> None:
        for fd in (self._fd, *self._unsynced):
            if fd >= 0:
                self._close_fd(fd)
        self._fd, self._unsynced = -1, []
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _close_fd(self, fd: int) -> None:
        try:
            self._files.close(fd)
        except OSError:
            pass

    def _error(self, operation: str, e: OSError) -> TransportError:
        elsewhere = "set another place with `home`, `transport` or `journal`"
        hint = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is exceeded",
            errno.EROFS: f"the file system is read-only; {elsewhere}",
            errno.ENOTDIR: f"a file is in place of the directory; {elsewhere}",
            errno.EACCES: f"the process may not write there; correct the permissions, or {elsewhere}",
        }.get(e.errno or 0, "")
        return TransportError(f"journal {operation} in {self._directory}: {e.strerror or e}", retriable=True, hint=hint)
