"""Authentication: from a request's key, token or session to its rights.

A token (JWT) of an issuer goes wherever a key goes, and gives the same rights. What is missing, wrong or expired gets
the same response.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from ..capture.annotate import annotate
from ..capture.handle import leave_out
from ..control import Control, Session
from ..control.subjects import is_subject_of
from ..errors import QueryError, StoreError
from ..metrics import Values
from ..query.model import Grant
from .bearer import NoIssuerKeys
from .throttle import Throttle

if TYPE_CHECKING:
    from .issuer import Issuer

__all__ = ["ACCESS_KEY", "Access", "Keys", "access_of", "check_role", "key_of", "record_caller"]

ACCESS_KEY = "asgi_audit.access"

_HINT = "Send it as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'; 'asgi-audit keys create' makes one."
_ID = re.compile(r"aa_([0-9a-f]{12})_")
_LEFT_OUT_KEY = "asgi_audit.refusals_left_out"


class Keys:
    """Looks up keys, sessions and tokens of `issuer`, and throttles clients without a valid one."""

    def __init__(
        self,
        control: Control,
        throttle: Throttle | None = None,
        elsewhere: Throttle | None = None,
        *,
        issuer: Issuer | None = None,
    ) -> None:
        self._control = control
        self._issuer = issuer
        self._throttle = throttle or Throttle()
        # For unknown paths, whose responses reveal nothing about a key: still 404 and 405, but few of them are
        # recorded.
        self._elsewhere = elsewhere or Throttle()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="asgi-audit-sessions")  # its thread starts on first use

    def measures(self) -> Values:
        unrecorded = self._throttle.unrecorded + self._elsewhere.unrecorded
        return {"asgi_audit_api_refusals_unrecorded": unrecorded}

    async def grant_of(self, request: Request, *, roles: Collection[str]) -> Grant:
        """Returns the rights of the key or token in `Authorization: Bearer` or `X-API-Key`. Raises QueryError
        'unauthorized', 'busy' (too many failures) or 'forbidden', StoreError."""
        text = key_of(request.headers)
        try:
            grant = await self.known(text)
        except NoIssuerKeys:
            raise self.unjudged(request, text) from None
        if grant is None:
            raise self.refused(request, [text])
        record_caller(request, [grant])
        check_role(grant, roles)
        return grant

    # These run in threads, because they read or write a file. Writes share one thread: they may wait for another
    # process, and must not occupy the threads of look-ups.

    async def known(self, text: str) -> Grant | None:
        """The rights of the key or token; None for '' and for a wrong one. Raises NoIssuerKeys, StoreError."""
        if not text:
            return None
        if self._issuer is not None and is_token(text):
            return await self._issuer.grant(text)
        # A visit to a thread may wait twice for a processor, some milliseconds each.
        return self._control.recall(text) or await asyncio.to_thread(self._control.authenticate, text)

    async def session(self, text: str) -> Session | None:
        """The session; None when it has ended, or when its token's issuer is no longer accepted."""
        found = await asyncio.to_thread(self._control.sessions.find, text)
        if found is not None and found.grant.subject:
            issuer = self._issuer.name if self._issuer is not None else ""
            return found if is_subject_of(issuer, found.grant.key_id) else None
        return found

    async def open_session(self, grant: Grant) -> str:
        """A session of a token ends with it."""
        sessions, loop = self._control.sessions, asyncio.get_running_loop()
        if grant.expires is not None:
            return await loop.run_in_executor(self._writer, sessions.open_of_token, grant)
        return await loop.run_in_executor(self._writer, sessions.open, grant.key_id)

    async def end_session(self, text: str, grant: Grant) -> bool:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, self._control.sessions.end, text, grant.key_id)

    def refused(self, request: Request, keys: Sequence[str], *, is_begun: bool = False) -> QueryError:
        """Counts a failure: none of `keys` is valid ('' for a missing key, and for a session). Returns the error for
        the client: 'unauthorized', or 'busy' after too many failures. `is_begun`: recording of the request has begun
        already; it is cancelled when `is_recorded` would have returned False."""
        address = _address(request.scope)
        is_over, seconds = False, 0
        for text in keys:
            key_id = self._id_of(text)
            is_over = is_over or self._throttle.is_over(address, key_id)
            seconds = max(seconds, self._throttle.failed(address, key_id))
        left_out: int | None = request.scope.get(_LEFT_OUT_KEY, 0)
        if is_begun and is_over:
            left_out = self._throttle.to_record()
        if left_out is None:
            leave_out(request)
        elif left_out:
            annotate(request, refusals_left_out=left_out)
        if seconds:
            return QueryError(
                "too many requests without a valid API key came from this address, or with this key's id",
                kind="busy",
                hint=f"Wait as many seconds as Retry-After says. {_HINT}",
                retry_seconds=seconds,
            )
        return QueryError("a valid API key is required", kind="unauthorized", hint=_HINT)

    def unjudged(self, request: Request, text: str, *, is_begun: bool = False) -> QueryError | NoIssuerKeys:
        """Like `refused`, for a token that cannot be verified now. It is not the client's fault, but any client can
        send such a text: after too many the error is 'busy', too."""
        refused = self.refused(request, [text], is_begun=is_begun)
        return refused if refused.kind == "busy" else NoIssuerKeys()

    def refused_url(self, request: Request) -> None:
        """Counts a failure for an invalid signed URL. After too many from one address, only few of these requests are
        still recorded."""
        address = _address(request.scope)
        is_over = self._elsewhere.is_over(address, "")
        self._elsewhere.failed(address, "")
        if is_over and self._elsewhere.to_record() is None:
            leave_out(request)

    async def is_recorded(self, scope: Scope, *, is_known: bool) -> bool:
        """Whether to record the request. False when it will be refused after too many refusals. A request with a valid
        key is always recorded. `is_known`: the request is for an existing operation."""
        address, key_id = self._address_and_id(scope)
        if is_known:
            throttle, is_over = self._throttle, self._throttle.is_over(address, key_id)
        else:
            throttle, is_over = self._elsewhere, self._elsewhere.is_over(address, "")
            throttle.failed(address, "")
        if not is_over:
            return True
        try:
            if await self.known(key_of(Headers(scope=scope))) is not None:
                return True
        except NoIssuerKeys:
            pass
        except StoreError:
            return True  # the request will fail with the same error
        left_out = throttle.to_record()
        if left_out is None:
            return False
        scope[_LEFT_OUT_KEY] = left_out
        return True

    def _address_and_id(self, scope: Scope) -> tuple[str, str]:
        """(client address, key id); '' for an unknown address, and for a malformed key."""
        return _address(scope), self._id_of(key_of(Headers(scope=scope)))

    def _id_of(self, text: str) -> str:
        """The id under which failures of a key or token are counted; '' for text that is neither."""
        found = _ID.match(text)
        if found:
            return found[1]
        return self._issuer.throttled_as(text) if self._issuer is not None and is_token(text) else ""


