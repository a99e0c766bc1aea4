"""Settings: the API that `serve` shows."""

from __future__ import annotations

from dataclasses import dataclass

from . import checks
from .checks import setting

__all__ = ["Api"]


@dataclass(frozen=True, kw_only=True)
class Api:
    host: str = setting("127.0.0.1", checks.host, "Address that `serve` listens on.", only="server")
    port: int = setting(
        8400, checks.whole(0, 65_535), "Port that `serve` listens on; 0 takes a free one.", only="server"
    )
    query_wait_seconds: float = setting(
        2.0, checks.seconds(0, 60), "Longest that a query waits to see the requests made before it.", only="server"
    )
    execution_seconds: int = setting(
        86_400,
        checks.whole(60, 31_536_000, "seconds"),
        "How long a query execution and its tokens are valid.",
        only="server",
    )
