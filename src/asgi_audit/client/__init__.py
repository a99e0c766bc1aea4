"""Ask asgi-audit's API from Python: `pip install 'asgi-audit[client]'`.

    from asgi_audit.client import Client

    with Client("http://localhost:8400", key="…") as audit:
        for record in audit.records(status="5xx", since="1h"):
            print(record["metadata"]["id"], record["request"]["path"])

`AsyncClient` has the same methods for `async for` and `await`. Iterating a list requests its pages as needed. A call
with the response 429, or 503 with Retry-After, is sent again after that time, at most four times. An error response
raises `ApiError`, a failed connection `NotReachable`. The key is sent only in the header `Authorization`.
"""

from __future__ import annotations

from ..errors import ConfigError
from .errors import ApiError, NotReachable, ProtocolError

try:
    import httpx as _httpx  # noqa: F401
except ImportError as e:
    raise ConfigError(
        "asgi_audit.client needs the package httpx, which is not installed",
        hint="pip install 'asgi-audit[client]'",
    ) from e

from .asynchronous import AsyncClient
from .blocking import Client
from .questions import Export, FeedPage, Filters, HistogramFilters, Window

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "Export",
    "FeedPage",
    "Filters",
    "HistogramFilters",
    "NotReachable",
    "ProtocolError",
    "Window",
]
