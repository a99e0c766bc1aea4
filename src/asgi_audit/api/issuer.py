"""Tokens (JWT, RFC 7519) of an issuer: from a token to the same rights that a key gives.

A token is valid when a published key of the issuer has signed it with an accepted algorithm, and when its `iss`, `aud`,
`exp` and, if given, `nbf` and `iat` fit. Then its claims give role and accounts. A valid token whose claims give none
is authenticated without any rights. The reason of a refusal is logged at level INFO, without the token; the response
says only that it is not valid.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from ..control.subjects import subject_id
from ..query.model import Grant
from .bearer import TOKEN_CHARACTERS_MAX
from .jwks import KeySet

__all__ = ["Issuer", "Rules", "rights"]

_KEY_ID_MAX = 200
_SUBJECT_MAX = 200
_ACCOUNT_MAX = 200
_EXPIRES_MAX = 253_402_300_799.0  # the end of the year 9999: a session's milliseconds must fit into 64 bits
_ROLES = ("auditor", "reader")  # the first one that a token has
_REQUIRED = ("iss", "aud", "exp", "sub")
_THROTTLED_MAX = 1_024  # remembered results of `throttled_as`, 120 bytes each

_log = logging.getLogger("asgi_audit.api")

# Exceptions of PyJWT and their texts in the log; the first class that matches counts.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "it has expired"),
    (jwt.ImmatureSignatureError, "it is not valid yet (nbf or iat)"),
    (jwt.InvalidAudienceError, "its audience (aud) is another one"),
    (jwt.InvalidIssuerError, "its issuer (iss) is another one"),
    (jwt.InvalidSignatureError, "its signature is wrong"),
    (jwt.InvalidAlgorithmError, "its algorithm is not accepted"),
)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """`roles`: the issuer's names to ours. Names of claims are looked up as a whole first, then as a path with dots."""

    issuer: str
    audience: tuple[str, ...]
    algorithms: tuple[str, ...]
    leeway_seconds: float
    role_claim: str
    accounts_claim: str
    roles: Mapping[str, str]


class _Refused(Exception):
    """The token is not valid; the text says why, without any of the token."""


