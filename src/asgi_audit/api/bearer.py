"""Shared by the modules that read tokens of an issuer (`issuer`, `jwks`) and that use them (`auth`). Imports no JWT
library."""

from __future__ import annotations

from ..errors import StoreError

__all__ = ["TOKEN_CHARACTERS_MAX", "NoIssuerKeys"]

# Request headers may be longer; tokens with many groups have some thousand characters.
TOKEN_CHARACTERS_MAX = 16_384


class NoIssuerKeys(StoreError):
    """A token cannot be verified now: the public keys of its issuer cannot be loaded."""

    def __init__(self) -> None:
        super().__init__(
            "the public keys of the issuer of tokens cannot be had",
            hint="`asgi-audit doctor` says why; look at jwt_jwks.",
        )
