#!/usr/bin/env python3
"""Whether the command of this container lives: exit code 0 or 1. `healthcheck [URL]`; needs nothing but Python.

Without a URL the address follows from the container's command: `serve` answers on ASGI_AUDIT_PORT, `index` and
`forward` on ASGI_AUDIT_METRICS_PORT.
"""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

SECONDS = 4  # less than the timeout of HEALTHCHECK, so that the reason is told


def address() -> str:
    words = Path("/proc/1/cmdline").read_bytes().split(b"\0")
    if b"index" in words or b"forward" in words:
        port = os.environ.get("ASGI_AUDIT_METRICS_PORT") or "9400"
    else:
        port = os.environ.get("ASGI_AUDIT_PORT") or "8400"
    return f"http://127.0.0.1:{port}/health/live"


def main() -> int:
    url = sys.argv[1] if len(sys.argv) > 1 else address()
    # Without this, a proxy of the environment would be asked for 127.0.0.1.
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
