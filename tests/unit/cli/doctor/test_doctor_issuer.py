"""The findings of `doctor` about the issuer of tokens. A real server for its keys is in `integration/test_jwks.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.tokens import AUDIENCE, ISSUER, jwk, key_set

from asgi_audit.cli.doctor.issuer import issuer
from asgi_audit.settings import make_settings


def said(jwks: Path, **given: Any) -> list[tuple[str, str]]:
    settings = make_settings({}, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=jwks, **given)
    return [(f.level, f.message) for f in issuer(settings)]


def test_nothing_is_said_without_an_issuer() -> None:
    assert list(issuer(make_settings({}))) == []


def test_keys_are_named(tmp_path: Path) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(key_set(jwk("ES256", "k1"), jwk("RS256", "k\x1b2"), jwk("ES384", None)))
    assert said(jwks) == [("ok", f"{ISSUER} publishes 3 keys that tokens may be signed with: 'k1', 'k\\x1b2'")]
    jwks.write_bytes(key_set(jwk("ES256", None)))
    assert said(jwks) == [("ok", f"{ISSUER} publishes 1 keys that tokens may be signed with")]
    assert said(jwks, jwt_algorithms="RS256") == [("bad", f"no public key of {ISSUER} is for an accepted algorithm")]


def test_file_that_is_away_or_no_key_set_is_bad(tmp_path: Path) -> None:
    jwks = tmp_path / "jwks.json"
    begin = f"the public keys of {ISSUER} cannot be loaded: "
    assert said(jwks) == [("bad", f"{begin}{jwks} cannot be read: No such file or directory")]
    jwks.write_text("<html>")
    assert said(jwks) == [("bad", f'{begin}the key set is not a JSON object with an array "keys"')]
