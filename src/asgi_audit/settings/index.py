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
        "How many days before today the index keeps; 0 keeps all.",
        only="server",
    )
    kafka_group_id: str = setting(
        "asgi-audit-indexer",
        checks.name,
        "Consumer group under which the indexer's offsets are committed, for lag tools alone.",
        only="server",
    )
    metrics_host: str = setting(
        "127.0.0.1", checks.host, "Address on which `index` and `forward` show metrics and health.", only="server"
    )
    metrics_port: int | None = setting(
        None,
        checks.optional_port,
        "Port of `/metrics` and `/health/…` of `index` and `forward`; not set: off; 0 takes a free one.",
        only="server",
    )
    log_format: str = setting(
        "text", checks.choice("text", "json"), "How the commands log: `json` is one object a line.", only="server"
    )
