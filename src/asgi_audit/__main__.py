"""`python -m asgi_audit` is the command `asgi-audit`."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
