"""Headers: the cached object equals the one made header by header, and contains no secret."""

from __future__ import annotations

from random import Random

import orjson
import pytest
from tests.support.exchanges import caches_of

from asgi_audit.encoding.headers import HeaderFacts, Headers
from asgi_audit.redaction import Redactor

ID = b"0123456789abcdef"
SECRET = b"hunter2hunter"
REDACTOR = Redactor()


def make_headers() -> Headers:
    return Headers(REDACTOR, b"x-request-id")


def some_headers(random: Random) -> list[tuple[bytes, bytes]]:
    """Headers with different names: some repeat, some are new each time, some have a secret."""
    values = {
        b"host": random.choice((b"a.example:80", b"[::1]:80", b"b.example")),
        b"user-agent": b"agent/%d" % random.randrange(3),
        b"content-type": random.choice((b"application/json", b"Multipart/form-data; boundary=x", b"text/html")),
        b"content-encoding": random.choice((b"gzip", b"identity")),
        b"content-length": b"%d" % random.randrange(10**6),
        b"transfer-encoding": b"chunked",
        b"traceparent": b"00-%032x-%016x-01" % (random.getrandbits(128), random.getrandbits(64)),
        b"x-request-id": random.choice((ID, b"another")),
        b"x-any": random.choice((b"7", b"9" * 20, b'caf\xe9 "q"', b"x" * 1_100)),
        b"referer": random.choice((b"https://a.example/?q=1", b"https://a.example/?token=" + SECRET)),
        b"authorization": b"Bearer " + SECRET,
        b"cookie": b"sid=" + SECRET,
        b"x-note": random.choice((b"fine", b"password: " + SECRET)),
    }
    names = random.sample(sorted(values), random.randrange(1, len(values)))
    return [(name, values[name]) for name in names]


def seen_of(seen: HeaderFacts, values: tuple[bytes, ...] | list[bytes]) -> dict[str, object]:
    told: dict[str, object] = {name: getattr(seen, name) for name in HeaderFacts.__slots__}
    told["length"] = values[seen.length] if seen.length >= 0 else None
    told["trace"] = values[seen.trace] if seen.trace >= 0 else None
    return told


def test_remembered_headers_are_the_same_as_those_looked_at_one_by_one() -> None:
    seed = 20_261_122
    print("seed", seed)
    random = Random(seed)
    remembering = make_headers()
    for _ in range(3_000):
        headers = some_headers(random)
        made = []
        for encode in (remembering.encoded, make_headers()._each):
            record = REDACTOR.record()
            truncated: list[str] = []
            data, seen, values = encode(headers, "request.headers", ID, record, truncated)
            assert not truncated
            assert list(orjson.loads(data)) == [name.decode() for name, _ in headers]
            assert SECRET not in data
            made.append((data, seen_of(seen, list(values)), sorted(record.redacted), set(record.masked)))
        assert made[0] == made[1]


def test_nothing_remembered_of_headers_holds_a_secret() -> None:
    random = Random(7)
    headers = make_headers()
    for n in range(3_000):
        given = [*some_headers(random), (b"accept-language", b"l-%d" % n), (b"accept", b"token=" + SECRET)]
        headers.encoded(given, "request.headers", ID, REDACTOR.record(), [])
    held = repr(caches_of(headers))
    for cache in caches_of(headers):
        assert len(cache) <= 1_024
        for value in cache.values():
            if isinstance(value, tuple) and isinstance(value[1], HeaderFacts):
                held += repr([getattr(value[1], name) for name in HeaderFacts.__slots__])
    assert "agent/1" in held
    assert "application/json" in held
    assert "hunter" not in held


@pytest.mark.parametrize("host", [b"AKIAIOSFODNN7EXAMPLE", b"token=hunter2x9", b"user:hunter2x9@shop.example"])
def test_host_that_holds_a_secret_is_not_remembered(host: bytes) -> None:
    headers = make_headers()
    data, _, _ = headers.encoded([(b"host", host)], "request.headers", ID, REDACTOR.record(), [])
    assert b"[REDACTED]" in data
    held = repr(caches_of(headers))
    assert "AKIA" not in held
    assert "hunter" not in held
    headers.encoded([(b"host", b"shop.example:8000")], "request.headers", ID, REDACTOR.record(), [])
    assert "shop.example:8000" in repr(caches_of(headers))


def test_bounds_hold_when_names_and_values_never_repeat() -> None:
    headers = make_headers()
    for n in range(2_000):
        headers.encoded(
            [(b"x-%d" % n, b"1"), (b"user-agent", b"a%d" % n), (b"host", b"h%d" % n), (b"content-type", b"t/%d" % n)],
            "request.headers", None, REDACTOR.record(), [],
        )  # fmt: skip
    assert all(len(cache) <= 1_024 for cache in caches_of(headers))
