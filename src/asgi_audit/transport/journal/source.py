"""Reads the journals of all processes under one root, adopts those of dead ones, and removes what is stored durably.

Place: the end of the journal at which the indexer, or a forwarder, reads.

Invariants:
* The messages of a process come in order.
* A closed segment is unlinked only before a committed position; a directory is removed only when its process is dead,
  all of it is read, and its end is committed.
* Several sources may read one root: each reads everything, and the lock decides which one adopts. The journal of a
  running process that forwards it by itself is left alone.
* An idle poll costs one listing of the root and one `pread` for each process.

Each poll takes a fence (see `fences.py`): the clock, the listing of the root, the published end of each directory. When
an end cannot be read there is no fence, and `holds` names the directory. Ignored directories do not count until they
are read up to their end.

The journal must be on a local file system: locks and shared memory do not work reliably over a network.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from ...errors import TransportError
from ..base import Fence, Message, Polled, Position, ProcessFacts, SourceIncident
from ..fences import FenceQueue, boot_id, boot_seconds
from ..files import Files
from . import format as fmt
from .adopt import adopt
from .lock import DirectoryLock, take
from .position import Forwarded, read_forwarded, write_forwarded
from .reader import Damage, SegmentReader, Taken
from .removing import LEFTOVER_SECONDS, clean, empty, unlink_behind
from .root import RootFacts, claim_root

__all__ = ["JournalSource"]

_POLL_BYTES_MAX = 8 << 20
_STEP_SECONDS = 0.01
_STUCK_SECONDS = 15.0  # after this time without progress a journal is named in `holds`
_CLAIM_SECONDS = 1.0
_LOG_SECONDS = 60.0
log = logging.getLogger("asgi_audit")


class _Partition:
    __slots__ = (
        "asked", "committed", "delivered", "end", "is_theirs", "lock", "name", "next_look", "reader", "stuck_since",
        "unlinked_below",
    )  # fmt: skip

    def __init__(self, name: str, reader: SegmentReader) -> None:
        self.name = name
        self.reader = reader
        self.committed = reader.at
        self.delivered = reader.at  # the position after the last message, or damage, that was returned
        self.end: int | None = None  # set when adopted
        self.lock: DirectoryLock | None = None
        self.next_look = float("-inf")
        self.unlinked_below = -1
        self.is_theirs = False  # its process runs, and another reader forwards it
        self.asked = reader.at  # its published end when it was read last
        self.stuck_since: float | None = None


class JournalSource:
    """See `base.Source`. The partition of a process is its UUID."""

    name = "journal"

    def __init__(
        self,
        root: Path,
        *,
        files: Files | None = None,
        boot: str | None = None,
        boot_seconds: Callable[[], float] = boot_seconds,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        adopt_seconds: float = 1.0,
        only: str = "",
        keeps_positions: bool = False,
        index: str = "",
    ) -> None:
        """`adopt_seconds`: how often it is checked whether a process is dead. `only`: read the journal of this process,
        and those of dead ones. `keeps_positions`: write committed positions into the process's directory, and continue
        at those that are found there; for forwarders, because a topic keeps no positions. `index`: the id of the index
        that takes the records; a root that belongs to another one is refused."""
        self.root = root
        self._files = files or Files()
        self._boot = boot_id() if boot is None else boot
        self._boot_seconds = boot_seconds
        self._wall = wall
        self._monotonic = monotonic
        self._sleep = sleep
        self._adopt_seconds = adopt_seconds
        self._only = only
        self._keeps_positions = keeps_positions
        self._index = index
        self._next_claim = float("-inf")
        self.root_facts: RootFacts | None = None  # as last read; None before that, and without `index`
        self._partitions: dict[str, _Partition] = {}
        self._positions: dict[str, Position] = {}
        self._gone: list[str] = []
        self._fences = FenceQueue()
        self._ignored: frozenset[str] = frozenset()
        self._begins: dict[str, float | None] = {}
        self._holds: dict[str, str] = {}
        self._recovered: set[str] = set()
        self._incidents: deque[SourceIncident] = deque(maxlen=1000)
        self._has_root = False
        self._turn = 0
        self._next_cleaning = float("-inf")
        self._logged: dict[str, float] = {}

    # ------------------------------------------------------------------------------------------------------- contract

    def open(self, positions: Mapping[str, Position]) -> None:
        self.close()
        self._positions = dict(positions)
        self._fences.clear()

    def made_at(self) -> float | None:
        if self._index:
            with contextlib.suppress(FileNotFoundError):
                self._claim()
        made = None if self.root_facts is None else self.root_facts.made_for(self._index)
        return None if made is None else made / 1000

    def ignore(self, partitions: Collection[str]) -> None:
        self._ignored = frozenset(partitions)

    def measures(self) -> Mapping[str, float]:
        return {}  # the measurements of a journal are read from its directory, see `look`

    def take_incidents(self) -> list[SourceIncident]:
        """Journals that were removed before they were read."""
        taken = list(self._incidents)
        self._incidents.clear()
        return taken

    def poll(self, messages_max: int, timeout_seconds: float) -> Polled:
        deadline = self._monotonic() + timeout_seconds
        while True:
            batch = self._look(messages_max)
            left = deadline - self._monotonic()
            if batch.messages or batch.damaged or left <= 0:
                begins, self._begins = self._begins, {}
                return batch._replace(begins=begins, holds=dict(self._holds), recovered=self._recovered)
            self._sleep(min(_STEP_SECONDS, left))

    def commit(self, positions: Mapping[str, Position]) -> Sequence[str]:
        for name, position in positions.items():
            self._positions[name] = position
            partition = self._partitions.get(name)
            if partition is None:
                if self._is_gone(name):  # an earlier run removed it and ended before it could return this
                    self._positions.pop(name, None)
                    self._gone.append(name)
                continue
            partition.committed = max(partition.committed, position.next)
            try:
                if self._keeps_positions:  # before anything is unlinked: the position must not lie before what is left
                    forwarded = Forwarded(position, by_itself=name == self._only)
                    write_forwarded(partition.reader.directory, forwarded, self._files)
                if partition.committed > partition.unlinked_below:
                    partition.unlinked_below = unlink_behind(partition.reader, partition.committed, self._files)
                self._remove_if_done(partition)
            except OSError as e:
                self._log_rarely(f"remove {name}", "asgi-audit: journal %s: cannot be removed: %s", name, e)
        gone, self._gone = self._gone, []
        return gone

    def close(self) -> None:
        for partition in self._partitions.values():
            partition.reader.close()
            if partition.lock is not None:
                partition.lock.release()
        self._partitions = {}

    # -------------------------------------------------------------------------------------------------------- reading

    def _look(self, messages_max: int) -> Polled:
        fence = Fence(self._wall(), self._boot_seconds(), self._boot)  # first, before the listing and the ends
        self._holds.clear()
        self._find_partitions()
        ends = self._ends()
        if not self._holds.keys() - self._ignored:
            self._fences.add(fence, ends)
        messages: list[Message] = []
        damaged: list[Damage] = []
        positions: dict[str, Position] = {}
        more = False
        size = 0
        self._turn += 1  # begin with another journal each time, so that a busy one does not hold up the others
        names = list(ends)
        for i in range(len(names)):
            partition = self._partitions[names[(i + self._turn) % len(names)]]
            if len(messages) >= messages_max or size >= _POLL_BYTES_MAX:
                more = True
                break
            try:
                taken = self._take(partition, messages_max - len(messages), _POLL_BYTES_MAX - size, ends)
            except FileNotFoundError:
                partition.reader.close()
                more = more or not self._is_nothing(partition)
                continue
            except OSError as e:
                self._cannot_be_read(partition, e)
                continue
            if taken is None:
                continue
            more = more or taken.more
            if taken.messages or taken.damaged:
                messages += taken.messages
                damaged += taken.damaged
                size += sum([len(m.payload) for m in taken.messages])
                reader = partition.reader
                # The position that the caller has seen: after the last message, before a segment header that may follow
                # it.
                partition.delivered = reader.at if taken.damaged else taken.messages[-1].next
                positions[partition.name] = Position(partition.delivered, reader.digest)
        self._recovered = {name for name in self._ignored if self._is_recovered(name, ends)}
        skipped = self._ignored - self._recovered
        self._name_stuck(ends, skipped)
        waiting = [p for p in self._partitions.values() if not p.is_theirs and p.name not in skipped]
        passed = self._fences.passed({p.name: p.reader.at for p in waiting})
        return Polled(messages, positions, more, passed, damaged)

    def _is_recovered(self, name: str, ends: Mapping[str, int]) -> bool:
        """Whether an ignored partition is read up to its end, or gone. The root itself, named `journal`, is recovered
        when it exists again."""
        partition = self._partitions.get(name)
        if partition is None:
            return "journal" not in self._holds
        return partition.is_theirs or (name in ends and partition.reader.at >= ends[name])

    def _name_stuck(self, ends: Mapping[str, int], skipped: Collection[str]) -> None:
        """Name in `holds` the partitions without progress, and each ignored one that is not read to its end."""
        now = self._monotonic()
        for name in ends:
            partition = self._partitions.get(name)
            if partition is None or name in self._holds:
                continue
            if partition.stuck_since is not None and now - partition.stuck_since >= _STUCK_SECONDS:
                self._holds[name] = f"nothing can be read at offset {partition.reader.at}"
            elif name in skipped:
                self._holds[name] = "it is not read up to its end"

    def _ends(self) -> dict[str, int]:
        """The published end of each journal that this source reads. Those whose end cannot be read go to `holds`."""
        ends: dict[str, int] = {}
        for partition in list(self._partitions.values()):
            try:
                self._look_after(partition)
                if partition.is_theirs:
                    continue
                end = partition.end if partition.end is not None else partition.reader.committed()
                ends[partition.name] = partition.asked = end
            except FileNotFoundError:
                partition.reader.close()
                if not self._is_nothing(partition):
                    self._holds[partition.name] = "its file `counters` is gone"
            except OSError as e:
                self._cannot_be_read(partition, e)
        return ends

    def _cannot_be_read(self, partition: _Partition, e: OSError) -> None:
        self._holds[partition.name] = f"it cannot be read: {e.strerror or e}"
        self._log_rarely(f"read {partition.name}", "asgi-audit: journal %s: cannot be read: %s", partition.name, e)

    def _is_nothing(self, partition: _Partition) -> bool:
        """Whether a directory without a page has nothing to read. A directory that an operator created or emptied must
        not hold T for ever."""
        directory = partition.reader.directory
        try:
            names = self._files.names(directory)
            is_old = self._wall() - self._files.stat(directory).st_mtime >= LEFTOVER_SECONDS
        except OSError:
            return False  # removed, or created again, at this moment: look again at the next poll
        if "counters" in names:
            return False
        if any(fmt.segment_base(name) is not None for name in names):
            self._log_rarely(
                f"page {partition.name}",
                "asgi-audit: journal %s: its file `counters` was removed, so it is not read. A running process creates "
                "the file with its next record. If the process is dead, run `touch %s`: the journal is then adopted",
                partition.name,
                directory / "lock",
            )
            return False
        if not names and is_old:
            try:
                self._files.rmdir(directory)  # succeeds only when it is empty; a running process makes it again
            except OSError:
                pass
        return True

    def _look_after(self, partition: _Partition) -> None:
        """Adopt the journal if its process died; else check whether this source should read it."""
        now = self._monotonic()
        if partition.lock is None and now >= partition.next_look:
            partition.next_look = now + self._adopt_seconds
            self._adopt_if_dead(partition)
            partition.is_theirs = partition.lock is None and self._is_theirs(partition.name)

    def _take(self, partition: _Partition, messages_max: int, bytes_max: int, ends: Mapping[str, int]) -> Taken | None:
        reader, end = partition.reader, ends[partition.name]
        taken = reader.take(messages_max, bytes_max, end) if reader.at != end else None
        if reader.at >= end or taken is None or taken.messages or taken.damaged or taken.more:
            partition.stuck_since = None
        elif partition.stuck_since is None:
            partition.stuck_since = self._monotonic()
        if partition.end is not None and taken is None:
            self._remove_if_done(partition)
        return taken

    def _find_partitions(self) -> None:
        try:
            names = self._files.names(self.root)
            self._has_root = True
        except FileNotFoundError:
            names = []  # no process has begun yet
            if self._has_root or self._positions or self._ignored:
                self._holds["journal"] = f"the directory {self.root} is gone"
        except OSError as e:
            raise TransportError(f"journal read in {self.root}: {e.strerror or e}") from e
        # Only after a process has begun here: it writes first when the root was made.
        is_used = any(not name.startswith(".") for name in names)
        if self._index and is_used and self._monotonic() >= self._next_claim:
            self._claim()
            self._next_claim = self._monotonic() + _CLAIM_SECONDS
        for name in names:
            if name not in self._partitions and not name.startswith("."):
                try:
                    if str(uuid.UUID(name)) != name:
                        continue
                except ValueError:
                    continue
                position = self._positions.get(name) or self._kept(name)
                reader = SegmentReader(self.root / name, name, self._files, position.next, position.digest)
                self._partitions[name] = _Partition(name, reader)
                if not position.next:
                    self._note_beginning(reader)
        for name in [n for n in self._partitions if n not in names]:
            partition = self._partitions.pop(name)
            self._note_removed(partition)
            partition.reader.close()
            if partition.lock is not None:
                partition.lock.release()
            self._positions.setdefault(name, Position(partition.committed, b""))
        now = self._monotonic()
        if now >= self._next_cleaning:
            self._next_cleaning = now + LEFTOVER_SECONDS
            clean(self.root, names, self._files, self._wall)

    def _note_beginning(self, reader: SegmentReader) -> None:
        """Note an incident when another reader removed the beginning of this journal."""
        with contextlib.suppress(OSError):
            bases = reader.bases()
            if bases and bases[0] > 0:
                self._begins[reader.name] = None

    def _note_removed(self, partition: _Partition) -> None:
        at = partition.reader.at
        if partition.asked > at and not partition.is_theirs and "journal" not in self._holds:
            self._incidents.append(
                SourceIncident(
                    "retention_passed", partition.name, at, partition.asked, self._wall(),
                    "its journal was removed",
                )
            )  # fmt: skip

    def _claim(self) -> None:
        """Store which index reads this root. Done before anything is read, and again every second,
        because an operator may have assigned the root to another index."""
        try:
            self.root_facts = found = claim_root(self.root, self._index, self._files)
        except FileNotFoundError:
            return  # no process has begun here yet; the index is noted when one has
        except OSError as e:  # read-only or full: then nothing can be removed from it either
            self._log_rarely("claim", "asgi-audit: journal %s: cannot note its index: %s", self.root, e.strerror or e)
            return
        if found.index not in (None, self._index):
            raise TransportError(
                f"the journal {self.root} belongs to the index {found.index}, but is read by the index {self._index}",
                retriable=False,
                hint="Set the index of this journal with --store (`asgi-audit doctor` shows ids), or accept this one "
                "with --new-index.",
            )

    # ------------------------------------------------------------------------------------------ adopting and removing

    def _adopt_if_dead(self, partition: _Partition) -> None:
        directory = self.root / partition.name
        if partition.reader.page_is_gone():
            partition.reader.close()
        try:
            lock = take(directory, partition.name, self._files)
        except FileNotFoundError:
            # Only the lock file was removed, so it is unknown whether the process runs. Leave the directory to the
            # operator.
            return
        if lock is None:
            return
        try:
            facts = ProcessFacts(uuid.UUID(partition.name), "", "", 0)
            end = adopt(directory, facts, self._files, boot=self._boot, now_ms=int(self._wall() * 1000))
        except OSError as e:
            lock.release()
            partition.next_look = self._monotonic() + 5 * self._adopt_seconds
            self._log_rarely(
                f"adopt {partition.name}", "asgi-audit: journal %s: not adopted yet: %s", partition.name, e
            )
            return
        except BaseException:
            lock.release()
            raise
        partition.lock = lock
        partition.end = end
        if partition.is_theirs or partition.name == self._only:  # its forwarder was ahead of this source
            position = self._kept(partition.name)
            if position.next > partition.delivered:
                partition.reader.close()
                partition.reader = SegmentReader(directory, partition.name, self._files, position.next, position.digest)
                partition.committed = partition.delivered = position.next
        partition.reader.ended()

    def _is_theirs(self, name: str) -> bool:
        """Whether another reader takes the journal of this running process."""
        if self._only:
            return name != self._only
        try:
            forwarded = read_forwarded(self.root / name, self._files)
        except OSError:
            return False
        return forwarded is not None and forwarded.by_itself

    def _kept(self, name: str) -> Position:
        """The position of an earlier forwarder, or the beginning."""
        if self._keeps_positions:
            try:
                forwarded = read_forwarded(self.root / name, self._files)
            except OSError:
                forwarded = None
            if forwarded is not None:
                return forwarded.position
        return Position(0, b"")

    def _remove_if_done(self, partition: _Partition) -> None:
        if partition.end is None or partition.reader.at < partition.end or partition.committed < partition.delivered:
            return
        name = partition.name
        # Renamed first, in one step: a directory that is half removed would be adopted as one that lost everything.
        leaving = self.root / f".gone-{name}"
        self._files.rename(partition.reader.directory, leaving)
        partition.reader.close()
        del self._partitions[name]
        self._positions.pop(name, None)
        self._gone.append(name)
        try:
            empty(leaving, self._files)
        finally:
            if partition.lock is not None:
                partition.lock.release()

    def _is_gone(self, name: str) -> bool:
        try:
            return name not in self._files.names(self.root)
        except OSError:
            return False  # the root cannot be read, so this is unknown

    def _log_rarely(self, key: str, text: str, *values: object) -> None:
        now = self._monotonic()
        if now - self._logged.get(key, float("-inf")) >= _LOG_SECONDS:
            if len(self._logged) > 1000:
                self._logged.clear()
            self._logged[key] = now
            log.warning(text, *values)
