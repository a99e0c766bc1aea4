"""Dead letters in main.db: bounded in number and bytes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import apsw

from ...record.codec import Decoded
from ..state import DeadLetter

__all__ = ["DEAD_LETTER_BYTES_MAX", "bury", "dead_of"]

DEAD_LETTER_BYTES_MAX = 65_536  # of one payload
_DEAD_BYTES_MAX = 64 << 20  # of all payloads; the oldest go first, their count stays
_DEAD_ROWS_MAX = 100_000


def dead_of(source: str, d: Decoded, reason: str) -> DeadLetter:
    """The store does not know a record's offset; its process and sequence say which it was."""
    partition = str(uuid.UUID(bytes=d.process)) if d.process is not None else ""
    return DeadLetter(source, partition, -1, f"{reason} (sequence {d.sequence}, id {d.id[:64]})", d.data)


def bury(main: apsw.Connection, dead: Sequence[DeadLetter], now: int) -> None:
    """Keep them, as noted at `now` (ms); the oldest go when there are too many, their count stays. Inside the caller's
    transaction."""
    kept = [
        (now, d.source, d.partition, d.offset, d.reason, bytes(d.payload[:DEAD_LETTER_BYTES_MAX]), len(d.payload))
        for d in dead
    ]
    main.executemany(
        'INSERT INTO dead_letter (at, source, partition, "offset", reason, payload, payload_bytes) '
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        kept,
    )
    main.execute(
        "UPDATE state SET dead = dead + ?, dead_bytes = dead_bytes + ?", (len(kept), sum(len(k[5]) for k in kept))
    )
    rows, held = main.execute("SELECT (SELECT count(*) FROM dead_letter), dead_bytes FROM state").get
    if rows <= _DEAD_ROWS_MAX and held <= _DEAD_BYTES_MAX:
        return
    for number, size in main.execute("SELECT id, length(payload) FROM dead_letter ORDER BY id").fetchall():
        if rows <= _DEAD_ROWS_MAX and held <= _DEAD_BYTES_MAX:
            break
        main.execute("DELETE FROM dead_letter WHERE id = ?", (number,))
        rows, held = rows - 1, held - size
    main.execute("UPDATE state SET dead_bytes = ?", (held,))
