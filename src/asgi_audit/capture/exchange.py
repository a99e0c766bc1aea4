"""One request and its response as raw parts, collected while they stream; what the builder makes a record of.

An exchange is written by the request's own task until it is sealed and is read by the recorder's thread after that;
nobody writes it then. Bounds: each body keeps at most `limit` bytes, copied or sliced, so that 64 KiB never pin a 100
MB chunk.

Both are msgspec structs because those are made in C: an exchange in 0.5 µs with all its defaults where `__slots__` and
an `__init__` took 1.2. They compare and hash by identity, and their `repr` shows no content. What the route is called
is worked out when it is asked for, in the recorder's thread.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Body", "Exchange"]


class Body(msgspec.Struct, eq=False):
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


class Exchange(msgspec.Struct, eq=False):
    """Raw parts. Text of the scope that others mutate (`path`, `root_path`) is taken at entry; user, route at the
    seal."""

    method: str = "GET"
    path: str = ""  # scope["path"] at entry, decoded text
    raw_path: bytes | None = None  # as received, percent-encoded, without the query
    query_string: bytes = b""
    root_path: str = ""
    http_version: str = "1.1"
    scheme: str = "http"
    client: str | None = None  # the peer's address
    request_headers: list[tuple[bytes, bytes]] = []  # a copy of the list; names lower case
    request_id: str = ""
    request_body: Body = msgspec.field(default_factory=Body)
    response_body: Body = msgspec.field(default_factory=Body)
    type: str = "http"  # "http" or "websocket"
    started_ns: int = 0  # wall clock, ns since the epoch
    mono_ns: int = 0  # time.perf_counter_ns at begin
    duration_ns: int = 0
    status: int | None = None
    response_headers: list[tuple[bytes, bytes]] = []
    outcome: str = "completed"  # completed, failed, disconnected, cancelled, interrupted
    error_type: str | None = None
    error_fatal: bool = False  # raised, and no Exception
    account_id: str | None = None  # None: the recorder's static identity
    service: str | None = None
    instance_id: str | None = None
    auth_method: str | None = None
    auth_public_key: str | None = None
    principal: str | None = None
    org_id: str | None = None
    org_key: str | None = None
    route_found: Any = None  # the framework's own object, or the template
    endpoint_found: Any = None  # the framework's own object, or a name
    operation: str | None = None  # annotated
    level: str | None = None  # annotated
    message: str | None = None  # annotated
    annotations: dict[str, Any] | None = None
    detail_request: str = "bodies"  # none, metadata, headers, bodies
    detail_response: str = "bodies"
    held: int = 0  # bytes of the shared budget that this exchange holds
    sequence: int = 0  # given at the seal; 0: excluded or not sealed
    sealed: bool = False

    def __repr__(self) -> str:
        # Logs and tracebacks show reprs; a body or a header must not get there.
        return f"<Exchange {self.sequence} {self.outcome} {self.status}>"

    @property
    def route(self) -> str | None:
        """The template, without the mount's root path."""
        found = self.route_found
        return _text(found if isinstance(found, str) else getattr(found, "path", None))

    @route.setter
    def route(self, value: str | None) -> None:
        self.route_found = value

    @property
    def endpoint(self) -> str | None:
        """The route's name, else the name of the endpoint's function or class."""
        name = getattr(self.route_found, "name", None)
        if name and isinstance(name, str):
            return _text(name)
        found = self.endpoint_found
        if found is None or isinstance(found, str):
            return _text(found)
        return _text(getattr(found, "__name__", None) or type(found).__name__)

    @endpoint.setter
    def endpoint(self, value: str | None) -> None:
        self.endpoint_found = value


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None
