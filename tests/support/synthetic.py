"""Synthetic records, and the dictionary of the package, which is trained on them alone: `python -m
tests.support.synthetic OUT`.

A dictionary trained on real records would carry their plaintext into every copy of the index, so every name, address
and text here is made up: `example.com`, the documentation networks of RFC 5737, invented words. The same seed gives the
same records; the dictionary's bytes also depend on the version of the zstandard package that trains it.

A later dictionary gets the next id and a file of its own; old files stay in the package, because the id in each
compressed record names the one that it needs.
"""

from __future__ import annotations

import random
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import orjson
import zstandard

from asgi_audit.store.sqlite.codec import DICTIONARY_ID

__all__ = ["DICTIONARY_BYTES", "synthetic_record", "synthetic_records", "train"]

DICTIONARY_BYTES = 32_768
_START = 1_767_225_600_000  # 2026-01-01T00:00:00Z, ms

_SERVICES = ("gateway", "accounts", "library", "resolver", "validator", "app", "billing", "iam")
_NOUNS = ("orders", "users", "items", "invoices", "sessions", "reports", "files", "messages", "projects", "teams")
_WORDS = (
    "amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "harbor", "island", "juniper", "kettle", "lantern",
    "meadow", "nickel", "orchard", "pepper", "quartz", "river", "saddle", "timber", "umbra", "valley", "willow",
)  # fmt: skip
_FIELDS = (
    "name", "title", "description", "status", "state", "type", "kind", "email", "created_at", "updated_at", "amount",
    "currency", "quantity", "price", "total", "count", "enabled", "active", "owner", "tags", "labels", "address",
    "city", "country", "language", "comment", "reference", "parent", "version",
)  # fmt: skip
_AGENTS = (
    "python-httpx/0.27.0",
    "curl/8.5.0",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari",
    "Go-http-client/2.0",
    "okhttp/4.12.0",
)
_STATUSES = {"GET": (200, 200, 200, 304, 404), "POST": (201, 200, 422, 401, 400), "PUT": (200, 204, 409)}
_ERRORS = ("ValueError", "KeyError", "TimeoutError", "RuntimeError", "ConnectionResetError", "PermissionError")
_MASKED = "[REDACTED]"


def _hex(rng: random.Random, digits: int) -> str:
    return f"{rng.getrandbits(digits * 4):0{digits}x}"


def _value(rng: random.Random, depth: int) -> object:
    pick = rng.randrange(9 if depth < 2 else 7)
    if pick == 0:
        return rng.randrange(100_000)
    if pick == 1:
        return rng.random() < 0.5
    if pick == 2:
        return None
    if pick == 3:
        return f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:00:00Z"
    if pick == 4:
        return round(rng.random() * 1000, 2)
    if pick in (5, 6):
        return " ".join(rng.choices(_WORDS, k=rng.randrange(1, 6)))
    if pick == 7:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return _object(rng, depth + 1)


def _object(rng: random.Random, depth: int = 0) -> dict[str, object]:
    found: dict[str, object] = {"id": rng.randrange(1, 100_000)}
    for name in rng.sample(_FIELDS, k=rng.randrange(2, 8)):
        found[name] = _value(rng, depth)
    return found


