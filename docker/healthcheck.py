#!/usr/bin/env python3
"""Checks whether the command of this container is alive: exit code 0 or 1. `healthcheck [URL]`; needs only Python.

Without a URL the address follows from the container's command: `serve` listens on ASGI_AUDIT_PORT, `index` and
`forward` on ASGI_AUDIT_METRICS_PORT. Every other command lives as long as its container runs.
"""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

SECONDS = 4  # less than the timeout of HEALTHCHECK, so that the reason is shown
CMDLINE = Path("/proc/1/cmdline")
METRICS = ("ASGI_AUDIT_METRICS_PORT", "9400")
PORTS = {"serve": ("ASGI_AUDIT_PORT", "8400"), "index": METRICS, "forward": METRICS}


def address() -> str:
    """'' for a command without a health address."""
    words = CMDLINE.read_bytes().decode(errors="replace").split("\0")
    command = next((word for word in words if word in PORTS), "")
    if not command:
        return ""
    variable, default = PORTS[command]
    return f"http://127.0.0.1:{os.environ.get(variable) or default}/health/live"


def main() -> int:
    url = sys.argv[1] if len(sys.argv) > 1 else address()
    if not url:
        return 0
    # Without this, requests to 127.0.0.1 would go to a proxy of the environment.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=SECONDS) as answer:
            print(url, answer.status)
            return 0
    except urllib.error.HTTPError as e:
        print(url, e.code, e.read(500).decode(errors="replace"))
    except OSError as e:
        print(url, e)
    return 1


if __name__ == "__main__":
    sys.exit(main())
