"""Query the newest records with the Python client, which pages and polls by itself.

    ASGI_AUDIT_KEY=… python -m examples.ask                      the trail: all services of the key's accounts
    ASGI_AUDIT_KEY=… python -m examples.ask usage app default    one service instance

ASGI_AUDIT_URL: address of `asgi-audit serve` (http://127.0.0.1:8400). KEY_FILE: optional, a file that holds the key.
"""

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from asgi_audit.client import ApiError, Client

SECONDS = 30  # how long to try again while there is no record: the first one may not be indexed yet


def main(dialect: str = "trail", service: str = "app", instance: str = "default") -> int:
    key = Path(os.environ["KEY_FILE"]).read_text().strip() if "KEY_FILE" in os.environ else None
    deadline = time.monotonic() + SECONDS
    with Client(key=key) as audit:
        while True:
            now = datetime.now(UTC)
            start, end = now - timedelta(days=1), now + timedelta(days=1)
            rows = audit.trail(start, end) if dialect == "trail" else audit.usage(service, instance, start, end)
            try:
                newest = list(islice(rows, 10))
            except ApiError as e:
                if e.status != 404:  # 404: there is no record of that service yet
                    raise
                newest = []
            if newest or time.monotonic() > deadline:
                print(json.dumps(newest, indent=2, ensure_ascii=False))
                return 0 if newest else 1
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