def record_caller(request: Request, grants: Sequence[Grant]) -> None:
    """Adds the caller, identified by one or more keys or tokens, to the record."""
    # Reads are part of the audit trail: reads with a key of one account appear in that account's trail.
    accounts = {grant.accounts for grant in grants}
    only = accounts.pop() if len(accounts) == 1 else None
    annotate(
        request,
        principal=grants[0].principal,
        account_id=next(iter(only)) if only is not None and len(only) == 1 else None,
        auth_method="jwt" if grants[0].subject else "key",
        public_key=grants[0].key_id,
    )
    if len(grants) > 1:
        annotate(request, keys=[grant.key_id for grant in grants])


def check_role(grant: Grant, roles: Collection[str]) -> None:
    """Raises QueryError 'forbidden' when the grant has none of `roles`."""
    if not grant.role:
        raise QueryError(
            "the token gives no role and accounts of this API",
            kind="forbidden",
            hint="Ask the operator of the issuer; the log of this API names the claim.",
        )
    if grant.role not in roles:
        raise QueryError(
            f"the role {grant.role} may not do this",
            kind="forbidden",
            hint=f"Use a key with one of the roles {', '.join(sorted(roles))}.",
        )


class Access(NamedTuple):
    """For a handler that reads credentials from the body: looks them up, and holds the roles that the operation
    accepts."""

    keys: Keys
    roles: frozenset[str]


def access_of(request: Request) -> Access:
    """The access of an operation with `credentials_in_body`."""
    access: Access = request.scope[ACCESS_KEY]
    return access


def key_of(headers: Headers) -> str:
    """The key in the headers; '' without one, and for two different keys."""
    keys = {value.strip() for value in headers.getlist("x-api-key")}
    for value in headers.getlist("authorization"):
        scheme, _, credentials = value.strip().partition(" ")
        if scheme.lower() == "bearer":
            keys.add(credentials.strip())
    return keys.pop() if len(keys) == 1 else ""


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def is_token(text: str) -> bool:
    """Whether `text` has the form of a token: three parts between dots. A key has no dots."""
    return text.count(".") == 2
