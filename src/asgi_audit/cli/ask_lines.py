"""The example commands that `serve` and `demo --keep` print; they can be pasted into any POSIX shell."""

from __future__ import annotations

import shlex

__all__ = ["ask_lines", "shown_host"]


def shown_host(host: str) -> str:
    """The host name by which a client on this machine reaches a server that listens on `host`."""
    if host in ("0.0.0.0", ""):
        return "127.0.0.1"
    if host in ("::", "::0"):
        return "[::1]"
    return f"[{host}]" if ":" in host else host


def ask_lines(base: str, key: str) -> list[str]:
    """Example commands. `base`: address of the API. `key`: an auditor's key."""
    return [
        f"export ASGI_AUDIT_URL={shlex.quote(base)}",
        f"export ASGI_AUDIT_KEY={shlex.quote(key)}",
        "asgi-audit ask --since 24h",
        'curl -s "$ASGI_AUDIT_URL/records?since=24h" -H "Authorization: Bearer $ASGI_AUDIT_KEY"',
    ]
