"""`GET /logs`: the records as log entries, newest first, by offset or by cursor.

Errors are {status, message}; those of 401 and 403, and of a wrong date, are the documents' own sentences. Without
`service`, the API's own reads (service `logs`) are left out. A page by cursor is of the first page's snapshot and
repeats its total; a page by offset is of a snapshot of its own.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any

from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from ...capture.handle import leave_out
from ...query.listing import Listed
from ...query.model import Grant, Query
from ...query.service import QueryService
from ...record.line import TIME_END
from ..completeness import audit_headers
from ..failure import Failure
from ..fields import Level, Token, digits
from ..filters import END_TEXT, OWN_SERVICE, SERVICES_TEXT, START_TEXT, Search, spans
from ..instants import ms_of
from ..models import Checked, Model, Refusal, answer_bytes, read_parameters
from ..operation import Dialect, Example, Operation
from ..page import PageResponse
from .logs_entry import Entry, entry_of

__all__ = ["LOGS", "operations"]

LIMIT_DEFAULT = 50
LIMIT_MAX = 1_000
OFFSET_MAX = 100_000

_SERVICE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,200}")
_NS_PER_MS = 1_000_000
_EVER_MS = (0, TIME_END)  # records are in it
_SENTENCES = {
    401: "Authentication required. Please provide a valid API key or token.",
    403: "You do not have permission to access API logs.",
}


def _service(value: Any) -> str:
    if not _SERVICE.fullmatch(value):
        raise ValueError
    return str(value)


Span = Annotated[
    tuple[int, int],
    spans("Invalid date format for '{name}'. Please use ISO 8601 format (YYYY-MM-DDTHH:MM:SSZ)."),
]
"""See `filters.spans`; with the error text of the document."""


class LogsParameters(Model):
    limit: Annotated[int, digits(1, LIMIT_MAX)] = Field(
        LIMIT_DEFAULT, description="Largest number of entries of the page."
    )
    offset: (
        Annotated[
            int,
            digits(0, OFFSET_MAX, hint="Use the cursor of each page for the next one, or a shorter time range."),
        ]
        | None
    ) = Field(None, description="Number of entries to skip. Default: 0. Cannot be combined with `cursor`.")
    startDate: Span | None = Field(
        None,
        description=START_TEXT,
    )
    endDate: Span | None = Field(
        None,
        description=END_TEXT,
    )
    level: Level | None = Field(None, description="Only entries of exactly this level.")
    service: (
        Annotated[
            str,
            Checked(
                _service,
                "the name of one service, 1 to 200 characters without control characters",
                {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^\x00-\x1f\x7f]*$"},
            ),
        ]
        | None
    ) = Field(
        None,
        description=f"Only entries of this service. {SERVICES_TEXT}",
    )
    search: Search | None = Field(
        None, description='Words and "quoted phrases" that must all occur in the message; at least one word.'
    )
    cursor: Token | None = Field(None, description="`cursor` of the previous page. Other filters must be unchanged.")

    @model_validator(mode="after")
    def _in_order(self) -> LogsParameters:
        if self.cursor is not None and self.offset is not None:
            raise Refusal("offset: it cannot be combined with cursor")
        if self.startDate is not None and self.endDate is not None and self.startDate[0] > self.endDate[1]:
            raise Refusal("startDate: it is later than endDate; accepted: startDate before endDate, or equal to it")
        return self


class Error(Model):
    status: str = Field(description="Always `error`.")
    message: str = Field(description="What is wrong.")


class Pagination(Model):
    """Position of this page in the whole result."""

    total: int = Field(description="Exact number of entries on all pages.")
    limit: int = Field(description="Largest number of entries of a page.")
    offset: int | None = Field(description="Number of skipped entries; null on a page requested by `cursor`.")
    nextOffset: int | None = Field(
        description="`offset` of the next page; null on the last page and on a page requested by `cursor`."
    )
    cursor: str | None = Field(description="`cursor` of the next page; null on the last page.")


class Data(Model):
    logs: list[Entry] = Field(description="The entries, newest first.")
    pagination: Pagination = Field(description="Position of this page in the whole result.")


class Found(Model):
    """A page of log entries."""

    status: str = Field(description="Always `success`.")
    data: Data = Field(description="The page.")


def _error_body(failure: Failure) -> Error:
    message = f"{failure.message}. {failure.action}" if failure.action else failure.message
    return Error(status="error", message=message)


_EXAMPLE = {
    "status": "success",
    "data": {
        "logs": [
            {
                "timestamp": "2024-01-01T10:35:15.120Z",
                "level": "ERROR",
                "service": "gateway",
                "message": "POST /login → 401 Unauthorized, 12 ms",
                "details": {
                    "record_id": "018cc251-f400-7c4e-a5a4-5b0c9ad10a5e",
                    "request_id": "6b2f0c1e-5d0e-4c58-9f6b-0a8a3e6f2a11",
                    "account_id": "acme",
                    "instance_id": "acme-eu",
                    "method": "POST",
                    "path": "/login",
                    "status_code": 401,
                    "duration_ms": 12.346,
                    "ip_address": "192.0.2.1",
                    "outcome": "completed",
                },
            }
        ],
        "pagination": {"total": 150, "limit": 1, "offset": 0, "nextOffset": 1, "cursor": "AQJk2mPz"},
    },
}

LOGS = Dialect(
    name="logs",
    about="Requests of all services as log entries, without headers and bodies.",
    error=Error,
    error_body=_error_body,
    field_names={"start": "startDate", "end": "endDate", "levels": "level", "text": "search", "page_token": "cursor"},
    fixed_messages=_SENTENCES,
)


def operations(service: QueryService) -> list[Operation]:
    return [
        Operation(
            id="logs.list",
            method="GET",
            path="/logs",
            dialect=LOGS,
            roles=frozenset({"auditor"}),
            is_recorded=True,
            handle=partial(_list, service),
            parameters=LogsParameters,
            answer=Found,
            summary="Read records as log entries, newest first.",
            description="`total` is exact. All pages read by `cursor` show the same snapshot; each page read by "
            "`offset` shows the newest state.",
            example=Example(query={"startDate": "2024-01-01", "endDate": "2024-01-01", "limit": "10"}, answer=_EXAMPLE),
        )
    ]


async def _list(service: QueryService, request: Request, grant: Grant) -> Response:
    asked = read_parameters(request, LogsParameters)
    offset = asked.offset or 0
    lease = service.admission.enter(grant.key_id)
    try:
        listed = await service.listings.page(
            grant,
            _query_of(asked),
            dialect=LOGS.name,
            limit=asked.limit,
            lease=lease,
            show=entry_of,
            skip=offset,
            cursor=asked.cursor,
        )
        pagination = answer_bytes(_pagination(listed, asked.limit, None if asked.cursor else offset))
        if asked.cursor is not None:
            leave_out(request)  # it continues a list whose first page is recorded
        return PageResponse(
            listed.rows,
            lambda entry, _: entry,
            b'{"status":"success","data":{"logs":[',
            b'],"pagination":' + pagination + b"}}",
            audit_headers(listed.completeness),
            lease,
        )
    except BaseException:
        lease.close()
        raise


def _pagination(listed: Listed, limit: int, offset: int | None) -> Pagination:
    following = None if offset is None or listed.cursor is None else offset + len(listed.rows)
    return Pagination(total=listed.total or 0, limit=limit, offset=offset, nextOffset=following, cursor=listed.cursor)


def _query_of(asked: LogsParameters) -> Query:
    """The query; the query service sets its accounts."""
    start, end = _EVER_MS
    if asked.startDate is not None:
        start = ms_of(asked.startDate[0])
    if asked.endDate is not None:
        # Inclusive: up to the end of its millisecond, because records have whole milliseconds.
        end = ms_of((asked.endDate[1] // _NS_PER_MS + 1) * _NS_PER_MS)
    return Query(
        accounts=frozenset(),
        start=start,
        end=end,
        service=asked.service,
        levels=None if asked.level is None else frozenset({asked.level}),
        text=asked.search,
        except_service=OWN_SERVICE if asked.service is None else None,
    )
