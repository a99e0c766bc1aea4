"""Usage: the records of one service instance. `POST /{service}/{instanceResourceId}` and its query-result."""

from __future__ import annotations

from pydantic import Field
from starlette.requests import Request

from ...query.service import QueryService
from ...record.slices import usage_slice
from ..fields import InstanceId, ServiceName
from ..models import Model, read_path
from ..operation import Dialect, Operation
from .executions import WORDS, Error, Executions, says

__all__ = ["USAGE", "operations"]


class About(Model):
    """What a usage query is about."""

    service: ServiceName
    instance: InstanceId = Field(alias="instanceResourceId")


class AboutExecution(About):
    execution: str = Field(alias="queryExecutionId", description="From the answer that started the query.")


USAGE = Dialect(name="usage", error=Error, says=says, words=WORDS)


def operations(service: QueryService) -> list[Operation]:
    executions = Executions(
        service, USAGE, about=_about, view=usage_slice, path_values=About, execution_values=AboutExecution
    )
    return executions.operations(
        "/usage/{service}/{instance}", "/{service}/{instance}", {"service": "gateway", "instance": "acme-eu"}
    )


def _about(request: Request) -> tuple[str, str]:
    about = read_path(request, AboutExecution if "execution" in request.path_params else About)
    return about.service, about.instance
