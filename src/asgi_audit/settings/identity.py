"""Settings: the account, instance and service that records belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from . import checks
from .checks import setting

__all__ = ["Identity", "IdentitySettings"]


class IdentitySettings(TypedDict, total=False):
    service: str
    account_id: str
    instance_id: str
    region: Literal["global", "eu"]
    scope: Literal["management", "service"]


@dataclass(frozen=True, kw_only=True)
class Identity:
    service: str = setting("app", checks.name, "Service name in the records.", only="middleware")
    account_id: str = setting(
        "default", checks.account, "Account of records without an annotated account.", only="middleware"
    )
    instance_id: str = setting(
        "default", checks.instance, "Service instance of records without an annotated instance.", only="middleware"
    )
    region: str = setting("global", checks.choice("global", "eu"), "Region of the records.", only="middleware")
    scope: str = setting("service", checks.choice("management", "service"), "Scope of the records.", only="middleware")
