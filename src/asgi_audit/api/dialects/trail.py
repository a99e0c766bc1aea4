"""Trail: the records of a whole account, over all services. `POST /` and its query-result."""

from __future__ import annotations

from ...control import Control
from ...query.service import QueryService
from ...record.views import trail_view
from .executions import Executions

__all__ = ["trail"]


def trail(service: QueryService, control: Control) -> Executions:
    return Executions(service, control, dialect="trail", about=lambda _: None, view=trail_view)
