"""The models of exports: requests, responses, and the parameters of signed URLs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote

from pydantic import Field, model_validator

from ...fields import INSTANT_ACCEPTED, instant, matching, text, whole
from ...models import Checked, Model, Refusal

__all__ = [
    "RESULTS_MAX",
    "Answer",
    "Ask",
    "Error",
    "Id",
    "Listed",
    "Lists",
    "Moment",
    "PollParameters",
    "QueryParameters",
    "Signed",
    "of_regions",
]

RESULTS_MAX = 100
WINDOW_DAYS_MAX = 90
DATABASE_LENGTH_MAX = 2_000

_DATABASE_ACCEPTED = (
    "region group/account[/service[/instance]], each part percent-encoded, such as us-std/acme or us-std/acme/gateway"
)
_PART_MAX = 200
_DAY_NS = 86_400 * 1_000_000_000


class Error(Model):
    message: str = Field(description="What is wrong and what the client can do.")
    reason: str = Field(description="What is wrong.")
    code: str = Field(description="Kind of error, such as `invalid_argument` or `not_found`.")


class Moment(NamedTuple):
    """`text`: as the client sent it; responses repeat it."""

    ns: int
    text: str


def _moment(value: Any) -> Moment:
    return Moment(instant(value), value)


# One character of a part: plain, or percent-encoded UTF-8 (RFC 3629, 4).
_NEXT = "%[89ABab][0-9A-Fa-f]"
_CHARACTER = (
    r"[^/%]|%[0-7][0-9A-Fa-f]"
    rf"|%(?:[Cc][2-9A-Fa-f]|[Dd][0-9A-Fa-f]){_NEXT}"
    rf"|%[Ee](?:0%[ABab][0-9A-Fa-f]|[Dd]%[89][0-9A-Fa-f]|[1-9A-Ca-cEeFf]{_NEXT}){_NEXT}"
    rf"|%[Ff](?:0%[9ABab][0-9A-Fa-f]|[1-3]{_NEXT}|4%8[0-9A-Fa-f]){_NEXT}{_NEXT}"
)
_PART = rf"(?:{_CHARACTER}){{1,{_PART_MAX}}}"
_DATABASE = re.compile(rf"{_PART}(?:/{_PART}){{1,3}}")


def _database(value: Any) -> str:
    if not isinstance(value, str) or len(value) > DATABASE_LENGTH_MAX or not _DATABASE.fullmatch(value):
        raise ValueError
    value.encode()  # a lone half of a surrogate pair raises a ValueError
    return value


def of_regions(regions: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The region groups that there are, for OpenAPI: they are a setting."""
    groups = sorted(regions)
    if not groups:
        return {}
    named = "|".join(quote(group, safe="").replace(".", "[.]") for group in groups)
    choice = {"enum": groups}
    return {
        "regionGroup": choice,
        "region_group": choice,
        "database": {"pattern": rf"^(?:{named})(?:/{_PART}){{1,3}}$"},
    }


Time = Annotated[Moment, Checked(_moment, INSTANT_ACCEPTED, {"type": "string", "format": "date-time"})]
Group = Annotated[str, text(1, 64, "the name of a region group")]
Token = Annotated[str, matching("-".join(rf"[0-9A-Fa-f]{{{n}}}" for n in (8, 4, 4, 4, 12)), "a UUID", format="uuid")]
Type = Literal["query"]
StateName = Literal["Complete", "CreatingNewUrl", "DoesNotExist", "Failed", "Pending", "Requested", "TimedOut"]


Database = Annotated[
    str,
    Checked(
        _database,
        _DATABASE_ACCEPTED,
        {"type": "string", "maxLength": DATABASE_LENGTH_MAX, "pattern": f"^{_DATABASE.pattern}$"},
    ),
]


class QueryParameters(Model):
    """Parameters of the documented API."""

    type: Type = Field(description="Type of logs; always `query`.")
    regionGroup: Group | None = Field(
        None,
        description="A region group of this API (setting `export_regions`). The list then shows only exports of this "
        "group; a request only checks that the group exists.",
    )


