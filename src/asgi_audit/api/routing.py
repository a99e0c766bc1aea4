"""Builds routes from the table of operations. They match the raw path, segment by segment.

Starlette matches decoded paths, where `/usage/gw/a%2Fb` has one segment more than was sent, so that an instance could
select another route. Here the path is split first and then decoded. A trailing slash is ignored; nothing redirects.
This module applies the row of an operation: it checks the key against the roles before it calls the handler, and
formats all errors for the dialect.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import quote, unquote_to_bytes

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Message, Receive, Scope, Send

from ..capture.annotate import annotate
from ..capture.handle import leave_out
from ..query.model import Grant
from ..record.derived import level_of
from .auth import ACCESS_KEY, Access, Keys
from .failure import REFUSED_KEY, Failure, failure_of
from .incoming import Incoming
from .models import NoParameters, read_parameters
from .operation import Dialect, Operation

__all__ = ["DIALECT_KEY", "PATH_BYTES_MAX", "CatchAll", "Path", "Resource", "names_in", "operation_of", "routes_of"]

DIALECT_KEY = "asgi_audit.dialect"
_SEGMENTS_KEY = "asgi_audit.segments"
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
# The longest valid path: an instance of 200 characters, each up to 4 bytes of 3 characters, and a token of 4,096.
PATH_BYTES_MAX = 8_192
# First segments that `/{service}/{instance}` never takes for a service, beside those of the table: reserved for later.
_TO_COME = frozenset({"checkpoint", "tile"})
# Documented services whose names are also paths of this API; their literal roots have another number of segments.
_SERVICES = frozenset({"logs", "trail"})
_NO_GRANT = Grant(key_id="", role="", accounts=frozenset())  # a caller without a key sees nothing


def routes_of(
    operations: Sequence[Operation], keys: Keys, *, rest: Dialect, elsewhere: str = "", is_whole: bool = True
) -> list[BaseRoute]:
    """All paths, then all literal roots, each in the order of the table; first match wins. `rest`: the dialect of the
    404 when no dialect has the first segment. `elsewhere`: the advice in that 404; '': the one of `rest`. `is_whole`:
    all dialects are served, so segments reserved for later are never services."""
    own: dict[str, list[Operation]] = {}
    literal: dict[str, list[Operation]] = {}
    for operation in operations:
        own.setdefault(operation.path, []).append(operation)
        for path in operation.literal_roots:
            literal.setdefault(path, []).append(operation)
    reserved = {first for path in (*own, *literal) for first in _literals(path)[:1]} | (_TO_COME if is_whole else set())
    reserved -= _SERVICES
    paths = [
        Path(path, Resource(found, keys), reserved=reserved)
        for table in (own, literal)
        for path, found in table.items()
    ]
    return [*paths, CatchAll(operations, rest, elsewhere)]


def operation_of(routes: Iterable[BaseRoute], scope: Scope) -> Operation | None:
    """The operation that will handle the request; None when no row of the table matches."""
    for route in routes:
        if isinstance(route, Path) and route.matches(scope)[0] is Match.FULL:
            return route.resource.operation(scope["method"])
    return None


class Resource:
    """The operations of one path, by method. HEAD responds as GET without the body."""

    def __init__(self, operations: Sequence[Operation], keys: Keys) -> None:
        self._keys = keys
        self._operations: dict[str, Operation] = {operation.method: operation for operation in operations}
        assert len(self._operations) == len(operations), "two operations of one method and path"
        self.dialect = operations[0].dialect
        """Says what is no matter of one operation."""

    def operation(self, method: str) -> Operation | None:
        return self._operations.get("GET" if method == "HEAD" else method)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if REFUSED_KEY in scope:
            await _send(self.dialect.fail(scope[REFUSED_KEY]), scope, receive, send)
            return
        operation = self.operation(scope["method"])
        if operation is None or operation.is_recorded:
            await self._respond(scope, receive, send)
            return
        is_refused = False

        async def sending(message: Message) -> None:
            nonlocal is_refused
            if message["type"] == "http.response.start":
                is_refused = message["status"] >= 400
                if not is_refused:
                    leave_out(scope)
            await send(message)

        try:
            await self._respond(scope, receive, sending)
        finally:
            if not is_refused:
                leave_out(scope)  # the client has left, or the server ends: nothing was said

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        incoming = Incoming(receive)
        response = await incoming.unless_left(
            self._answer(Request(scope, incoming.receive)), has_body=scope["method"] not in ("GET", "HEAD")
        )
        if response is not None:  # else the client has left
            await _send(response, scope, receive, send)

    async def _answer(self, request: Request) -> Response | None:
        """None when the client left before its body was complete."""
        operation = self.operation(request.method)
        if operation is None:
            annotate(request, operation=self.dialect.name)  # else it is named after this class
            methods = set(self._operations) | ({"HEAD"} if "GET" in self._operations else set())
            allow = ", ".join(sorted(methods))
            refused = Failure(
                405, f"{request.method[:20]} is not allowed at this path", f"Use {allow}.", {"allow": allow}
            )
            return self.dialect.fail(refused)
        annotate(request, operation=operation.id)  # of the record of this read; a handler may annotate more
        try:
            if operation.credentials_in_body:
                request.scope[ACCESS_KEY] = Access(self._keys, operation.roles)
                return await operation.handle(request, _NO_GRANT)
            if not operation.roles:
                return await operation.handle(request, _NO_GRANT)
            grant = await self._keys.grant_of(request, roles=operation.roles)
            if operation.parameters is None:
                read_parameters(request, NoParameters)
            return await operation.handle(request, grant)
        except ClientDisconnect:
            return None
        except Exception as e:
            failure = failure_of(e, operation.dialect.field_names)
            if operation.signed and failure.status == 403:
                self._keys.refused_url(request)
            if operation.dialect.sent_status(failure.status) < 400:  # the record would take it for a success
                annotate(request, level=level_of(request.method, failure.status, "completed", "", False))
            return operation.dialect.fail(failure)


class Path(BaseRoute):
    """One path: literal segments and `{names}`, each of which matches one segment, not empty.

    `reserved`: values that the first segment must not have, when it is a name."""

    def __init__(self, path: str, resource: Resource, *, reserved: Collection[str] = ()) -> None:
        self.path = path
        self.resource = resource
        self._pattern = _split(path)
        self._reserved = reserved if path.startswith("/{") else ()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        segments = _segments_once(scope)
        if segments is None or len(segments) != len(self._pattern) or (segments and segments[0] in self._reserved):
            return Match.NONE, {}
        named: dict[str, str] = {}
        for pattern, segment in zip(self._pattern, segments, strict=True):
            if pattern.startswith("{"):
                named[pattern[1:-1]] = segment
            elif pattern != segment:
                return Match.NONE, {}
        return Match.FULL, {"path_params": named, "endpoint": self.resource, DIALECT_KEY: self.resource.dialect.name}

    def url_path_for(self, name: str, /, **path_params: object) -> None:  # type: ignore[override]
        raise NoMatchFound(name, dict(path_params))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.resource(scope, receive, send)


class CatchAll(BaseRoute):
    """The last route: a 404 for every path that no other route matches. The dialect that shares most literal segments
    with the path sends it and names its own paths; when none shares any, `rest` sends it with `elsewhere`."""

    def __init__(self, operations: Sequence[Operation], rest: Dialect, elsewhere: str) -> None:
        self._known = [(_literals(path), o.dialect) for o in operations for path in (o.path, *o.literal_roots)]
        self._rest = rest
        self._actions = {o.dialect.name: _action(operations, o.dialect) for o in operations}
        self._elsewhere = elsewhere or self._actions[rest.name]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.FULL if scope["type"] == "http" else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: object) -> None:  # type: ignore[override]
        raise NoMatchFound(name, dict(path_params))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        near = self._near(_first_segments(scope))
        action = self._actions[near.name] if near else self._elsewhere
        failure = scope.get(REFUSED_KEY) or Failure(404, "there is nothing at this path", action)
        await _send((near or self._rest).fail(failure), scope, receive, send)

    def _near(self, segments: list[str]) -> Dialect | None:
        best, most = None, 0
        for literals, dialect in self._known:
            common = 0
            while common < min(len(literals), len(segments)) and literals[common] == segments[common]:
                common += 1
            if common > most:
                best, most = dialect, common
        return best


async def _send(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] == "HEAD":
        response.body = b""  # the headers keep the length of the body that GET would send
    await response(scope, receive, send)


def _action(operations: Sequence[Operation], dialect: Dialect) -> str:
    """Advice that names the paths of a dialect."""
    calls = [f"{o.method} {o.path}" for o in operations if o.dialect is dialect]
    for ours, word in dialect.field_names.items():
        calls = [call.replace("{" + ours + "}", "{" + word + "}") for call in calls]
    return f"Use {' or '.join(calls)}."


def names_in(path: str) -> set[str]:
    """The names in braces."""
    return {part[1:-1] for part in _split(path) if part.startswith("{")}


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _literals(path: str) -> list[str]:
    """The segments before the first name."""
    segments = _split(path)
    names = [n for n, segment in enumerate(segments) if segment.startswith("{")]
    return segments[: names[0]] if names else segments


def _segments_once(scope: Scope) -> list[str] | None:
    """The segments of the path, split once and not by each route."""
    if _SEGMENTS_KEY not in scope:
        scope[_SEGMENTS_KEY] = _segments(scope)
    segments: list[str] | None = scope[_SEGMENTS_KEY]
    return segments


def _first_segments(scope: Scope) -> list[str]:
    """The first segments of any path: up to the first empty one, within the first `PATH_BYTES_MAX` bytes."""
    raw = _without_root(_raw_path(scope), scope.get("root_path", ""))[:PATH_BYTES_MAX]
    parts = raw.removeprefix(b"/").split(b"/")
    if b"" in parts:
        parts = parts[: parts.index(b"")]
    return [_decoded(part) for part in parts]


def _segments(scope: Scope) -> list[str] | None:
    """The decoded segments, without a trailing slash; None for a path with an empty segment or one that is too long."""
    raw = _without_root(_raw_path(scope), scope.get("root_path", ""))
    if len(raw) > PATH_BYTES_MAX:
        return None
    parts = raw.removeprefix(b"/").removesuffix(b"/").split(b"/")
    if parts == [b""]:
        return []
    if b"" in parts:
        return None
    return [_decoded(part) for part in parts]


def _raw_path(scope: Scope) -> bytes:
    raw: bytes = (scope.get("raw_path") or quote(scope["path"]).encode()).split(b"?", 1)[0]
    return raw


def _decoded(part: bytes) -> str:
    # Invalid UTF-8 becomes surrogates, which every check of a name rejects.
    return unquote_to_bytes(part).decode(errors="surrogateescape")


def _without_root(raw: bytes, root_path: str) -> bytes:
    """The path as it was sent, without the mount path. The outer framework matches the decoded path, and the client
    may have spelled it in another way (`/%61udit` for `/audit`), so it is decoded byte by byte. A path that does not
    begin with the root is returned unchanged: some servers cut it off themselves."""
    root = root_path.rstrip("/").encode("utf-8", "surrogateescape")
    if not root:
        return raw
    at = 0
    for expected in root:
        if _ESCAPE.match(raw, at):
            found, at = int(raw[at + 1 : at + 3], 16), at + 3
        elif at < len(raw):
            found, at = raw[at], at + 1
        else:
            return raw
        if found != expected:
            return raw
    return raw[at:] if raw[at : at + 1] in (b"", b"/") else raw
