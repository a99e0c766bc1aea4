"""Trail: the records of a whole account, over all services. `POST /` and its query-result."""

from __future__ import annotations

from ...query.service import QueryService
from ...record.views import trail_view
from ..operation import Dialect, Operation
from .executions import WORDS, Error, Executions, says

__all__ = ["TRAIL", "operations"]

TRAIL = Dialect(name="trail", error=Error, says=says, words=WORDS)


def operations(service: QueryService) -> list[Operation]:
    return Executions(service, TRAIL, about=lambda _: None, view=trail_view).operations("/trail", "", {})
