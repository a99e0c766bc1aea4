"""The application that answers queries: one table of flat routes, first match wins, the literal roots of the
documents last.

Which path means what, where the literal roots could be taken for something else (n: number of segments):

| path | n | is |
|---|---|---|
| `/usage/{service}/{instance}` | 3 | usage of any service, also `trail`, `logs` and `usage` |
| `/trail`, `/trail/query-result/{id}` | 1, 3 | trail; the literal usage paths have 2 and 4 segments, so nothing is
hidden | | `/trail/{instance}`, `/logs/{instance}` | 2 | usage of the documented services `trail` and `logs` at the
literal root | | `/query-result/{id}` | 2 | trail at the literal root, never a service `query-result` |
| `/usage/{x}`, `/api/{x}`, `/health/{x}` and the other first segments in `RESERVED` | 2, 4 | 404, never a service |

Services named like a reserved segment are reached under `/usage/`. A known path with another method: 405 with Allow.
The last slash may be there or not. `/usage/…` and the literal root are one dialect: the tokens of one open in the
other.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from ..control import Control
from ..metrics import Values
from ..query.service import QueryService
from ..settings import Settings
from .dialects.executions import fail
from .dialects.trail import trail
from .dialects.usage import usage
from .health import Health
from .measured import Measured
from .routing import Anything, Path, Resource

__all__ = ["RESERVED", "create_app", "routes"]

# First segments that the literal `/{service}/{instance}` never takes for a service; not the documented services
# `logs` and `trail`.
RESERVED = frozenset(
    {"api", "checkpoint", "docs", "health", "metrics", "openapi.json", "query-result", "records", "tile", "usage"}
)
_ELSEWHERE = (
    "Use POST /usage/{service}/{instanceResourceId} or POST /trail, then GET …/query-result/{queryExecutionId}."
)


def create_app(
    service: QueryService,
    control: Control,
    settings: Settings,
    *,
    measures: Callable[[], Values] = dict,
    unready: Callable[[], str] = lambda: "",
) -> Starlette:
    """The API over `service` and `control`, which the caller closes after the server has stopped. `settings` are at
    hand in `app.state.settings`. `measures`: what `/metrics` shows beside the API's own. `unready`: why something
    beside us is not ready, or ''."""
    measured = Measured(measures)
    app = Starlette(routes=routes(service, control, Health(service, control, unready), measured))
    app.add_middleware(measured.around)
    app.router.redirect_slashes = False
    app.state.settings = settings
    return app


def routes(service: QueryService, control: Control, health: Health, measured: Measured) -> list[BaseRoute]:
    of_instance, of_account = usage(service, control), trail(service, control)
    usage_start, usage_result = Resource(fail, POST=of_instance.start), Resource(fail, GET=of_instance.result)
    trail_start, trail_result = Resource(fail, POST=of_account.start), Resource(fail, GET=of_account.result)
    return [
        Path("/health/live", Resource(fail, GET=health.live), dialect="health"),
        Path("/health/ready", Resource(fail, GET=health.ready), dialect="health"),
        Path("/metrics", Resource(fail, GET=measured.show), dialect="metrics"),
        Path("/usage/{service}/{instance}", usage_start, dialect="usage"),
        Path("/usage/{service}/{instance}/query-result/{execution}", usage_result, dialect="usage"),
        Path("/trail", trail_start, dialect="trail"),
        Path("/trail/query-result/{execution}", trail_result, dialect="trail"),
        Path("/query-result/{execution}", trail_result, dialect="trail"),
        Path("/{service}/{instance}", usage_start, reserved=RESERVED, dialect="usage"),
        Path("/{service}/{instance}/query-result/{execution}", usage_result, reserved=RESERVED, dialect="usage"),
        Path("/", trail_start, dialect="trail"),
        Anything(fail, _ELSEWHERE),
    ]
