"""The public keys of an issuer, from its JSON Web Key Set (RFC 7517).

Keys are loaded in a thread, never in the event loop, one load at a time. They are loaded again after `FRESH_SECONDS`,
while requests continue with the known ones, and when a token names an unknown key: at most once in `AGAIN_SECONDS`, so
that tokens with invented key ids do not cause a flood of requests to the issuer. After `STALE_SECONDS` (no request came
meanwhile) requests wait for that load: the issuer may have withdrawn a key since. While the issuer is unreachable, the
known keys stay valid for `KEPT_SECONDS`.

Bounds: `KEYS_MAX` keys of a set; a waiting request waits `WAIT_SECONDS` at most. Nothing is stored. Used by one event
loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jwt

from ..errors import AuditError, sentences, types_and_places
from .bearer import NoIssuerKeys

__all__ = [
    "AGAIN_SECONDS",
    "FRESH_SECONDS",
    "KEPT_SECONDS",
    "STALE_SECONDS",
    "WAIT_SECONDS",
    "KeySet",
    "VerificationKey",
    "parsed",
]

FRESH_SECONDS = 300.0
STALE_SECONDS = 600.0
AGAIN_SECONDS = 30.0
FAILED_SECONDS = 5.0  # before the next attempt while there are no keys at all
KEPT_SECONDS = 86_400.0
WAIT_SECONDS = 10.0
KEYS_MAX = 100
_RSA_BITS_MIN = 2_048  # RFC 7518, 3.3

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# Algorithms by type and curve of a key. Symmetric keys (`oct`) have none: in a published set they are no secret.
_ALGORITHMS = {
    ("RSA", ""): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}

_log = logging.getLogger("asgi_audit.api.jwks")


class VerificationKey(NamedTuple):
    """`id`: its `kid`, '' without one. `keys`: the key by algorithm that it may verify."""

    id: str
    keys: dict[str, jwt.PyJWK]


class KeySet:
    """`load` returns the bytes of the set; it may block, and raises AuditError."""

    def __init__(self, load: Callable[[], bytes], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._monotonic = monotonic
        self._keys: list[VerificationKey] = []
        self._loaded_at = float("-inf")
        self._tried_at = float("-inf")
        self._has_failed = False  # the last load that ended
        self._loading: asyncio.Future[None] | None = None

    async def find(self, id_: str, algorithm: str) -> jwt.PyJWK | None:
        """The key with this id for this algorithm; for '' the only key of the set for this algorithm. None when there
        is none. Raises NoIssuerKeys while none could be loaded."""
        age = self._monotonic() - self._loaded_at
        if age > KEPT_SECONDS:
            await self._again(FAILED_SECONDS)
            if self._monotonic() - self._loaded_at > KEPT_SECONDS:
                raise NoIssuerKeys()
        elif age > STALE_SECONDS and not self._has_failed:
            await self._again(AGAIN_SECONDS)
        elif age > FRESH_SECONDS:
            self._start(AGAIN_SECONDS)
        found = self._found(id_, algorithm)
        if found is None:
            await self._again(AGAIN_SECONDS)
            found = self._found(id_, algorithm)
        return found

    def _found(self, id_: str, algorithm: str) -> jwt.PyJWK | None:
        fit = [key.keys[algorithm] for key in self._keys if algorithm in key.keys and (key.id == id_ or not id_)]
        return fit[0] if len(fit) == 1 or (fit and id_) else None

    async def _again(self, pause: float) -> None:
        """Loads, or waits for the load that is running. Does nothing within `pause` of the last attempt."""
        self._start(pause)
        if self._loading is not None:
            # A request that leaves does not end the load for the others.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._loading), WAIT_SECONDS)

    def _start(self, pause: float) -> None:
        now = self._monotonic()
        if self._loading is not None or now - self._tried_at < pause:
            return
        self._tried_at = now
        loop = asyncio.get_running_loop()
        self._loading = loop.create_future()
        try:
            # No executor: its threads are those of look-ups, and the end of the process would wait for the issuer.
            threading.Thread(target=self._run, args=(loop,), name="asgi-audit-jwks", daemon=True).start()
        except RuntimeError as e:  # no thread available
            self._ended(None, str(e))

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        keys: list[VerificationKey] | None = None
        problem = ""
        try:
            keys = parsed(self._load())
        except AuditError as e:
            problem = sentences(str(e), e.hint)
        except Exception as e:  # a waiter must not wait for a thread that is gone
            problem = types_and_places(e)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._ended, keys, problem)

    def _ended(self, keys: list[VerificationKey] | None, problem: str) -> None:
        self._has_failed = keys is None
        if keys is not None:
            self._keys, self._loaded_at = keys, self._monotonic()
        else:
            _log.warning("the public keys of the issuer of tokens could not be loaded: %s", problem)
        loading, self._loading = self._loading, None
        if loading is not None and not loading.done():
            loading.set_result(None)


def parsed(data: bytes) -> list[VerificationKey]:
    """The keys of a set that can verify signatures; others are left out. Raises AuditError when there is none."""
    try:
        given = json.loads(data)
        entries = given["keys"]
        if not isinstance(entries, list):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise AuditError('the key set is not a JSON object with an array "keys"') from None
    if len(entries) > KEYS_MAX:
        raise AuditError(f"the key set has {len(entries)} keys; the most is {KEYS_MAX}")
    keys = [key for key in map(_key, entries) if key is not None]
    if not keys:
        raise AuditError("the key set has no public key for signatures", hint="Accepted: RSA, EC and OKP keys.")
    return keys


def _key(entry: Any) -> VerificationKey | None:
    """None for a key that cannot verify signatures: one for another use, symmetric, damaged or too short."""
    if not isinstance(entry, dict) or entry.get("use") not in (None, "sig"):
        return None
    operations = entry.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return None
    type_, id_ = entry.get("kty"), entry.get("kid", "")
    curve = entry.get("crv", "") if type_ != "RSA" else ""
    if not isinstance(type_, str) or not isinstance(curve, str) or not isinstance(id_, str):
        return None
    if type_ == "RSA" and not _is_long(entry.get("n")):
        return None
    fitting: Sequence[str] = _ALGORITHMS.get((type_, curve), ())
    if "alg" in entry:
        fitting = [algorithm for algorithm in fitting if algorithm == entry["alg"]]
    # The private part, which some publish by mistake, is not needed.
    public = {name: value for name, value in entry.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}
    try:
        keys = {algorithm: jwt.PyJWK(public, algorithm) for algorithm in fitting}
    except Exception:  # any of `cryptography`, too
        return None
    return VerificationKey(id_, keys) if keys else None


def _is_long(modulus: object) -> bool:
    return isinstance(modulus, str) and len(modulus.rstrip("=")) * 6 >= _RSA_BITS_MIN
