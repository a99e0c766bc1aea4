"""Sealed tokens for query executions, pages and feed positions. All state is in the token; the server stores none.

A token is base64url without padding of a version byte and a msgpack payload, encrypted and authenticated by AES-SIV
(RFC 5297, from `cryptography`) under a key derived from the API's secret: clients can neither read nor change it. The
payload holds the query (with a keyed digest instead of its account names), the snapshot, the position, the index they
belong to, and the expiry. So tokens survive a restart, and any replica with the same secret accepts them.

Invariants: a token of at most `TOKEN_MAX` characters; one text per token (another base64 spelling of the same bytes is
refused); it opens only with the account scope, the dialect and the kind that it was sealed for. Snapshot and position
count the batches and records of all accounts, so they would reveal the activity of other accounts. Therefore they are
encrypted and padded to a fixed size, and random bytes make two tokens of the same content differ.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from ..errors import QueryError
from ..store.base import IndexVersion, Query

__all__ = ["TOKEN_MAX", "Sealer", "Token", "TokenKind", "index_mark", "of_index", "refuse", "same_query"]

TOKEN_MAX = 4_096
_VERSION = 2  # 1: by 0.1.0, signed and not encrypted
_SIV_BYTES = 16
_DIGEST_BYTES = 12
_MARK_BYTES = 8
_NONCE_BYTES = 8
_NUMBER_BYTES = 8

# The order of the payload. Append fields at the end of Query only, so that tokens sealed before an upgrade still open.
_FIELDS = tuple(f.name for f in dataclasses.fields(Query) if f.name != "accounts")
_DEFAULTS = tuple(f.default for f in dataclasses.fields(Query) if f.name != "accounts")


class TokenKind(IntEnum):
    EXECUTION = 1
    PAGE = 2
    FEED = 3


@dataclass(frozen=True, kw_only=True)
class Token:
    """`published`: the snapshot; for a feed, the batch of its place. `before`: continue with rows of smaller id, None:
    start at the newest; for a feed, the id of its place. `expires`: seconds since the epoch. `index`: mark of the index
    that these numbers belong to, b'' while there was none. `total`: number of rows of the query in the snapshot, if the
    first page counted them."""

    kind: TokenKind
    dialect: str
    query: Query
    published: int
    before: int | None
    expires: int
    index: bytes = b""
    total: int | None = None


class _Payload(msgspec.Struct, array_like=True, gc=False):
    """The encoded payload. The order matters: append at the end only."""

    nonce: bytes
    dialect: str
    accounts: bytes  # their digest
    expires: int
    published: bytes
    before: bytes | None
    index: bytes
    query: list[Any]
    total: int | None = None


class Sealer:
    """Seals and opens tokens with one secret of at least 16 bytes, shared by all replicas."""

    def __init__(self, secret: bytes) -> None:
        assert len(secret) >= 16, "a secret of at least 16 bytes"
        self._secret = secret
        self._cipher = AESSIV(hmac.digest(secret, b"asgi-audit token\x00", hashlib.sha512))

    def seal(self, token: Token) -> str:
        query = [getattr(token.query, name) for name in _FIELDS]
        while query[-1] == _DEFAULTS[len(query) - 1]:
            query.pop()
        payload = _Payload(
            nonce=secrets.token_bytes(_NONCE_BYTES),
            dialect=token.dialect,
            accounts=self._digest(token.query.accounts),
            expires=token.expires,
            published=token.published.to_bytes(_NUMBER_BYTES),
            before=None if token.before is None else token.before.to_bytes(_NUMBER_BYTES),
            index=token.index,
            query=query,
            total=token.total,
        )
        sealed = self._cipher.encrypt(msgspec.msgpack.encode(payload), _about(token.kind))
        return base64.urlsafe_b64encode(bytes((_VERSION,)) + sealed).rstrip(b"=").decode()

    def open(self, text: str, kind: TokenKind, dialect: str, accounts: frozenset[str] | None, now: float) -> Token:
        """Opens a token; `accounts` is put back into its query. Raises QueryError: 'invalid' naming page_token for a
        page, naming after for a feed; 'missing' naming execution for an execution, with the same text for all causes,
        as if it did not exist."""
        data = self._opened(text, kind)
        if data is None:
            raise refuse(kind, "is not of this API, or was changed")
        try:
            payload = msgspec.msgpack.decode(data, type=_Payload)
            query = Query(accounts=accounts, **dict(zip(_FIELDS, payload.query, strict=False)))
        except (msgspec.MsgspecError, TypeError):
            # The seal is valid, but another version made the payload: treat its target as gone.
            raise refuse(kind, "was made by another version") from None
        if payload.dialect != dialect:
            raise refuse(kind, "belongs to another API")
        if not hmac.compare_digest(payload.accounts, self._digest(accounts)):
            raise refuse(kind, "belongs to another account")
        if payload.expires <= now:
            raise refuse(kind, "has expired")
        return Token(
            kind=kind,
            dialect=dialect,
            query=query,
            published=int.from_bytes(payload.published),
            before=None if payload.before is None else int.from_bytes(payload.before),
            expires=payload.expires,
            index=payload.index,
            total=payload.total,
        )

    def _opened(self, text: str, kind: TokenKind) -> bytes | None:
        """The payload; None when the seal is not ours or the kind is another."""
        if not 0 < len(text) <= TOKEN_MAX or not text.isascii():
            return None
        try:
            data = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        # Refuse other spellings of the same bytes: unused bits in the last character, and '+/' for '-_'.
        if len(data) <= 1 + _SIV_BYTES or base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode():
            return None
        if data[0] != _VERSION:
            return None
        try:
            return self._cipher.decrypt(data[1:], _about(kind))
        except InvalidTag:
            return None

    def _digest(self, accounts: frozenset[str] | None) -> bytes:
        names = None if accounts is None else sorted(accounts)
        data = b"asgi-audit accounts\x00" + msgspec.msgpack.encode(names)
        return hmac.digest(self._secret, data, hashlib.sha256)[:_DIGEST_BYTES]


def index_mark(index: IndexVersion) -> bytes:
    """The mark in a token of the index that its numbers belong to; b'' while there is none."""
    if not index.id:
        return b""
    return hashlib.blake2b(f"{index.id} {index.generation}".encode(), digest_size=_MARK_BYTES).digest()


def of_index(token: Token, index: IndexVersion) -> None:
    """Raises QueryError when the token's numbers belong to another index or to an earlier generation."""
    if token.index and token.index != index_mark(index):
        raise refuse(token.kind, "belongs to another index, or the index was restored since")


def same_query(known: Query, asked: Query) -> None:
    """Raises QueryError ('invalid') naming the first field in which the two queries differ."""
    for name in (field.name for field in dataclasses.fields(Query)):
        if getattr(known, name) != getattr(asked, name):
            raise QueryError(
                f"{name}: it differs from the query of the page token",
                field=name,
                hint="Repeat the values of that query, or omit the token.",
            )


def refuse(kind: TokenKind, why: str) -> QueryError:
    if kind is TokenKind.EXECUTION:
        return QueryError(
            "execution: unknown query execution, or it has expired",
            field="execution",
            kind="missing",
            hint="Start the query again.",
        )
    if kind is TokenKind.FEED:
        return QueryError(
            f"after: it {why}",
            field="after",
            hint="Send the cursor of the previous page unchanged, or omit it to begin with the first record.",
        )
    return QueryError(
        f"page_token: it {why}",
        field="page_token",
        hint="Send the token of the previous page unchanged, or omit it for the first page.",
    )


def _about(kind: TokenKind) -> list[bytes]:
    return [bytes((_VERSION, kind))]
