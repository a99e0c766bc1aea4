"""Sealed tokens: a query execution and a page of its answer, remembered by whoever holds the token and by nobody else.

A token is base64url without padding over: version byte, kind byte, msgpack payload, 16 bytes of HMAC-SHA256. It
holds the query (not the names of its accounts: their keyed digest, so that a URL in somebody's access log names no
account), the snapshot, the position and the expiry. Nothing is stored, so a restart forgets nothing and any replica
with the same secret answers. Invariants: a token of at most `TOKEN_MAX` characters; one text per token (another
base64 spelling of the same bytes is refused); it opens only with the account scope, the dialect and the kind that it
was sealed for. A token is signed, not encrypted: its holder may read it.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec

from ..errors import QueryError
from ..store.base import Query

__all__ = ["TOKEN_MAX", "Sealer", "Token", "TokenKind", "same_query"]

TOKEN_MAX = 4_096
_VERSION = 1
_MAC_BYTES = 16  # RFC 2104 section 5: at least half of the hash
_DIGEST_BYTES = 12

# In the order of the payload: append to Query's end only, so that tokens sealed before an upgrade still open.
_FIELDS = tuple(f.name for f in dataclasses.fields(Query) if f.name != "accounts")
_DEFAULTS = tuple(f.default for f in dataclasses.fields(Query) if f.name != "accounts")


class TokenKind(IntEnum):
    EXECUTION = 1
    PAGE = 2


@dataclass(frozen=True, kw_only=True)
class Token:
    """`published`: the snapshot. `before`: rows with a smaller id follow, None from the newest on. `expires`:
    seconds since the epoch. `nonce`: makes two executions of one query differ. `total`: how many rows the snapshot has
    of the query, where the first page counted them."""

    kind: TokenKind
    dialect: str
    query: Query
    published: int
    before: int | None
    expires: int
    nonce: bytes = b""
    total: int | None = None


class _Payload(msgspec.Struct, array_like=True, gc=False):
    """In this order; append to its end only."""

    dialect: str
    accounts: bytes  # their digest
    expires: int
    published: int
    before: int | None
    nonce: bytes
    query: list[Any]
    total: int | None = None


class Sealer:
    """Seals and opens tokens with one secret of at least 16 bytes, shared by all replicas."""

    def __init__(self, secret: bytes) -> None:
        assert len(secret) >= 16, "a secret of at least 16 bytes"
        self._secret = secret

    def seal(self, token: Token) -> str:
        query = [getattr(token.query, name) for name in _FIELDS]
        while query[-1] == _DEFAULTS[len(query) - 1]:
            query.pop()
        payload = msgspec.msgpack.encode(
            (
                token.dialect,
                self._digest(token.query.accounts),
                token.expires,
                token.published,
                token.before,
                token.nonce,
                query,
                *(() if token.total is None else (token.total,)),  # an older version opens no longer payload
            )
        )
        sealed = bytes((_VERSION, token.kind)) + payload
        return base64.urlsafe_b64encode(sealed + self._mac(sealed)).rstrip(b"=").decode()

    def open(self, text: str, kind: TokenKind, dialect: str, accounts: frozenset[str] | None, now: float) -> Token:
        """The token, its query with `accounts` put back. Raises QueryError: for a page 'invalid' naming page_token;
        for an execution 'missing' naming execution, always with one text, as if it did not exist."""
        sealed = self._verified(text)
        if sealed is None or sealed[0] != _VERSION or sealed[1] != kind:
            raise _refused(kind, "is no token of a page of this API, or was changed")
        try:
            payload = msgspec.msgpack.decode(sealed[2:], type=_Payload)
            query = Query(accounts=accounts, **dict(zip(_FIELDS, payload.query, strict=False)))
        except (msgspec.MsgspecError, TypeError):
            # Ours by its seal, but of a version whose payload we do not know: what it points to is gone.
            raise _refused(kind, "was made by another version") from None
        if payload.dialect != dialect:
            raise _refused(kind, "belongs to another API")
        if not hmac.compare_digest(payload.accounts, self._digest(accounts)):
            raise _refused(kind, "belongs to another account")
        if payload.expires <= now:
            raise _refused(kind, "has expired")
        return Token(
            kind=kind,
            dialect=dialect,
            query=query,
            published=payload.published,
            before=payload.before,
            expires=payload.expires,
            nonce=payload.nonce,
            total=payload.total,
        )

    def _verified(self, text: str) -> bytes | None:
        """Version, kind and payload, when the seal is ours."""
        if not 0 < len(text) <= TOKEN_MAX or not text.isascii():
            return None
        try:
            data = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        # The last character's unused bits, and '+/' for '-_', must not give a second spelling of the same token.
        if len(data) < 2 + _MAC_BYTES or base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode():
            return None
        sealed, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        return sealed if hmac.compare_digest(mac, self._mac(sealed)) else None

    def _mac(self, sealed: bytes) -> bytes:
        return hmac.digest(self._secret, b"asgi-audit token\x00" + sealed, hashlib.sha256)[:_MAC_BYTES]

    def _digest(self, accounts: frozenset[str] | None) -> bytes:
        names = None if accounts is None else sorted(accounts)
        data = b"asgi-audit accounts\x00" + msgspec.msgpack.encode(names)
        return hmac.digest(self._secret, data, hashlib.sha256)[:_DIGEST_BYTES]


def same_query(known: Query, asked: Query) -> None:
    """Raises QueryError ('invalid') that names the first field in which they differ."""
    for name in (field.name for field in dataclasses.fields(Query)):
        if getattr(known, name) != getattr(asked, name):
            raise QueryError(
                f"{name}: it differs from the query that the token of the page belongs to",
                field=name,
                hint="Repeat the query's own values beside its token, or leave the token out.",
            )


def _refused(kind: TokenKind, why: str) -> QueryError:
    if kind is TokenKind.EXECUTION:
        return QueryError(
            "execution: no such query execution, or it has expired",
            field="execution",
            kind="missing",
            hint="Start the query again.",
        )
    return QueryError(
        f"page_token: it {why}",
        field="page_token",
        hint="Send the token of the page before, unchanged, or none to begin with the first page.",
    )
