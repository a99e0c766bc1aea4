"""The installed `asgi-audit serve` over an index with records of several accounts, services and days."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from asgi_audit.control import Control
from asgi_audit.store.base import Batch
from asgi_audit.store.sqlite.writer import SqliteWriter
from asgi_audit.store.state import Completion
from asgi_audit.transport.base import Position
from tests.e2e.commands import COMMAND, running
from tests.support.records import extent, foreign, read_until

__all__ = ["Live", "live"]

DAY_MS = 1_704_067_200_000  # 2024-01-01, the day of the examples in the table of operations


class Live(NamedTuple):
    """`auditor`, `reader`: keys of the account acme, in clear. `said`: the server's output so far."""

    url: str
    auditor: str
    reader: str


def fill(home: Path) -> None:
    """600 records: three accounts, four services, all levels, two days of 2024 and now. They are complete until
    tomorrow, so that the index is fresh for every `max_age` although no source feeds it."""
    now = int(time.time() * 1000)
    writer = SqliteWriter(home / "index", clock=time.time)
    records = []
    for n in range(600):
        at = (DAY_MS + n * 1000, DAY_MS + 86_400_000 + n * 1000, now - n * 100)[n % 3]
        records.append(
            foreign(
                at,
                name=f"r{n}",
                account=("acme", "acme", "beta", "acme", "gamma")[n % 5],
                service=("gateway", "library", "logs", "trail")[n % 4],
                instance=("acme-eu", "i1")[n % 2],
                method=("GET", "POST", "DELETE", "HEAD")[n % 4],
                status=(200, 201, 404, 500, 401)[n % 5],
                path=f"/orders/{n}",
                route="/orders/{id}",
                principal=("alice", "bob", None)[n % 3],
                client="192.0.2.1",
                body={"n": n},
            )
        )
    writer.write(
        Batch(
            source="t",
            records=records,
            positions={"p": Position(len(records), b"")},
            completion=Completion(extent(now + 86_400_000, begins=DAY_MS - 86_400_000), [], []),
        )
    )
    writer.read_until(read_until(time.time()))
    writer.close()


@contextmanager
def live(directory: Path) -> Iterator[Live]:
    home = directory / "home"
    home.mkdir(mode=0o700)
    control = Control(home / "control.db")
    _, auditor = control.create_key("auditor", ["acme"])
    _, reader = control.create_key("reader", ["acme"])
    control.close()
    fill(home)
    words = [COMMAND, "serve", "--no-index", "--home", str(home), "--port", "0", "--query-wait-seconds", "0"]
    with running(*words, cwd=directory) as server:
        line = server.wait_for(" listens on ")
        url = line.split(" listens on ")[1].split(",")[0]
        yield Live(url, auditor, reader)
        assert server.process.poll() is None, server.said
