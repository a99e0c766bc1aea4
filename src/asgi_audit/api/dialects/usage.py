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
from .executions import FIELD_NAMES, RECORD, Error, Executions, error_body

__all__ = ["USAGE", "operations"]


class InstanceParameters(Model):
    """The service instance that is queried."""

    service: ServiceName = Field(description="Name of the service, such as `gateway`.")
    instance: InstanceId = Field(alias="instanceResourceId", description="Id of the instance of the service.")


class ExecutionParameters(InstanceParameters):
    execution: Token = Field(
        alias="queryExecutionId", description="`queryExecutionId` of the response that started the query."
    )


class UsageRecord(RecordPart):
    """A record with the fields of the documented usage API."""

    model_config = ConfigDict(alias_generator=None)

    account_id: str
    service: str
    instance_id: str
    metadata: Metadata
    request: RequestPart
    response: ResponsePart
    timestamp: int


class Found(Model):
    data: list[UsageRecord] = Field(description="The records, newest first.")
    nextToken: str = Field("", description="Token of the next page; absent on the last page.")


USAGE = Dialect(
    name="usage",
    error=Error,
    error_body=error_body,
    field_names=FIELD_NAMES,
    about="Requests and responses of one instance of a service, with headers and bodies.",
)


def operations(service: QueryService) -> list[Operation]:
    executions = Executions(
        service,
        USAGE,
        about=_about,
        view=usage_slice,
        path_values=InstanceParameters,
        execution_values=ExecutionParameters,
        answer=Found,
        record=RECORD,
        of="of one service instance",
    )
    return executions.operations(
        "/usage/{service}/{instance}", "/{service}/{instance}", {"service": "gateway", "instance": "acme-eu"}
    )


def _about(request: Request) -> tuple[str, str]:
    about = read_path(request, ExecutionParameters if "execution" in request.path_params else InstanceParameters)
    return about.service, about.instance
