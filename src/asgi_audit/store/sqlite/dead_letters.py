"""Dead letters in main.db: bounded in number and bytes; they can be listed, shown and replayed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from ...errors import RecordError
from ...record.codec import Decoded, decode
from ..admin import DeadLetterFacts
from ..state import DeadLetter
from .errors import translated
from .main import open_main
from .schema import MAIN_NAME

__all__ = [
    "DEAD_COLUMNS", "DEAD_LETTER_BYTES_MAX", "bury", "dead_letter", "dead_letters", "dead_of", "record_of", "refuse",
    "remove",
]  # fmt: skip

DEAD_COLUMNS = 'id, at, source, partition, "offset", reason, payload_bytes, length(payload)'

DEAD_LETTER_BYTES_MAX = 65_536  # stored of one payload
_DEAD_BYTES_MAX = 64 << 20  # of all payloads; the oldest are deleted first and stay counted
_DEAD_ROWS_MAX = 100_000


def dead_of(source: str, d: Decoded, reason: str) -> DeadLetter:
    """Makes a dead letter of a record that the store rejects. The store does not know the record's offset; process and
    sequence identify it."""
    partition = str(uuid.UUID(bytes=d.process)) if d.process is not None else ""
    return DeadLetter(source, partition, -1, f"{reason} (sequence {d.sequence}, id {d.id[:64]})", d.data)


def bury(main: apsw.Connection, dead: Sequence[DeadLetter], now: int) -> None:
    """Store dead letters with the time `now` (ms). Over the bounds the oldest are deleted and stay counted. Inside the
    caller's transaction. Does nothing when they are the newest ones already: the batch was committed, and is written
    again because of an error that came after (an I/O error of the file `fence`, or of a look at the files)."""
    kept = [
        (now, d.source, d.partition, d.offset, d.reason, bytes(d.payload[:DEAD_LETTER_BYTES_MAX]), len(d.payload))
        for d in dead
    ]
    # Without the reason, which may contain the time.
    newest = main.execute('SELECT source, partition, "offset", payload FROM dead_letter ORDER BY id DESC')
    if all((*k[1:4], k[5]) == next(newest, None) for k in reversed(kept)):
        return
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


def dead_letters(directory: Path, *, limit: int, before: int | None = None) -> list[DeadLetterFacts]:
    """Newest first; `before`: only those with a smaller id. Raises StoreError."""
    sql = f"SELECT {DEAD_COLUMNS} FROM dead_letter WHERE id < ? ORDER BY id DESC LIMIT ?"
    with translated("read", directory / MAIN_NAME):
        main = open_main(directory / MAIN_NAME)
        try:
            rows: Any = main.execute(sql, (1 << 62 if before is None else before, limit)).fetchall()
        finally:
            main.close(True)
    return [DeadLetterFacts(*row) for row in rows]


def dead_letter(directory: Path, number: int) -> tuple[DeadLetterFacts, bytes] | None:
    """One dead letter with its payload; None when it does not exist. Raises StoreError."""
    with translated("read", directory / MAIN_NAME):
        main = open_main(directory / MAIN_NAME)
        try:
            row: Any = main.execute(
                f"SELECT {DEAD_COLUMNS}, payload FROM dead_letter WHERE id = ?", (number,)
            ).fetchone()
        finally:
            main.close(True)
    return None if row is None else (DeadLetterFacts(*row[:-1]), bytes(row[-1]))


def record_of(main: apsw.Connection, number: int) -> Decoded | None:
    """Decodes the payload of a dead letter as a record; None when the dead letter no longer exists. Raises RecordError
    when it still is no record."""
    row: Any = main.execute("SELECT payload, payload_bytes FROM dead_letter WHERE id = ?", (number,)).fetchone()
    if row is None:
        return None
    payload, size = row
    if len(payload) < size:
        raise RecordError(f"only {len(payload)} of its {size} bytes were kept, so it cannot be replayed")
    return decode(bytes(payload))


def refuse(main: apsw.Connection, number: int, reason: str) -> None:
    """Keep the dead letter, with a new reason."""
    main.execute("UPDATE dead_letter SET reason = ? WHERE id = ?", (f"replayed: {reason}", number))


def remove(main: apsw.Connection, number: int) -> None:
    main.execute("BEGIN IMMEDIATE")
    for (size,) in main.execute("DELETE FROM dead_letter WHERE id = ? RETURNING length(payload)", (number,)).fetchall():
        main.execute("UPDATE state SET dead_bytes = dead_bytes - ?", (size,))
    main.execute("COMMIT")
