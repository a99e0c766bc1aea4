"""What `usage.api.list` and the other commands are asked with: the models of their `params`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from ....durations import ACCEPTED as DURATION_ACCEPTED
from ....durations import PATTERN as DURATION_PATTERN
from ....durations import duration_ns
from ....errors import QueryError
from ....query.model import Grant, Query
from ....record.line import TIME_END
from ...fields import Instant, text, whole
from ...instants import ms_of
from ...models import Checked, Model, NoParameters, Refusal

__all__ = ["LIMIT_MAX", "OFFSET_MAX", "Asked", "Ended", "Login", "Requested", "query_of"]

LIMIT_MAX = 2_000
OFFSET_MAX = 100_000
_OWN_SERVICE = "logs"
_NS_PER_MS = 1_000_000
_TEXT_MAX = 4_096
_Text = Annotated[str, text(1, _TEXT_MAX, f"a string of at most {_TEXT_MAX:,} characters")]


def _duration(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError
    return duration_ns(value)


Duration = Annotated[
    int,
    Checked(
        _duration, DURATION_ACCEPTED, {"type": "string", "pattern": DURATION_PATTERN, "examples": ["24h", "1h30m"]}
    ),
]
"""Nanoseconds."""


class Asked(Model):
    """Of `usage.api.list`."""

    absent = (None, "")

    who: _Text | None = Field(None, description="Principal that asked.")
    service: _Text | None = Field(None, description="Without it, reads of this API (service `logs`) are left out.")
    command: _Text | None = Field(None, description="Operation; needs `service`.")
    offset: Annotated[
        int, whole(0, OFFSET_MAX, hint="Go on with a narrower window: end at the ts of the last result that you have.")
    ] = Field(0, description="Results to skip.")
    limit: Annotated[int, whole(0, (1 << 63) - 1)] = Field(
        0, description=f"Results at most; 0, and more than {LIMIT_MAX:,}, mean {LIMIT_MAX:,}."
    )
    showAll: bool = Field(False, description="True needs a key for all accounts, which see all anyway.")
    last: Duration | None = Field(None, description="From so long ago on. Not beside `start` or `end`.")
    start: Instant | None = Field(None, description="From then on, inclusive.")
    end: Instant | None = Field(None, description="Up to then, inclusive.")
    hasFailure: bool = Field(False, description="True: failures alone.")

    @model_validator(mode="after")
    def _together(self) -> Asked:
        if self.command is not None and self.service is None:
            raise Refusal("command: it needs service beside it")
        if self.last is not None and (self.start is not None or self.end is not None):
            raise Refusal("last: it cannot be given beside start or end")
        if self.start is not None and self.end is not None and self.start > self.end:
            raise Refusal("start: it is later than end; accepted: start before end, or equal to it")
        return self

    @property
    def most(self) -> int:
        return min(self.limit or LIMIT_MAX, LIMIT_MAX)


class Ended(Model):
    """Of `session.end`."""

    absent = (None, "")

    id: _Text | None = Field(None, description="Session that ends; without it, that of the request.")


class Login(Model):
    """Of `api.authenticate`: the key stands in `password`, or in `appToken`."""

    absent = (None, "")

    username: _Text | None = None
    password: _Text | None = None
    appId: _Text | None = None
    appToken: _Text | None = None
    thingKey: _Text | None = None


class Command(Model):
    """Names of the envelope may be spelled in any case; others than these mean nothing."""

    model_config = ConfigDict(extra="ignore")
    sessionId: str | None = Field(None, description="Session of this command alone; else that of the request.")


class ListCommand(Command):
    command: Literal["usage.api.list"]
    params: Asked | None = None


class LoginCommand(Command):
    command: Literal["api.authenticate"]
    params: Login | None = None


class EndCommand(Command):
    command: Literal["session.end"]
    params: Ended | None = None


class PlainCommand(Command):
    command: Literal["diag.ping", "session.info"]
    params: NoParameters | None = None


class Auth(Model):
    """A session for the whole request."""

    model_config = ConfigDict(extra="ignore")
    sessionId: str | None = None


class Requested(Model):
    """Commands, each by an id that the client chose. It describes what is sent; `envelope` reads it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, ListCommand | LoginCommand | EndCommand | PlainCommand] = Field(init=False)

    auth: LoginCommand | Auth | None = Field(
        None, description="The session of all commands, or the login that opens one."
    )
    sessionId: str | None = Field(None, description="The session of all commands.")


def query_of(asked: Asked, grant: Grant, now: float) -> Query:
    """`now`: seconds since the epoch. Raises QueryError."""
    if asked.showAll and grant.accounts is not None:
        raise QueryError(
            "showAll: it needs a key for all accounts",
            kind="forbidden",
            hint="Leave it out, or make a key with --account '*'.",
        )
    start, end = 0, TIME_END
    if asked.last is not None:
        start = ms_of(int(now * 1e9) - asked.last)
    if asked.start is not None:
        start = ms_of(asked.start)
    if asked.end is not None:
        # Up to the end of the whole ms that it lies in, for records have whole ones.
        end = ms_of((asked.end // _NS_PER_MS + 1) * _NS_PER_MS)
    return Query(
        accounts=grant.accounts,
        start=start,
        end=end,
        service=asked.service,
        principal=asked.who,
        operation=asked.command,
        failure=True if asked.hasFailure else None,
        except_service=_OWN_SERVICE if asked.service is None else None,
    )