class Issuer:
    def __init__(self, rules: Rules, keys: KeySet) -> None:
        self._rules = rules
        self._keys = keys
        self._throttled: dict[bytes, str] = {}  # by SHA-256 of the token, which is a secret

    @property
    def name(self) -> str:
        return self._rules.issuer

    async def grant(self, text: str) -> Grant | None:
        """The rights that the token gives; None when it is not valid. Raises NoIssuerKeys."""
        try:
            header = _header(text)
            algorithm, key_id = header.get("alg"), header.get("kid", "")
            if algorithm not in self._rules.algorithms:
                raise _Refused("its algorithm is not accepted")
            if not isinstance(key_id, str) or len(key_id) > _KEY_ID_MAX:
                raise _Refused(f"its key id (kid) is not a string of at most {_KEY_ID_MAX} characters")
            key = await self._keys.find(key_id, algorithm)
            if key is None:
                what = "names a key (kid) that the issuer does not publish" if key_id else "names no key (kid)"
                raise _Refused(f"it {what}, or not for its algorithm")
            # In a thread, as look-ups of keys: a signature of ES512 takes a millisecond.
            return await asyncio.to_thread(self._judged, text, key, algorithm)
        except _Refused as e:
            _log.info("a token was refused: %s", e)
            return None

    def throttled_as(self, text: str) -> str:
        """The name under which failures of this token are counted: a digest of its key id and subject, unverified; ''
        when it is not a token. Called before each request, so a token is decoded for this only once."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        found = self._throttled.get(digest)
        if found is None:
            if len(self._throttled) >= _THROTTLED_MAX:
                self._throttled.clear()
            found = self._throttled[digest] = _throttled_as(text)
        return found

    def _judged(self, text: str, key: jwt.PyJWK, algorithm: str) -> Grant:
        """Raises _Refused."""
        try:
            claims = _Decoder().decode(
                text,
                key,
                algorithms=[algorithm],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                leeway=self._rules.leeway_seconds,
                options={"require": list(_REQUIRED)},
            )
            expires = min(float(claims["exp"]), _EXPIRES_MAX) + self._rules.leeway_seconds
        except jwt.MissingRequiredClaimError as e:
            raise _Refused(f"it has no {e.claim}") from None
        except Exception as e:  # of PyJWT, and any other that unusual signed contents cause
            raise _Refused(next((says for kind, says in _REASONS if isinstance(e, kind)), "it is malformed")) from None
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_MAX or not subject.isprintable():
            raise _Refused(f"its subject (sub) is not 1 to {_SUBJECT_MAX} printable characters")
        role, accounts, why = rights(claims, self._rules)
        if why:
            _log.info("a valid token gives no rights: %s", why)
        id_ = subject_id(self._rules.issuer, subject)
        return Grant(key_id=id_, role=role, accounts=accounts, subject=subject, expires=expires)


def _throttled_as(text: str) -> str:
    try:
        found = jwt.decode_complete(text[:TOKEN_CHARACTERS_MAX], options={"verify_signature": False})
        who = json.dumps([found["header"].get("kid"), found["payload"].get("sub")])
    except Exception:
        return ""
    return "jwt " + hashlib.sha256(who.encode()).hexdigest()[:16]


def rights(claims: Mapping[str, Any], rules: Rules) -> tuple[str, frozenset[str] | None, str]:
    """(role, accounts, '') that claims give, or ('', no accounts, why). Claims that are not understood give nothing."""
    named = _claim(claims, rules.role_claim)
    names = named.split() if isinstance(named, str) else named if isinstance(named, list) else []
    has = {rules.roles.get(name) for name in (named, *names) if isinstance(name, str)}
    role = next((role for role in _ROLES if role in has), "")
    if not role:
        return "", frozenset(), f"its claim {rules.role_claim} holds none of the roles {', '.join(rules.roles)}"
    accounts = _accounts(_claim(claims, rules.accounts_claim))
    if accounts is not None and not accounts:
        return "", frozenset(), f"its claim {rules.accounts_claim} is neither '*' nor the name of an account nor a list"
    return role, accounts, ""


def _accounts(value: object) -> frozenset[str] | None:
    """None for '*' alone; an empty set for a value that is not understood."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list):
        return frozenset()
    if names == ["*"]:
        return None
    is_right = all(
        isinstance(name, str) and 0 < len(name) <= _ACCOUNT_MAX and name.isprintable() and name != "*" for name in names
    )
    return frozenset(names) if is_right else frozenset()


def _claim(claims: Mapping[str, Any], name: str) -> object:
    """The claim of that name, else the value at the path `a.b.c`; None when it is missing."""
    if name in claims:
        return claims[name]
    found: object = claims
    for step in name.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _header(text: str) -> dict[str, Any]:
    """Raises _Refused."""
    if len(text) > TOKEN_CHARACTERS_MAX or not text.isascii():
        raise _Refused(f"it is longer than {TOKEN_CHARACTERS_MAX:,} characters, or no ASCII")
    try:
        header: dict[str, Any] = jwt.get_unverified_header(text)
    except Exception:  # of PyJWT, and a RecursionError of a deep header
        raise _Refused("it is malformed") from None
    if "crit" in header or "b64" in header:
        raise _Refused("it needs an extension (crit) that is not known")
    return header


class _Decoder(jwt.PyJWT):
    """Refuses claims that are given twice (RFC 7519, 4, allows it): two readers of one token must not differ."""

    def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
        payload = json.loads(decoded["payload"], object_pairs_hook=_once, parse_constant=_no_number)
        if not isinstance(payload, dict):
            raise jwt.DecodeError("no object")
        return payload


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise jwt.DecodeError("a claim is given twice")
    return found


def _no_number(_: str) -> None:
    raise jwt.DecodeError("NaN or infinite")
