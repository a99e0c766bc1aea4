"""Health endpoints: alive, ready to serve, and whether the index is fresh. They need no key, so they give no
details."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from ..control import Control
from ..durations import AGE_ACCEPTED, AGE_PATTERN, TEXT_MAX, age_seconds
from ..errors import StoreError
from ..query.model import Grant
from ..query.service import QueryService
from .models import Checked, Model, answer_bytes, read_parameters
from .operation import Example, Operation, json_response
from .problem import problem_dialect
from .shared import Shared

__all__ = ["DEFAULT_AGE", "Health"]

DEFAULT_AGE = "120s"

_HEALTH = problem_dialect("health", "Health checks for supervisors and load balancers.")
_RETRY = {"retry-after": "1"}


class Well(Model):
    status: Literal["ok"] = Field(description="Always `ok`.")


class Unwell(Model):
    status: Literal["unavailable"] = Field(description="Always `unavailable`.")
    reasons: list[str] = Field(description="Why it is not ready, for people.")


class Fresh(Model):
    status: Literal["ok"] = Field(description="Always `ok`.")
    complete_until: str = Field(description="Every record that began before this time (exclusive) is in the index.")
    age_seconds: float = Field(description="Seconds between `complete_until` and now.")


class Stale(Model):
    status: Literal["stale"] = Field(description="Always `stale`.")
    reasons: list[str] = Field(description="Why the index is not fresh, for people.")
    complete_until: str = Field(
        "", description="Every record that began before this time is in the index; absent while it is not known."
    )
    age_seconds: float | None = Field(None, description="Seconds between `complete_until` and now.")


def _max_age(value: Any) -> float:
    if not isinstance(value, str):
        raise ValueError
    return age_seconds(value)


Age = Annotated[
    float,
    Checked(
        _max_age,
        AGE_ACCEPTED,
        {"type": "string", "pattern": AGE_PATTERN, "maxLength": TEXT_MAX, "examples": ["90s", "5m", "120"]},
    ),
]


class FreshParameters(Model):
    max_age: Age | None = Field(None, description=f"Largest accepted age of `complete_until`. Default: {DEFAULT_AGE}.")


class Health:
    """`unready`: why another process of `serve` is not ready, or ''."""

    def __init__(
        self,
        service: QueryService,
        control: Control,
        unready: Callable[[], str] = lambda: "",
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._control = control
        self._beside = unready
        self._clock = clock
        self._reasons = Shared(self._look)
        self._until = Shared(lambda: self._service.complete_until(), rests=True)

    def operations(self) -> list[Operation]:
        plain = [
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
                ("live", self.live, "Check that this process responds.", dict[int, type[Model]]()),
                ("ready", self.ready, "Check that this process can serve queries.", {503: Unwell}),
            )
        ]
        fresh = Operation(
            id="health.fresh",
            method="GET",
            path="/health/fresh",
            dialect=_HEALTH,
            roles=frozenset(),
            is_recorded=False,
            handle=self.fresh,
            summary="Check whether the index is complete until at most `max_age` ago.",
            parameters=FreshParameters,
            answer=Fresh,
            failures={503: Stale},
            example=Example(
                query={"max_age": "876000h"},
                answer={"status": "ok", "complete_until": "2024-01-01T00:59:00.000Z", "age_seconds": 2.5},
            ),
        )
        return [*plain, fresh]

    async def live(self, _: Request, __: Grant) -> Response:
        return json_response(answer_bytes(Well(status="ok")))

    async def ready(self, _: Request, __: Grant) -> Response:
        """200, or 503 with the reasons. An index that lags is ready: it serves the records that it has."""
        reasons = list(await self._reasons.get())
        if why := self._beside():
            reasons.append(why)
        if reasons:
            unwell = answer_bytes(Unwell(status="unavailable", reasons=reasons))
            return json_response(unwell, 503, _RETRY)
        return json_response(answer_bytes(Well(status="ok")))

    async def fresh(self, request: Request, __: Grant) -> Response:
        """200, or 503 with the reason."""
        given = read_parameters(request, FreshParameters).max_age
        max_age = age_seconds(DEFAULT_AGE) if given is None else given
        try:
            until = await self._until.get()
        except StoreError:
            return _stale("the index cannot be read")
        if until is None:
            return _stale("it is not known yet up to which time the index is complete")
        shown = datetime.fromtimestamp(until / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        age = round(max(0.0, self._clock() - until / 1000), 3)
        if age > max_age:
            why = f"the index is complete only until {age:.1f} s ago; max_age is {max_age:g} s"
            return _stale(why, complete_until=shown, age_seconds=age)
        return json_response(answer_bytes(Fresh(status="ok", complete_until=shown, age_seconds=age)))

    async def _look(self) -> list[str]:
        reasons = []
        if why := await self._service.unready():
            reasons.append(why)
        try:
            await asyncio.to_thread(self._control.authenticate, "aa_0_0")
        except StoreError:
            reasons.append("the keys cannot be read")
        return reasons


def _stale(why: str, *, complete_until: str = "", age_seconds: float | None = None) -> Response:
    stale = Stale(status="stale", reasons=[why], complete_until=complete_until, age_seconds=age_seconds)
    return json_response(answer_bytes(stale), 503, _RETRY)
