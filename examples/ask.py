"""Ask for the newest records with Python's standard library: POST starts the query, GET reads its result.

    KEY=… python -m examples.ask                      the trail: all services of the key's accounts
    KEY=… python -m examples.ask usage app default    one service instance

AUDIT_URL is where `asgi-audit serve` answers (http://127.0.0.1:8400); KEY_FILE may name a file that holds the key.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

SECONDS = 30  # how long an answer without records is asked for again: the first one may be on its way


def main(dialect: str = "trail", *path: str) -> int:
    base = os.environ.get("AUDIT_URL", "http://127.0.0.1:8400")
    key = os.environ.get("KEY") or Path(os.environ["KEY_FILE"]).read_text().strip()
    url = "/".join([base, dialect, *(quote(part, safe="") for part in path)])
    now = datetime.now(UTC)
    window = {"from": _text(now - timedelta(days=1)), "to": _text(now + timedelta(days=1))}
    print(
        f"curl -s {url} -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' -d '{json.dumps(window)}'"
    )
    deadline = time.monotonic() + SECONDS
    while True:
        started = call(url, key, window)
        if execution := started.get("queryExecutionId"):
            result = f"{url}/query-result/{execution}?limit=10"
            if (answer := call(result, key)).get("data"):
                print(f'curl -s "{result}" -H "Authorization: Bearer $KEY"')
                print(json.dumps(answer, indent=2, ensure_ascii=False))
                return 0
        elif started["status"] != 404:  # 404: there is no record of that yet
            print(started, file=sys.stderr)
            return 1
        if time.monotonic() > deadline:
            print("no record yet", file=sys.stderr)
            return 1
        time.sleep(0.5)


def call(url: str, key: str, body: object = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as e:
        return {**json.load(e), "status": e.code}


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
