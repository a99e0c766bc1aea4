"""One request and its response as raw parts: the `Draft` that the request path collects while they stream, and the
`Exchange` that the recorder's thread makes of it for the builder.

A draft is written by the request's own task until it is sealed and is read by the recorder's thread after that; nobody
writes it then. It holds as few objects as will do, because the request waits for each of them; whatever can be worked
out later is worked out in `exchange_of`. Bounds: each body keeps at most `limit` bytes, copied or sliced, so that 64
KiB never pin a 100 MB chunk.

All are msgspec structs because those are made in C: 0.2 µs where `__slots__` and an `__init__` took 1.2. Setting an
attribute of one is slow, 0.1 µs: most are given when it is made. They compare and hash by identity, and their `repr`
shows no content. What the route is called is worked out when it is asked for, in the recorder's thread. Body and
draft are invisible to the garbage collector: they hold only bytes and text, and so are in no cycle.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .policy import Decision

__all__ = [
    "SMALL_BYTES", "Begun", "Body", "Draft", "Exchange", "Headers", "Parts", "Sealed", "body_of", "exchange_of",
    "is_bodyless",
]  # fmt: skip

Begun = tuple[int, int, int]
"""The recorder's ticket of an open exchange, when it began by the monotonic clock, and by the wall clock (ns)."""
Parts = tuple[str, str, bytes | None, bytes, str, str, str, Any]
"""Of the scope at entry: method, path, raw_path, query_string, root_path, http_version, scheme, client."""
Headers = list[tuple[bytes, bytes]]
Sealed = tuple[str, Any, Any, str | None, dict[str, Any] | None]
"""What the seal adds to a draft: the outcome; of the scope, route and endpoint as the framework left them, and the
principal's name; what was annotated."""

_TEXTS = {str}
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

    begun: Begun
    parts: Parts
    request_headers: Headers  # a copy of the list
    request_id: str
    detail: Decision
    start: tuple[int | None, Headers] | None = None  # status and headers, a copy of the list
    request: bytes | Body | None = None
    response: bytes | Body | None = None
    held: int = 0  # bytes of the shared budget that it holds
    error: tuple[str, bool] | None = None  # what was raised: its type, and whether it is no Exception

    def __repr__(self) -> str:
        return f"<Draft {self.begun[0]}>"


class Exchange(msgspec.Struct, eq=False):
    """Raw parts of a sealed exchange, for the builder."""

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
    sequence: int = 0  # given at the seal

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


def is_bodyless(draft: Draft) -> bool:
    """The server sends no body, whatever the application does."""
    return draft.parts[0] == "HEAD" or (draft.start is not None and draft.start[0] in _NO_BODY)


def body_of(seen: bytes | Body | None) -> Body:
    if type(seen) is bytes:
        size = len(seen)
        return Body([seen], size, size, True)
    return seen if isinstance(seen, Body) else Body()


def exchange_of(draft: Draft, sealed: Sealed, sequence: int, duration_ns: int) -> Exchange:
    """What the builder makes a record of. May raise what the server's own objects raise."""
    outcome, route, endpoint, principal, notes = sealed
    status, response_headers = draft.start or (None, [])
    method, path, raw_path, query_string, root_path, http_version, scheme, client = draft.parts
    if {type(method), type(path), type(root_path), type(http_version), type(scheme)} != _TEXTS:
        method, path, root_path, http_version, scheme = map(_plain, (method, path, root_path, http_version, scheme))
    response = draft.response
    exchange = Exchange(
        method,
        path,
        raw_path,
        query_string,
        root_path,
        http_version,
        scheme,
        client[0] if isinstance(client, (list, tuple)) and client and isinstance(client[0], str) else None,
        draft.request_headers,
        draft.request_id,
        body_of(draft.request),
        # A small body of what has none (Starlette sends one for HEAD) was taken as it came.
        Body(complete=True) if type(response) is bytes and is_bodyless(draft) else body_of(response),
        started_ns=draft.begun[2],
        duration_ns=duration_ns,
        status=status,
        response_headers=response_headers,
        outcome=outcome,
        principal=principal,
        route_found=route,
        endpoint_found=endpoint,
        detail_request=draft.detail.request,
        detail_response=draft.detail.response,
        sequence=sequence,
    )
    # Bytes, says ASGI; Django's test client gives text.
    if type(exchange.query_string) is not bytes:
        exchange.query_string = _bytes(exchange.query_string)
    if type(exchange.raw_path) is not bytes:
        exchange.raw_path = _bytes(exchange.raw_path) or None
    if draft.error is not None:
        exchange.error_type, exchange.error_fatal = draft.error
    if notes is not None:
        for name, value in notes.items():  # what was annotated beats what the scope says
            setattr(exchange, name, value)
    return exchange


def _plain(value: object) -> str:
    """Text of what should be text: bytes by a careless server, None, a number, an enum's member."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("latin-1")
    if isinstance(value, str):
        return str.__str__(value)
    return str(value) if isinstance(value, (int, float)) else ""


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else b""


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None
