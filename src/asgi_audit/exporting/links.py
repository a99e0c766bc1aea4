"""Signed URLs of downloads that the API serves itself: valid for an hour at most, each one different.

A URL names the export, its expiry, and the key that it was created for. The signature is HMAC-SHA256 over all of these,
with a key derived from the secret of `control.db`: every worker accepts it, also after a restart. The host of the URL
is the one that the operator sets, never one sent by a client. Nothing is stored.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

__all__ = ["LINK_SECONDS", "Link", "Links"]

LINK_SECONDS = 3_600
_NAMES = ("expires", "key", "nonce", "signature")
_NUMBER_MAX = 15  # digits


class Link(NamedTuple):
    """The content of a URL. `expires`: seconds since the epoch. `key_id`: the key that it was created for."""

    export: str
    expires: int
    key_id: str
    nonce: str


class Links:
    """`public_url`: the beginning of all URLs, without a trailing slash."""

    def __init__(self, secret: bytes, public_url: str) -> None:
        self._secret = hmac.digest(secret, b"asgi-audit export downloads", hashlib.sha256)
        self._public_url = public_url

    def new(self, export: str, key_id: str, now: float, seconds: int = LINK_SECONDS) -> Link:
        return Link(export, int(now) + seconds, key_id, secrets.token_hex(8))

    def url(self, link: Link, *, manifest: bool = False) -> str:
        values = (str(link.expires), link.key_id, link.nonce, self._signature(link, manifest))
        path = f"/exports/{link.export}" + ("/manifest" if manifest else "")
        return f"{self._public_url}{path}?{urlencode(dict(zip(_NAMES, values, strict=True)))}"

    def opened(self, export: str, given: Mapping[str, str], now: float, *, manifest: bool = False) -> Link | None:
        """The content of a URL; None when its signature is wrong or it has expired. `given`: its query parameters."""
        if set(given) != set(_NAMES):
            return None
        expires, key_id, nonce, signature = (given[name] for name in _NAMES)
        if not (expires.isascii() and expires.isdigit() and len(expires) <= _NUMBER_MAX):
            return None
        link = Link(export, int(expires), key_id, nonce)
        right = self._signature(link, manifest)
        # The text is signed, not the number: another spelling of the same number is another URL.
        is_ours = hmac.compare_digest(signature.encode(errors="surrogateescape"), right.encode())
        return link if is_ours and str(link.expires) == expires and now < link.expires else None

    def _signature(self, link: Link, manifest: bool) -> str:
        parts = ["manifest" if manifest else "object", link.export, str(link.expires), link.key_id, link.nonce]
        text = "\n".join(parts).encode(errors="surrogateescape")
        return hmac.digest(self._secret, text, hashlib.sha256).hex()
