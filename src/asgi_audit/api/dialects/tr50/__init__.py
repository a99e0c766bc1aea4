"""`POST /api`, TR50: several commands in one request, `usage.api.list` among them.

A request is an object of commands under ids that the client chose; each result has the same id. Each command can fail
by itself, with status 200 and `success: false`; when the whole request fails, the response is that error (see
`errors`). Credentials are in a header, in the envelope or in a command (see `callers`); a key in a header works as well
as a session.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ....capture.annotate import annotate
from ....control.sessions import SESSION_SECONDS
from ....errors import QueryError
from ....query.admission import Lease
from ....query.model import Grant
from ....query.service import QueryService
from ....record.derived import level_of
from ...auth import Keys, access_of, key_of
from ...bearer import NoIssuerKeys
from ...completeness import audit_headers
from ...failure import STATUSES, failure_of
from ...instants import text_of_ms
from ...models import Model, NoParameters, answer_bytes, read_fields, read_parameters
from ...operation import Example, Operation
from ...page import PartsResponse
from ...params import json_object
from .callers import LOGIN, Caller, authenticate_commands
from .envelope import Command, Envelope, envelope_of
from .errors import TR50, error_body
from .lists import ANSWER_BYTES_MAX, Found, Listing, ListQuery
from .requests import Asked, Ended, Login, Requested, query_of
from .results import Answered, ConnInfo, Info, LoggedIn

__all__ = ["TR50", "operations"]

_LIST, _PING, _INFO, _END = "usage.api.list", "diag.ping", "session.info", "session.end"
COMMANDS = (_LIST, LOGIN, _PING, _INFO, _END)
M = TypeVar("M", bound=Model)
_DONE = b'{"success":true}'


def operations(service: QueryService) -> list[Operation]:
    return [
        Operation(
            id="tr50.call",
            method="POST",
            path="/api",
            dialect=TR50,
            roles=frozenset({"auditor"}),
            is_recorded=True,
            credentials_in_body=True,
            handle=partial(_call, service),
            request=Requested,
            answer=Answered,
            summary="Run up to 20 commands, each under an id that you choose.",
            description="A command that fails has `success: false`; the status is 200 all the same. Credentials may be "
            "sent in the body: `api.authenticate` opens a session, `auth.sessionId` uses one.",
            example=Example(
                answer={"list": {"success": True, "params": {"count": 0, "result": None}}},
                body={
                    "list": {
                        "command": _LIST,
                        "params": {"start": "2024-01-01T00:00:00Z", "end": "2024-01-01T23:59:59Z", "limit": 10},
                    }
                },
            ),
        )
    ]


async def _call(service: QueryService, request: Request, _: Grant) -> Response:
    access = access_of(request)
    key = key_of(request.headers)
    try:
        of_header = await access.keys.known(key)
    except NoIssuerKeys:
        raise access.keys.unjudged(request, key, is_begun=True) from None
    try:
        envelope = envelope_of(await json_object(request, "a JSON object of commands"))
    except QueryError as e:
        envelope = Envelope(problem=e)
    except ClientDisconnect:
        if of_header is None:
            access.keys.refused(request, [""], is_begun=True)
        raise
    try:
        asking = await authenticate_commands(request, access, envelope, of_header)
    except NoIssuerKeys:
        raise access.keys.unjudged(request, key, is_begun=True) from None
    read_parameters(request, NoParameters)
    names = {command.name: None for command in envelope.commands if command.name in COMMANDS}
    annotate(request, operation=", ".join(names) or None)
    lease = service.admission.enter(next(caller for caller in asking if isinstance(caller, Caller)).grant.key_id)
    try:
        return await _Call(service, access.keys, request, envelope, asking, lease).answer()
    except BaseException:
        lease.close()
        raise


class _Call:
    """One request whose askers are known."""

    def __init__(
        self,
        service: QueryService,
        keys: Keys,
        request: Request,
        envelope: Envelope,
        asking: Sequence[Caller | QueryError],
        lease: Lease,
    ) -> None:
        self._service = service
        self._keys = keys
        self._request = request
        self._envelope = envelope
        self._asking = asking
        self._lease = lease
        self._statuses: list[int] = []  # of commands that failed, as HTTP has them
        self._wanted: dict[int, ListQuery] = {}  # by the command's place

    async def answer(self) -> Response:
        commands = self._envelope.commands
        answers = [await self._one(n, command) for n, command in enumerate(commands)]
        ids = [json.dumps(command.id).encode() for command in commands]
        headers: dict[str, str] = {}
        items: dict[int, list[bytes]] = {}
        if self._wanted:
            # The bytes around the items: a brace or a comma, a colon, and the frame of each list.
            around = sum(map(len, ids)) + sum(map(len, answers)) + len(commands) * 2 + len(self._wanted) * _FRAME + 1
            found, completeness = await Listing(self._service).of(
                list(self._wanted.values()), self._lease, ANSWER_BYTES_MAX - around
            )
            headers = audit_headers(completeness)
            for n, of_list in zip(self._wanted, found, strict=True):
                if isinstance(of_list, QueryError):
                    answers[n] = self._failed(of_list)
                else:
                    answers[n], items[n] = b"", _framed(of_list)
        if len(self._statuses) == len(commands):
            annotate(self._request, level=level_of("POST", max(self._statuses), "completed", "", False))
        parts = []
        for n, (id, answer) in enumerate(zip(ids, answers, strict=True)):
            parts.append((b"," if n else b"{") + id + b":" + answer)
            parts += items.pop(n, [])
        parts.append(b"}")
        return PartsResponse(parts, headers, self._lease)

    async def _one(self, n: int, command: Command) -> bytes:
        """The answer of a command; b"" of a list, which is made with the others."""
        try:
            caller = self._asking[n]
            if isinstance(caller, QueryError):
                raise caller
            if command.problem is not None:
                raise command.problem
            if command.name == _LIST:
                asked = _read(Asked, command)
                query = query_of(asked, caller.grant, self._service.now())
                self._wanted[n] = ListQuery(caller.grant, query, asked.offset, asked.most)
                return b""
            if command.name == LOGIN:
                _read(Login, command)
                session_id = await self._keys.open_session(caller.grant)
                return _success(LoggedIn(orgKey=_org_of(caller.grant), sessionId=session_id))
            if command.name == _END:
                return await self._end(_read(Ended, command), caller)
            if command.name in (_PING, _INFO):
                _read(NoParameters, command)
                return _DONE if command.name == _PING else _success(_info(self._request, caller, self._service.now()))
            raise QueryError(f"command: there is no {command.name[:60]!a}; accepted: {', '.join(COMMANDS)}")
        except QueryError as e:
            return self._failed(e)

    async def _end(self, asked: Ended, caller: Caller) -> bytes:
        session_id = asked.id or caller.session_id
        if not session_id:
            raise QueryError("id: it is missing; accepted: the id of one of this key's sessions")
        if not await self._keys.end_session(session_id, caller.grant):
            raise QueryError("id: this key has no such session", kind="missing")
        return _DONE

    def _failed(self, error: QueryError) -> bytes:
        self._statuses.append(STATUSES[error.kind])
        return answer_bytes(error_body(failure_of(error, TR50.field_names)))


_FRAME = 512  # bytes kept for the frame around the items of a list, or for its error


def _framed(found: Found) -> list[bytes]:
    """A list as parts, which hold its items."""
    start = b'{"success":true,"params":{"count":%d,"result":' % found.total
    if not found.items:
        return [start + b"null}}"]
    parts = [start + b"["]
    found.items.reverse()
    while found.items:
        parts.append(found.items.pop())
        parts.append(b"," if found.items else b"]}}")
    return parts


def _read(model: type[M], command: Command) -> M:
    return read_fields(model, command.params, "parameter")


def _success(params: Model) -> bytes:
    return b'{"success":true,"params":' + answer_bytes(params) + b"}"


def _org_of(grant: Grant) -> str:
    """The account; '*' for all of them, several with commas."""
    return "*" if grant.accounts is None else ",".join(sorted(grant.accounts))


def _info(request: Request, caller: Caller, now: float) -> Info:
    grant, session = caller.grant, caller.session
    name = grant.principal
    left = SESSION_SECONDS if grant.expires is None else max(0, min(SESSION_SECONDS, int(grant.expires - now)))
    org = _org_of(grant)
    return Info(
        id=caller.session_id,
        serverId=socket.gethostname(),
        orgId=org,
        orgKey=org,
        userId=grant.key_id,
        userName=name,
        whoAmI=name,
        hasSuperAdmin=False,
        hasSuperOps=grant.accounts is None,
        hasOrgAdmin=False,
        connInfo=ConnInfo(protocol="http", remoteAddr=request.client.host if request.client else ""),
        ttl=left,
        locale="",
        startTime=text_of_ms(session.created_ms) if session else "",
        lastAccessed=text_of_ms(session.used_ms) if session else "",
    )
