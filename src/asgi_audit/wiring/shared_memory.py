"""Memory shared by the processes of one `serve`: a few counters, and the text of the indexer's metrics.

`serve --workers N` serves with N processes, and some bounds hold for all workers together: responses in flight per key,
and failures per address or key id. Each worker writes only its own block of the memory and reads all blocks. There are
no locks, so a worker that is killed or stopped at any point cannot block another. A worker counts itself first and then
checks the sum: two at once may both be refused, but the bound is never exceeded. The parent clears the counts of a dead
worker.

Names are hashed into `KEYS` and `WINDOWS` cells, with a random salt per start. Two names in one cell share a bound: a
key then gets a smaller share, or a wrong key gets 429 instead of 401; a valid key is never refused for it. Size: 0.15
MB per worker, in an unnamed file that disappears with the last process. Clock: `time.monotonic`, the same in all
processes of a machine.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Final

from ..metrics import Values

__all__ = ["METRICS_SECONDS", "PARTS", "THROTTLES", "SharedMemory", "SharedWindows", "Text"]

KEYS: Final = 2_048
WINDOWS: Final = 4_096
THROTTLES: Final = 2
_WORD = 8
# Words of the head.
_SALT, _INDEXER, _WORKERS_UP, _TOLD = range(4)
_RESTARTS = 8
_HEAD = 16
PARTS: Final = ("exporter", "indexer", "worker")
"""The processes that `serve` restarts; values of a metric's label."""
# Words of a worker's block: its heartbeat; for each throttle four words (unrecorded refusals, time of the last recorded
# one, start and count of the overall window); responses in flight per key cell; for each throttle start and count of
# each window.
_BEAT = 0
_THROTTLE = 8
_IN_FLIGHT = 16
_WINDOW = _IN_FLIGHT + KEYS
_BLOCK = _WINDOW + THROTTLES * 2 * WINDOWS
_NS = 1_000_000_000

NONE, RUNNING, ENDED = range(3)
METRICS_SECONDS: Final = 10.0
"""How old the indexer's metrics may be: it writes them each second."""


class SharedMemory:
    """The shared memory behind `fd`, for `workers` processes. `slot`: block of this process, from 0; -1: the parent,
    which has no block."""

    def __init__(
        self, fd: int, workers: int, slot: int = -1, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.fd = fd
        self.workers = workers
        self.slot = slot
        self._monotonic = monotonic
        size = (_HEAD + workers * _BLOCK) * _WORD
        self._words = memoryview(mmap.mmap(fd, size)).cast("q")
        self._salt = struct.pack("<q", self._words[_SALT])
        self._bases = [_HEAD + n * _BLOCK for n in range(workers)]
        self._mine = _HEAD + slot * _BLOCK
        if slot >= 0:
            self.left(slot)

    @classmethod
    def make(cls, workers: int) -> SharedMemory:
        """Creates the memory, in the parent. Raises OSError."""
        with tempfile.TemporaryFile(prefix="asgi-audit-") as file:
            file.truncate((_HEAD + workers * _BLOCK) * _WORD)
            os.pwrite(file.fileno(), os.urandom(_WORD), _SALT * _WORD)
            return cls(os.dup(file.fileno()), workers)

    def close(self) -> None:
        """The memory stays mapped until the process ends: threads may still read it."""
        os.close(self.fd)

    # -- the parent's side

    def left(self, slot: int) -> None:
        """Resets the slot of a worker that ended or starts: nothing in flight, no heartbeat."""
        base = self._bases[slot]
        self._words[base + _BEAT] = 0
        for n in range(base + _IN_FLIGHT, base + _IN_FLIGHT + KEYS):
            self._words[n] = 0

    def note(self, *, indexer: bool | None, workers: int, restarts: Mapping[str, int]) -> None:
        """Stores the state of the child processes. `indexer`: whether it runs, None: no indexer. `restarts`: by
        PARTS."""
        self._words[_INDEXER] = NONE if indexer is None else RUNNING if indexer else ENDED
        self._words[_WORKERS_UP] = workers
        for part, number in restarts.items():
            self._words[_RESTARTS + PARTS.index(part)] = number

    def silent_seconds(self, slot: int) -> float | None:
        """Seconds since the worker's last heartbeat; None: none yet."""
        beat = self._words[self._bases[slot] + _BEAT]
        return self._monotonic() - beat / _NS if beat else None

    # -- a worker's side

    def beat(self) -> None:
        """Heartbeat of this worker's event loop."""
        self._words[self._mine + _BEAT] = int(self._monotonic() * _NS)

    def unready(self) -> str:
        return "the indexer process is not running" if self._words[_INDEXER] == ENDED else ""

    def measures(self) -> Values:
        return {
            "asgi_audit_serve_workers": float(self._words[_WORKERS_UP]),
            "asgi_audit_serve_restarts": {part: float(self._words[_RESTARTS + n]) for n, part in enumerate(PARTS)},
        }

    def add(self, key: str, number: int) -> int:
        """Adds `number` to the responses of a key in flight in this worker. Returns the sum of all workers."""
        cell = _IN_FLIGHT + self._cell(key, KEYS)
        self._words[self._mine + cell] += number
        return sum(self._words[base + cell] for base in self._bases)

    def total(self) -> int:
        """The responses in flight of all keys and workers."""
        return sum(sum(self._words[base + _IN_FLIGHT : base + _IN_FLIGHT + KEYS]) for base in self._bases)

    def windows(self, throttle: int) -> SharedWindows:
        """The windows of the throttle with this number, below `THROTTLES`."""
        return SharedWindows(self, throttle)

    def _cell(self, name: str, cells: int) -> int:
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, key=self._salt).digest()
        return int.from_bytes(digest, "little") % cells


