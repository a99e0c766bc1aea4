"""Parameters of `/records` and `/histogram`: a window, and filters that must all match. Instants and plain dates mean
the same as in `/logs`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ..errors import QueryError
from ..query.model import Query
from ..record.derived import LEVELS
from ..record.line import TIME_END
from ..record.schema import OUTCOMES
from .fields import METHODS, Duration, Flag, Statuses, matching, one_of, text
from .instants import day_ns, instant_ns, ms_of
from .models import Checked, Model, Refusal

__all__ = [
    "END_TEXT",
    "LENGTH_TEXT",
    "OWN_SERVICE",
    "SEARCH_BYTES_MAX",
    "SERVICES_TEXT",
    "START_TEXT",
    "Filters",
    "RolledUp",
    "Search",
    "Span",
    "Window",
    "refuse_uncounted",
    "spans",
]

OWN_SERVICE = "logs"
"""The service in records of requests to this API. They are left out unless this service is requested."""
# Descriptions of parameters that several dialects have.
START_TEXT = (
    "Start of the time range, inclusive. A date without a time means the start of that day (UTC). Default: no limit."
)
END_TEXT = "End of the time range, inclusive. A date without a time means the end of that day (UTC). Default: no limit."
LENGTH_TEXT = (
    "Length of a time range that ends now: a Go duration, with `d` for 24 hours. Cannot be combined with `start` or "
    "`end`."
)
SERVICES_TEXT = f"Default: all services except `{OWN_SERVICE}`, which holds the reads of this API."
SEARCH_BYTES_MAX = 1_000
# A cursor contains the filters and has at most TOKEN_MAX characters.
FILTERS_BYTES_MAX = 2_000  # of all filters together
NAME_MAX = 200
_NS_PER_MS = 1_000_000
# A '+' that was not percent-encoded arrives as a space.
_LOST_PLUS = re.compile(r" (?=\d\d:?\d\d$)", re.ASCII)
_INSTANT_ACCEPTED = "an ISO 8601 date-time with offset, such as 2024-01-01T00:00:00Z, or a date"


def _span(value: Any) -> tuple[int, int] | None:
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


def spans(sentence: str = "") -> Checked:
    """An instant or a whole day, as its first and last nanosecond. `sentence`: the message for any other text, with
    `{name}` for the parameter's name; by default the one of all fields."""

    def take(value: Any) -> tuple[int, int]:
        found = _span(value)
        if found is None:
            raise Refusal(sentence, whole=True) if sentence else ValueError
        return found

    schema = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]}
    return Checked(take, _INSTANT_ACCEPTED, schema)


def _levels(value: Any) -> frozenset[str]:
    levels = [level.strip() for level in value.split(",")]
    if not set(levels) <= set(LEVELS):
        raise ValueError
    return frozenset(levels)


Span = Annotated[tuple[int, int], spans()]
_LEVEL = "|".join(LEVELS)
Levels = Annotated[
    frozenset[str],
    Checked(
        _levels,
        f"{', '.join(LEVELS)}, separated by commas",
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
        {"type": "string", "format": "words", "maxLength": SEARCH_BYTES_MAX},
    ),
]


class Window(Model):
    start: Span | None = Field(
        None,
        description=START_TEXT,
    )
    end: Span | None = Field(
        None,
        description=END_TEXT,
    )
    since: Duration | None = Field(
        None,
        description=LENGTH_TEXT,
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since is not None and (self.start is not None or self.end is not None):
            raise Refusal("since: it cannot be combined with start or end")
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

    account: Name | None = Field(
        None, description="Only records of this account. It must be one of the key's accounts."
    )
    service: Name | None = Field(
        None,
        description=f"Only records of this service. {SERVICES_TEXT}",
    )
    level: Levels | None = Field(None, description="Only records of these levels, separated by commas.")
    failure: Flag | None = Field(
        None, description="`true`: only records of level ERROR or FATAL. `false`: only the others."
    )
    method: Annotated[str, one_of(METHODS)] | None = Field(None, description="Only requests with this HTTP method.")
    status: Statuses | None = Field(
        None,
        description="Only responses with these statuses: single ones, classes (`4xx`) and ranges (`400-499`, both ends "
        "inclusive), separated by commas.",
    )

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
    instance: Name | None = Field(None, description="Only records of this instance of a service.")
    principal: LongName | None = Field(None, description="Only requests of this caller, such as a user.")
    client: Name | None = Field(None, description="Only requests from this address.")
    operation: LongName | None = Field(
        None,
        description="Only requests of this operation: the name that the application set, else the name of the route or "
        "the endpoint, else method and route template, such as `GET /orders/{id}`.",
    )
    route: LongName | None = Field(
        None, description="Only requests with exactly this route template, such as `/orders/{id}`."
    )
    path_prefix: Annotated[str, matching(r"/[^\x00-\x1f]{0,499}", "1 to 500 characters that begin with '/'")] | None = (
        Field(
            None,
            description="Only requests whose route template begins with these path segments: `/orders` finds "
            "`/orders/{id}`, but not `/orders-old`.",
        )
    )
    request_id: Name | None = Field(None, description="Only the request with this `X-Request-ID`.")
    trace_id: Name | None = Field(None, description="Only requests of this trace (W3C Trace Context).")
    outcome: Annotated[str, one_of(OUTCOMES)] | None = Field(
        None,
        description="How the exchange ended: `completed`; `failed`: the application raised an exception; "
        "`disconnected`: the client left; `cancelled`: the application's task was cancelled; `interrupted`: the "
        "process died.",
    )
    region: Annotated[str, one_of(("global", "eu"))] | None = Field(None, description="Only records of this region.")
    text: Search | None = Field(
        None, description='Words and "quoted phrases" that must all occur in the message; at least one word.'
    )

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
                f"{name}: a histogram cannot be filtered by it, because it is made of counts; accepted: "
                f"{', '.join(counted)}",
                hint="GET /records counts with every filter: its `total`.",
            )
