"""Flat routes over the segments of a path as it was sent, and resources that answer every method in their dialect's
words.

Starlette matches decoded paths, where `/usage/gw/a%2Fb` has one segment more than was sent and an instance could
name another route; we split first and decode then. With and without the last slash is the same path; nothing
redirects. Every request gets an answer of its dialect's shape: an exception that nobody foresaw is a 500 with a
reference that the log repeats, and neither the answer nor the log holds the exception's text or a traceback with
values.
"""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Awaitable, Callable, Collection
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from ..errors import QueryError, StoreError
from .incoming import Incoming

__all__ = ["DIALECT_KEY", "NO_STORE", "PATH_BYTES_MAX", "Anything", "Failure", "Path", "Resource", "json_response"]

Handler = Callable[[Request], Awaitable[Response]]

DIALECT_KEY = "asgi_audit.dialect"
_SEGMENTS_KEY = "asgi_audit.segments"
# The longest path of ours: an instance of 200 characters, each up to 4 bytes of 3 characters, and a token of 4,096.
PATH_BYTES_MAX = 8_192
_log = logging.getLogger("asgi_audit.api")
NO_STORE = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
_STATUS = {
    "invalid": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "missing": 404,
    "too_large": 413,
    "busy": 429,
    "too_costly": 503,
}
_RETRY_SECONDS = "1"  # an integer above 0: living clients take nothing else


class Failure(NamedTuple):
    """What went wrong, before a dialect puts it into its shape. `action`: what the client can do, or ''."""

    status: int
    message: str
    action: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


Fail = Callable[[Failure], Response]


class Resource:
    """The handlers of one path by method. HEAD is answered as GET without the body."""

    def __init__(self, fail: Fail, **handlers: Handler) -> None:
        self._fail = fail
        self._handlers = handlers
        if "GET" in handlers:
            self._handlers = handlers | {"HEAD": handlers["GET"]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        incoming = Incoming(receive)
        response = await incoming.unless_left(
            self._answer(Request(scope, incoming.receive)), has_body=scope["method"] not in ("GET", "HEAD")
        )
        if response is None:
            return  # nobody is there to be answered
        if scope["method"] == "HEAD":
            response.body = b""  # the length of what GET would bring stays in the headers
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response | None:
        """None when the client left while it was asked for its body."""
        handler = self._handlers.get(request.method)
        if handler is None:
            allow = ", ".join(sorted(self._handlers))
            return self._fail(
                Failure(405, f"{request.method[:20]} is not allowed here", f"Use {allow}.", {"allow": allow})
            )
        try:
            return await handler(request)
        except ClientDisconnect:
            return None
        except QueryError as e:
            status = _STATUS[e.kind]
            headers = {}
            if status == 401:
                headers["www-authenticate"] = 'Bearer realm="asgi-audit"'
            elif status == 429:
                headers["retry-after"] = _RETRY_SECONDS
            return self._fail(Failure(status, str(e), e.hint, headers))
        except StoreError as e:
            reference = _logged(e)
            if e.retriable:
                return self._fail(
                    Failure(
                        503,
                        f"the index cannot answer now (reference {reference})",
                        "Try again in a moment.",
                        {"retry-after": _RETRY_SECONDS},
                    )
                )
            return self._fail(_unexpected(reference))
        except Exception as e:
            return self._fail(_unexpected(_logged(e)))


class Path(BaseRoute):
    """One path: literal segments and `{names}`, each of which stands for one segment, not empty.

    `reserved`: values that the first segment must not have, when it is a name. `dialect`: told to who measures, in the
    scope under `DIALECT_KEY`."""

    def __init__(self, path: str, resource: Resource, *, reserved: Collection[str] = (), dialect: str = "none") -> None:
        self.path = path
        self._pattern = [part for part in path.split("/") if part]
        self._resource = resource
        self._reserved = reserved
        self._dialect = dialect

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        if _SEGMENTS_KEY not in scope:  # split once, not by each route
            scope[_SEGMENTS_KEY] = _segments(scope)
        segments = scope[_SEGMENTS_KEY]
        if segments is None or len(segments) != len(self._pattern) or (segments and segments[0] in self._reserved):
            return Match.NONE, {}
        named: dict[str, str] = {}
        for pattern, segment in zip(self._pattern, segments, strict=True):
            if pattern.startswith("{"):
                named[pattern[1:-1]] = segment
            elif pattern != segment:
                return Match.NONE, {}
        return Match.FULL, {"path_params": named, "endpoint": self._resource, DIALECT_KEY: self._dialect}

    def url_path_for(self, name: str, /, **path_params: object) -> None:  # type: ignore[override]
        raise NoMatchFound(name, dict(path_params))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._resource(scope, receive, send)


class Anything(Path):
    """The last route: whatever no other took."""

    def __init__(self, fail: Fail, action: str) -> None:
        super().__init__("/", Resource(fail))
        self._fail = fail
        self._action = action

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.FULL if scope["type"] == "http" else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = self._fail(Failure(404, "there is nothing at this path", self._action))
        if scope["method"] == "HEAD":
            response.body = b""
        await response(scope, receive, send)


def json_response(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON that no cache keeps and no browser takes for something else."""
    return Response(body, status, {**NO_STORE, **(headers or {})}, "application/json")


def _segments(scope: Scope) -> list[str] | None:
    """Decoded, one slash at the end left out; None for a path with an empty segment, and for one that is too long to
    be ours."""
    raw: bytes = (scope.get("raw_path") or quote(scope["path"]).encode()).split(b"?", 1)[0]
    root = quote(scope.get("root_path", "")).encode()
    if root and raw.startswith(root):
        raw = raw[len(root) :]
    if len(raw) > PATH_BYTES_MAX:
        return None
    parts = raw.removeprefix(b"/").removesuffix(b"/").split(b"/")
    if parts == [b""]:
        return []
    if b"" in parts:
        return None
    # Bytes that are no UTF-8 become surrogates, which no check of a name lets through.
    return [unquote_to_bytes(part).decode(errors="surrogateescape") for part in parts]


def _unexpected(reference: str) -> Failure:
    return Failure(
        500,
        f"an unexpected error happened (reference {reference})",
        "Try again; if it stays, look for the reference in the server's log.",
    )


def _logged(e: Exception) -> str:
    """The reference under which the log holds what happened: types and places, no text of an exception, which may
    hold values."""
    reference = secrets.token_hex(6)
    frames = traceback.extract_tb(e.__traceback__)[-6:]
    where = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    kinds = [type(e).__name__]
    cause = e.__cause__
    while cause is not None and len(kinds) < 4:
        kinds.append(type(cause).__name__)
        cause = cause.__cause__
    _log.error("reference %s: %s at %s", reference, " from ".join(kinds), where)
    return reference
