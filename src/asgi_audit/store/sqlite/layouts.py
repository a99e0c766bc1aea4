"""Row layouts of a day file: version 2 for new days, and version 1, which is still written for days that began with it.

Version 2 stores values that many records share once (`shape`), and the bytes of up to 32 records in one compressed
block. Records of one stream in one batch share blocks: a page of a stream then decompresses few blocks, and repeated
text compresses better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Protocol

import apsw

from ...record.codec import Decoded
from ...record.slices import pack_cuts
from .codec import Compressor
from .packing import pack_hex, pack_uuid
from .rollup import ALL_BATCHES, End, Rollup
from .tokens import Tokens

__all__ = ["BLOCK_RECORDS", "Layout", "LayoutOne", "LayoutTwo"]

BLOCK_RECORDS = (
    32  # with 16, a compressed block would fill a little more than half of an 8 KiB page and still take all of it
)
_BLOCK_BYTES = 65_536  # of records; a larger record gets a block of its own
_FRAMES = 256  # compressed in one call
_CACHED_MAX = 50_000  # entries of all caches together; full caches are cleared
_FULLTEXT = "INSERT INTO fulltext (rowid, message, tokens) VALUES (?, ?, ?)"
_MINUTE_MS = 60_000

Shape = tuple[str, int, str, str, str, str, str]


class Layout(Protocol):
    @property
    def rollup(self) -> Rollup | None:
        """None in version 1."""

    def insert(
        self,
        records: Sequence[Decoded],
        ids: Sequence[int],
        pids: Sequence[int | None],
        sids: Sequence[int],
        iseqs: Sequence[int],
        *,
        is_copy: bool,
    ) -> None:
        """Insert rows and full text of new records, sorted by timestamp, in the caller's transaction. `is_copy`: of a
        file that nobody reads yet, with batch numbers in any order. Raises apsw's errors."""


class LayoutOne:
    def __init__(self, connection: apsw.Connection, compressor: Compressor, tokens: Tokens) -> None:
        self._connection = connection
        self._compress = compressor.compress
        self._tokens = tokens
        self.rollup = None

    def insert(
        self,
        records: Sequence[Decoded],
        ids: Sequence[int],
        pids: Sequence[int | None],
        sids: Sequence[int],
        iseqs: Sequence[int],
        *,
        is_copy: bool,
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
        of = self._tokens.of
        _insert_texts(self._connection, [d.message for d in records], [of(d) for d in records], ids)


class LayoutTwo:
    def __init__(self, connection: apsw.Connection, compressor: Compressor, tokens: Tokens) -> None:
        self._connection = connection
        self._compress = compressor.compress
        self._tokens = tokens
        self._block: int = connection.execute("SELECT max(block) FROM block").get or 0
        self.rollup = Rollup(connection)
        self._shapes: dict[Shape, tuple[int, str, End]] = {}  # number, words of the full text, level to status
        self._whose: dict[int, str] = {}  # sid -> words

    def insert(
        self,
        records: Sequence[Decoded],
        ids: Sequence[int],
        pids: Sequence[int | None],
        sids: Sequence[int],
        iseqs: Sequence[int],
        *,
        is_copy: bool,
    ) -> None:
        if len(self._shapes) + len(self._whose) >= _CACHED_MAX:
            self._shapes.clear()
            self._whose.clear()
        shapes, texts, ends = self._derive(records, sids)
        blocks, places = self._insert_blocks([d.data for d in records], sids)
        self._connection.executemany(
            f"INSERT INTO record VALUES ({','.join('?' * 15)})",
            (
                (
                    number, iseq, pid, d.sequence, sid, shape, d.timestamp, d.principal, d.client,
                    pack_uuid(d.request_id), pack_hex(d.trace_id), None if pid is not None else d.id,
                    pack_cuts(d.cuts), block, place,
                )
                for d, number, iseq, pid, sid, shape, block, place in zip(
                    records, ids, iseqs, pids, sids, shapes, blocks, places, strict=True
                )
            ),
        )  # fmt: skip
        _insert_texts(self._connection, [d.message for d in records], texts, ids)
        minutes = [d.timestamp // _MINUTE_MS for d in records]
        self.rollup.add(minutes, sids, ends, ALL_BATCHES if is_copy else iseqs[-1])
        if is_copy:
            self.rollup.write()

    def _derive(self, records: Sequence[Decoded], sids: Sequence[int]) -> tuple[list[int], list[str], list[End]]:
        """Per record: its shape, its tokens, and its level, method and status."""
        shape_of, whose_of, own = self._shapes.get, self._whose.get, self._tokens.own
        shapes: list[int] = []
        texts: list[str] = []
        ends: list[End] = []
        for d, sid in zip(records, sids, strict=True):
            key = (d.method, d.status, d.level, d.region, d.outcome, d.operation, d.route)
            shape, text, end = shape_of(key) or self._shape(key, d)
            whose = whose_of(sid)
            if whose is None:
                whose = self._whose[sid] = self._tokens.whose(d)
            shapes.append(shape)
            texts.append(f"{whose} {text} {own(d)}")
            ends.append(end)
        return shapes, texts, ends

    def _shape(self, key: Shape, d: Decoded) -> tuple[int, str, End]:
        number: int = self._connection.execute(
            "INSERT INTO shape (method, status, level, region, outcome, operation, route) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET status = excluded.status RETURNING shape",
            key,
        ).get
        found = self._shapes[key] = (number, self._tokens.shape(d), (d.level, d.method, d.status))
        return found

    def _insert_blocks(self, pieces: Sequence[bytes], sids: Sequence[int]) -> tuple[list[int], list[int]]:
        """Inserts the bytes of records. The location of each: its block, and the offset of its line in the block."""
        numbers = [0] * len(pieces)
        offsets = [0] * len(pieces)
        blocks: list[bytes] = []
        lines: list[bytes] = []
        size = 0
        number = self._block + 1
        for at in sorted(range(len(pieces)), key=sids.__getitem__):  # stable: by time within a stream
            data = pieces[at]
            if lines and (len(lines) == BLOCK_RECORDS or size + len(data) > _BLOCK_BYTES):
                blocks.append(b"\n".join(lines))
                lines, size, number = [], 0, number + 1
            numbers[at] = number
            offsets[at] = size
            lines.append(data)
            size += len(data) + 1
        blocks.append(b"\n".join(lines))
        self._connection.executemany(
            "INSERT INTO block VALUES (?, ?)", enumerate(_frames(self._compress, blocks), self._block + 1)
        )
        self._block = number
        return numbers, offsets


def _frames(compress: Callable[[Sequence[bytes]], list[bytes]], pieces: Sequence[bytes]) -> Iterator[bytes]:
    """Compresses a few at a time: a list of a whole batch would be traversed by the garbage collector."""
    return chain.from_iterable(compress(pieces[at : at + _FRAMES]) for at in range(0, len(pieces), _FRAMES))


def _insert_texts(
    connection: apsw.Connection, messages: Sequence[str], tokens: Sequence[str], ids: Sequence[int]
) -> None:
    rows: Iterable[tuple[int, str, str]] = zip(ids, messages, tokens, strict=True)
    if any(a > b for a, b in pairwise(ids)):
        # FTS5 starts a new segment at each rowid that is lower than the one before.
        rows = sorted(rows)
    # After all rows, in one statement: FTS5 writes a segment at each statement that begins.
    connection.executemany(_FULLTEXT, rows)
