"""Builds the issuer of tokens (JWT) from settings, and loads its public keys from a file or a URL."""

from __future__ import annotations

import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .. import __version__
from ..errors import AuditError, ConfigError
from ..settings import Settings
from ..settings.checks import ALGORITHMS, ROLES
from .environment import extra

if TYPE_CHECKING:
    from ..api.issuer import Issuer

__all__ = ["JWKS_BYTES_MAX", "load_keys", "open_issuer", "public_keys"]

JWKS_BYTES_MAX = 1 << 20
_CONNECT_SECONDS = 5.0  # for each step of the network
_LOAD_SECONDS = 10.0  # for all of it


def open_issuer(settings: Settings) -> Issuer | None:
    """The issuer whose tokens are accepted; None when none is set. Does not load its keys from a URL, which may be
    unreachable. Raises ConfigError."""
    if not settings.accepts_tokens:
        return None
    with extra():
        from ..api.issuer import Issuer, Rules
        from ..api.jwks import KeySet

    load = load_keys(settings)
    if "://" not in settings.jwt_jwks:
        try:
            load()
        except AuditError as e:
            raise ConfigError(f"setting jwt_jwks: {e}", hint=e.hint) from e
    rules = Rules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=settings.jwt_algorithms or ALGORITHMS,
        leeway_seconds=settings.jwt_leeway_seconds,
        role_claim=settings.jwt_role_claim,
        roles=dict(settings.jwt_roles) or {role: role for role in ROLES},
        accounts_claim=settings.jwt_accounts_claim,
    )
    return Issuer(rules, KeySet(load))


def public_keys(settings: Settings) -> list[str]:
    """The ids of the issuer's keys that an accepted token may be signed with; '' for a key without. Raises AuditError,
    ConfigError."""
    with extra():
        from ..api.jwks import parsed

    accepted = set(settings.jwt_algorithms or ALGORITHMS)
    return [key.id for key in parsed(load_keys(settings)()) if accepted & set(key.keys)]


def load_keys(settings: Settings) -> Callable[[], bytes]:
    """A function that returns the bytes of the key set of the settings. It blocks, and raises AuditError."""
    where = settings.jwt_jwks
    if "://" in where:
        return lambda: _fetch(where)
    return lambda: _read(Path(where))


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(JWKS_BYTES_MAX + 1)
    except OSError as e:
        raise AuditError(f"{path} cannot be read: {e.strerror or type(e).__name__}") from e
    return _bounded(data)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are errors: keys come only from the place that the operator named."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(url: str) -> bytes:
    """Proxies are those of the environment, as for other programs; none for this machine."""
    request = urllib.request.Request(
        url, headers={"accept": "application/json", "user-agent": f"asgi-audit/{__version__}"}
    )
    until = time.monotonic() + _LOAD_SECONDS
    try:
        local = [urllib.request.ProxyHandler({})] if url.startswith("http://") else []
        with urllib.request.build_opener(_NoRedirect, *local).open(request, timeout=_CONNECT_SECONDS) as response:
            data = b""
            while len(data) <= JWKS_BYTES_MAX and (piece := response.read1(65_536)):
                data += piece
                if time.monotonic() > until:
                    raise TimeoutError
    except urllib.error.HTTPError as e:
        with contextlib.closing(e):
            to = e.headers.get("location", "") if 300 <= e.code < 400 else ""
            hint = f"Redirects are not followed: set the final URL{_shown(to)}." if to else ""
            raise AuditError(f"{url} responds with status {e.code}", hint=hint) from e
    except TimeoutError as e:
        raise AuditError(f"{url} does not respond in time") from e
    except urllib.error.URLError as e:
        raise AuditError(f"{url} cannot be reached: {e.reason}") from e
    except Exception as e:  # of http.client, and ValueError for a malformed response
        raise AuditError(f"{url} does not respond with HTTP: {type(e).__name__}") from e
    return _bounded(data)


def _bounded(data: bytes) -> bytes:
    if len(data) > JWKS_BYTES_MAX:
        raise AuditError(f"the key set has more than {JWKS_BYTES_MAX:,} bytes")
    return data


def _shown(location: str) -> str:
    """Scheme, host and path of a redirect, without what may be secret in it."""
    parts = urlsplit(location)
    return f", {parts.scheme}://{parts.hostname}{parts.path}" if parts.scheme and parts.hostname else ""