class PollParameters(Model):
    """Parameters that clients send when they poll."""

    type: Type = Field("query", description="Type of logs; always `query`.")
    regionGroup: Group | None = Field(
        None, description="A region group of this API (setting `export_regions`). It is checked and has no effect."
    )


class Ask(Model):
    """Which records to export. One of `database` and `region_group` is required."""

    database: Database | None = Field(
        None,
        description="Records of one account, service or instance: `region group/account[/service[/instance]]`, each "
        "part percent-encoded.",
    )
    region_group: Group | None = Field(
        None, description="Records of all accounts of the key in this region group. Ignored beside `database`."
    )
    regionGroup: Group | None = Field(None, description="The same as `region_group`.")
    time_start: Time = Field(description="Start of the time range, inclusive.")
    time_end: Time = Field(
        description="End of the time range, exclusive; at most 90 days after `time_start`. It may be in the future."
    )
    idempotency_token: Token | None = Field(
        None, description="Requests with the same token within 24 hours are one export; retries return it again."
    )

    @model_validator(mode="after")
    def _whole(self) -> Ask:
        if self.database is None and self.group is None:
            raise Refusal("region_group: it is missing; accepted: one of region_group and database")
        both = {self.region_group, self.regionGroup} - {None}
        if self.database is None and len(both) > 1:
            raise Refusal("region_group: it differs from regionGroup; accepted: only one of the two")
        if self.time_start.ns > self.time_end.ns:
            raise Refusal("time_start: it is later than time_end; accepted: time_start before time_end")
        if self.time_end.ns - self.time_start.ns > WINDOW_DAYS_MAX * _DAY_NS:
            raise Refusal(f"time_end: it is too late; accepted: at most {WINDOW_DAYS_MAX} days after time_start")
        return self

    @property
    def group(self) -> str | None:
        return self.region_group or self.regionGroup


class Id(Model):
    export: str = Field(
        alias="requestId", description="`request_id` of the export.", json_schema_extra={"maxLength": 200}
    )


class Signed(Model):
    """Parameters of a signed URL. Use the whole URL as you received it."""

    expires: str = Field(description="When the URL expires, in seconds since 1970-01-01T00:00:00Z.")
    key: str = Field(description="Id of the key that requested the URL. The URL fails when that key is revoked.")
    nonce: str = Field(description="Random part of the URL.")
    signature: str = Field(description="Signature of the path and the other parameters.")


class Answer(Model):
    """An export."""

    request_id: str = Field(description="Id of the export.")
    database: str | None = Field(None, description="As requested.")
    region_group: str | None = Field(None, description="As requested.")
    time_start: str = Field(description="As requested.")
    time_end: str = Field(description="As requested.")
    state: StateName = Field(
        description="`Requested`: not begun; `Pending`: waits until the index is complete for the time range, or is "
        "being written; `CreatingNewUrl`: all records are written, the file is being completed; `Complete`: "
        "`presigned_url` downloads the file; `DoesNotExist`: the time range has no records; `Failed`: see `reason`; "
        "`TimedOut`: the index was not complete 15 minutes after the request and the end of the time range."
    )
    presigned_url: str | None = Field(
        None, description="URL of the file, valid for an hour. Each poll returns a new one. Only when `Complete`."
    )
    presigned_url_expiration_time: str | None = Field(None, description="When `presigned_url` expires.")
    reason: str = Field("", description="For people: what the export waits for, how far it is, or why it ended.")


class Lists(Model):
    """Which exports to list."""

    states: Annotated[list[StateName], Field(fail_fast=True)] | None = Field(
        None, description="Only exports in one of these states. Default: all."
    )
    next_token: Annotated[str, text(1, 200)] | None = Field(
        None, description="`next_token` of the previous page. Default: the first page."
    )
    max_results: Annotated[int, whole(1, RESULTS_MAX)] | None = Field(
        None, description=f"Largest number of exports of the page. Default: {RESULTS_MAX}."
    )


class Listed(Model):
    """A page of exports."""

    next_token: str | None = Field(description="Token of the next page; null on the last page.")
    results: list[Answer] = Field(description="The exports, newest first.")
