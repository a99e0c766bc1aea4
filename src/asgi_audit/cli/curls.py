"""The curl lines that `serve` and `demo --keep` print: they work as pasted into any POSIX shell, with curl and sed
alone."""

from __future__ import annotations

import datetime
import shlex
from urllib.parse import quote

__all__ = ["curl_lines", "shown_host"]


def shown_host(host: str) -> str:
    """Where a client on this machine reaches a server that listens on `host`."""
    if host in ("0.0.0.0", ""):
        return "127.0.0.1"
    if host in ("::", "::0"):
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def curl_lines(base: str, key: str, service: str, instance: str, *, now: datetime.datetime | None = None) -> list[str]:
    """Ask usage for a window from yesterday to a week from now: POST gives the execution's id, GET its result.

    `tee` shows what POST answered: an error would be lost in the pipe."""
    today = (now or datetime.datetime.now(datetime.UTC)).replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = today - datetime.timedelta(days=1), today + datetime.timedelta(days=7)
    window = f'{{"from":"{start:%Y-%m-%dT%H:%M:%SZ}","to":"{end:%Y-%m-%dT%H:%M:%SZ}"}}'
    url = f"{base}/usage/{quote(service, safe='')}/{quote(instance, safe='')}"
    return [
        f"URL={shlex.quote(url)}",
        f"KEY={shlex.quote(key)}",
        f'ID=$(curl -s "$URL" -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -d \'{window}\''
        ' | tee /dev/stderr | sed -n \'s/.*"queryExecutionId" *: *"\\([^"]*\\)".*/\\1/p\')',
        'curl -s "$URL/query-result/$ID?limit=10" -H "Authorization: Bearer $KEY"',
    ]
