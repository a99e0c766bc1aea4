"""One request and its response as raw parts, collected while they stream; what the builder makes a record of.

An exchange is written by the request's own task until it is sealed and is read by the recorder's thread after that; nobody
writes it then. Bounds: each body keeps at most `limit` bytes, copied or sliced, so that 64 KiB never pin a 100 MB chunk.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Body", "Exchange"]


class Body:
    """What was seen of one body. `chunks` holds the first `kept` of `total` bytes."""

    __slots__ = ("chunks", "complete", "kept", "pressure", "total")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.kept = 0  # bytes in `chunks`
        self.total = 0  # bytes that passed by, kept or not
        self.complete = False  # the final message of the body was seen
        self.pressure = False  # bytes were dropped because the shared budget was spent

    def data(self) -> bytes:
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)


class Exchange:
    """Raw parts. Text of the scope that others mutate (`path`, `root_path`) is taken at entry; user, route at the seal."""

    __slots__ = (
        "account_id", "annotations", "auth_method", "auth_public_key", "client", "detail_request", "detail_response",
        "duration_ns", "endpoint", "error_fatal", "error_type", "held", "http_version", "instance_id", "level",
        "message", "method", "mono_ns", "operation", "org_id", "org_key", "path", "principal", "query_string",
        "raw_path", "request_body", "request_headers", "request_id", "response_body", "response_headers", "root_path",
        "route", "scheme", "sealed", "sequence", "service", "started_ns", "status", "outcome", "type",
    )  # fmt: skip

    def __init__(self) -> None:
        self.type = "http"  # "http" or "websocket"
        self.http_version = "1.1"
        self.scheme = "http"
        self.method = "GET"
        self.path = ""  # scope["path"] at entry, decoded text
        self.root_path = ""
        self.raw_path: bytes | None = None  # as received, percent-encoded, without the query
        self.query_string = b""
        self.request_headers: list[tuple[bytes, bytes]] = []  # a copy of the list; names lower case
        self.client: str | None = None  # the peer's address
        self.request_id = ""
        self.started_ns = 0  # wall clock, ns since the epoch
        self.mono_ns = 0  # time.perf_counter_ns at begin
        self.duration_ns = 0
        self.request_body = Body()
        self.response_body = Body()
        self.status: int | None = None
        self.response_headers: list[tuple[bytes, bytes]] = []
        self.outcome = "completed"  # completed, failed, disconnected, cancelled, interrupted
        self.error_type: str | None = None
        self.error_fatal = False  # raised, and no Exception
        self.account_id: str | None = None  # None: the recorder's static identity
        self.service: str | None = None
        self.instance_id: str | None = None
        self.auth_method: str | None = None
        self.auth_public_key: str | None = None
        self.principal: str | None = None
        self.org_id: str | None = None
        self.org_key: str | None = None
        self.route: str | None = None  # the template, without the mount's root path
        self.endpoint: str | None = None  # the route's or endpoint's name
        self.operation: str | None = None  # annotated
        self.level: str | None = None  # annotated
        self.message: str | None = None  # annotated
        self.annotations: dict[str, Any] | None = None
        self.detail_request = "bodies"  # none, metadata, headers, bodies
        self.detail_response = "bodies"
        self.held = 0  # bytes of the shared budget that this exchange holds
        self.sequence = 0  # given at the seal; 0: excluded or not sealed
        self.sealed = False
