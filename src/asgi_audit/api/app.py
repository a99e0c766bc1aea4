"""The API's ASGI application, built from the table of operations.

How ambiguous paths at the literal roots of the documents are resolved (n: number of segments):

| path | n | is |
|---|---|---|
| `/usage/{service}/{instance}` | 3 | usage of any service, also `trail`, `logs` and `usage` |
| `/trail`, `/trail/query-result/{id}` | 1, 3 | trail; the literal usage paths have 2 and 4 segments, so nothing is
hidden |
| `/trail/{instance}`, `/logs/{instance}` | 2 | usage of the documented services `trail` and `logs` at the literal
root |
| `/query-result/{id}` | 2 | trail at the literal root, never a service `query-result` |
| `/usage/{x}`, `/api/{x}`, `/health/{x}` and the other first segments of the table | 2, 4 | 404, never a service |

Services with such a name are reached under `/usage/`. A known path with another method: 405 with Allow. A trailing
slash is optional. `/usage/…` and the literal root are one dialect: tokens of one work in the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from starlette.applications import Starlette

from ..control import Control
from ..errors import ConfigError
from ..exporting.service import ExportService
from ..metrics import Values
from ..query.service import QueryService
from ..settings import Settings, meant
from . import docs
from .auth import Keys
from .dialects import exports as export_rows
from .dialects import feed, histogram, logs, records, tr50, trail, usage
from .dialects.common import RECORDS
from .health import Health
from .operation import Dialect, Operation
from .request_metrics import RequestMetrics
from .routing import routes_of

__all__ = ["DIALECTS", "application", "chosen", "create_app", "operations"]

_ELSEWHERE = (
    "Use POST /usage/{service}/{instanceResourceId} or POST /trail, then GET …/query-result/{queryExecutionId}."
)

DIALECTS: tuple[Dialect, ...] = (usage.USAGE, trail.TRAIL, logs.LOGS, export_rows.EXPORTS, tr50.TR50, RECORDS)
"""Dialects that can be served alone. The first of the served ones sends the 404 of paths that belong to no dialect:
such a path is most likely a misspelled literal path of usage."""


def create_app(
    service: QueryService,
    control: Control,
    settings: Settings,
    exports: ExportService,
    *,
    measures: Callable[[], Values] = dict,
    unready: Callable[[], str] = lambda: "",
    keys: Keys | None = None,
    request_metrics: RequestMetrics | None = None,
    dialects: Collection[str] = (),
) -> Starlette:
    """The API over `service` and `control`, which the caller closes after the server has stopped, and `exports` over
    the same. `settings`: available as `app.state.settings`. `measures`: further metrics for `/metrics`. `unready`: why
    another process of `serve` is not ready, or ''. `keys` (of `control`) and `measured` (in place of `measures`):
    passed when the caller needs them too. `dialects`: names of the dialects to serve; empty: all. Raises ConfigError
    for an unknown name."""
    keys = keys or Keys(control)
    request_metrics = request_metrics or RequestMetrics(
        lambda: {**measures(), **keys.measures(), **exports.measures(), **service.measures()}
    )
    table = operations(service, exports, Health(service, control, unready), request_metrics)
    app = application(table, keys, request_metrics, dialects)
    app.state.settings = settings
    return app


def operations(
    service: QueryService, exports: ExportService, health: Health, request_metrics: RequestMetrics
) -> list[Operation]:
    """The table. First match wins; no two rows have one method and path."""
    return [
        *health.operations(),
        *request_metrics.operations(),
        *docs.operations(),
        *usage.operations(service),
        *trail.operations(service),
        *logs.operations(service),
        *export_rows.operations(service, exports),
        *tr50.operations(service),
        *records.operations(service),
        *histogram.operations(service),
        *feed.operations(service),
    ]


def chosen(names: Collection[str], setting: str = "dialects") -> tuple[Dialect, ...]:
    """The dialects with these names, in the order of `DIALECTS`; all when `names` is empty. Raises ConfigError."""
    accepted = {dialect.name: dialect for dialect in DIALECTS}
    for name in names:
        if name not in accepted:
            raise ConfigError(
                f"setting {setting} names {name!r}; accepted: {', '.join(accepted)}{meant(name, accepted)}"
            )
    return tuple(dialect for name, dialect in accepted.items() if not names or name in names)


def application(
    table: Sequence[Operation], keys: Keys, request_metrics: RequestMetrics, dialects: Collection[str] = ()
) -> Starlette:
    """The ASGI application for the operations of `table` that belong to `dialects` (empty: all) or to no dialect
    (health, metrics). Raises ConfigError."""
    served = chosen(dialects)
    left_out = {dialect.name for dialect in DIALECTS} - {dialect.name for dialect in served}
    table = [operation for operation in table if operation.dialect.name not in left_out]
    elsewhere = "" if left_out else _ELSEWHERE
    app = Starlette(routes=routes_of(table, keys, rest=served[0], elsewhere=elsewhere, is_whole=not left_out))
    app.state.documentation = docs.Documentation(table)
    app.add_middleware(request_metrics.around)
    app.router.redirect_slashes = False
    return app
