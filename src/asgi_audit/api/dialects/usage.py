"""Usage: the records of one service instance. `POST /{service}/{instanceResourceId}` and its query-result."""

from __future__ import annotations

from starlette.requests import Request

from ...control import Control
from ...query.service import QueryService
from ...record.views import usage_view
from ..params import instance_in_path, service_in_path
from .executions import Executions

__all__ = ["usage"]


def usage(service: QueryService, control: Control) -> Executions:
    return Executions(service, control, dialect="usage", about=_about, view=usage_view)


def _about(request: Request) -> tuple[str, str]:
    return service_in_path(request), instance_in_path(request)
