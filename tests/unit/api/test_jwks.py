"""The issuer's keys: loaded once for all requests, loaded again when they may have changed, at a bounded rate, and kept
while the issuer is unreachable. The test sets the clock."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from tests.support.tokens import jwk, key_set, private_key
from tests.support.waiting import until_in_loop

from asgi_audit.api.bearer import NoIssuerKeys
from asgi_audit.api.jwks import (
    AGAIN_SECONDS,
    FRESH_SECONDS,
    KEPT_SECONDS,
    KEYS_MAX,
    STALE_SECONDS,
    KeySet,
    parsed,
)
from asgi_audit.errors import AuditError


class Source:
    """`body` None: the issuer is unreachable. While `open` is not set, a load waits."""

    def __init__(self, body: bytes | None) -> None:
        self.body = body
        self.now = 1_000.0
        self.loads = 0
        self.open = threading.Event()
        self.open.set()
        self.threads: set[str] = set()
        self.keys = KeySet(self.load, monotonic=lambda: self.now)

    def load(self) -> bytes:
        self.threads.add(threading.current_thread().name)
        self.loads += 1
        self.open.wait(30)
        if self.body is None:
            raise AuditError("the issuer is away")
        return self.body

    async def has(self, id_: str, algorithm: str = "ES256") -> bool:
        return await self.keys.find(id_, algorithm) is not None

    async def settled(self) -> None:
        """Waits for the load that is running."""
        if self.keys._loading is not None:
            await self.keys._loading


def test_keys_are_loaded_once_for_all_who_wait_and_in_a_thread() -> None:
    source = Source(key_set(jwk("ES256", "a")))

    async def work() -> None:
        assert await asyncio.gather(*(source.has("a") for _ in range(50))) == [True] * 50
        assert await asyncio.gather(*(source.has("a") for _ in range(50))) == [True] * 50

    asyncio.run(work())
    assert source.loads == 1
    assert source.threads == {"asgi-audit-jwks"}


def test_rotated_key_is_found_at_once_and_an_unknown_one_does_not_hammer() -> None:
    source = Source(key_set(jwk("ES256", "a")))

    async def work() -> None:
        assert await source.has("a")
        source.now += AGAIN_SECONDS
        source.body = key_set(jwk("ES256", "b"))
        assert await source.has("b")
        assert not await source.has("a")
        assert source.loads == 2
        for n in range(500):
            assert not await source.has(f"made up {n}")
        assert source.loads == 2
        source.now += AGAIN_SECONDS
        assert [await source.has(f"made up {n}") for n in range(10)] == [False] * 10
        assert source.loads == 3
        assert await source.has("b")

    asyncio.run(work())


def test_old_keys_are_loaded_again_while_requests_go_on() -> None:
    source = Source(key_set(jwk("ES256", "a")))

    async def work() -> None:
        assert await source.has("a")
        source.now += FRESH_SECONDS + 1
        source.body = key_set(jwk("ES256", "b"))
        source.open.clear()
        assert await source.has("a")  # returns without waiting
        assert await source.has("a")
        source.open.set()
        await source.settled()
        assert not await source.has("a")
        assert await source.has("b")

    asyncio.run(work())
    assert source.loads == 2


def test_key_that_was_withdrawn_during_a_pause_verifies_nothing_more() -> None:
    source = Source(key_set(jwk("ES256", "a")))

    async def work() -> None:
        assert await source.has("a")
        source.now += STALE_SECONDS + 1
        source.body = key_set(jwk("ES256", "b"))
        assert await asyncio.gather(*(source.has("a") for _ in range(10))) == [False] * 10
        assert source.loads == 2

    asyncio.run(work())


def test_requests_do_not_wait_for_an_issuer_that_was_away_before() -> None:
    source = Source(key_set(jwk("ES256", "a")))

    async def work() -> None:
        assert await source.has("a")
        source.now += STALE_SECONDS + 1
        source.body = None
        assert await source.has("a")  # has waited: its attempt failed
        source.now += AGAIN_SECONDS
        source.open.clear()
        assert await source.has("a")
        await until_in_loop(lambda: source.loads == 3)
        assert await source.has("a")  # while the third one is running
        source.open.set()
        await source.settled()

    asyncio.run(work())


def test_keys_are_kept_while_the_issuer_is_away_for_a_day(caplog: pytest.LogCaptureFixture) -> None:
    source = Source(key_set(jwk("ES256", "a")))

    async def work() -> None:
        assert await source.has("a")
        source.body = None
        for _ in range(20):
            source.now += KEPT_SECONDS / 21
            assert await source.has("a")
            await source.settled()
        assert source.loads == 21
        source.now += KEPT_SECONDS / 10
        with pytest.raises(NoIssuerKeys):
            await source.has("a")
        source.now += 5
        source.body = b"<html>"
        with pytest.raises(NoIssuerKeys):
            await source.has("a")
        source.now += 5
        source.body = key_set(jwk("ES256", "a"))
        assert await source.has("a")

    asyncio.run(work())
    assert "could not be loaded: the issuer is away" in caplog.text
    assert 'not a JSON object with an array "keys"' in caplog.text


def test_attempts_are_rare_while_there_are_no_keys_at_all() -> None:
    source = Source(None)

    async def work() -> None:
        for _ in range(100):
            with pytest.raises(NoIssuerKeys):
                await source.has("a")
        assert source.loads == 1
        source.now += 5
        source.body = key_set(jwk("ES256", "a"))
        assert await source.has("a")

    asyncio.run(work())


def test_request_that_leaves_does_not_end_the_load_for_the_others() -> None:
    source = Source(key_set(jwk("ES256", "a")))

    async def work() -> None:
        source.open.clear()
        leaving, staying = asyncio.create_task(source.has("a")), asyncio.create_task(source.has("a"))
        await until_in_loop(lambda: source.keys._loading)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        source.open.set()
        assert await staying

    asyncio.run(work())
    assert source.loads == 1


def test_failure_that_is_none_of_ours_ends_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    def load() -> bytes:
        raise ZeroDivisionError("secret")

    async def work() -> None:
        with pytest.raises(NoIssuerKeys):
            await KeySet(load).find("a", "ES256")

    asyncio.run(work())
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in caplog.text


def test_loop_that_ends_while_keys_load_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    source = Source(key_set(jwk("ES256", "a")))

    async def work() -> None:
        source.open.clear()
        task = asyncio.create_task(source.has("a"))
        await until_in_loop(lambda: source.keys._loading)
        task.cancel()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(work())
        source.open.set()
        for thread in threading.enumerate():
            if thread.name == "asgi-audit-jwks":
                thread.join(30)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


SHORT = {**jwk("RS256", "a"), "n": jwk("RS256", "a")["n"][:170]}


@pytest.mark.parametrize(
    ("entry", "algorithms"),
    [
        (jwk("RS256", "a"), {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (jwk("RS256", "a", alg="RS512"), {"RS512"}),
        (jwk("ES384", "a"), {"ES384"}),
        (jwk("EdDSA", "a", key_ops=["verify"]), {"EdDSA"}),
        (jwk("Ed448", "a"), {"EdDSA"}),
        ({**jwk("ES256", "a"), "d": "AAAA"}, {"ES256"}),  # a private part is left out
        (jwk("ES256", "a", alg="RS256"), set()),
        (jwk("ES256", "a", use="enc"), set()),
        (jwk("ES256", "a", key_ops=["sign"]), set()),
        (jwk("ES256", 5), set()),  # type: ignore[arg-type]
        (SHORT, set()),
        ({"kty": "oct", "kid": "a", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}, set()),
        ({"kty": "oct", "kid": "a", "k": "c2VjcmV0", "alg": "HS256"}, set()),
        ({"kty": "EC", "kid": "a", "crv": "P-256", "x": "!!", "y": "AA"}, set()),
        ({"kty": "EC", "kid": "a", "crv": "secp256k1", "x": "AA", "y": "AA"}, set()),
        ({"kty": "OKP", "kid": "a", "crv": "X25519", "x": "AA"}, set()),
        ({"kty": ["RSA"], "kid": "a"}, set()),
        ({"kty": "RSA", "kid": "a", "n": 5, "e": "AQAB"}, set()),
        ({}, set()),
        ("text", set()),
        (None, set()),
    ],
)
def test_key_verifies_what_it_is_for_and_others_are_left_out(entry: Any, algorithms: set[str]) -> None:
    found = parsed(key_set(jwk("ES512", "stays"), entry))
    assert found[0].id == "stays"
    assert [set(key.keys) for key in found[1:]] == ([algorithms] if algorithms else [])


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[]}', b'{"keys":[1]}', b"\xff", b"[" * 100_000]
)
def test_set_without_a_key_is_refused(body: bytes) -> None:
    with pytest.raises(AuditError, match="key set"):
        parsed(body)


def test_set_is_bounded() -> None:
    with pytest.raises(AuditError, match=f"the most is {KEYS_MAX}"):
        parsed(key_set(*({"kty": "x"} for _ in range(KEYS_MAX + 1))))


def test_first_of_two_keys_with_one_id_is_taken() -> None:
    keys = KeySet(lambda: key_set(jwk("ES256", "a"), jwk("ES256", "a", number=1)))
    found = asyncio.run(keys.find("a", "ES256"))
    assert found is not None
    assert found.key.public_numbers() == private_key("ES256").public_key().public_numbers()
