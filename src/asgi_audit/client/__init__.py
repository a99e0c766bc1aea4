"""Ask asgi-audit's API from Python: `pip install 'asgi-audit[client]'`.

    from asgi_audit.client import Client

    with Client("http://localhost:8400", key="…") as audit:
        for record in audit.records(status="5xx", since="1h"):
            print(record["metadata"]["id"], record["request"]["path"])

`AsyncClient` has the same methods for `async for` and `await`. Lists page by themselves while they are iterated. A call
that the API answers with 429, or with 503 and Retry-After, is sent again after that time, four times at most. What the
API refuses raises `ApiError`, no connection `NotReachable`. A key is sent in the header `Authorization` alone.
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
