"""Settings: the index, and the commands that write it."""

from __future__ import annotations

from dataclasses import dataclass

from . import checks
from .checks import setting

__all__ = ["Index"]


@dataclass(frozen=True, kw_only=True)
class Index:
    store: str = setting(
        "",
        checks.address(of_path="sqlite", sqlite="sqlite:///path"),
        "Where the index is: a path, or `sqlite:///path`. Default: `index/` in the home.",
        only="server",
    )
    retention_days: int = setting(
        0,
        checks.whole(0, 36_500, "days; 0 keeps all"),
        "Number of days before today that the index keeps; 0 keeps all.",
        only="server",
    )
    kafka_group_id: str = setting(
        "asgi-audit-indexer",
        checks.name,
        "Consumer group for committing the indexer's offsets; only for tools that show lag.",
        only="server",
    )
    metrics_host: str = setting(
        "127.0.0.1", checks.host, "Address on which `index` and `forward` serve metrics and health.", only="server"
    )
    metrics_port: int | None = setting(
        None,
        checks.optional_port,
        "Port of `/metrics` and `/health/…` of `index` and `forward`; not set: off; 0 picks a free one.",
        only="server",
    )
    log_format: str = setting(
        "text",
        checks.choice("text", "json"),
        "Log format of the commands: `json` is one object per line.",
        only="server",
    )
