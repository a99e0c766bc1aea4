"""Usage: the records of one service instance. `POST /{service}/{instanceResourceId}` and its query-result."""

from __future__ import annotations

from pydantic import ConfigDict, Field
from starlette.requests import Request

from ...query.service import QueryService
from ...record.model import Metadata, RecordPart, RequestPart, ResponsePart
from ...record.slices import usage_slice
from ..fields import InstanceId, ServiceName, Token
from ..models import Model, read_path
from ..operation import Dialect, Operation
from .executions import RECORD, WORDS, Error, Executions, says

__all__ = ["USAGE", "operations"]


class About(Model):
    """What a usage query is about."""

    service: ServiceName
    instance: InstanceId = Field(alias="instanceResourceId")


class AboutExecution(About):
    execution: Token = Field(alias="queryExecutionId", description="From the answer that started the query.")


class UsageRecord(RecordPart):
    """The documented fields of a record."""

    model_config = ConfigDict(alias_generator=None)

    account_id: str
    service: str
    instance_id: str
    metadata: Metadata
    request: RequestPart
    response: ResponsePart
    timestamp: int


class Found(Model):
    data: list[UsageRecord]
    nextToken: str = Field("", description="Brings the page after it; absent on the last one.")


USAGE = Dialect(
    name="usage", error=Error, says=says, words=WORDS, about="The requests of one instance of a service, whole."
)


def operations(service: QueryService) -> list[Operation]:
    executions = Executions(
        service,
        USAGE,
        about=_about,
        view=usage_slice,
        path_values=About,
        execution_values=AboutExecution,
        answer=Found,
        record=RECORD,
        of="of one service instance",
    )
    return executions.operations(
        "/usage/{service}/{instance}", "/{service}/{instance}", {"service": "gateway", "instance": "acme-eu"}
    )


def _about(request: Request) -> tuple[str, str]:
    about = read_path(request, AboutExecution if "execution" in request.path_params else About)
    return about.service, about.instance
