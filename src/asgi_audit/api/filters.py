"""Parameters of `/records` and `/histogram`: a window, and filters that must all match. Instants and plain dates mean
the same as in `/logs`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ..durations import ACCEPTED as DURATION_ACCEPTED
from ..durations import PATTERN as DURATION_PATTERN
from ..durations import duration_ns
from ..errors import QueryError
from ..query.model import Query
from ..record.derived import LEVELS
from ..record.line import TIME_END
from ..record.schema import OUTCOMES
from .fields import METHODS, Flag, Statuses, matching, one_of, text
from .instants import day_ns, instant_ns, ms_of
from .models import Checked, Model, Refusal

__all__ = [
    "OWN_SERVICE",
    "SEARCH_BYTES_MAX",
    "Filters",
    "RolledUp",
    "Search",
    "Span",
    "Window",
    "refuse_uncounted",
    "span",
]

OWN_SERVICE = "logs"
"""Reads of this API: left out unless a service is named."""
SEARCH_BYTES_MAX = 1_000
# A cursor contains the filters and has at most TOKEN_MAX characters.
FILTERS_BYTES_MAX = 2_000  # of all filters together
NAME_MAX = 200
_NS_PER_MS = 1_000_000
# A '+' that was not percent-encoded arrives as a space.
_LOST_PLUS = re.compile(r" (?=\d\d:?\d\d$)", re.ASCII)
_INSTANT_ACCEPTED = "an ISO 8601 date-time with offset, such as 2024-01-01T00:00:00Z, or a date"


def span(value: Any) -> tuple[int, int] | None:
    """The first and the last nanosecond of an instant or of a whole day (UTC). None for any other text."""
    try:
        if (day := day_ns(value)) is not None:
            return day
        if (ns := instant_ns(_LOST_PLUS.sub("+", value))) is not None:
            return ns, ns
    except ValueError:
        pass
    return None


def _search(value: Any) -> str:
    if len(value.encode("utf-8", "surrogatepass")) > SEARCH_BYTES_MAX:
        raise Refusal(f"it is too long; accepted: at most {SEARCH_BYTES_MAX} bytes in UTF-8")
    return str(value)


def _span(value: Any) -> tuple[int, int]:
    found = span(value)
    if found is None:
        raise ValueError
    return found


def _levels(value: Any) -> frozenset[str]:
    levels = [level.strip() for level in value.split(",")]
    if not set(levels) <= set(LEVELS):
        raise ValueError
    return frozenset(levels)


Span = Annotated[
    tuple[int, int],
    Checked(
        _span,
        _INSTANT_ACCEPTED,
        {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]},
    ),
]
Since = Annotated[
    int,
    Checked(
        duration_ns,
        DURATION_ACCEPTED,
        {"type": "string", "pattern": DURATION_PATTERN, "maxLength": 200, "examples": ["15m", "1h30m", "7d"]},
    ),
]
_LEVEL = "|".join(LEVELS)
Levels = Annotated[
    frozenset[str],
    Checked(
        _levels,
        f"{', '.join(LEVELS)}, several with commas",
        {"type": "string", "pattern": rf"^\s*({_LEVEL})\s*(,\s*({_LEVEL})\s*)*$", "examples": ["ERROR,FATAL"]},
    ),
]
Name = Annotated[str, text(1, NAME_MAX)]
LongName = Annotated[str, text(1, 500)]  # for names chosen by applications
PathPrefix = Annotated[str, matching(r"/[^\x00-\x1f]{0,499}", "1 to 500 characters that begin with '/'")]
Search = Annotated[
    str,
    Checked(
        _search,
        f"at most {SEARCH_BYTES_MAX} bytes in UTF-8",
        {"type": "string", "maxLength": SEARCH_BYTES_MAX},
    ),
]


class Window(Model):
    start: Span | None = Field(None, description="From then on, inclusive. A plain date is a day in UTC.")
    end: Span | None = Field(None, description="Up to then, inclusive. A plain date is a day in UTC.")
    since: Since | None = Field(
        None, description="The last so much time: Go's durations, and `d` for 24 h. Not beside `start` and `end`."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since is not None and (self.start is not None or self.end is not None):
            raise Refusal("since: it cannot be given beside start and end; accepted is one of the two")
        if self.start is not None and self.end is not None and self.start[0] > self.end[1]:
            raise Refusal("start: it is later than end; accepted: start before end, or equal to it")
        return self

    def ms(self, now: float) -> tuple[int, int]:
        """(start, end) in ms, end exclusive; records are in [0, TIME_END). `now`: seconds since the epoch."""
        start, end = 0, TIME_END
        if self.since is not None:
            start = ms_of(int(now * 1e9) - self.since)
        if self.start is not None:
            start = ms_of(self.start[0])
        if self.end is not None:
            # Inclusive: up to the end of its millisecond, because records have whole milliseconds.
            end = ms_of((self.end[1] // _NS_PER_MS + 1) * _NS_PER_MS)
        return start, end


class RolledUp(Window):
    """Filters that the index counts by."""

    account: Name | None = Field(None, description="One of the key's accounts.")
    service: Name | None = Field(None, description="Without it, reads of this API (service `logs`) are left out.")
    level: Levels | None = Field(None, description="One or several, with commas.")
    failure: Flag | None = Field(None, description="Whether the level is ERROR or FATAL.")
    method: Annotated[str, one_of(METHODS)] | None = None
    status: Statuses | None = None

    def filters(self) -> dict[str, Any]:
        """The given filters, as fields of Query."""
        found = {
            _OURS.get(name, name): value
            for name in type(self).model_fields
            if name in _FILTERS and (value := getattr(self, name)) is not None
        }
        if "service" not in found:
            found["except_service"] = OWN_SERVICE
        return found

    def query(self, start: int, end: int, **more: Any) -> Query:
        """The query; the query service sets its accounts. Raises QueryError."""
        return Query(accounts=frozenset(), start=start, end=end, **self.filters(), **more)


class Filters(RolledUp):
    instance: Name | None = None
    principal: LongName | None = Field(None, description="Who asked.")
    client: Name | None = Field(None, description="Address of the peer.")
    operation: LongName | None = Field(
        None, description="The annotated name, else the route's or endpoint's, else `METHOD template`."
    )
    route: LongName | None = Field(None, description="The whole template of the route.")
    path_prefix: Annotated[str, matching(r"/[^\x00-\x1f]{0,499}", "1 to 500 characters that begin with '/'")] | None = (
        Field(None, description="Of the route's template, by whole segments: `/orders` finds `/orders/{id}`.")
    )
    request_id: Name | None = None
    trace_id: Name | None = None
    outcome: Annotated[str, one_of(OUTCOMES)] | None = None
    region: Annotated[str, one_of(("global", "eu"))] | None = None
    text: Search | None = Field(None, description='Words and "phrases" that all stand in the message.')

    @model_validator(mode="after")
    def _fit(self) -> Self:
        size = sum(len(v.encode()) for v in self.filters().values() if isinstance(v, str))
        if size > FILTERS_BYTES_MAX:
            raise Refusal(f"filters: they are too long together; accepted: at most {FILTERS_BYTES_MAX} bytes in UTF-8")
        return self


_OURS = {"level": "levels", "status": "statuses"}
_FILTERS = frozenset(Filters.model_fields) - frozenset(Window.model_fields)


def refuse_uncounted(names: Any) -> None:
    """Raises QueryError for a filter of `/records` that the rollup does not support."""
    for name in names:
        if name in Filters.model_fields and name not in RolledUp.model_fields:
            counted = [n for n in RolledUp.model_fields if n in _FILTERS]
            raise QueryError(
                f"{name}: it cannot filter a histogram, which is made of counts by minute, account, service, level, "
                f"method and status and looks at no record; accepted: {', '.join(counted)}",
                hint="The `total` of GET /records counts by every filter.",
            )
