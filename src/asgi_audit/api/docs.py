"""`/openapi.json`, and `/docs`, the same for people. No key is needed: they describe operations, not data.

Both describe the served operations and are built once, in a thread, on the first request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import cached_property

from starlette.requests import Request
from starlette.responses import Response

from ..query.model import Grant
from .docs_page import CONTENT_SECURITY_POLICY, page_of
from .openapi import document
from .operation import NO_STORE, Operation, json_response
from .problem import problem_dialect

__all__ = ["DOCS", "Documentation", "operations"]

DOCS = problem_dialect("docs", "The documentation of this API, for programs and for people.")


class Documentation:
    """The documentation of `table`."""

    def __init__(self, table: Sequence[Operation]) -> None:
        self._table = [operation for operation in table if operation.dialect is not DOCS]

    @cached_property
    def openapi(self) -> bytes:
        return json.dumps(document(self._table), ensure_ascii=False).encode()

    @cached_property
    def page(self) -> bytes:
        return page_of(json.loads(self.openapi)).encode()


def operations() -> list[Operation]:
    return [
        Operation(
            id=f"docs.{name}",
            method="GET",
            path=path,
            dialect=DOCS,
            roles=frozenset(),
            is_recorded=False,
            handle=handle,
            summary=summary,
            content_type=content_type,
        )
        for name, path, handle, summary, content_type in (
            ("openapi", "/openapi.json", _openapi, "The OpenAPI 3.1 document.", "application/json"),
            ("page", "/docs", _page, "The same as a page.", "text/html"),
        )
    ]


async def _openapi(request: Request, _: Grant) -> Response:
    return json_response(await asyncio.to_thread(lambda: _documentation(request).openapi))


async def _page(request: Request, _: Grant) -> Response:
    page = await asyncio.to_thread(lambda: _documentation(request).page)
    headers = {**NO_STORE, "content-security-policy": CONTENT_SECURITY_POLICY, "referrer-policy": "no-referrer"}
    return Response(page, headers=headers, media_type="text/html")


def _documentation(request: Request) -> Documentation:
    documentation: Documentation = request.app.state.documentation
    return documentation
