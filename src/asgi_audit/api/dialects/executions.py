"""What usage and trail share: a POST starts a query and answers its id, a GET reads one page of it, errors are
{type, message, action}.

Both are translations only: HTTP to `Query`, `Page` to HTTP. A page is joined from stored bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ...control import Control
from ...query.model import Query
from ...query.service import QueryService
from ...record.views import Cuts
from ..auth import scope_of
from ..completeness import audit_headers
from ..page import PageResponse
from ..params import json_object, limit_of, method_of, optional_string, query_parameter, window_of
from ..routing import Failure, json_response

__all__ = ["ROLES", "Executions", "fail"]

ROLES = ("reader", "auditor")

# Slugs for the words of the documents' error table.
_TYPES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "content_too_large",
    429: "too_many_requests",
    500: "internal_server_error",
    503: "service_unavailable",
}


# What the client can do, where the failure itself does not say it better.
_ACTIONS = {
    400: "Correct what the message names and send the request again.",
    404: "Check the service, the instance and the id; an execution is gone when it has expired: start a new one.",
    413: "Send a shorter body.",
    429: "Wait as many seconds as Retry-After says, then ask again.",
    500: "Try again; if it stays, give the reference to the operator of this API.",
    503: "Try again in a moment.",
}


def fail(failure: Failure) -> Response:
    body = {"type": _TYPES[failure.status], "message": failure.message}
    if action := failure.action or _ACTIONS.get(failure.status):
        body["action"] = action
    return json_response(orjson.dumps(body), failure.status, failure.headers)


class Executions:
    """The two operations of one dialect. `about` answers (service, instance) of a request, or None for the whole
    account."""

    def __init__(
        self,
        service: QueryService,
        control: Control,
        *,
        dialect: str,
        about: Callable[[Request], tuple[str, str] | None],
        view: Callable[[bytes, Cuts], bytes],
    ) -> None:
        self._service = service
        self._control = control
        self._dialect = dialect
        self._about = about
        self._view = view

    async def start(self, request: Request) -> Response:
        scope = await scope_of(request, self._control, roles=ROLES)
        about = self._about(request)
        # The fields are let go before the wait: a body of 64 KiB is 2 MB of objects.
        query, next_token = _asked(await json_object(request), scope.accounts, about)
        execution = await self._service.execute(scope, query, next_token, dialect=self._dialect, must_have_seen=about)
        headers = audit_headers(execution.completeness)
        return json_response(orjson.dumps({"queryExecutionId": execution.id}), headers=headers)

    async def result(self, request: Request) -> Response:
        scope = await scope_of(request, self._control, roles=ROLES)
        about = self._about(request)
        limit = limit_of(request)
        next_token = query_parameter(request, "nextToken")
        lease = self._service.admission.enter(scope.key_id)
        try:
            page = await self._service.page(
                scope,
                request.path_params["execution"],
                next_token,
                limit,
                dialect=self._dialect,
                of=about,
                lease=lease,
            )
            end = b"]}" if page.next_token is None else b'],"nextToken":' + orjson.dumps(page.next_token) + b"}"
            return PageResponse(page.rows, self._view, b'{"data":[', end, audit_headers(page.completeness), lease)
        except BaseException:
            lease.close()
            raise


def _asked(
    fields: dict[str, Any], accounts: frozenset[str] | None, about: tuple[str, str] | None
) -> tuple[Query, str | None]:
    start, end = window_of(fields)
    query = Query(
        accounts=accounts,
        start=start,
        end=end,
        service=about[0] if about else None,
        instance=about[1] if about else None,
        method=method_of(fields),
    )
    return query, optional_string(fields, "nextToken")
