"""Builds the parts of exports from settings: their target, the API's service, and the runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import AuditError, ConfigError
from ..settings import Settings
from .environment import extra
from .index_memory import memory_of
from .operations import open_store_reader

if TYPE_CHECKING:
    from ..control import Control
    from ..exporting.base import Target
    from ..exporting.runner import Runner
    from ..exporting.service import ExportService

__all__ = ["build_runner", "open_exports", "open_target", "public_url"]


def open_target(settings: Settings) -> Target:
    """The target of export objects. Raises ConfigError."""
    if settings.export_bucket:
        with extra():
            from ..exporting.base import TargetError
            from ..exporting.s3 import S3Target

        bucket, _, prefix = settings.export_bucket.removeprefix("s3://").partition("/")
        try:
            return S3Target(bucket, prefix, work=settings.exports_path, endpoint=settings.export_endpoint)
        except TargetError as e:
            raise ConfigError(f"setting export_bucket: {e}", hint=e.hint) from e
    from ..exporting.directory import DirectoryTarget

    return DirectoryTarget(settings.exports_path, access=settings.access)


def open_exports(settings: Settings, control: Control) -> ExportService:
    """The API's export service over `control`, which the caller closes. Raises StoreError, ConfigError."""
    with extra():
        from ..exporting.service import ExportService

    return ExportService(
        control,
        open_target(settings),
        public_url=public_url(settings),
        regions=settings.regions_of_groups,
        days=settings.export_days,
        issuer=settings.jwt_issuer,
    )


def build_runner(settings: Settings, control: Control) -> Runner:
    """The runner of exports over `control`, which the caller closes. Raises ConfigError."""
    with extra():
        from ..exporting.runner import Runner

    settings = settings.absolute()
    memory = memory_of(settings)

    def named_index() -> str:
        try:
            known = memory.named(again=True)
        except AuditError:
            return ""
        return known.get("this process") or next(iter(known.values()), "")

    return Runner(
        control.exports,
        open_target(settings),
        lambda: open_store_reader(settings),
        named_index=named_index,
        days=settings.export_days,
        access=settings.access,
    )


def public_url(settings: Settings) -> str:
    """The beginning of URLs in responses: the setting, else the address at which a client on this machine reaches
    `serve`."""
    if settings.public_url:
        return settings.public_url
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "::0": "::1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
