"""Trail: the records of a whole account, over all services. `POST /` and its query-result."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from ...query.service import QueryService
from ...record.model import Metadata, RecordPart, RequestPart, ResponsePart
from ...record.slices import trail_slice
from ..fields import Token
from ..models import Model
from ..operation import Dialect, Operation
from .executions import RECORD, WORDS, Error, Executions, says

__all__ = ["TRAIL", "operations"]


_RECORD = {name: value for name, value in RECORD.items() if name not in ("service", "instance_id")} | {
    "metadata": {**RECORD["metadata"], "service": RECORD["service"]}
}


class OfExecution(Model):
    execution: Token = Field(alias="queryExecutionId", description="From the answer that started the query.")


class TrailMetadata(Metadata):
    service: str


class TrailRecord(RecordPart):
    """The documented fields of a record."""

    model_config = ConfigDict(alias_generator=None)

    account_id: str
    metadata: TrailMetadata
    request: RequestPart
    response: ResponsePart
    timestamp: int


class Found(Model):
    data: list[TrailRecord]
    nextToken: str = Field("", description="Brings the page after it; absent on the last one.")


TRAIL = Dialect(
    name="trail", error=Error, says=says, words=WORDS, about="The requests of a whole account, over all services."
)


def operations(service: QueryService) -> list[Operation]:
    executions = Executions(
        service,
        TRAIL,
        about=lambda _: None,
        view=trail_slice,
        path_values=None,
        execution_values=OfExecution,
        answer=Found,
        record=_RECORD,
        of="of your account",
    )
    return executions.operations("/trail", "", {})
