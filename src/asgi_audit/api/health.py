"""Whether we live, and whether we can answer; without a key, and so without any detail of what is here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from ..control import Control
from ..errors import StoreError
from ..query.model import Grant
from ..query.service import QueryService
from .models import Model, answer_bytes
from .operation import Example, Operation, json_response
from .problem import problem_dialect
from .shared import Shared

__all__ = ["Health"]

_HEALTH = problem_dialect("health", "For a supervisor or a load balancer.")


class Well(Model):
    status: Literal["ok"]


class Unwell(Model):
    status: Literal["unavailable"]
    reasons: list[str]


class Health:
    """`unready`: why something beside us is not ready, or ''."""

    def __init__(self, service: QueryService, control: Control, unready: Callable[[], str] = lambda: "") -> None:
        self._service = service
        self._control = control
        self._beside = unready
        self._reasons = Shared(self._look)

    def operations(self) -> list[Operation]:
        return [
            Operation(
                id=f"health.{name}",
                method="GET",
                path=f"/health/{name}",
                dialect=_HEALTH,
                roles=frozenset(),
                is_recorded=False,
                handle=handle,
                summary=summary,
                answer=Well,
                failures=failures,
                example=Example(answer={"status": "ok"}),
            )
            for name, handle, summary, failures in (
                ("live", self.live, "Whether this process lives.", dict[int, type[Model]]()),
                ("ready", self.ready, "Whether it can answer; if not, why.", {503: Unwell}),
            )
        ]

    async def live(self, _: Request, __: Grant) -> Response:
        return json_response(answer_bytes(Well(status="ok")))

    async def ready(self, _: Request, __: Grant) -> Response:
        """200, or 503 with the reasons. An index that lags is ready: it answers as far as it stands."""
        reasons = list(await self._reasons.get())
        if why := self._beside():
            reasons.append(why)
        if reasons:
            unwell = answer_bytes(Unwell(status="unavailable", reasons=reasons))
            return json_response(unwell, 503, {"retry-after": "1"})
        return json_response(answer_bytes(Well(status="ok")))

    async def _look(self) -> list[str]:
        reasons = []
        if why := await self._service.unready():
            reasons.append(why)
        try:
            await asyncio.to_thread(self._control.authenticate, "aa_0_0")
        except StoreError:
            reasons.append("the keys cannot be read")
        return reasons
