"""Sends a response joined from prepared pieces, as fast as the client reads.

The whole response is in memory once. Each piece, and its share of the lease, is freed when it was handed to the
network.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..query.admission import Lease
from ..record.slices import Cuts
from ..store.base import Row
from .operation import NO_STORE

__all__ = ["PIECE_BYTES", "PageResponse", "PartsResponse"]

# The server buffers one piece beyond its high-water mark of 64 KiB: small enough for 250 slow readers. A page of 8 MiB
# in 128 pieces costs no more than in one.
PIECE_BYTES = 65_536


class PartsResponse(Response):
    """Sends `parts` one after the other and empties the list. Holds `lease` until the response is sent or has
    failed."""

    def __init__(
        self, parts: list[bytes], headers: dict[str, str], lease: Lease, content_type: str = "application/json"
    ) -> None:
        parts.reverse()  # so that the next one can be popped
        self._parts = parts
        self._length = sum(map(len, parts))
        self._lease = lease
        super().__init__(b"", 200, {**NO_STORE, **headers, "content-length": str(self._length)}, content_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._send_pieces(send)
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._parts.clear()
            self._lease.close()

    async def _send_pieces(self, send: Send) -> None:
        left = self._length
        piece: list[bytes] = []
        size = 0
        while self._parts:
            part = self._parts.pop()
            piece.append(part)
            size += len(part)
            if size >= PIECE_BYTES or not self._parts:
                await send({"type": "http.response.body", "body": b"".join(piece), "more_body": True})
                left -= size
                self._lease.resize(left)
                piece, size = [], 0


class PageResponse(PartsResponse):
    """Sends `start`, the views of `rows` separated by `between`, and `end`. Empties `rows`."""

    def __init__(
        self,
        rows: list[Row],
        view: Callable[[bytes, Cuts], bytes],
        start: bytes,
        end: bytes,
        headers: dict[str, str],
        lease: Lease,
        *,
        between: bytes = b",",
        content_type: str = "application/json",
    ) -> None:
        parts = [start]
        rows.reverse()
        while rows:  # one by one: otherwise the page would be in memory twice
            row = rows.pop()
            parts.append(view(row.record, row.cuts))
            if rows:
                parts.append(between)
        parts.append(end)
        super().__init__(parts, headers, lease, content_type)
