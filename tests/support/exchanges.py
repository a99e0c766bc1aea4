"""Exchanges as capture would pass them on, for the tests of the builder."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any
from urllib.parse import quote

from asgi_audit.encoding.builder import Builder
from asgi_audit.encoding.headers import Headers
from asgi_audit.exchange.draft import Body, Draft
from asgi_audit.exchange.recorder import RecorderBase
from asgi_audit.exchange.sealed import Exchange, Wake
from asgi_audit.policy.decision import Decision
from asgi_audit.settings import make_settings
from asgi_audit.transport.base import ProcessFacts

PROCESS = uuid.UUID("019aaaaa-0000-7000-8000-000000000001")
FACTS = ProcessFacts(PROCESS, "host-1", "app", 1_795_000_000_000)


def make_builder(**settings: Any) -> Builder:
    return Builder(make_settings({}, **settings), FACTS)


def make_body(data: bytes, *, kept: int | None = None, complete: bool = True, pressure: bool = False) -> Body:
    body = Body()
    keep = data if kept is None else data[:kept]
    body.chunks = [keep] if keep else []
    body.kept = len(keep)
    body.total = len(data)
    body.complete = complete
    body.pressure = pressure
    return body


def make_exchange(
    method: str = "GET",
    path: str = "/orders",
    *,
    query: bytes = b"",
    headers: list[tuple[bytes, bytes]] | None = None,
    body: bytes = b"",
    content_type: bytes | None = None,
    answer: bytes = b"",
    answer_type: bytes | None = None,
    answer_headers: list[tuple[bytes, bytes]] | None = None,
    **fields: Any,
) -> Exchange:
    x = Exchange(
        method=method, path=path, raw_path=quote(path, errors="replace").encode(), query_string=query, request_id="r-1",
        started_ns=1_795_348_800_123_456_789, duration_ns=12_345_678, status=200, sequence=7, client="192.0.2.1",
    )  # fmt: skip
    x.request_headers = [(b"host", b"shop.example:8000"), *(headers or [])]
    if content_type is not None:
        x.request_headers.append((b"content-type", content_type))
    x.request_body = make_body(body)
    x.response_headers = list(answer_headers or [])
    if answer_type is not None:
        x.response_headers.append((b"content-type", answer_type))
    x.response_body = make_body(answer)
    for name, value in fields.items():
        setattr(x, name, value)
    return x


def caches_of(headers: Headers) -> list[dict[Any, Any]]:
    """Everything that it remembers between records, for the tests that no secret is in it."""
    return [value for value in vars(headers).values() if isinstance(value, dict)]


def encodings(secret: str) -> list[bytes]:
    """The forms in which a secret must not be found: raw, percent-encoded, base64, JSON-escaped, Latin-1."""
    raw = secret.encode()
    forms = {
        raw,
        quote(secret, safe="").encode(),
        quote(secret, safe="").lower().encode(),
        json.dumps(secret)[1:-1].encode(),
        json.dumps(json.dumps(secret))[3:-3].encode(),
        base64.b64encode(raw).rstrip(b"=")[:-1],
        "".join(f"\\u{ord(c):04x}" for c in secret).encode(),
        "".join(f"%{b:02x}" for b in raw).encode(),
    }
    return [form for form in forms if len(form) >= 6]


def assert_absent(secret: str, record: bytes) -> None:
    low = record.lower()
    for form in encodings(secret):
        assert form.lower() not in low, (form, record)


def begun(recorder: RecorderBase, path: str = "/", body: bytes | None = None, detail: str = "bodies") -> Draft:
    """An exchange that is open in the recorder."""
    parts = ("GET", path, None, b"", "", "1.1", "http", None)
    return Draft(*recorder.begin(), *parts, [], "r-1", Decision(detail, detail, detail == "none"), request=body)


def seal(recorder: RecorderBase, draft: Draft, wake: Wake | None = None) -> bool:
    return recorder.seal(draft, "completed", None, None, None, None, wake)
