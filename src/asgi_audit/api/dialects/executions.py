"""Shared by usage and trail: a POST starts a query and returns its id, a GET reads one page of it, errors are {type,
message, action}.

Both are translations only: HTTP to `Query`, `Page` to HTTP. A page is joined from stored bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from ...query.model import Grant, Query
from ...query.service import QueryService
from ...record.slices import Cuts
from ..completeness import audit_headers
from ..failure import Failure
from ..fields import Instant, Method, Token, digits
from ..instants import ms_of
from ..models import Model, Refusal, answer_bytes, read_body, read_parameters
from ..operation import Dialect, Example, Operation, ResponseLink, json_response
from ..page import PageResponse

__all__ = ["FIELD_NAMES", "RECORD", "Error", "Executions", "error_body"]

LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000
ROLES = frozenset({"reader", "auditor"})

FIELD_NAMES = {
    "instance": "instanceResourceId",
    "start": "from",
    "end": "to",
    "execution": "queryExecutionId",
    "page_token": "nextToken",
}

# Error types: those of the documents' error table, and our own for other statuses. A status without a row gets the type
# of its class (RFC 9110, section 15).
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

# What the client can do, unless the failure itself has better advice.
_ACTIONS = {
    400: "Correct what the message names, then send the request again.",
    404: "Check service, instance and id. A query id expires: start a new query.",
    413: "Send a shorter body.",
    429: "Wait as many seconds as Retry-After says, then try again.",
    500: "Try again. If the error persists, give the reference to the operator of this API.",
    503: "Try again in a moment.",
}

RECORD: dict[str, Any] = {
    "account_id": "acme",
    "service": "gateway",
    "instance_id": "acme-eu",
    "metadata": {
        "id": "018cc251-f400-7c4e-a5a4-5b0c9ad10a5e",
        "requestId": "6b2f0c1e-5d0e-4c58-9f6b-0a8a3e6f2a11",
        "version": "1.0",
        "region": "eu",
        "scope": "service",
    },
    "request": {
        "auth": {"method": "bearer", "publicKey": "pk_1"},
        "method": "POST",
        "path": "/orders",
        "originalUrl": "/orders?dry=1",
        "hostname": "api.example.com",
        "headers": {"authorization": "[REDACTED]", "content-type": "application/json"},
        "query": {"dry": "1"},
        "body": {"item": 7},
    },
    "response": {"statusCode": 201, "headers": {"content-type": "application/json"}, "body": {"id": 1}},
    "timestamp": 1704067200123,
}
"""An example."""


class Error(Model):
    type: str = Field(description="Kind of error, such as `bad_request` or `not_found`.")
    message: str = Field(description="What is wrong, for people.")
    action: str = Field("", description="What the client can do.")


class Start(Model):
    """A query for the records of a time range."""

    start: Instant = Field(alias="from", description="Start of the time range, inclusive.")
    end: Instant = Field(alias="to", description="End of the time range, exclusive. Equal to `from`: no records.")
    method: Method | None = Field(None, description="Only requests with this HTTP method. Default: all.")
    nextToken: Token | None = Field(
        None,
        description="`nextToken` of a page of an earlier query with the same time range and method: the new query "
        "begins after that page.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Start:
        if self.start > self.end:
            raise Refusal("from: it is later than to; accepted: from before to, or equal for an empty result")
        return self


class Started(Model):
    queryExecutionId: str = Field(description="Id of the query, for `GET …/query-result/{queryExecutionId}`.")


class PageOf(Model):
    """Which page of the result."""

    limit: Annotated[int, digits(1, LIMIT_MAX)] = Field(
        LIMIT_DEFAULT, description="Largest number of records of the page."
    )
    nextToken: Token | None = Field(None, description="`nextToken` of the previous page. Default: the first page.")


def error_body(failure: Failure) -> Error:
    status = failure.status
    slug = _TYPES.get(status) or _TYPES[400 if 400 <= status < 500 else 500]
    return Error(type=slug, message=failure.message, action=failure.action or _ACTIONS.get(status, ""))


class Executions:
    """The two operations of one dialect. `about` returns (service, instance) of a request, or None for the whole
    account. `path_values`, `execution_values`: the models of the names in the two paths. `answer`: the model of a page,
    which `PageResponse` joins from stored bytes. `record`: an example record. `of`: whose records these are, for the
    summary."""

    def __init__(
        self,
        service: QueryService,
        dialect: Dialect,
        *,
        about: Callable[[Request], tuple[str, str] | None],
        view: Callable[[bytes, Cuts], bytes],
        path_values: type[Model] | None,
        execution_values: type[Model],
        answer: type[Model],
        record: dict[str, Any],
        of: str,
    ) -> None:
        self._service = service
        self._dialect = dialect
        self._about = about
        self._view = view
        self._path_values = path_values
        self._execution_values = execution_values
        self._answer = answer
        self._record = record
        self._of = of

    def operations(self, path: str, literal_root: str, example: dict[str, str]) -> list[Operation]:
        """The two operations at `path`, and at `literal_root`, the path in the documents, without its last slash.
        `example`: values for the names in both paths."""
        start = f"{self._dialect.name}.start"
        result = "/query-result/{execution}"
        return [
            Operation(
                id=start,
                method="POST",
                path=path,
                literal_roots=(literal_root or "/",),
                dialect=self._dialect,
                roles=ROLES,
                is_recorded=True,
                handle=self.start,
                path_values=self._path_values,
                request=Start,
                answer=Started,
                summary=f"Start a query for the records {self._of}.",
                description="The result contains every request that had received its response before this call.",
                example=Example(
                    example,
                    body={"from": "2024-01-01T00:00:00Z", "to": "2024-01-02T00:00:00Z"},
                    answer={"queryExecutionId": "AQE0x1Zk3v"},
                ),
            ),
            Operation(
                id=f"{self._dialect.name}.result",
                method="GET",
                path=path + result,
                literal_roots=(literal_root + result,),
                dialect=self._dialect,
                roles=ROLES,
                is_recorded=False,  # clients read many pages of one query
                handle=self.result,
                path_values=self._execution_values,
                parameters=PageOf,
                answer=self._answer,
                summary="Read one page of a query's result, newest first.",
                description="All pages show the same snapshot: records that arrive later are not in it.",
                example=Example(example, answer={"data": [self._record], "nextToken": "AQI9s7Qm"}),
                link=ResponseLink(start, {"execution": "queryExecutionId"}),
            ),
        ]

    async def start(self, request: Request, grant: Grant) -> Response:
        about = self._about(request)
        # Only these four fields are kept during the wait: a parsed body of 64 KiB takes 2 MB of memory.
        asked = await read_body(request, Start)
        query = _query_of(asked, grant.accounts, about)
        execution = await self._service.execute(
            grant, query, asked.nextToken, dialect=self._dialect.name, must_have_seen=about
        )
        return json_response(
            answer_bytes(Started(queryExecutionId=execution.id)), headers=audit_headers(execution.completeness)
        )

    async def result(self, request: Request, grant: Grant) -> Response:
        about = self._about(request)
        wanted = read_parameters(request, PageOf)
        lease = self._service.admission.enter(grant.key_id)
        try:
            page = await self._service.page(
                grant,
                request.path_params["execution"],
                wanted.nextToken,
                wanted.limit,
                dialect=self._dialect.name,
                of=about,
                lease=lease,
            )
            end = b"]}" if page.next_token is None else b'],"nextToken":' + msgspec.json.encode(page.next_token) + b"}"
            return PageResponse(page.rows, self._view, b'{"data":[', end, audit_headers(page.completeness), lease)
        except BaseException:
            lease.close()
            raise


def _query_of(asked: Start, accounts: frozenset[str] | None, about: tuple[str, str] | None) -> Query:
    return Query(
        accounts=accounts,
        start=ms_of(asked.start),
        end=ms_of(asked.end),
        service=about[0] if about else None,
        instance=about[1] if about else None,
        method=asked.method,
    )
