"""The issuer's keys from a real HTTP server: rotation, an issuer that is unreachable, hangs or sends too much,
redirects, and `serve` over all of it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.e2e.commands import COMMAND, running
from tests.support.tokens import AUDIENCE, ISSUER, jwk, key_set, serving, token

from asgi_audit.api.jwks import KEPT_SECONDS
from asgi_audit.cli.doctor.issuer import issuer as doctor
from asgi_audit.errors import AuditError
from asgi_audit.settings import Settings, make_settings
from asgi_audit.wiring import issuer as wired
from asgi_audit.wiring.issuer import JWKS_BYTES_MAX, load_keys, open_issuer

ONE = key_set(jwk("ES256", "k1"))


def settings(url: str) -> Settings:
    return make_settings({}, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks=url)


def failure(url: str) -> str:
    with pytest.raises(AuditError) as raised:
        load_keys(settings(url))()
    return f"{raised.value} {raised.value.hint}".strip()


def test_rotation_and_an_issuer_that_goes_away() -> None:
    async def work() -> None:
        with serving(ONE) as server:
            made = open_issuer(settings(server.url))
            assert made is not None
            now = 1_000.0
            made._keys._monotonic = lambda: now
            assert await made.grant(token()) is not None
            assert server.asked == 1
            server.body = key_set(jwk("ES256", "k1"), jwk("ES256", "k2", 2))
            now += 31
            assert await made.grant(token(kid="k2", number=2)) is not None
            for n in range(50):
                assert await made.grant(token(kid=f"made-up-{n}")) is None
            assert server.asked == 2
            server.status = 500
            now += 31
            assert await made.grant(token(kid="k3")) is None
            assert server.asked == 3
            assert await made.grant(token()) is not None
        now += KEPT_SECONDS - 100  # and no server listens any more
        assert await made.grant(token()) is not None

    asyncio.run(work())


def test_what_is_wrong_is_said_without_the_answer() -> None:
    with serving(ONE) as server:
        server.status = 404
        assert failure(server.url) == f"{server.url} responds with status 404"
        assert [f.level for f in doctor(settings(server.url))] == ["bad"]
        server.status, server.body = 200, b"x" * (JWKS_BYTES_MAX + 1)
        assert failure(server.url) == "the key set has more than 1,048,576 bytes"
        server.body = ONE
        assert load_keys(settings(server.url))() == ONE
        assert [f.level for f in doctor(settings(server.url))] == ["ok"]
    assert "cannot be reached" in failure(server.url)


def test_key_set_of_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving(ONE) as server:
        assert load_keys(settings(server.url))() == ONE


def test_redirect_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(ONE)
    with serving(ONE) as elsewhere, serving(b"") as server:
        server.status = 302
        for to in (elsewhere.url + "?code=hidden", f"file://{secret}", "ftp://h/x", "//h", "\x7f"):
            server.headers = {"location": to}
            said = failure(server.url)
            assert said.startswith(f"{server.url} responds with status 302 Redirects are not followed")
            assert "hidden" not in said
        assert elsewhere.asked == 0


@contextmanager
def dripping(head: bytes, drop: bytes) -> Iterator[str]:
    """A server that never ends its response."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stop = threading.Event()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                try:
                    connection.sendall(head)
                    while not stop.wait(0.01):
                        connection.sendall(drop)
                except OSError:
                    return

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            stop.set()
            thread.join()


def test_answer_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wired, "_LOAD_SECONDS", 0.05)
    with dripping(b"HTTP/1.1 200 OK\r\n\r\n", b" ") as url:
        assert failure(url) == f"{url} does not respond in time"
    monkeypatch.setattr(wired, "_CONNECT_SECONDS", 0.05)
    with dripping(b"", b"") as url:
        assert failure(url) in (f"{url} does not respond in time", f"{url} cannot be reached: timed out")


def test_what_is_no_http_is_given_up() -> None:
    with dripping(b"SSH-2.0-x\r\n", b"\0" * 100_000) as url:
        assert failure(url) == f"{url} does not respond with HTTP: BadStatusLine"


@pytest.mark.full
def test_serve_takes_tokens_while_the_issuer_hangs_and_with_several_workers(tmp_path: Path) -> None:
    environment = {
        "ASGI_AUDIT_JWT_ISSUER": ISSUER,
        "ASGI_AUDIT_JWT_AUDIENCE": AUDIENCE,
        "ASGI_AUDIT_HOME": str(tmp_path / "home"),
    }
    with serving(ONE) as server:
        environment["ASGI_AUDIT_JWT_JWKS"] = server.url
        with running(COMMAND, "serve", "--port", "0", "--workers", "2", cwd=tmp_path, **environment) as serve:
            base = serve.wait_for("listens on ").partition("listens on ")[2].split(",")[0].strip()
            serve.wait_for("asgi-audit keys create")
            with httpx.Client(base_url=base, timeout=30, trust_env=False) as client:
                for _ in range(8):
                    answer = client.get("/records", headers={"authorization": f"Bearer {token()}"})
                    assert answer.status_code == 200, answer.text
                assert 1 <= server.asked <= 2  # each worker has its own
                server.held.clear()
                expired = token(exp=5)
                assert client.get("/records", headers={"authorization": f"Bearer {expired}"}).status_code == 401
                assert client.get("/health/live").status_code == 200
            assert serve.stop() == 0
            said = serve.said
            assert "a token was refused: it has expired" in said
            assert not [piece for piece in (*token().split("."), *expired.split(".")) if piece in said]
            assert "aa_" not in said  # no key is created where an issuer gives rights
