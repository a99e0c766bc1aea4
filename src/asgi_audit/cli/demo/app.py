"""The demo's application: Datasette, a third-party application, over a database created here, with one added line for
auditing.

It runs in a separate process: `python -m asgi_audit.cli.demo.app DATABASE PORT`. It reads the demo's password as one
line from standard input, so that it is neither in the arguments nor in the environment. It exits when standard input
closes, because then the demo has ended.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

from ... import AuditMiddleware

__all__ = ["ACCOUNT", "INSTANCE", "SERVICE", "main", "make_database"]

ACCOUNT = "demo"
SERVICE = "datasette"
INSTANCE = "shop"

CUSTOMERS = 400
ORDERS = 4_000
READINGS = 40_000  # about 3.5 MB as CSV: the large download
_FIRST = ("Ada", "Grace", "Edsger", "Barbara", "Donald", "Frances", "Tony", "Radia", "Ken", "Margaret")
_LAST = ("Lovelace", "Hopper", "Dijkstra", "Liskov", "Knuth", "Allen", "Hoare", "Perlman", "Thompson", "Hamilton")
_CITIES = ("Zürich", "São Paulo", "Kraków", "Osaka", "Reykjavík", "Boston")


def make_database(path: Path) -> None:
    """A small shop, always with the same rows. `salaries` requires a login."""
    choose = random.Random(1)
    with sqlite3.connect(path) as db:
        db.executescript(
            """
            CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT, email TEXT);
            CREATE TABLE orders (
                id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers(id), total REAL, day TEXT
            );
            CREATE TABLE readings (id INTEGER PRIMARY KEY, sensor TEXT, at TEXT, value REAL, note TEXT);
            CREATE TABLE salaries (id INTEGER PRIMARY KEY, name TEXT, amount INTEGER);
            """
        )
        names = [f"{choose.choice(_FIRST)} {choose.choice(_LAST)}" for _ in range(CUSTOMERS)]
        db.executemany(
            "INSERT INTO customers VALUES (?, ?, ?, ?)",
            [
                (i, name, choose.choice(_CITIES), f"{name.split()[0].lower()}{i}@example.org")
                for i, name in enumerate(names, 1)
            ],
        )
        db.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, ?)",
            [
                (
                    i,
                    choose.randint(1, CUSTOMERS),
                    round(choose.uniform(5, 900), 2),
                    f"2026-{i % 12 + 1:02}-{i % 28 + 1:02}",
                )
                for i in range(1, ORDERS + 1)
            ],
        )
        db.executemany(
            "INSERT INTO readings VALUES (?, ?, ?, ?, ?)",
            [
                (i, f"sensor-{i % 40:03}", f"2026-01-01T{i // 3600 % 24:02}:{i // 60 % 60:02}:{i % 60:02}Z",
                 round(choose.gauss(20, 4), 3), "calibrated in the workshop, second floor")
                for i in range(1, READINGS + 1)
            ],
        )  # fmt: skip
        db.executemany("INSERT INTO salaries VALUES (?, ?, ?)", [(i, n, 4000 + i) for i, n in enumerate(names[:20], 1)])
    db.close()


def _datasette(database: Path, password: str) -> Any:
    from datasette.app import Datasette
    from datasette_auth_passwords.utils import hash_password

    return Datasette(
        [str(database)],
        metadata={
            "title": "A shop, audited",
            "databases": {"shop": {"tables": {"salaries": {"allow": {"id": "root"}}}}},
            "plugins": {"datasette-auth-passwords": {"root_password_hash": hash_password(password)}},
        },
        settings={"num_sql_threads": 2, "max_csv_mb": 0},
    ).app()


def main(arguments: list[str]) -> None:
    import uvicorn

    database, port = Path(arguments[0]), int(arguments[1])
    password = sys.stdin.readline().strip()
    app = AuditMiddleware(_datasette(database, password), account_id=ACCOUNT, service=SERVICE, instance_id=INSTANCE)
    # uvicorn's access log would contain query strings with tokens, which asgi-audit does not mask.
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="info", access_log=False))

    def stop_with_parent() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    # uvicorn re-raises the signal that stopped it; the demo needs a normal exit.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    server.run()


if __name__ == "__main__":
    main(sys.argv[1:])