def synthetic_record(
    rng: random.Random,
    *,
    process: uuid.UUID,
    sequence: int,
    timestamp: int,
    account: str = "default",
    service: str = "app",
    instance: str = "default",
) -> bytes:
    """One record of schema 1.0, about 1.2 kB, in the wire order. `timestamp` in ms since the epoch."""
    method = rng.choice(("GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD"))
    noun = rng.choice(_NOUNS)
    identified = rng.random() < 0.5
    path = f"/api/v1/{noun}" + (f"/{rng.randrange(10_000)}" if identified else "")
    route = f"/api/v1/{noun}" + ("/{id}" if identified else "")
    status = rng.choice(_STATUSES.get(method, (200, 204, 403, 500)))
    query = {"limit": str(rng.randrange(1, 500)), "sort": rng.choice(_FIELDS)} if rng.random() < 0.3 else {}
    original = path + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")
    host = rng.choice(("api.example.com", "localhost", "app.example.org", "10.0.0.7"))
    sends = method in ("POST", "PUT", "PATCH")
    body = _object(rng) if sends else None
    answer: object = (
        {"detail": rng.choice(("Not Found", "Unauthorized", "Not authenticated", "Internal Server Error"))}
        if status >= 400
        else (None if status in (204, 304) or method == "HEAD" else _object(rng))
    )
    answered = len(orjson.dumps(answer)) if answer is not None else 0
    headers = {
        "host": host,
        "accept": rng.choice(("*/*", "application/json", "text/html,application/xhtml+xml,*/*;q=0.8")),
        "accept-encoding": rng.choice(("gzip, deflate", "gzip, deflate, br", "gzip")),
        "connection": "keep-alive",
        "user-agent": rng.choice(_AGENTS),
    }
    redacted: list[str] = []
    if rng.random() < 0.6:
        name = rng.choice(("authorization", "cookie", "x-api-key"))
        headers[name] = _MASKED
        redacted.append(f"request.headers.{name}")
    if sends:
        headers["content-type"] = "application/json"
        headers["content-length"] = str(len(orjson.dumps(body)))
    response_headers = {
        "content-length": str(answered),
        "content-type": rng.choice(("application/json", "application/json", "text/html; charset=utf-8")),
        "x-request-id": "",
    }
    principal = rng.choice(("alice", "bob", "carol", "dave", "service-account")) if rng.random() < 0.7 else None
    request_id = _hex(rng, 32)
    response_headers["x-request-id"] = request_id
    failed = status == 500
    context: dict[str, object] = {
        "durationNs": rng.randrange(200_000, 90_000_000),
        "host": rng.choice(("web-1", "web-2", "localhost")),
        "principal": principal,
        "client": f"192.0.2.{rng.randrange(256)}",
        "route": route,
        "operation": rng.choice(("read_", "list_", "create_", "update_")) + noun,
        "traceId": _hex(rng, 32) if rng.random() < 0.3 else None,
        "spanId": None,
        "protocol": rng.choice(("http/1.1", "http/1.1", "http/2")),
        "outcome": "failed" if failed else "completed",
        "error": {"type": rng.choice(_ERRORS)} if failed else None,
        "requestBody": {
            "bytes": len(orjson.dumps(body)) if sends else 0,
            "contentType": "application/json" if sends else None,
            "captured": "full" if sends else "empty",
        },
        "responseBody": {
            "bytes": answered,
            "contentType": response_headers["content-type"],
            "captured": "full" if answered else "empty",
        },
        "org": None,
        "annotations": {},
        "redacted": redacted,
        "capture": {"process": str(process), "sequence": sequence, "salt": _hex(rng, 32)},
    }
    tail = _hex(rng, 18)
    return orjson.dumps(
        {
            "account_id": account,
            "service": service,
            "instance_id": instance,
            "metadata": {
                "id": f"{timestamp >> 16:08x}-{timestamp & 0xFFFF:04x}-7{tail[:3]}-8{tail[3:6]}-{tail[6:]}",
                "requestId": request_id,
                "version": "1.0",
                "region": rng.choice(("global", "eu")),
                "scope": rng.choice(("service", "management")),
            },
            "request": {
                "auth": {"method": rng.choice(("none", "bearer", "basic")), "publicKey": ""},
                "method": method,
                "path": path,
                "originalUrl": original,
                "hostname": host,
                "headers": headers,
                "query": query,
                "body": body,
            },
            "response": {"statusCode": status, "headers": response_headers, "body": answer},
            "timestamp": timestamp,
            "context": context,
        }
    )


def synthetic_records(seed: int, count: int, *, start: int = _START, step_ms: float = 2.5) -> Iterator[bytes]:
    """Records of one invented process over eight services and forty streams, `step_ms` apart."""
    rng = random.Random(seed)
    process = uuid.UUID(int=rng.getrandbits(128), version=4)
    for number in range(count):
        service = rng.choice(_SERVICES)
        yield synthetic_record(
            rng,
            process=process,
            sequence=number + 1,
            timestamp=start + int(number * step_ms),
            account=rng.choice(("default", "acme", "acme-eu", "globex", "initech")),
            service=service,
            instance=rng.choice(("default", f"{service}-1")),
        )


def train(seed: int = 20_260_101, samples: int = 12_000) -> bytes:
    """The dictionary: at most DICTIONARY_BYTES, with DICTIONARY_ID inside."""
    records: list[bytes | bytearray | memoryview] = list(synthetic_records(seed, samples, step_ms=86_400_000.0))
    trained = zstandard.train_dictionary(DICTIONARY_BYTES, records, dict_id=DICTIONARY_ID, level=1)
    return trained.as_bytes()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.support.synthetic OUT")
    Path(sys.argv[1]).write_bytes(train())
    print(f"{sys.argv[1]}: {Path(sys.argv[1]).stat().st_size} bytes, dictionary {DICTIONARY_ID}")
