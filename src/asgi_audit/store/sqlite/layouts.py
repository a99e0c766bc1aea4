"""How the rows of a day file are laid out: version 2, which new days get, and version 1, in which days that began
before it are written on.

Version 2 keeps the bytes of up to 16 records in one compressed block. Records of one stream in one batch share their
blocks, so that a page of a stream opens few of them, and what repeats is near.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Protocol

import apsw

from ...record.codec import Decoded
from ...record.slices import pack_cuts
from .codec import Compressor
from .tokens import Tokens

__all__ = ["BLOCK_RECORDS", "Layout", "LayoutOne", "LayoutTwo"]

BLOCK_RECORDS = 16
_BLOCK_BYTES = 65_536  # of records; a larger one has a block of its own
_FRAMES = 256  # compressed in one call
_CACHED_MAX = 50_000  # kinds remembered; a full cache starts anew
_FULLTEXT = "INSERT INTO fulltext (rowid, message, tokens) VALUES (?, ?, ?)"
_MINUTE_MS = 60_000

Kind = tuple[str, str, str, str, int]  # account, service, level, method, status


class Layout(Protocol):
    def insert(
        self,
        records: Sequence[Decoded],
        ids: Sequence[int],
        pids: Sequence[int | None],
        sids: Sequence[int],
        iseqs: Sequence[int],
    ) -> None:
        """Rows and full text of new records, sorted by timestamp, in the caller's transaction. Errors are apsw's."""

    def forget(self) -> None:
        """What was interned was rolled back."""


class LayoutOne:
    def __init__(self, connection: apsw.Connection, compressor: Compressor, tokens: Tokens) -> None:
        self._connection = connection
        self._compress = compressor.compress
        self._tokens = tokens

    def insert(
        self,
        records: Sequence[Decoded],
        ids: Sequence[int],
        pids: Sequence[int | None],
        sids: Sequence[int],
        iseqs: Sequence[int],
    ) -> None:
        frames = _frames(self._compress, [d.data for d in records])
        self._connection.executemany(
            f"INSERT INTO record VALUES ({','.join('?' * 16)})",
            (
                (
                    number, iseq, pid, d.sequence, sid, d.timestamp, d.status, d.method, d.level, d.region,
                    d.principal, d.operation, d.request_id, None if pid is not None else d.id, pack_cuts(d.cuts), frame,
                )
                for d, number, iseq, pid, sid, frame in zip(records, ids, iseqs, pids, sids, frames, strict=True)
            ),
        )  # fmt: skip
        _insert_texts(self._connection, self._tokens, records, ids)

    def forget(self) -> None:
        pass


class LayoutTwo:
    def __init__(self, connection: apsw.Connection, compressor: Compressor, tokens: Tokens) -> None:
        self._connection = connection
        self._compress = compressor.compress
        self._tokens = tokens
        self._kids: dict[Kind, int] = {}
        self._block: int = connection.execute("SELECT max(block) FROM block").get or 0

    def insert(
        self,
        records: Sequence[Decoded],
        ids: Sequence[int],
        pids: Sequence[int | None],
        sids: Sequence[int],
        iseqs: Sequence[int],
    ) -> None:
        places = self._insert_blocks(records, sids)
        self._connection.executemany(
            f"INSERT INTO record VALUES ({','.join('?' * 21)})",
            (
                (
                    number, iseq, pid, d.sequence, sid, d.timestamp, d.status, d.method, d.level, d.region, d.outcome,
                    d.principal, d.operation, d.route, d.client, d.request_id, d.trace_id,
                    None if pid is not None else d.id, pack_cuts(d.cuts), *place,
                )
                for d, number, iseq, pid, sid, place in zip(records, ids, iseqs, pids, sids, places, strict=True)
            ),
        )  # fmt: skip
        _insert_texts(self._connection, self._tokens, records, ids)
        self._sum_up(records)

    def forget(self) -> None:
        self._kids.clear()

    def _insert_blocks(self, records: Sequence[Decoded], sids: Sequence[int]) -> list[tuple[int, int]]:
        """Where each record rests: its block, and the byte at which its line begins there."""
        places: list[tuple[int, int]] = [(0, 0)] * len(records)
        blocks: list[bytes] = []
        lines: list[bytes] = []
        size = 0
        number = self._block + 1
        for at in sorted(range(len(records)), key=sids.__getitem__):  # stable: by time within a stream
            data = records[at].data
            if lines and (len(lines) >= BLOCK_RECORDS or size + len(data) > _BLOCK_BYTES):
                blocks.append(b"\n".join(lines))
                lines, size, number = [], 0, number + 1
            places[at] = (number, size)
            lines.append(data)
            size += len(data) + 1
        blocks.append(b"\n".join(lines))
        self._connection.executemany(
            "INSERT INTO block VALUES (?, ?)", enumerate(_frames(self._compress, blocks), self._block + 1)
        )
        self._block = number
        return places

    def _sum_up(self, records: Sequence[Decoded]) -> None:
        counts = Counter(
            ((d.account, d.service, d.level, d.method, d.status), d.timestamp // _MINUTE_MS) for d in records
        )
        kid_of = self._kids.get
        rows = [(kid_of(kind) or self._kid(kind), minute, count) for (kind, minute), count in counts.items()]
        hours: Counter[tuple[int, int]] = Counter()
        for kid, minute, count in rows:
            hours[kid, minute // 60] += count
        for table, found in (("minutes", rows), ("hours", [(*key, count) for key, count in hours.items()])):
            self._connection.executemany(
                f"INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET records = records + excluded.records",
                found,
            )

    def _kid(self, kind: Kind) -> int:
        execute = self._connection.execute
        found = execute(
            "SELECT kid FROM kind WHERE account = ? AND service = ? AND level = ? AND method = ? AND status = ?", kind
        ).get
        if found is None:
            execute("INSERT INTO kind (account, service, level, method, status) VALUES (?, ?, ?, ?, ?)", kind)
            found = self._connection.last_insert_rowid()
        if len(self._kids) >= _CACHED_MAX:
            self._kids.clear()
        self._kids[kind] = int(found)
        return int(found)


def _frames(compress: Callable[[Sequence[bytes]], list[bytes]], pieces: Sequence[bytes]) -> Iterator[bytes]:
    """A few at a time: all of a batch as a list is what the garbage collector then walks."""
    return chain.from_iterable(compress(pieces[at : at + _FRAMES]) for at in range(0, len(pieces), _FRAMES))


def _insert_texts(connection: apsw.Connection, tokens: Tokens, records: Sequence[Decoded], ids: Sequence[int]) -> None:
    texts: Iterable[tuple[int, Decoded]] = zip(ids, records, strict=True)
    if any(a > b for a, b in pairwise(ids)):
        # FTS5 starts a new segment at each rowid that is lower than the one before.
        texts = sorted(texts, key=lambda numbered: numbered[0])
    of = tokens.of
    # After all rows, in one statement: FTS5 writes a segment at each statement that begins.
    connection.executemany(_FULLTEXT, ((number, d.message, of(d)) for number, d in texts))
