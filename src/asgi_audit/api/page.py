"""A page as it is sent: joined from slices of stored bytes, piece by piece, at the pace of its reader.

The whole page is in memory once, as its rows; each is let go when it was handed to the network, and the lease with it.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..query.admission import Lease
from ..record.slices import Cuts
from ..store.base import Row
from .operation import NO_STORE

__all__ = ["PIECE_BYTES", "PageResponse"]

# The server buffers one piece more than its high-water mark, which is 64 KiB: small enough for 250 slow readers, and a
# page of 8 MiB in 128 pieces costs no more than in one.
PIECE_BYTES = 65_536


class PageResponse(Response):
    """`start`, the views of `rows` with commas between, `end`. Empties `rows`. Holds `lease` until it is sent, or
    could not be."""

    def __init__(
        self,
        rows: list[Row],
        view: Callable[[bytes, Cuts], bytes],
        start: bytes,
        end: bytes,
        headers: dict[str, str],
        lease: Lease,
    ) -> None:
        self._views: list[bytes] = []
        rows.reverse()
        while rows:  # one by one: all rows and all views would be the page twice
            row = rows.pop()
            self._views.append(view(row.record, row.cuts))
        self._start, self._end = start, end
        self._lease = lease
        length = len(start) + sum(map(len, self._views)) + max(0, len(self._views) - 1) + len(end)
        super().__init__(b"", 200, {**NO_STORE, **headers, "content-length": str(length)}, "application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._send_pieces(send)
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self._end})
        finally:
            self._views.clear()
            self._lease.close()

    async def _send_pieces(self, send: Send) -> None:
        left = sum(map(len, self._views))
        self._views.reverse()  # so that the next one can be popped
        piece, size, comma = [self._start], 0, b""
        while self._views:
            view = self._views.pop()
            piece += (comma, view)
            size += len(view)
            comma = b","
            if size >= PIECE_BYTES or not self._views:
                await send({"type": "http.response.body", "body": b"".join(piece), "more_body": True})
                left -= size
                self._lease.resize(left)
                piece, size = [], 0
        if piece:
            await send({"type": "http.response.body", "body": b"".join(piece), "more_body": True})
