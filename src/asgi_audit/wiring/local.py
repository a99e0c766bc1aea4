"""The API over a local index, for a command that can read its files: without server, key, or a record of the read.

A user who can read the index's files can read all of it anyway, so every account is visible.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..settings import Settings
from .environment import extra
from .operations import open_store_reader

if TYPE_CHECKING:
    from ..capture.middleware import ASGIApp
    from ..control import Control
    from ..query.model import Grant

__all__ = ["LocalApi", "local_api"]


class LocalApi(NamedTuple):
    """`app`: usage, trail, logs, records, histogram and feed. `close`: closes the readers; call it after the last
    request."""

    app: ASGIApp
    close: Callable[[], None]


def local_api(settings: Settings) -> LocalApi:
    """Raises StoreError when there is no index, ConfigError."""
    with extra():
        from ..api.app import application
        from ..api.auth import Keys
        from ..api.dialects import feed, histogram, logs, records, trail, usage
        from ..api.request_metrics import RequestMetrics
        from ..query.model import Grant
        from ..query.service import QueryService

    class AllowAllKeys(Keys):
        async def grant_of(self, request: Any, *, roles: Collection[str]) -> Grant:
            return Grant(key_id="local", role="auditor", accounts=None)

    settings = settings.absolute()
    reader = open_store_reader(settings)  # raises here, not in the first response
    try:
        # Tokens belong to the index, so a later command can continue with the cursor of an earlier one. This is not a
        # secret: a user who can read the index needs no cursor, and the API uses another secret.
        secret = hashlib.sha256(f"asgi-audit local {reader.index().id}".encode()).digest()
    finally:
        reader.close()
    # Never wait for the indexer: none may be running.
    service = QueryService(lambda: open_store_reader(settings), secret, wait_seconds=0)
    table = [o for rows in (usage, trail, logs, records, histogram, feed) for o in rows.operations(service)]
    app = application(table, AllowAllKeys(cast("Control", None)), RequestMetrics(dict))
    return LocalApi(app, service.close)
