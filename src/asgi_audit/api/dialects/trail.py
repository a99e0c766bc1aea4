"""Trail: the records of a whole account, over all services. `POST /` and its query-result."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from ...query.service import QueryService
from ...record.model import Metadata, RecordPart, RequestPart, ResponsePart
from ...record.slices import trail_slice
from ..fields import Token
from ..models import Model
from ..operation import Dialect, Operation
from .executions import FIELD_NAMES, RECORD, Error, Executions, error_body

__all__ = ["TRAIL", "operations"]


_RECORD = {name: value for name, value in RECORD.items() if name not in ("service", "instance_id")} | {
    "metadata": {**RECORD["metadata"], "service": RECORD["service"]}
}


class ExecutionParameters(Model):
    execution: Token = Field(
        alias="queryExecutionId", description="`queryExecutionId` of the response that started the query."
    )


class TrailMetadata(Metadata):
    service: str = Field(description="Service of the record.")


class TrailRecord(RecordPart):
    """A record with the fields of the documented trail API."""

    model_config = ConfigDict(alias_generator=None)

    account_id: str
    metadata: TrailMetadata
    request: RequestPart
    response: ResponsePart
    timestamp: int


class Found(Model):
    data: list[TrailRecord] = Field(description="The records, newest first.")
    nextToken: str = Field("", description="Token of the next page; absent on the last page.")


TRAIL = Dialect(
    name="trail",
    error=Error,
    error_body=error_body,
    field_names=FIELD_NAMES,
    about="Requests and responses of a whole account, over all services, with headers and bodies.",
)


def operations(service: QueryService) -> list[Operation]:
    executions = Executions(
        service,
        TRAIL,
        about=lambda _: None,
        view=trail_slice,
        path_values=None,
        execution_values=ExecutionParameters,
        answer=Found,
        record=_RECORD,
        of="of your account",
    )
    return executions.operations("/trail", "", {})
