"""Settings: tokens (JWT) of an issuer, which the API accepts beside keys."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from . import checks
from .checks import setting

__all__ = ["Jwt"]

_TOGETHER = ("jwt_issuer", "jwt_audience", "jwt_jwks")


@dataclass(frozen=True, kw_only=True)
class Jwt:
    jwt_issuer: str = setting(
        "",
        checks.text,
        "Issuer whose tokens (JWT) the API accepts beside keys; must equal their `iss`. Requires `jwt_audience` and "
        "`jwt_jwks`; see docs/operating.md.",
        only="server",
    )
    jwt_audience: tuple[str, ...] = setting(
        (), checks.names, "Audiences, separated by commas: `aud` of a token must contain one of them.", only="server"
    )
    jwt_jwks: str = setting(
        "",
        checks.jwks,
        "Public keys of the issuer (JSON Web Key Set): an `https://` URL, a path, or a local `http://` URL.",
        only="server",
    )
    jwt_algorithms: tuple[str, ...] = setting(
        (),
        checks.algorithms,
        "Accepted signature algorithms. Default: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, "
        "`ES384`, `ES512`, `EdDSA`.",
        only="server",
    )
    jwt_leeway_seconds: float = setting(
        30.0,
        checks.seconds(0, 300),
        "Largest accepted difference between the clocks of issuer and API.",
        only="server",
    )
    jwt_role_claim: str = setting(
        "role",
        checks.claim,
        "Claim with the role: a text, several separated by spaces, or a list. `realm_access.roles` looks inside "
        "objects.",
        only="server",
    )
    jwt_roles: tuple[tuple[str, str], ...] = setting(
        (),
        checks.roles,
        "The issuer's names of roles: `audit-admins=auditor,staff=reader`. Default: `auditor=auditor,reader=reader`.",
        only="server",
    )
    jwt_accounts_claim: str = setting(
        "accounts",
        checks.claim,
        "Claim with the accounts: the name of one, a list of names, or `*` for all.",
        only="server",
    )

    @property
    def accepts_tokens(self) -> bool:
        return bool(self.jwt_issuer)

    def check_tokens(self) -> None:
        """Raises ConfigError when some but not all of the settings are given that tokens need."""
        missing = [name for name in _TOGETHER if not getattr(self, name)]
        if 0 < len(missing) < len(_TOGETHER):
            given = next(name for name in _TOGETHER if name not in missing)
            raise ConfigError(
                f"setting {given} is given without {' and '.join(missing)}; accepted: all three of them, or none"
            )
