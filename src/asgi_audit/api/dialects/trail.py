"""Trail: the records of a whole account, over all services. `POST /` and its query-result."""

from __future__ import annotations

from pydantic import Field

from ...query.service import QueryService
from ...record.slices import trail_slice
from ..models import Model
from ..operation import Dialect, Operation
from .executions import WORDS, Error, Executions, says

__all__ = ["TRAIL", "operations"]


class OfExecution(Model):
    execution: str = Field(alias="queryExecutionId", description="From the answer that started the query.")


TRAIL = Dialect(name="trail", error=Error, says=says, words=WORDS)


def operations(service: QueryService) -> list[Operation]:
    executions = Executions(
        service, TRAIL, about=lambda _: None, view=trail_slice, path_values=None, execution_values=OfExecution
    )
    return executions.operations("/trail", "", {})
