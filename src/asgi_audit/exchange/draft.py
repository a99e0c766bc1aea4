"""One request and its response as raw parts, while they stream: the `Draft` that the request path fills.

A draft is written by the request's own task until it is sealed and is read by the recorder's thread after that; nobody
writes it then. It holds as few objects as will do, because the request waits for each of them; whatever can be worked
out later is worked out in `sealed.exchange_of`. Bounds: each body keeps at most `limit` bytes, copied or sliced, so
that 64 KiB never pin a 100 MB chunk.

Both are msgspec structs because those are made in C: 0.2 µs where `__slots__` and an `__init__` took 1.2. Setting an
attribute of one is slow, 0.1 µs: most are given when it is made. They compare and hash by identity, and their `repr`
shows no content. They are invisible to the garbage collector: they hold only bytes and text, and so are in no cycle.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..policy.decision import Decision

__all__ = ["SMALL_BYTES", "Body", "Draft", "Headers", "body_of", "is_bodyless"]

Headers = list[tuple[bytes, bytes]]

SMALL_BYTES = 4096  # bodies of at most so much are taken as they come
_NO_BODY = (204, 304)


class Body(msgspec.Struct, eq=False, gc=False):
    """What was seen of one body. `chunks` holds the first `kept` of `total` bytes."""

    chunks: list[bytes] = []
    kept: int = 0  # bytes in `chunks`
    total: int = 0  # bytes that passed by, kept or not
    complete: bool = False  # the final message of the body was seen
    pressure: bool = False  # bytes were dropped because the shared budget was spent

    def data(self) -> bytes:
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)

    def __repr__(self) -> str:
        return f"<Body of {self.total} bytes>"


class Draft(msgspec.Struct, eq=False, gc=False):
    """An exchange while it is open. Text of the scope that others mutate (`path`, `root_path`) is taken at entry; user,
    route at the seal.

    A body is None as long as none was seen, the application's own bytes when it came whole and small in one message
    (these are accounted for at the seal), else a `Body`."""

    ticket: int  # the recorder's, of an open exchange
    began_ns: int  # by the monotonic clock
    started_ns: int  # by the wall clock, since the epoch
    # Of the scope as it was, whatever the server put there.
    method: str
    path: str
    raw_path: bytes | None
    query_string: bytes
    root_path: str
    http_version: str
    scheme: str
    client: Any
    request_headers: Headers  # a copy of the list
    request_id: str
    detail: Decision
    start: tuple[int | None, Headers] | None = None  # status and headers, a copy of the list
    request: bytes | Body | None = None
    response: bytes | Body | None = None
    held: int = 0  # bytes of the shared budget that it holds
    error: tuple[str, bool] | None = None  # what was raised: its type, and whether it is no Exception

    def __repr__(self) -> str:
        return f"<Draft {self.ticket}>"


def is_bodyless(draft: Draft) -> bool:
    """The server sends no body, whatever the application does."""
    return draft.method == "HEAD" or (draft.start is not None and draft.start[0] in _NO_BODY)


def body_of(seen: bytes | Body | None) -> Body:
    if type(seen) is bytes:
        size = len(seen)
        return Body([seen], size, size, True)
    return seen if isinstance(seen, Body) else Body()
