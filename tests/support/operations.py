"""Calls the table of operations row by row: each with its own example, and with values from the rows that it
follows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
from starlette.types import ASGIApp

from asgi_audit.api.app import operations
from asgi_audit.api.health import Health
from asgi_audit.api.operation import Dialect, Operation
from asgi_audit.api.request_metrics import RequestMetrics
from asgi_audit.api.routing import names_in
from asgi_audit.store.base import Batch
from asgi_audit.store.state import Completion
from tests.support.api import DAY_MS, Api
from tests.support.records import extent, foreign

NOBODY = cast(Any, None)
TABLE = operations(NOBODY, NOBODY, Health(NOBODY, NOBODY), RequestMetrics(dict))
"""Rows whose handlers have no index: for tests of the rows' values."""
PATHS = [(operation, path) for operation in TABLE for path in (operation.path, *operation.literal_roots)]
QUERY = "?"  # among the values of a path: the query string of a whole URL
MARK = "only-acme-may-read-this"
SECRET = "hunter2"
"""Must not occur in any response or log."""


def name_of(value: object) -> str | None:
    """For pytest."""
    return value.id if isinstance(value, Operation) else None


def is_failure(answer: httpx.Response, dialect: Dialect, status: int) -> bool:
    """Whether it is exactly the dialect's error body, without internal information."""
    assert answer.status_code == dialect.sent_status(status), answer.text
    assert answer.headers["content-type"] == dialect.content_type
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    if answer.request.method == "HEAD":
        assert answer.content == b""
    else:
        dialect.error.model_validate_json(answer.content)
    for text in ("Traceback", SECRET, MARK, ".py"):
        assert text not in answer.text
        assert text not in str(answer.headers)
    return True


class Asker:
    """Calls operations of the table of `app`. `seed` creates the records that the examples select."""

    def __init__(self, api: Api, app: ASGIApp | None = None) -> None:
        self.api = api
        self.app = app or api.app
        self._made = 0

    def key(self, operation: Operation, accounts: list[str] | str) -> str | None:
        """A key in clear; None where none is needed."""
        if not operation.roles:
            return None
        return self.api.control.create_key(min(operation.roles), accounts)[1]

    def seed(self, account: str, count: int = 3) -> None:
        """`count` records for the service and instance of each example, and the completeness of the index."""
        about = {(o.example.path.get("service", "gateway"), o.example.path.get("instance", "i1")) for o in TABLE}
        for service, instance in sorted(about):
            for _ in range(count):
                self._made += 1
                self.api.add(
                    foreign(
                        DAY_MS + self._made,
                        account=account,
                        service=service,
                        instance=instance,
                        name=f"{MARK if account == 'acme' else 'b'}-{self._made}",
                    )
                )
        completion = Completion(extent(DAY_MS + 1000, begins=DAY_MS), [], [])
        self.api.store.write(Batch(source="t", positions={}, completion=completion))

    def ask(
        self,
        operation: Operation,
        key: str | None,
        *,
        path: str = "",
        values: Mapping[str, str] | None = None,
        method: str = "",
        query: Mapping[str, str] | None = None,
        beyond: str = "",
        **given: Any,
    ) -> httpx.Response:
        """The operation's example, unless other values are given. `beyond`: appended to the path."""
        values = {**operation.example.path, **(self.followed(operation, key) if values is None else values)}
        where = path or operation.path
        for name in names_in(where):
            where = where.replace("{" + name + "}", quote(values.get(name, "x"), safe=""))
        if operation.example.body is not None and not given:
            given = {"json": operation.example.body}
        self.api.run_exports()
        asked = {**operation.example.query, **dict(parse_qsl(values.get(QUERY, ""))), **(query or {})}
        return self.send(method or operation.method, where + beyond, key, asked, **given)

    def send(
        self, method: str, path: str, key: str | None = None, query: Mapping[str, str] | None = None, **given: Any
    ) -> httpx.Response:
        async def run() -> httpx.Response:
            headers = {"authorization": f"Bearer {key}"} if key is not None else {}
            transport = httpx.ASGITransport(app=cast(Any, self.app))
            async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
                return await client.request(method, path, params=dict(query or {}) or None, **given)

        return asyncio.run(run())

    def followed(self, operation: Operation, key: str | None) -> dict[str, str]:
        """Values of the path from the response of the operation that it follows."""
        if operation.link is None:
            return {}
        before = next(o for o in TABLE if o.id == operation.link.operation)
        answer = self.ask(before, key or self.key(before, ["acme"]))
        assert answer.status_code == 200, answer.text
        self.api.run_exports()  # the begun one can get no further
        if operation.link.url:
            header = answer.headers.get(operation.link.url, "")
            url = urlsplit(header.partition("<")[2].partition(">")[0] or find(answer.json(), operation.link.url))
            names = zip(operation.path.split("/"), url.path.split("/"), strict=True)
            return {name[1:-1]: value for name, value in names if name.startswith("{")} | {QUERY: url.query}
        found = {name: find(answer.json(), field) for name, field in operation.link.path_fields.items()}
        assert None not in found.values()
        return cast(dict[str, str], found)


def find(answer: Any, field: str) -> Any:
    """The first value of that name, at any depth; None when there is none."""
    if isinstance(answer, dict):
        if answer.get(field) is not None:
            return answer[field]
        answer = list(answer.values())
    if isinstance(answer, list):
        return next((found for value in answer if (found := find(value, field)) is not None), None)
    return None


def page_token_of(operation: Operation, answer: httpx.Response) -> str | None:
    """The token of the next page."""
    word = operation.dialect.field_names.get("page_token")
    is_json = answer.headers["content-type"] == "application/json"
    token = find(json.loads(answer.content), word) if word and is_json and answer.content else None
    return cast("str | None", token)
