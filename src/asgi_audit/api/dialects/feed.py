"""`GET /feed`: every record once, in the order in which they were indexed, for a SIEM that must never miss one.

A list by time misses records that arrive late; the feed does not, because a late record appears where it was indexed.
No records are excluded, not even those of service `logs`. Every page has a cursor, valid for as long as the index is
kept. A client keeps the cursor of the last page that it has stored, and sends it again after a failure: it may see
records twice, but misses none.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Self

from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from ...capture.handle import leave_out
from ...query.feeds import WAIT_SECONDS_MAX
from ...query.model import Grant
from ...query.service import QueryService
from ...record.model import AuditRecord
from ..accept import JSON, NDJSON
from ..completeness import audit_headers
from ..fields import Token, digits
from ..filters import Span
from ..formats import next_link, shape_of
from ..instants import ms_of
from ..models import Model, Refusal, read_parameters
from ..operation import Example, Operation
from .common import AUDITORS, EXAMPLE, RECORDS

__all__ = ["operations"]

LIMIT_DEFAULT = 1_000
LIMIT_MAX = 10_000


class FeedParameters(Model):
    after: Token | None = Field(
        None, description="`cursor` of the previous page. Default: begin with the first record of the index."
    )
    start: Span | None = Field(
        None,
        description="Where to begin, in place of `after`: the first indexed record with this time or a later one. All "
        "records that were indexed after it follow, including late ones with an earlier time.",
    )
    limit: Annotated[int, digits(1, LIMIT_MAX)] = Field(
        LIMIT_DEFAULT, description="Largest number of records of the page."
    )
    wait: Annotated[int, digits(0, WAIT_SECONDS_MAX)] = Field(
        0,
        description="Seconds to wait for a record when there is none (long polling). The wait may be shorter when many "
        "clients wait.",
    )

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if self.after is not None and self.start is not None:
            raise Refusal("start: it cannot be combined with after")
        return self


class Fed(Model):
    """A page of the feed."""

    records: list[AuditRecord] = Field(description="The records, in the order in which they were indexed.")
    cursor: str = Field(description="Send it as `after` of the next request. Every page has one, an empty page too.")
    more: bool = Field(
        description="`true`: the next page has records already. `false`: request it later, or with `wait`."
    )


class _PageEnd(Model):
    cursor: str
    more: bool


def operations(service: QueryService) -> list[Operation]:
    return [
        Operation(
            id="records.feed",
            method="GET",
            path="/feed",
            dialect=RECORDS,
            roles=AUDITORS,
            is_recorded=True,
            handle=partial(_feed, service),
            parameters=FeedParameters,
            answer=Fed,
            summary="Read every record once, in the order in which they were indexed.",
            description="JSON, or NDJSON by `Accept`. Store `cursor` with the records that you stored, and continue "
            "from it after a failure: no record is missed, some may come twice. 410: records after this cursor were "
            "purged, or it belongs to another index; begin again without `after`, or with `start`.",
            more_content_types=(NDJSON,),
            more_failures=(406, 410),
            headers=("Audit-Cursor", "Audit-More", "Link"),
            example=Example(query={"limit": "10"}, answer={"records": [EXAMPLE], "cursor": "AQJk2mPz", "more": False}),
        )
    ]


async def _feed(service: QueryService, request: Request, grant: Grant) -> Response:
    asked = read_parameters(request, FeedParameters)
    shape = shape_of(request, formats=(JSON, NDJSON))
    page, lease = await service.feeds.page(
        grant,
        dialect=RECORDS.name,
        after=asked.after,
        since=None if asked.start is None else ms_of(asked.start[0]),
        limit=asked.limit,
        wait_seconds=asked.wait,
        show=shape.show,
    )
    try:
        if asked.after is not None:
            leave_out(
                request
            )  # the first request of a feed is recorded; a record of each poll would itself appear in the feed
        headers = {
            **audit_headers(page.completeness),
            **next_link("after", page.cursor, asked.limit),
            "audit-more": str(page.more).lower(),
        }
        return shape.page(page.rows, _PageEnd(cursor=page.cursor, more=page.more), headers, lease)
    except BaseException:
        lease.close()
        raise