class SharedWindows:
    """See `api.throttle.Windows`; counts over all workers."""

    def __init__(self, memory: SharedMemory, throttle: int) -> None:
        self._memory = memory
        self._words = memory._words
        self._bases = memory._bases
        self._mine = memory._mine
        self._of_throttle = _THROTTLE + 4 * throttle
        self._window = _WINDOW + throttle * 2 * WINDOWS
        self._told = _TOLD + throttle

    @property
    def unrecorded(self) -> int:
        return sum(self._words[base + self._of_throttle] for base in self._bases)

    def add(self, name: tuple[str, str], seconds: float) -> tuple[float, int]:
        now, at = self._now(), self._mine + self._place(name)
        if now - self._words[at] >= seconds * _NS:
            self._words[at + 1] = 0
            self._words[at] = now
        self._words[at + 1] += 1
        return self.get(name, seconds)

    def get(self, name: tuple[str, str], seconds: float) -> tuple[float, int]:
        now, place = self._now(), self._place(name)
        left, number = 0, 0
        for base in self._bases:
            began = self._words[base + place]
            if now - began < seconds * _NS:
                number += self._words[base + place + 1]
                left = max(left, began + int(seconds * _NS) - now)
        return left / _NS, number

    def to_record(self, seconds: float) -> int | None:
        now = self._now()
        if any(
            at and now - at < seconds * _NS
            for at in (self._words[base + self._of_throttle + 1] for base in self._bases)
        ):
            self._words[self._mine + self._of_throttle] += 1
            return None
        self._words[self._mine + self._of_throttle + 1] = now
        unrecorded = self.unrecorded
        left_out = unrecorded - self._words[self._told]
        self._words[self._told] = unrecorded
        return left_out

    def _now(self) -> int:
        return int(self._memory._monotonic() * _NS)

    def _place(self, name: tuple[str, str]) -> int:
        if not name[1]:  # the window of all failures together
            return self._of_throttle + 2
        return self._window + 2 * self._memory._cell("\0".join(name), WINDOWS)


class Text:
    """A text of at most 64 KiB that one process passes to another: the indexer's metrics, which `serve` shows with its
    own. In an unnamed file whose descriptor the child inherits."""

    _HEAD = struct.Struct("<IId")  # bytes, CRC, time.monotonic()
    _BYTES_MAX = 65_536

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def make(cls) -> Text:
        """Raises OSError."""
        with tempfile.TemporaryFile(prefix="asgi-audit-") as file:
            return cls(os.dup(file.fileno()))

    def write(self, text: bytes) -> None:
        if len(text) <= self._BYTES_MAX:
            os.pwrite(self.fd, self._HEAD.pack(len(text), zlib.crc32(text), time.monotonic()) + text, 0)

    def read(self, seconds: float) -> bytes:
        """The text written within the last `seconds`; b'' when there is none."""
        for _ in range(3):  # a writer may be changing it now
            found = os.pread(self.fd, self._HEAD.size + self._BYTES_MAX, 0)
            if len(found) < self._HEAD.size:
                return b""
            size, checksum, at = self._HEAD.unpack_from(found)
            text = found[self._HEAD.size : self._HEAD.size + size]
            if len(text) == size and zlib.crc32(text) == checksum:
                return text if time.monotonic() - at < seconds else b""
        return b""

    def close(self) -> None:
        os.close(self.fd)
