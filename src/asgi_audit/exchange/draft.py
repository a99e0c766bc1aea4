"""A `Draft`: the raw parts of one request and its response, collected while they stream.

The request's own task writes a draft until it is sealed; after that it is only read, by the recorder's thread. It
consists of few objects, because the request waits while each is made; what can be derived later is derived in
`sealed.exchange_of`. Bounds: each body keeps at most the configured number of bytes, copied or sliced, so that 64 KiB
never keep a chunk of 100 MB alive.

`Draft` and `Body` are msgspec structs, which are made in C: 0.2 µs instead of 1.2 with `__slots__` and `__init__`.
Setting an attribute of one is slow (0.1 µs), so most are given at once. They compare and hash by identity, and their
`repr` shows no content. The garbage collector does not track them: they contain only bytes and text, so they are in no
cycle.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..policy.decision import Decision

__all__ = ["SMALL_BYTES", "Body", "Draft", "Headers", "body_of", "is_bodyless"]

Headers = list[tuple[bytes, bytes]]

SMALL_BYTES = 4096  # a body of at most this size (bytes), in one message, is kept without a copy
_NO_BODY = (204, 304)


class Body(msgspec.Struct, eq=False, gc=False):
    """What was seen of one body. `chunks`: the first `kept` of its `total` bytes."""

    chunks: list[bytes] = []
    kept: int = 0  # bytes in `chunks`
    total: int = 0  # bytes that were seen, kept or not
    complete: bool = False  # the final message of the body was seen
    pressure: bool = False  # bytes were dropped because the shared budget was spent

    def data(self) -> bytes:
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)

    def __repr__(self) -> str:
        return f"<Body of {self.total} bytes>"


class Draft(msgspec.Struct, eq=False, gc=False):
    """An exchange while it is open. What frameworks change in the scope (`path`, `root_path`) is read at entry; user
    and route are read at the seal.

    `request` and `response`: None while no body was seen; the application's own bytes when the body came whole and
    small in one message (counted in the budget at the seal); else a `Body`."""

    ticket: int  # under which the recorder has it as open
    began_ns: int  # by the monotonic clock
    started_ns: int  # by the wall clock, since the epoch
    # Values of the scope, as the server put them there.
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
    error: tuple[str, bool] | None = None  # (type of the exception, whether it is a BaseException other than Exception)

    def __repr__(self) -> str:
        return f"<Draft {self.ticket}>"


def is_bodyless(draft: Draft) -> bool:
    """Whether the server sends no body, even if the application does: HEAD, 204, 304."""
    return draft.method == "HEAD" or (draft.start is not None and draft.start[0] in _NO_BODY)


def body_of(seen: bytes | Body | None) -> Body:
    if type(seen) is bytes:
        size = len(seen)
        return Body([seen], size, size, True)
    return seen if isinstance(seen, Body) else Body()
