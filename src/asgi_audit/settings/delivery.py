"""Settings: where records are written, and whether responses wait for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from . import checks
from .checks import setting

__all__ = ["Delivery", "DeliverySettings"]


class DeliverySettings(TypedDict, total=False):
    enabled: bool
    home: str | Path
    share_with_group: str | int
    transport: str | Path
    journal: str | Path
    delivery: Literal["buffered", "durable"]
    durable_wait_seconds: float
    journal_bytes_max: int
    record_bytes_max: int


@dataclass(frozen=True, kw_only=True)
class Delivery:
    enabled: bool = setting(True, checks.boolean, "0 turns recording off: the application runs as without asgi-audit.")
    home: Path = setting(  # noqa: RUF009 - a frozen default
        Path(".asgi-audit"), checks.path, "Directory of all files whose place no other setting defines."
    )
    share_with_group: int | None = setting(
        None,
        checks.group,
        "Group (name or number) that may read and write the files: files get mode 0660, directories 2770. "
        "Default: only this user, 0600 and 0700.",
    )
    transport: str = setting(
        "",
        checks.transport,
        "Where records go: a path or `journal:///path` of a journal, or `kafka://host:port[,host:port]/topic` "
        "(`kafkas://` for TLS), sent through a local journal. `journal:///` takes a relative path, `journal:////` an "
        "absolute one. Default: `journal/` in the home.",
    )
    journal: Path | None = setting(  # noqa: RUF009 - a frozen default
        None, checks.journal, "Directory of the journal when `transport` is Kafka. Default: `journal/` in the home."
    )
    delivery: str = setting(
        "buffered",
        checks.choice("buffered", "durable"),
        "`buffered`: responses do not wait. `durable`: the last bytes of a response wait until the record is on disk.",
        only="middleware",
    )
    durable_wait_seconds: float = setting(
        2.0, checks.seconds(0.01, 60), "How long `durable` delays a response at most.", only="middleware"
    )
    journal_bytes_max: int = setting(
        1 << 30,
        checks.whole(1 << 20, 1 << 50, "bytes"),
        "Maximum size of the whole journal on disk, including dead processes; for `memory://` at most 64 MiB.",
    )
    record_bytes_max: int = setting(
        1_000_000,
        checks.whole(524_288, 64 << 20, "bytes"),
        "Maximum size of one record; keep it below the topic's `max.message.bytes`. Bodies of a larger record are cut.",
        only="middleware",
    )
