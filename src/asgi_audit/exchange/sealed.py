"""An exchange after the seal: the `SealedExchange` that waits for the recorder's thread, and the `Exchange` that the
thread makes of it for the builder.

The names of route and endpoint are read when the builder asks for them, in the recorder's thread. Msgspec structs for
their speed, as in `draft`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from .draft import Body, Draft, Headers, body_of, is_bodyless

__all__ = ["Exchange", "RecordBuilder", "SealedExchange", "Wake", "exchange_of"]

Wake = Callable[[bool], None]
"""Called once, from any thread: with True when the record is durable, with False when it never will be. Must not
raise."""

_TEXTS = {str}


class RecordBuilder(Protocol):
    def build(self, exchange: Exchange, shed: int) -> bytes:
        """The bytes of the record. Called in the recorder's thread. `shed`: 1 leaves out bodies, 2 headers, too."""


class SealedExchange(msgspec.Struct, eq=False, frozen=True, gc=False):
    """A draft that does not change any more, and what the seal adds to it."""

    sequence: int
    ended_ns: int  # by the monotonic clock
    draft: Draft
    outcome: str  # completed, failed, disconnected, cancelled, interrupted
    route: Any  # of the scope, as the framework left it
    endpoint: Any
    principal: str | None
    notes: dict[str, Any] | None  # what was annotated, by the names of an `Exchange`
    builder: RecordBuilder
    wake: Wake | None  # when a request waits until the record is durable

    def __repr__(self) -> str:
        return f"<SealedExchange {self.sequence} {self.outcome}>"


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
    request_headers: Headers = []  # a copy of the list; names lower case
    request_id: str = ""
    request_body: Body = msgspec.field(default_factory=Body)
    response_body: Body = msgspec.field(default_factory=Body)
    type: str = "http"  # "http" or "websocket"
    started_ns: int = 0  # wall clock, ns since the epoch
    duration_ns: int = 0
    status: int | None = None
    response_headers: Headers = []
    outcome: str = "completed"  # completed, failed, disconnected, cancelled, interrupted
    error_type: str | None = None
    error_fatal: bool = False  # raised a BaseException that is not an Exception
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
        # Logs and tracebacks show reprs, which must not contain a body or a header.
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


def exchange_of(sealed: SealedExchange) -> Exchange:
    """What the builder makes a record of. May raise what objects of the server raise."""
    draft = sealed.draft
    status, response_headers = draft.start or (None, [])
    method, path, root_path, http_version, scheme = (
        draft.method, draft.path, draft.root_path, draft.http_version, draft.scheme
    )  # fmt: skip
    client = draft.client
    if {type(method), type(path), type(root_path), type(http_version), type(scheme)} != _TEXTS:
        method, path, root_path, http_version, scheme = map(_plain, (method, path, root_path, http_version, scheme))
    response = draft.response
    exchange = Exchange(
        method,
        path,
        draft.raw_path,
        draft.query_string,
        root_path,
        http_version,
        scheme,
        client[0] if isinstance(client, (list, tuple)) and client and isinstance(client[0], str) else None,
        draft.request_headers,
        draft.request_id,
        body_of(draft.request),
        # Starlette sends a body also for HEAD; a small one is in the draft, and is dropped here.
        Body(complete=True) if type(response) is bytes and is_bodyless(draft) else body_of(response),
        started_ns=draft.started_ns,
        duration_ns=sealed.ended_ns - draft.began_ns,
        status=status,
        response_headers=response_headers,
        outcome=sealed.outcome,
        principal=sealed.principal,
        route_found=sealed.route,
        endpoint_found=sealed.endpoint,
        detail_request=draft.detail.request,
        detail_response=draft.detail.response,
        sequence=sealed.sequence,
    )
    # ASGI says bytes; Django's test client sends text.
    if type(exchange.query_string) is not bytes:
        exchange.query_string = _bytes(exchange.query_string)
    if type(exchange.raw_path) is not bytes:
        exchange.raw_path = _bytes(exchange.raw_path) or None
    if draft.error is not None:
        exchange.error_type, exchange.error_fatal = draft.error
    if sealed.notes is not None:
        for name, value in sealed.notes.items():  # annotations take precedence over the scope
            setattr(exchange, name, value)
    return exchange


def _plain(value: object) -> str:
    """Text of what should be text and may be bytes, None, a number, or a member of an enum."""
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
