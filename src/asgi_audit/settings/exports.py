"""Settings: exports, which `serve` writes and serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import checks
from .checks import setting

__all__ = ["Exports"]

_REGIONS = (("us-std", "global"), ("eu-std", "eu"), ("classic", "*"))


@dataclass(frozen=True, kw_only=True)
class Exports:
    public_url: str = setting(
        "",
        checks.optional_url,
        "Where clients reach this API, such as `https://audit.example.com`: URLs in its answers begin with it. "
        "Default: the address that `serve` listens on.",
        only="server",
    )
    export_path: Path | None = setting(  # noqa: RUF009 - a field
        None,
        checks.optional_path,
        "Directory of exports: their objects, or with `export_bucket` what is not stored there yet. "
        "Default: `exports/` in the home.",
        only="server",
    )
    export_bucket: str = setting(
        "",
        checks.bucket,
        "Bucket of S3-compatible storage for the objects of exports: `s3://bucket` or `s3://bucket/prefix`. "
        "Credentials come from where AWS's tools have them.",
        only="server",
    )
    export_endpoint: str = setting(
        "", checks.optional_url, "URL of the S3-compatible storage. Default: that of AWS.", only="server"
    )
    export_days: int = setting(
        7, checks.whole(1, 3_650, "days"), "How many days an export is kept after it ended.", only="server"
    )
    export_regions: tuple[tuple[str, str], ...] = setting(
        (),
        checks.regions,
        "Region groups of exports and the region of records that each means, `*` for all. Default: "
        "`us-std=global,eu-std=eu,classic=*`.",
        only="server",
    )

    @property
    def regions_of_groups(self) -> dict[str, str]:
        """{region group: region}; `*` means all regions."""
        return dict(self.export_regions or _REGIONS)
