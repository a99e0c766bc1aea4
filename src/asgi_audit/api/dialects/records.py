"""`GET /records` and `GET /records/{id}`: whole records as they are stored, by every filter, as JSON, NDJSON or CSV.

A cursor contains the filters; a request may repeat them beside the cursor, but only unchanged. Without `service`, the
API's own reads (service `logs`) are excluded. Errors are problem details.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from ...capture.handle import leave_out
from ...query.model import Grant, Query
from ...query.service import QueryService
from ...record.model import AuditRecord
from ..accept import CSV, NDJSON
from ..columns import Columns, columns_of, pattern
from ..completeness import audit_headers
from ..fields import Flag, Token, digits, text
from ..filters import Filters
from ..formats import next_link, shape_of
from ..models import Checked, Model, Refusal, read_parameters, read_path
from ..operation import Example, Operation, ResponseLink
from .common import AUDITORS, EXAMPLE, RECORDS

__all__ = ["operations"]

LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000
FIELDS_LENGTH_MAX = 2_000  # the Link header contains them


def _fields(value: Any) -> Columns:
    if len(value) > FIELDS_LENGTH_MAX:
        raise Refusal(f"it is too long; accepted: at most {FIELDS_LENGTH_MAX} characters")
    try:
        return columns_of(value)
    except ValueError as e:
        raise Refusal(f"{e}; accepted: dotted names of the record's JSON Schema, separated by commas") from None


Fields = Annotated[
    Columns,
    Checked(
        _fields,
        "dotted names of the record's JSON Schema, separated by commas",
        {
            "type": "string",
            "maxLength": FIELDS_LENGTH_MAX,
            "pattern": pattern(),
            "examples": ["timestamp,context.principal,request.headers.user-agent"],
        },
    ),
]


class FieldsParameters(Model):
    fields: Fields | None = Field(
        None, description="Fields to return, as dotted names separated by commas. Default: whole records."
    )


class RecordsParameters(Filters, FieldsParameters):
    order: Literal["newest", "oldest"] | None = Field(None, description="Order by time. Default: `newest` first.")
    limit: Annotated[int, digits(1, LIMIT_MAX)] = Field(
        LIMIT_DEFAULT, description="Largest number of records of the page."
    )
    cursor: Token | None = Field(
        None,
        description="`cursor` of the previous page. It contains the filters and the time range; do not change them.",
    )
    count: Flag = Field(True, description="Whether to count all matching records (`total`). `false` is faster.")


class Found(Model):
    """A page of records."""

    records: list[AuditRecord | dict[str, Any]] = Field(
        description="The records; with `fields`, only these fields of them."
    )
    total: int | None = Field(description="Exact number of records on all pages; null with `count=false`.")
    cursor: str | None = Field(description="`cursor` of the next page; null on the last page.")


class IdParameters(Model):
    id: Annotated[str, text(1, 2_000)] = Field(description="`metadata.id` of the record.")


_FORMATS: dict[str, Any] = {
    "more_content_types": (NDJSON, CSV),
    "more_failures": (406,),
    "description": "JSON, or NDJSON or CSV by `Accept`.",
}


class Whole(Model, extra="allow"):
    """A whole record; with `fields`, only these fields of it."""


def operations(service: QueryService) -> list[Operation]:
    return [
        Operation(
            id="records.list",
            method="GET",
            path="/records",
            dialect=RECORDS,
            roles=AUDITORS,
            is_recorded=True,
            handle=partial(_list, service),
            parameters=RecordsParameters,
            answer=Found,
            summary="Query whole records by any filter.",
            headers=("Audit-Total", "Audit-Cursor", "Link"),
            example=Example(
                query={"start": "2024-01-01", "end": "2024-01-01", "limit": "10"},
                answer={"records": [EXAMPLE], "total": 150, "cursor": "AQJk2mPz"},
            ),
            **_FORMATS,
        ),
        Operation(
            id="records.one",
            method="GET",
            path="/records/{id}",
            dialect=RECORDS,
            roles=AUDITORS,
            is_recorded=True,
            handle=partial(_one, service),
            path_values=IdParameters,
            parameters=FieldsParameters,
            answer=Whole,
            summary="Read one record by its id.",
            example=Example(answer=EXAMPLE),
            link=ResponseLink("records.list", {"id": "id"}, is_sealed=False),
            **_FORMATS,
        ),
    ]


async def _list(service: QueryService, request: Request, grant: Grant) -> Response:
    asked = read_parameters(request, RecordsParameters)
    shape = shape_of(request, asked.fields)
    query = _query_of(service, asked, grant)
    lease = service.admission.enter(grant.key_id)
    try:
        listed = await service.listings.page(
            grant,
            query,
            dialect=RECORDS.name,
            limit=asked.limit,
            lease=lease,
            show=shape.show,
            cursor=asked.cursor,
            is_counted=asked.count,
        )
        if asked.cursor is not None:
            leave_out(request)  # the first page of a list is recorded
        headers = audit_headers(listed.completeness)
        if listed.total is not None:
            headers["audit-total"] = str(listed.total)
        if listed.cursor is not None:
            headers |= next_link("cursor", listed.cursor, asked.limit, asked.fields)
        return shape.page(listed.rows, _PageEnd(total=listed.total, cursor=listed.cursor), headers, lease)
    except BaseException:
        lease.close()
        raise


async def _one(service: QueryService, request: Request, grant: Grant) -> Response:
    asked = read_parameters(request, FieldsParameters)
    shape = shape_of(request, asked.fields)
    found_id = read_path(request, IdParameters).id
    lease = service.admission.enter(grant.key_id)
    try:
        row, completeness = await service.listings.one(grant, found_id, lease=lease, show=shape.show)
        return shape.response([row], shape.start, b"", audit_headers(completeness), lease)
    except BaseException:
        lease.close()
        raise


class _PageEnd(Model):
    total: int | None
    cursor: str | None


def _query_of(service: QueryService, asked: RecordsParameters, grant: Grant) -> Query:
    """Raises QueryError."""
    if asked.cursor is None:
        return asked.query(*asked.ms(service.now()), order=asked.order or "newest")
    known = service.listings.query_of(asked.cursor, grant, dialect=RECORDS.name)
    has_window = asked.start is not None or asked.end is not None
    if not has_window and asked.order is None and set(asked.filters()) <= {"except_service"}:
        return known
    # `since` counts from when the list began.
    window = asked.ms(0.0) if has_window else (known.start, known.end)
    return asked.query(*window, order=asked.order or known.order)
