"""Records as several applications of one company make them: five services of twelve routes each, whose requests and
responses have the fields of their route, and values of their own; twenty accounts, four hundred users each.

Between two extremes: the records of `indexing.exchanges` hardly differ, those of `tests.support.synthetic` have no two
bodies with the same fields.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

import orjson

from asgi_audit.encoding.builder import Builder
from asgi_audit.exchange.sealed import Exchange
from asgi_audit.settings import make_settings
from asgi_audit.transport.base import ProcessFacts

__all__ = ["ACCOUNTS", "INSTANCE", "SERVICES", "Mixture"]

SERVICES = ("gateway", "accounts", "billing", "library", "shop")
ACCOUNTS = tuple(f"acct-{n:02d}" for n in range(20))
INSTANCE = "main"
_NOUNS = ("orders", "users", "items", "invoices", "sessions", "reports", "files", "messages", "projects", "teams")
_FIELDS = (
    "name", "title", "description", "state", "kind", "email", "createdAt", "updatedAt", "amount", "currency",
    "quantity", "price", "total", "enabled", "owner", "tags", "street", "city", "country", "language", "comment",
    "reference", "parent", "version",
)  # fmt: skip
_AGENTS = [
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{n}.0.0.0 Safari/537.36".encode()
    for system in ("X11; Linux x86_64", "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7")
    for n in (139, 140, 141)
] + [b"python-httpx/0.28.1", b"okhttp/4.12.0", b"Go-http-client/2.0", b"shop-ios/7.3.1 CFNetwork/1568 Darwin/24.1.0"]
_STATUSES = (200,) * 12 + (201, 201, 204, 304, 400, 401, 403, 404, 404, 409, 422, 500)
_PER_ACCOUNT = 400  # users


class _Route(NamedTuple):
    method: str
    template: str
    asked: tuple[str, ...]
    answered: tuple[str, ...]
    items: int  # of a list; 0: one object


class Mixture:
    """The same `seed` makes the same records except for `metadata.id` and `context.capture`. One process per
    service."""

    def __init__(self, seed: int) -> None:
        self._rng = rng = random.Random(seed)
        self._words = ["".join(rng.choices("abcdefghijklmnoprstuvw", k=rng.randrange(3, 10))) for _ in range(800)]
        self._values: dict[str, Callable[[int], object]] = {
            "email": lambda at: f"{rng.choice(self._words)}.{rng.choice(self._words)}@example.com",
            "createdAt": lambda at: _instant(at - rng.randrange(10**10)),
            "updatedAt": lambda at: _instant(at - rng.randrange(10**7)),
            "amount": lambda at: rng.randrange(1, 10**5),
            "total": lambda at: round(rng.random() * 900, 2),
            "price": lambda at: round(rng.random() * 90, 2),
            "quantity": lambda at: rng.randrange(1, 30),
            "version": lambda at: rng.randrange(1, 40),
            "enabled": lambda at: rng.random() < 0.8,
            "currency": lambda at: rng.choice(("EUR", "USD", "GBP")),
            "country": lambda at: rng.choice(("DE", "FR", "GB", "PL", "US")),
            "language": lambda at: rng.choice(("de", "en", "fr")),
            "state": lambda at: rng.choice(("open", "pending", "paid", "closed", "cancelled")),
            "kind": lambda at: rng.choice(("standard", "express", "internal")),
            "tags": lambda at: rng.sample(self._words[:40], rng.randrange(4)),
            "owner": lambda at: f"user-{rng.randrange(_PER_ACCOUNT)}",
            "parent": lambda at: self._uuid() if rng.random() < 0.4 else None,
            "reference": lambda at: f"REF-{rng.randrange(10**8):08d}",
            "description": lambda at: " ".join(rng.choices(self._words, k=rng.randrange(4, 14))),
            "comment": lambda at: " ".join(rng.choices(self._words, k=rng.randrange(1, 9))),
        }
        self._routes = {service: [self._route(n) for n in range(12)] for service in SERVICES}
        self._builders = {
            s: Builder(make_settings({}, service=s, instance_id=INSTANCE), ProcessFacts(uuid.uuid4(), f"{s}-1", s, 0))
            for s in SERVICES
        }
        self._sequences = dict.fromkeys(SERVICES, 0)

    def records(self, times: Iterator[int]) -> Iterator[bytes]:
        """One for each time (ms since the epoch)."""
        rng = self._rng
        for at in times:
            service = rng.choices(SERVICES, (40, 20, 15, 15, 10))[0]
            self._sequences[service] += 1
            x = self._exchange(at, service)
            x.sequence = self._sequences[service]
            yield self._builders[service].build(x)

    def _exchange(self, at: int, service: str) -> Exchange:
        rng = self._rng
        method, template, asked, answered, items = rng.choice(self._routes[service])
        x = Exchange()
        x.started_ns = at * 1_000_000 + rng.randrange(1_000_000)
        x.duration_ns = int(rng.lognormvariate(16, 1))
        x.method, x.route = method, template
        x.path = template.replace("{id}", self._uuid()).replace("{number}", str(rng.randrange(10**5)))
        x.raw_path = x.path.encode()
        x.query_string = f"limit={rng.choice((20, 50, 100))}&page={rng.randrange(9)}".encode() if items else b""
        account, user = rng.choice(ACCOUNTS), rng.randrange(_PER_ACCOUNT)
        x.account_id, x.principal = account, f"user-{user}"
        x.client = f"10.{user % 4}.{user // 4 % 256}.{int(account[-2:])}"
        x.request_id = str(self._uuid())
        x.status = rng.choice(_STATUSES)
        x.request_headers = [
            (b"host", b"api.example.com"), (b"user-agent", _AGENTS[user % len(_AGENTS)]),
            (b"accept", b"application/json, text/plain, */*"), (b"accept-encoding", b"gzip, deflate, br"),
            (b"authorization", b"Bearer " + self._uuid().encode()), (b"x-forwarded-for", x.client.encode()),
            (b"x-forwarded-proto", b"https"),
        ]  # fmt: skip
        if rng.random() < 0.5:
            x.request_headers.append(
                (b"traceparent", f"00-{rng.getrandbits(128):032x}-{rng.getrandbits(64):016x}-01".encode())
            )
        x.response_headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        sent = orjson.dumps(self._object(asked, at)) if asked else b""
        if sent:
            x.request_headers.append((b"content-type", b"application/json"))
        if x.status in (204, 304):
            back = b""
        elif x.status >= 400:
            back = orjson.dumps({"error": {"code": x.status, "message": " ".join(rng.choices(self._words[:60], k=6))}})
        elif items:
            found = [self._object(answered, at) for _ in range(rng.randrange(items))]
            back = orjson.dumps({"items": found, "total": rng.randrange(10**4)})
        else:
            back = orjson.dumps(self._object(answered, at))
        for body, data in ((x.request_body, sent), (x.response_body, back)):
            body.chunks = [data] if data else []
            body.kept = body.total = len(data)
            body.complete = True
        return x

    def _route(self, n: int) -> _Route:
        rng = self._rng
        noun, other = rng.sample(_NOUNS, 2)
        fields = tuple(rng.sample(_FIELDS, rng.randrange(5, 12)))
        answered = (*fields, *rng.sample(_FIELDS, 2))
        base = f"/v1/{noun}"
        return (
            _Route("GET", base, (), answered[:6], 8),
            _Route("GET", base + "/{id}", (), answered, 0),
            _Route("POST", base, fields, answered, 0),
            _Route("GET", f"{base}/{{number}}/{other}", (), answered[:5], 5),
            _Route("PATCH", base + "/{id}", fields[:3], answered, 0),
            _Route("DELETE", base + "/{number}", (), (), 0),
        )[n % 6]

    def _object(self, fields: tuple[str, ...], at: int) -> dict[str, object]:
        values = self._values
        return {"id": self._uuid()} | {f: values[f](at) if f in values else self._text() for f in fields}

    def _text(self) -> str:
        return " ".join(self._rng.choices(self._words, k=2)).title()

    def _uuid(self) -> str:
        h = f"{self._rng.getrandbits(128):032x}"
        return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def _instant(ms: int) -> str:
    day, rest = divmod(ms // 1000, 86_400)
    return f"2026-{day % 12 + 1:02d}-{day % 28 + 1:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}Z"
