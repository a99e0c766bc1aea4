"""Determines the caller of each command. The first of these decides: the session in the command, a login in the same
request, the session in `auth`, at the root or in the header `sessionId`, the key in the headers.

Each credential is looked up once. Without a valid one the response says nothing else about the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from starlette.requests import Request

from ....control import Session
from ....errors import QueryError
from ....query.model import Grant
from ...auth import Access, check_role, key_of, record_caller
from .envelope import Envelope
from .errors import invalid_session

__all__ = ["LOGIN", "Caller", "authenticate_commands"]

LOGIN = "api.authenticate"


class Caller(NamedTuple):
    """`session_id`: '' when it is a key."""

    grant: Grant
    session_id: str = ""
    session: Session | None = None


async def authenticate_commands(
    request: Request, access: Access, envelope: Envelope, of_header: Grant | None
) -> Sequence[Caller | QueryError]:
    """The caller of each command, or the reason for its refusal, in the order of the commands. `of_header`: the rights
    of the key in the headers. Notes the keys in the record of the request. Raises QueryError when no credential is
    valid or allowed, and after that when the envelope is wrong."""
    looking = _LookUp(access)
    of_request = next((s for s in (*envelope.sessions, request.headers.get("sessionid", "")) if s), "")
    logins = [await looking.login(command.params) if command.name == LOGIN else None for command in envelope.commands]
    found: list[Caller | QueryError] = []
    for n, command in enumerate(envelope.commands):
        login = logins[n] or _nearest(logins, n)
        if command.name == LOGIN and login is not None:
            found.append(login)
        elif command.session:
            found.append(await looking.session(command.session))
        elif login is not None:
            found.append(login)
        elif of_request:
            found.append(await looking.session(of_request))
        else:
            found.append(looking.key(key_of(request.headers), of_header))
    if not found:
        found = [await looking.session(of_request) if of_request else looking.key(key_of(request.headers), of_header)]
    known = [caller for caller in found if isinstance(caller, Caller)]
    if known:
        record_caller(request, list({caller.grant.key_id: caller.grant for caller in known}.values()))
    if looking.failed:
        refused = access.keys.refused(request, looking.failed, is_begun=not known)
        found = [_with_refusal(caller, refused) for caller in found]
    found = [_permitted(caller, access) for caller in found]
    if not any(isinstance(caller, Caller) for caller in found):
        raise next(caller for caller in found if isinstance(caller, QueryError))
    if envelope.problem is not None:
        raise envelope.problem
    return found


def _nearest(logins: Sequence[Caller | QueryError | None], n: int) -> Caller | QueryError | None:
    """The last login before the command, else the first one after it."""
    before = [login for login in logins[:n] if login is not None]
    after = [login for login in logins[n:] if login is not None]
    return before[-1] if before else (after[0] if after else None)


def _with_refusal(caller: Caller | QueryError, refused: QueryError) -> Caller | QueryError:
    """The failure as the client gets it: with its own text, unless there were too many failures."""
    return refused if isinstance(caller, QueryError) and refused.kind == "busy" else caller


def _permitted(caller: Caller | QueryError, access: Access) -> Caller | QueryError:
    if isinstance(caller, Caller):
        try:
            check_role(caller.grant, access.roles)
        except QueryError as e:
            return e
    return caller


class _LookUp:
    """`failed`: the invalid keys that were tried; '' for a session, and for a missing key."""

    def __init__(self, access: Access) -> None:
        self._keys = access.keys
        self._sessions: dict[str, Caller | QueryError] = {}
        self._logins: dict[str, Caller | QueryError] = {}
        self._is_noted = False
        self.failed: list[str] = []

    async def session(self, text: str) -> Caller | QueryError:
        if text not in self._sessions:
            session = await self._keys.session(text)
            if session is None:
                self.failed.append("")
            self._sessions[text] = Caller(session.grant, text, session) if session else invalid_session(text)
        return self._sessions[text]

    async def login(self, params: Mapping[str, object]) -> Caller | QueryError:
        given = {value for name in ("password", "appToken") if isinstance(value := params.get(name), str) and value}
        text = given.pop() if len(given) == 1 else ""  # two different ones: ambiguous
        if text not in self._logins:
            grant = await self._keys.known(text)
            if grant is None:
                self.failed.append(text)
            self._logins[text] = Caller(grant) if grant else _unknown()
        return self._logins[text]

    def key(self, text: str, grant: Grant | None) -> Caller | QueryError:
        if grant is None and not self._is_noted:
            self._is_noted = True
            self.failed.append(text)
        return Caller(grant) if grant else _unknown()


def _unknown() -> QueryError:
    return QueryError(
        "a valid session, login or API key is required",
        kind="unauthorized",
        hint="Log in with api.authenticate, the key as its password or appToken, or send the key as "
        "'X-API-Key: <key>'; 'asgi-audit keys create --role auditor' makes one.",
    )
