"""`GET /histogram`: the number of records per time bucket, by level or by class of status.

The index counts records per minute when it writes them, so only records in partial minutes at the ends of the window
are read. The numbers are exact: their sum is the `total` of `GET /records` for the same window and filters.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from ...errors import QueryError
from ...query.model import Grant
from ...query.service import QueryService
from ...record.derived import LEVELS
from ...store.base import HISTOGRAM_BUCKETS_MAX
from ..completeness import audit_headers
from ..fields import digits
from ..filters import RolledUp, refuse_uncounted
from ..instants import text_of_ms
from ..models import Model, answer_bytes, read_parameters
from ..operation import Example, Operation, json_response
from .common import AUDITORS, RECORDS

__all__ = ["operations"]

_MINUTE_MS = 60_000
MINUTES_MAX = 527_040  # of a year of 366 days
_USUAL = (1, 5, 15, 60, 360, 1_440, 10_080)
_USUAL_BUCKETS_MAX = 300
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


class HistogramParameters(RolledUp):
    by: Literal["level", "status"] = Field("level", description="Count by level, or by class of status, such as `4xx`.")
    minutes: Annotated[int, digits(1, MINUTES_MAX)] | None = Field(
        None,
        description="Length of a bucket in minutes, counted from 1970-01-01T00:00:00Z: 60 are hours, 1440 are days of "
        "UTC. Default: the shortest of 1, 5, 15, 60, 360, 1440 and 10080 that gives at most 300 buckets.",
    )


class Bucket(Model):
    """The number of records in one bucket of time."""

    start: str = Field(
        description="Start of the bucket, inclusive. It ends where the next one begins.",
        json_schema_extra={"format": "date-time"},
    )
    counts: dict[str, int] = Field(
        description="Number of records by level or class of status; zeros are included. All buckets have the same "
        "names."
    )


class Histogram(Model):
    start: str = Field(description="Start of the time range, inclusive.", json_schema_extra={"format": "date-time"})
    end: str = Field(description="End of the time range, exclusive.", json_schema_extra={"format": "date-time"})
    by: str = Field(description="`level` or `status`, as requested.")
    minutes: int = Field(description="Length of a bucket in minutes.")
    total: int = Field(description="Number of records in all buckets.")
    buckets: list[Bucket] = Field(description="The buckets, oldest first, without gaps.")


def operations(service: QueryService) -> list[Operation]:
    return [
        Operation(
            id="records.histogram",
            method="GET",
            path="/histogram",
            dialect=RECORDS,
            roles=AUDITORS,
            is_recorded=True,
            handle=partial(_show, service),
            parameters=HistogramParameters,
            answer=Histogram,
            summary="Count records over time.",
            description="The counts are exact, and fast: they were made when the records were indexed. `start` or "
            "`since` is required.",
            example=Example(
                query={"start": "2024-01-01", "end": "2024-01-01", "by": "status", "minutes": "1440"},
                answer={
                    "start": "2024-01-01T00:00:00.000Z",
                    "end": "2024-01-02T00:00:00.000Z",
                    "by": "status",
                    "minutes": 1440,
                    "total": 150,
                    "buckets": [
                        {
                            "start": "2024-01-01T00:00:00.000Z",
                            "counts": {"1xx": 0, "2xx": 148, "3xx": 0, "4xx": 2, "5xx": 0},
                        }
                    ],
                },
            ),
        )
    ]


async def _show(service: QueryService, request: Request, grant: Grant) -> Response:
    refuse_uncounted(request.query_params)
    asked = read_parameters(request, HistogramParameters)
    now = service.now()
    start, end = asked.ms(now)
    if asked.since is None and asked.start is None:
        raise QueryError("start: it is missing; accepted: start, with or without end, or since")
    if asked.end is None:
        end = int(now * 1000) + 1
    minutes = asked.minutes or _usual(start, end)
    width = minutes * _MINUTE_MS
    first, last = start // width, -(-end // width)
    if last - first > HISTOGRAM_BUCKETS_MAX:
        fewest = -(-(end - start) // ((HISTOGRAM_BUCKETS_MAX - 1) * _MINUTE_MS))
        raise QueryError(
            f"minutes: {minutes} would give {last - first} buckets; accepted: at most {HISTOGRAM_BUCKETS_MAX} buckets, "
            f"so {fewest} minutes or more, or a shorter time range"
        )
    summed = await service.listings.histogram(grant, asked.query(start, end), by=asked.by, minutes=minutes)
    found = dict(summed.buckets)
    usual = LEVELS if asked.by == "level" else _CLASSES
    names = [*usual, *sorted({name for counts in found.values() for name in counts} - set(usual))]
    answer = Histogram(
        start=text_of_ms(start),
        end=text_of_ms(end),
        by=asked.by,
        minutes=minutes,
        total=sum(n for counts in found.values() for n in counts.values()),
        buckets=[
            Bucket(start=text_of_ms(n * width), counts={name: found.get(n * width, {}).get(name, 0) for name in names})
            for n in range(first, last)
        ],
    )
    return json_response(answer_bytes(answer), headers=audit_headers(summed.completeness))


def _usual(start: int, end: int) -> int:
    for minutes in _USUAL:
        if end - start <= (_USUAL_BUCKETS_MAX - 1) * minutes * _MINUTE_MS:
            return minutes
    return _USUAL[-1]
