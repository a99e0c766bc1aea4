"""From a request's key to what it allows. A wrong key and none are told apart to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from starlette.requests import Request

from ..capture.annotate import annotate
from ..control import Control
from ..errors import QueryError
from ..query.model import Grant

__all__ = ["grant_of", "key_of"]


async def grant_of(request: Request, control: Control, *, roles: Collection[str]) -> Grant:
    """What the key allows that stands in `Authorization: Bearer` or `X-API-Key`. Raises QueryError 'unauthorized' or
    'forbidden'."""
    text = key_of(request)
    # In a thread: the look-up reads a file.
    grant = await asyncio.to_thread(control.authenticate, text) if text else None
    if grant is None:
        raise QueryError(
            "a valid API key is required",
            kind="unauthorized",
            hint="Send it as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'; 'asgi-audit keys create' makes one.",
        )
    # Who read is part of the trail: a key of one account is seen in that account's own.
    account = next(iter(grant.accounts)) if grant.accounts is not None and len(grant.accounts) == 1 else None
    annotate(request, principal=f"key:{grant.key_id}", account_id=account, auth_method="key", public_key=grant.key_id)
    if grant.role not in roles:
        raise QueryError(
            f"the role {grant.role} may not do this",
            kind="forbidden",
            hint=f"Use a key with one of the roles {', '.join(sorted(roles))}.",
        )
    return grant


def key_of(request: Request) -> str:
    """The one key that the request brings; '' for none, or for two that differ: it is not for us to choose."""
    keys = {value.strip() for value in request.headers.getlist("x-api-key")}
    for value in request.headers.getlist("authorization"):
        scheme, _, credentials = value.strip().partition(" ")
        if scheme.lower() == "bearer":
            keys.add(credentials.strip())
    return keys.pop() if len(keys) == 1 else ""
