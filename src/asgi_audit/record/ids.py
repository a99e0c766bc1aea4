"""UUIDv7 (RFC 9562 section 5.7) that carries a given millisecond; random bits come in blocks of urandom, dropped after
fork.

The random parts of ids and salts are made in advance, 64 at a time: a system call, or a lock, for each one would cost
more than everything else. A forked child drops them, because they would give all workers the same ids.
"""

from __future__ import annotations

import os
import uuid

from ..forking import Step, after_fork_in_child
from .line import TIME_END

__all__ = ["new_process", "new_request_id", "record_ids", "started_ms", "uuid7"]

_AHEAD = 64
# `pop` and `extend` are atomic, so no lock is needed.
_tails: list[tuple[str, str]] = []  # what follows the millisecond in a UUID; a salt
_request_ids: list[str] = []
# Random bytes with the bits of the version, 7, and of the variant.
_VERSION = bytes(0x70 | c & 0x0F for c in range(256))
_VARIANT = bytes(0x80 | c & 0x3F for c in range(256))


def _after_fork() -> None:
    _tails.clear()
    _request_ids.clear()


after_fork_in_child(Step.RANDOM, _after_fork)


def record_ids(ms: int) -> tuple[str, str]:
    """(a UUIDv7 as text whose first 48 bits are `ms`, milliseconds since the epoch; 32 hex digits of salt)."""
    try:
        tail, salt = _tails.pop()
    except IndexError:
        made = bytearray(os.urandom(26 * _AHEAD))
        made[::26] = made[::26].translate(_VERSION)
        made[2::26] = made[2::26].translate(_VARIANT)
        d = made.hex()
        _tails.extend([
            (f"{d[at : at + 4]}-{d[at + 4 : at + 8]}-{d[at + 8 : at + 20]}", d[at + 20 : at + 52])
            for at in range(0, len(d), 52)
        ])  # fmt: skip
        return record_ids(ms)
    return f"{(ms & 0xFFFFFFFFFFFF).to_bytes(6, 'big').hex('-', -4)}-{tail}", salt


def uuid7(ms: int) -> str:
    """A UUIDv7 as text, whose first 48 bits are `ms` (milliseconds since the epoch)."""
    return record_ids(ms)[0]


def new_process(ms: int) -> uuid.UUID:
    """The id of an OS process; made when it starts, and again after fork."""
    return uuid.UUID(uuid7(ms))


def started_ms(process: bytes) -> int | None:
    """The milliseconds since the epoch at the beginning of a UUIDv7; None for another UUID, or a time from `TIME_END`
    on."""
    made = int.from_bytes(process[:6], "big")
    return made if process[6] >> 4 == 7 and made < TIME_END else None


def new_request_id() -> str:
    """32 random hex digits, for a request without an X-Request-ID."""
    try:
        return _request_ids.pop()
    except IndexError:
        digits = os.urandom(16 * _AHEAD).hex()
        _request_ids.extend([digits[at : at + 32] for at in range(32, 32 * _AHEAD, 32)])
        return digits[:32]
