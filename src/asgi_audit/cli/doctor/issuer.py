"""The doctor's check of the issuer of tokens (JWT): whether its public keys can be loaded and fit the settings."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import AuditError, ConfigError
from ...settings import Settings
from ...wiring.issuer import public_keys
from .checks import Finding

__all__ = ["issuer"]

_SHOWN = 5


def issuer(s: Settings) -> Iterator[Finding]:
    if not s.accepts_tokens:
        return
    try:
        ids = public_keys(s)
    except ConfigError:
        raise  # a package that is missing: its hint says which
    except AuditError as e:
        do = e.hint or "Until then, tokens are refused or checked with the known keys. API keys still work."
        yield Finding("bad", "issuer", f"the public keys of {s.jwt_issuer} cannot be loaded: {e}", do)
        return
    if not ids:
        do = "Set jwt_algorithms to what the issuer signs with."
        yield Finding("bad", "issuer", f"no public key of {s.jwt_issuer} is for an accepted algorithm", do)
        return
    named = [f"{id_[:60]!a}" for id_ in ids if id_]
    shown = ", ".join(named[:_SHOWN]) + (f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else "")
    text = f"{s.jwt_issuer} publishes {len(ids)} keys that tokens may be signed with"
    yield Finding("ok", "issuer", f"{text}: {shown}" if shown else text)
