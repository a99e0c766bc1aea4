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
        "Public URL of this API, such as `https://audit.example.com`: the start of URLs in responses. "
        "Default: the address that `serve` listens on.",
        only="server",
    )
    export_path: Path | None = setting(  # noqa: RUF009 - a field
        None,
        checks.optional_path,
        "Directory of finished exports, or with `export_bucket` of exports before their upload. "
        "Default: `exports/` in the home.",
        only="server",
    )
    export_bucket: str = setting(
        "",
        checks.bucket,
        "Bucket of S3-compatible storage for exports: `s3://bucket` or `s3://bucket/prefix`. "
        "Credentials are found as by AWS's tools.",
        only="server",
    )
    export_endpoint: str = setting(
        "", checks.optional_url, "URL of the S3-compatible storage. Default: AWS.", only="server"
    )
    export_days: int = setting(
        7, checks.whole(1, 3_650, "days"), "How many days an export is kept after it ended.", only="server"
    )
    export_regions: tuple[tuple[str, str], ...] = setting(
        (),
        checks.regions,
        "Maps region groups of exports to the region of records, `*` for all. Default: "
        "`us-std=global,eu-std=eu,classic=*`.",
        only="server",
    )

    @property
    def regions_of_groups(self) -> dict[str, str]:
        """{region group: region}; `*` means all regions."""
        return dict(self.export_regions or _REGIONS)
