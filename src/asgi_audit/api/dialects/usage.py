"""Usage: the records of one service instance. `POST /{service}/{instanceResourceId}` and its query-result."""

from __future__ import annotations

from starlette.requests import Request

from ...query.service import QueryService
from ...record.views import usage_view
from ..operation import Dialect, Operation
from ..params import instance_in_path, service_in_path
from .executions import WORDS, Error, Executions, says

__all__ = ["USAGE", "operations"]

USAGE = Dialect(name="usage", error=Error, says=says, words=WORDS)


def operations(service: QueryService) -> list[Operation]:
    executions = Executions(service, USAGE, about=_about, view=usage_view)
    return executions.operations(
        "/usage/{service}/{instance}", "/{service}/{instance}", {"service": "gateway", "instance": "acme-eu"}
    )


def _about(request: Request) -> tuple[str, str]:
    return service_in_path(request), instance_in_path(request)
