"""Settings: the API of `serve`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from . import checks
from .checks import setting

__all__ = ["Api", "ApiSettings"]


class ApiSettings(TypedDict, total=False):
    """Keyword arguments of `create_app`."""

    home: str | Path
    share_with_group: str | int
    transport: str | Path
    store: str | Path
    query_wait_seconds: float
    execution_seconds: int
    dialects: str | list[str] | tuple[str, ...] | set[str] | frozenset[str]
    dialect_hosts: str | Mapping[str, str]
    public_url: str
    export_path: str | Path
    export_bucket: str
    export_endpoint: str
    export_days: int
    export_regions: str | Mapping[str, str]
    jwt_issuer: str
    jwt_audience: str | list[str] | tuple[str, ...] | set[str] | frozenset[str]
    jwt_jwks: str | Path
    jwt_algorithms: str | list[str] | tuple[str, ...] | set[str] | frozenset[str]
    jwt_leeway_seconds: float
    jwt_role_claim: str
    jwt_roles: str | Mapping[str, str]
    jwt_accounts_claim: str


@dataclass(frozen=True, kw_only=True)
class Api:
    host: str = setting("127.0.0.1", checks.host, "Address that `serve` listens on.", only="server")
    port: int = setting(
        8400, checks.whole(0, 65_535), "Port that `serve` listens on; 0 picks a free one.", only="server"
    )
    workers: int = setting(
        1,
        checks.whole(1, 64),
        "Number of processes that serve requests; one more process indexes. The limits on requests in flight and on "
        "refused requests apply to all together; memory for pages (48 MiB) is per worker.",
        only="server",
    )
    query_wait_seconds: float = setting(
        2.0, checks.seconds(0, 60), "How long a query waits at most for earlier requests to be indexed.", only="server"
    )
    execution_seconds: int = setting(
        86_400,
        checks.whole(60, 31_536_000, "seconds"),
        "How long a query execution and its tokens are valid.",
        only="server",
    )
    dialects: tuple[str, ...] = setting(
        (),
        checks.names,
        "Query dialects to serve: any of `usage`, `trail`, `logs`, `exports`, `tr50`, `records`. Default: all.",
        only="server",
    )
    dialect_hosts: tuple[tuple[str, str], ...] = setting(
        (),
        checks.hosts,
        "Hosts for single dialects: `usage.example.com=usage,trail.example.com=trail`. Such a host serves only this "
        "dialect, at the root paths of its document.",
        only="server",
    )
