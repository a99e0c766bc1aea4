"""From a request's key to what it allows. A wrong key and none are told apart to nobody."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from ..capture.annotate import annotate
from ..control import Control
from ..errors import QueryError, StoreError
from ..metrics import Values
from ..query.model import Grant
from .throttle import Throttle

__all__ = ["Keys", "key_of"]

_HINT = "Send it as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'; 'asgi-audit keys create' makes one."
_ID = re.compile(r"aa_([0-9a-f]{12})_")
_LEFT_OUT_KEY = "asgi_audit.refusals_left_out"


class Keys:
    """Looks up keys, and throttles who has none that is valid."""

    def __init__(self, control: Control, throttle: Throttle | None = None) -> None:
        self._control = control
        self._throttle = throttle or Throttle()
        # Of paths that are none, which say nothing about a key: 404 and 405 stay what they are, and get few records.
        self._elsewhere = Throttle()

    def measures(self) -> Values:
        unrecorded = self._throttle.unrecorded + self._elsewhere.unrecorded
        return {"asgi_audit_api_refusals_unrecorded": unrecorded}

    async def grant_of(self, request: Request, *, roles: Collection[str]) -> Grant:
        """What the key allows that stands in `Authorization: Bearer` or `X-API-Key`. Raises QueryError 'unauthorized',
        'busy' (too many failures) or 'forbidden'."""
        grant = await self._grant(key_of(request.headers))
        if grant is None:
            if left_out := request.scope.get(_LEFT_OUT_KEY):
                annotate(request, refusals_left_out=left_out)
            if seconds := self._throttle.failed(*_who(request.scope)):
                raise QueryError(
                    "too many requests without a valid API key came from this address, or with this key's id",
                    kind="busy",
                    hint=f"Wait as many seconds as Retry-After says. {_HINT}",
                    retry_seconds=seconds,
                )
            raise QueryError("a valid API key is required", kind="unauthorized", hint=_HINT)
        # Who read is part of the trail: a key of one account is seen in that account's own.
        account = next(iter(grant.accounts)) if grant.accounts is not None and len(grant.accounts) == 1 else None
        name = f"key:{grant.key_id}"
        annotate(request, principal=name, account_id=account, auth_method="key", public_key=grant.key_id)
        if grant.role not in roles:
            raise QueryError(
                f"the role {grant.role} may not do this",
                kind="forbidden",
                hint=f"Use a key with one of the roles {', '.join(sorted(roles))}.",
            )
        return grant

    async def is_recorded(self, scope: Scope, *, is_known: bool) -> bool:
        """Whether the request gets a record of its own: not when it will be refused and too many were before it.
        A request with a valid key for what `is_known` (an operation of ours) always does."""
        if not is_known:
            address, _ = _who(scope)
            is_over = self._elsewhere.is_over(address, "")
            self._elsewhere.failed(address, "")
            return not is_over or self._elsewhere.to_record() is not None
        if not self._throttle.is_over(*_who(scope)):
            return True
        try:
            if await self._grant(key_of(Headers(scope=scope))) is not None:
                return True
        except StoreError:
            return True  # which it will be answered with
        left_out = self._throttle.to_record()
        if left_out is None:
            return False
        scope[_LEFT_OUT_KEY] = left_out
        return True

    async def _grant(self, text: str) -> Grant | None:
        # In a thread: the look-up reads a file.
        return await asyncio.to_thread(self._control.authenticate, text) if text else None


def key_of(headers: Headers) -> str:
    """The one key that the request brings; '' for none, or for two that differ: it is not for us to choose."""
    keys = {value.strip() for value in headers.getlist("x-api-key")}
    for value in headers.getlist("authorization"):
        scheme, _, credentials = value.strip().partition(" ")
        if scheme.lower() == "bearer":
            keys.add(credentials.strip())
    return keys.pop() if len(keys) == 1 else ""


def _who(scope: Scope) -> tuple[str, str]:
    """(client address, key id); '' for what is unknown, or is no id of ours."""
    client = scope.get("client")
    found = _ID.match(key_of(Headers(scope=scope)))
    return (client[0] if client else ""), (found[1] if found else "")
