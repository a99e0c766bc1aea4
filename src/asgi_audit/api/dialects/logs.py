"""`GET /logs`: the records as log entries, newest first, by offset or by cursor.

Errors are {status, message}; those of 401 and 403, and of a wrong date, are the documents' own sentences. Without
`service`, the API's own reads (service `logs`) are left out. A page by cursor is of the first page's snapshot and
repeats its total; a page by offset is of a snapshot of its own.
"""

from __future__ import annotations

import re
from datetime import date
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...capture.handle import leave_out
from ...errors import QueryError
from ...query.listing import Listed
from ...query.model import Grant, Query
from ...query.service import QueryService
from ...record.line import TIME_END
from ...record.summary import LEVELS
from ..completeness import audit_headers
from ..failure import Failure
from ..operation import Dialect, Example, Operation
from ..page import PageResponse
from ..params import instant_ns, ms_of, named_parameters, shown
from .logs_entry import Entry, entry_of

__all__ = ["LOGS", "operations"]

PARAMETERS = ("limit", "offset", "startDate", "endDate", "level", "service", "search", "cursor")
LIMIT_DEFAULT = 50
LIMIT_MAX = 1_000
OFFSET_MAX = 100_000
SEARCH_BYTES_MAX = 1_000  # with the longest service it fits into a cursor, which has at most TOKEN_MAX characters
OWN_SERVICE = "logs"

_PLAIN_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# A '+' that was not percent-encoded arrives as a space.
_LOST_PLUS = re.compile(r" (?=\d\d:?\d\d$)", re.ASCII)
_SERVICE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,200}")
_NS_PER_MS = 1_000_000
_DAY_NS = 86_400_000 * _NS_PER_MS
_EVER_MS = (0, TIME_END)  # records lie in it
_SENTENCES = {
    401: "Authentication required. Please provide a valid API key or token.",
    403: "You do not have permission to access API logs.",
}


class Error(msgspec.Struct, forbid_unknown_fields=True):
    status: str
    message: str


class Pagination(msgspec.Struct, forbid_unknown_fields=True):
    """`nextOffset` and `cursor` are null on the last page, both offsets on a page that was asked for by cursor."""

    total: int
    limit: int
    offset: int | None
    nextOffset: int | None
    cursor: str | None


class Data(msgspec.Struct, forbid_unknown_fields=True):
    logs: list[Entry]
    pagination: Pagination


class Found(msgspec.Struct, forbid_unknown_fields=True):
    """As it is sent; `PageResponse` joins it."""

    status: str
    data: Data


def _says(failure: Failure) -> Error:
    return Error("error", f"{failure.message}. {failure.action}" if failure.action else failure.message)


LOGS = Dialect(
    name="logs",
    error=Error,
    says=_says,
    words={"start": "startDate", "end": "endDate", "levels": "level", "text": "search", "page_token": "cursor"},
    sentences=_SENTENCES,
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
            answer=Found,
            example=Example(query={"startDate": "2024-01-01", "endDate": "2024-01-01", "limit": "10"}),
        )
    ]


async def _list(service: QueryService, request: Request, grant: Grant) -> Response:
    given = named_parameters(request, PARAMETERS)
    query = _query_of(given)
    limit = _whole_number(given, "limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
    cursor = given.get("cursor")
    if cursor is not None and "offset" in given:
        raise QueryError("offset: it cannot be given beside cursor; accepted is one of the two")
    offset = _whole_number(
        given, "offset", 0, 0, OFFSET_MAX, hint="Page on with the cursor that each page brings, or narrow the window."
    )
    lease = service.admission.enter(grant.key_id)
    try:
        listed = await service.listings.page(
            grant, query, dialect=LOGS.name, limit=limit, lease=lease, show=entry_of, skip=offset, cursor=cursor
        )
        pagination = msgspec.json.encode(_pagination(listed, limit, None if cursor else offset))
        if cursor is not None:
            leave_out(request)  # it goes on with a list whose first page is recorded
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
    return Pagination(listed.total or 0, limit, offset, following, listed.cursor)


def _query_of(given: dict[str, str]) -> Query:
    """Raises QueryError. Accounts are set by the query service."""
    start, end = _EVER_MS
    first, last = _instant(given, "startDate"), _instant(given, "endDate")
    if first is not None and last is not None and first[0] > last[1]:
        raise QueryError("startDate: it is later than endDate; accepted: startDate before endDate, or equal to it")
    if first is not None:
        start = ms_of(first[0])
    if last is not None:
        # Inclusive: up to the end of the whole ms that it lies in, for records have whole ones.
        end = ms_of((last[1] // _NS_PER_MS + 1) * _NS_PER_MS)
    level = given.get("level")
    if level is not None and level not in LEVELS:
        raise QueryError(f"level: it is {shown(level)}; accepted: {', '.join(LEVELS)}")
    service = given.get("service")
    if service is not None and not _SERVICE.fullmatch(service):
        raise QueryError(
            f"service: it is {shown(service)}; accepted: the name of one service, 1 to 200 characters without control "
            "characters"
        )
    search = given.get("search")
    if search is not None and len(search.encode("utf-8", "surrogatepass")) > SEARCH_BYTES_MAX:
        raise QueryError(f"search: it is too long; accepted: at most {SEARCH_BYTES_MAX} bytes in UTF-8")
    return Query(
        accounts=frozenset(),
        start=start,
        end=end,
        service=service,
        levels=None if level is None else frozenset({level}),
        text=search,
        except_service=OWN_SERVICE if service is None else None,
    )


def _instant(given: dict[str, str], name: str) -> tuple[int, int] | None:
    """The first and the last nanosecond that are meant: one instant, or a whole day (UTC)."""
    text = given.get(name)
    if text is None:
        return None
    try:
        if _PLAIN_DATE.fullmatch(text):
            day = (date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal()) * _DAY_NS
            return day, day + _DAY_NS - 1
        ns = instant_ns(_LOST_PLUS.sub("+", text))
    except ValueError:
        ns = None
    if ns is None:
        raise QueryError(f"Invalid date format for '{name}'. Please use ISO 8601 format (YYYY-MM-DDTHH:MM:SSZ).")
    return ns, ns


def _whole_number(given: dict[str, str], name: str, default: int, low: int, high: int, *, hint: str = "") -> int:
    text = given.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise QueryError(f"{name}: it is {shown(text)}; accepted: a whole number from {low} to {high}", hint=hint)
    return int(text)
