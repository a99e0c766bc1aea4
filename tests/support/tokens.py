"""An issuer of tokens: real keys, an HTTP server that publishes them, tokens that it signs."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from asgi_audit.api.issuer import Issuer, Rules
from asgi_audit.api.jwks import KeySet
from asgi_audit.settings.checks import ALGORITHMS

ISSUER = "https://issuer.test/"
AUDIENCE = "asgi-audit"


def private_key(algorithm: str, number: int = 0) -> Any:
    """The same key for the same arguments, within a run: RSA keys take long to make."""
    return _made(algorithm, number)


@cache
def _made(algorithm: str, number: int) -> Any:
    if algorithm.startswith(("RS", "PS")):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm.startswith("ES"):
        curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
        return ec.generate_private_key(curve)
    return ed448.Ed448PrivateKey.generate() if algorithm == "Ed448" else ed25519.Ed25519PrivateKey.generate()


def jwk(algorithm: str, kid: str | None, number: int = 0, **more: Any) -> dict[str, Any]:
    """The public part, in the form of a key set."""
    of = "EdDSA" if algorithm == "Ed448" else algorithm
    found: dict[str, Any] = get_default_algorithms()[of].to_jwk(
        private_key(algorithm, number).public_key(), as_dict=True
    )
    found.pop("key_ops", None)
    return {**found, **({} if kid is None else {"kid": kid}), "use": "sig", **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def claims(**given: Any) -> dict[str, Any]:
    """Claims of a valid token; a claim given as None is left out."""
    now = int(time.time())
    found = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "exp": now + 600,
        "iat": now,
        "role": "auditor",
        "accounts": ["acme"],
        **given,
    }
    return {name: value for name, value in found.items() if value is not None}


def token(algorithm: str = "ES256", kid: str | None = "k1", number: int = 0, **given: Any) -> str:
    header = {"alg": "EdDSA" if algorithm == "Ed448" else algorithm, "typ": "JWT"} | ({"kid": kid} if kid else {})
    return signed(json.dumps(header).encode(), json.dumps(claims(**given)).encode(), algorithm, number)


def signed(header: bytes, payload: bytes, algorithm: str = "ES256", number: int = 0) -> str:
    """A token with exactly these bytes and a right signature."""
    text = part(header) + b"." + part(payload)
    signature = get_default_algorithms()["EdDSA" if algorithm == "Ed448" else algorithm].sign(
        text, private_key(algorithm, number)
    )
    return (text + b"." + part(signature)).decode()


def part(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def issuer_of(*keys: dict[str, Any], **rules: Any) -> Issuer:
    """An issuer with these public keys, by default the one of `token()`."""
    given: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": (AUDIENCE,),
        "algorithms": ALGORITHMS,
        "leeway_seconds": 30.0,
        "role_claim": "role",
        "roles": {"reader": "reader", "auditor": "auditor"},
        "accounts_claim": "accounts",
    }
    published = key_set(*(keys or (jwk("ES256", "k1"),)))
    return Issuer(Rules(**{**given, **rules}), KeySet(lambda: published))


class IssuerServer:
    """`url`: of the key set. `body`, `status` and `headers`: its response. `asked`: number of requests. `held`:
    responses wait until it is set."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0
        self.held = threading.Event()
        self.held.set()
        self.reached = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                outer.reached.set()
                outer.held.wait(30)
                self.send_response(outer.status)
                for name, value in {"content-length": str(len(outer.body)), **outer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(outer.body)
                except OSError:
                    return  # the client has read enough

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"


@contextmanager
def serving(body: bytes) -> Iterator[IssuerServer]:
    issuer = IssuerServer(body)
    thread = threading.Thread(target=issuer.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield issuer
    finally:
        issuer.held.set()
        issuer.server.shutdown()
        issuer.server.server_close()
        thread.join()
