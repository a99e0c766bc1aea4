"""Measures the thread CPU (µs) that a record costs, by the kind of its exchange: for this tree and, if given, for
another one.

`python -m tests.unit.redaction.cpu [SRC] [KIND …]`: SRC is the `src` directory of another revision (see `git worktree
add`). Each tree has a process of its own; they measure in turn, many records each time. The output shows the medians of
the rounds and of their ratios. KIND: a part of a kind's name.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 11
_ROUND_SECONDS = 0.04
_CLEAN = ("id", "name", "city", "quantity", "status", "created_at", "price", "currency", "note", "sku")


def _value(r: random.Random) -> Any:
    return r.choice(["Mira Holm", "Porto", "ready for pickup", "EUR", 17, 4.25, True, None, f"A-{r.randrange(10**6)}"])


def _rows(r: random.Random, size: int) -> str:
    rows: list[Any] = []
    while len(json.dumps(rows)) < size:
        rows += [{name: _value(r) for name in _CLEAN} for _ in range(max(1, size // 2_000))]
    return json.dumps({"items": rows, "total": len(rows)})


def _browser(r: random.Random) -> list[list[str]]:
    return [
        ["user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/128.0 Safari/537.36"],
        ["accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"],
        ["accept-language", "en-GB,en;q=0.9"], ["accept-encoding", "gzip, deflate, br, zstd"],
        ["if-none-match", f'W/"{r.getrandbits(80):x}"'], ["x-request-start", f"t={r.randrange(10**12)}"],
        ["traceparent", f"00-{r.getrandbits(128):032x}-{r.getrandbits(64):016x}-01"],
    ]  # fmt: skip


JSON, FORM, TEXT, HTML, EVENTS = (
    "application/json", "application/x-www-form-urlencoded", "text/plain", "text/html", "text/event-stream",
)  # fmt: skip
_WORDS = "the order was shipped to Porto and signed by Mira who paid 4.25 EUR for the second item of the list"
_PAGE = (
    "<html><head><title>Sign in</title></head><body><h1>Shop</h1>" + "<p>Order of the day</p>" * 40
    + '<form method=post><label for=u>User</label><input id=u name=username value="mira">'
    '<input type=hidden name={} value="{}"><input type={} name={}></form></body></html>'
)  # fmt: skip


def _text(r: random.Random, size: int) -> str:
    lines: list[str] = []
    while sum(map(len, lines)) + len(lines) < size:
        lines.append(" ".join(r.choices(_WORDS.split(), k=r.randrange(5, 14))))
    return "\n".join(lines)[: size - 1] + "."


def _secret(r: random.Random) -> str:
    return f"Zk{r.getrandbits(60):x}Q"


def _login(r: random.Random, rows: int = 0) -> str:
    login = {"username": "mira@example.com", "device": "phone", "remember": True, "locale": "en-GB"}
    items = {"items": json.loads(_rows(r, rows))["items"]} if rows else {}
    return json.dumps({**login, **items, "password": _secret(r)})


def _form_login(r: random.Random) -> str:
    return f"username=mira%40example.com&password={_secret(r)}&remember=on&next=%2Forders"


def _multipart(r: random.Random) -> str:
    fields = (("name", "Mira"), ("password", _secret(r)), ("note", "x" * 800))
    part = '--aa11\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    return "".join(part.format(*field) for field in fields) + "--aa11--\r\n"


def _chat(r: random.Random) -> str:
    deltas = [{"id": "c-1", "choices": [{"index": 0, "delta": {"content": w + " "}}]} for w in _text(r, 600).split()]
    return "".join("data: " + json.dumps(delta) + "\n\n" for delta in deltas)


def _events(r: random.Random) -> str:
    told = [{"n": n, "text": w} for n, w in enumerate(_text(r, 200).split())]
    return "".join("data: " + json.dumps(event) + "\n\n" for event in [*told, {"access_token": _secret(r)}])


def _with_secrets(r: random.Random) -> list[list[str]]:
    more = [["authorization", "Bearer " + _secret(r) * 2], ["cookie", f"sid={_secret(r)}; theme=dark"]]
    return [*_browser(r), *more]


_MADE: dict[str, Callable[[random.Random], tuple[str, str] | dict[str, Any]]] = {
    "no body": lambda r: {},
    "clean headers": lambda r: {"headers": _browser(r)},
    "headers with secrets": lambda r: {"headers": _with_secrets(r)},
    "query, clean": lambda r: {"query": f"page={r.randrange(99)}&sort=name&filter=city%3APorto&q=red+shoes"},
    "query with a token": lambda r: {"query": f"page={r.randrange(99)}&access_token={_secret(r)}"},
    "JSON 1 kB, clean": lambda r: (JSON, _rows(r, 1_000)),
    "JSON 8 kB, clean": lambda r: (JSON, _rows(r, 8_000)),
    "JSON 64 kB, clean": lambda r: (JSON, _rows(r, 62_000)),
    "text 64 KiB, clean": lambda r: (TEXT, _text(r, 65_536)),
    "form, clean": lambda r: (FORM, f"name=Mira+Holm&city=Porto&quantity={r.randrange(99)}&note=a%2Cb"),
    "HTML, clean": lambda r: (HTML, _PAGE.format("theme", r.randrange(99), "text", "city")),
    "SSE chat, clean": lambda r: (EVENTS, _chat(r)),
    "JSON login": lambda r: (JSON, _login(r)),
    "JSON 1 kB, password": lambda r: (JSON, _login(r, 800)),
    "form login": lambda r: (FORM, _form_login(r)),
    "multipart login": lambda r: ("multipart/form-data; boundary=aa11", _multipart(r)),
    "SSE with a token": lambda r: (EVENTS, _events(r)),
    "HTML login page": lambda r: (HTML, _PAGE.format("csrf_token", _secret(r), "password", "password")),
    "text 1 kB, password": lambda r: (TEXT, _text(r, 900) + f"\npassword: {_secret(r)}\n"),
}


def kinds() -> dict[str, list[dict[str, Any]]]:
    """Returns, by kind, keyword arguments of exchanges that differ in their values."""
    out: dict[str, list[dict[str, Any]]] = {}
    for name, made in _MADE.items():
        r = random.Random(name)
        out[name] = []
        for _ in range(4 if " 64 " in name else 20):
            given = made(r)
            out[name].append(given if isinstance(given, dict) else {"kind": given[0], "body": given[1].encode()})
    return out


def _worker(kinds: dict[str, list[dict[str, Any]]]) -> None:
    """Runs on the tree that `PYTHONPATH` names: older trees have the builder in another module."""
    import importlib
    import uuid

    try:
        builder = importlib.import_module("asgi_audit.encoding.builder")
    except ModuleNotFoundError:
        builder = importlib.import_module("asgi_audit.recording.builder")
    from asgi_audit.exchange.draft import Body
    from asgi_audit.exchange.sealed import Exchange
    from asgi_audit.settings import make_settings
    from asgi_audit.transport.base import ProcessFacts

    def body_of(data: bytes) -> Body:
        body = Body()
        body.chunks = [data] if data else []
        body.kept = body.total = len(data)
        body.complete = True
        return body

    def make(body: bytes = b"", kind: str = "", query: str = "", headers: list[list[str]] | None = None) -> Exchange:
        x = Exchange(
            method="POST" if body else "GET", path="/orders/17", raw_path=b"/orders/17", query_string=query.encode(),
            request_id="r-1", started_ns=1_795_348_800_123_456_789, duration_ns=12_345_678, status=200, sequence=7,
            client="192.0.2.1",
        )  # fmt: skip
        x.request_headers = [(b"host", b"shop.example"), *((n.encode(), v.encode()) for n, v in headers or [])]
        if kind:
            x.request_headers.append((b"content-type", kind.encode()))
        x.response_headers = []
        x.request_body, x.response_body = body_of(body), body_of(b"")
        return x

    build = builder.Builder(make_settings({}), ProcessFacts(uuid.UUID(int=1), "h", "app", 1_795_000_000_000)).build
    made = {name: [make(**fields) for fields in some] for name, some in kinds.items()}
    for some in made.values():
        for x in some:
            build(x)
    print("ready", flush=True)
    for line in sys.stdin:
        some = made[line.strip()]
        done = 0
        started = time.thread_time()
        while (spent := time.thread_time() - started) < _ROUND_SECONDS:
            for x in some:
                build(x)
            done += len(some)
        print(spent / done * 1e6, flush=True)


def _started(source: Path) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, __file__, "--worker"], env={**os.environ, "PYTHONPATH": str(source)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def _asked(worker: subprocess.Popen[str], kind: str) -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(kind + "\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def main() -> None:
    if sys.argv[1:] == ["--worker"]:
        _worker(kinds())
        return
    sources = [Path(__file__).parents[3] / "src"]
    wanted = sys.argv[1:]
    if wanted and Path(wanted[0]).is_dir():
        sources.append(Path(wanted.pop(0)).resolve())
    workers = [_started(source) for source in sources]
    print(f"{'µs of thread CPU a record':<26}{'this':>9}" + f"{'other':>9}{'ratio':>7}" * (len(sources) - 1))
    for kind in kinds():
        if wanted and not any(word in kind for word in wanted):
            continue
        taken = [[_asked(worker, kind) for worker in workers] for _ in range(ROUNDS)]
        middle = [statistics.median(column) for column in zip(*taken, strict=True)]
        ratio = [f"{statistics.median(a / b for a, b in taken):7.2f}"] if len(sources) > 1 else []
        print(f"{kind:<26}" + "".join(f"{m:9.1f}" for m in middle) + "".join(ratio), flush=True)
    for worker in workers:
        worker.communicate()


if __name__ == "__main__":
    main()
