"""The models of the commands and of their `params`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from ....errors import QueryError
from ....query.model import Grant, Query
from ....record.line import TIME_END
from ...bearer import TOKEN_CHARACTERS_MAX
from ...fields import Duration, Instant, text, whole
from ...filters import LENGTH_TEXT, OWN_SERVICE, SERVICES_TEXT
from ...instants import ms_of
from ...models import Checked, Model, NoParameters, Refusal

__all__ = ["LIMIT_MAX", "OFFSET_MAX", "Asked", "Ended", "Login", "Requested", "query_of"]

LIMIT_MAX = 2_000
OFFSET_MAX = 100_000
_NS_PER_MS = 1_000_000
_TEXT_MAX = 4_096
_Text = Annotated[str, text(1, _TEXT_MAX, f"a string of at most {_TEXT_MAX:,} characters")]
_KEY = text(1, TOKEN_CHARACTERS_MAX, f"a string of at most {TOKEN_CHARACTERS_MAX:,} characters")


def _unshown(value: Any) -> str:
    """A key or token: unlike other values, a wrong one is not quoted in the error."""
    try:
        return str(_KEY.take(value))
    except ValueError:
        raise Refusal(f"it is not valid; accepted: {_KEY.accepted}") from None


_Credential = Annotated[str, Checked(_unshown, _KEY.accepted, _KEY.schema)]


class Asked(Model):
    """Parameters of `usage.api.list`. Empty strings and null count as absent."""

    absent = (None, "")

    who: _Text | None = Field(None, description="Only calls of this caller (principal).")
    service: _Text | None = Field(
        None,
        description=f"Only calls of this service. {SERVICES_TEXT}",
    )
    command: _Text | None = Field(None, description="Only calls of this operation. Requires `service`.")
    offset: Annotated[
        int, whole(0, OFFSET_MAX, hint="Use a shorter time range: set end to the ts of the last result that you have.")
    ] = Field(0, description="Number of results to skip.")
    limit: Annotated[int, whole(0, (1 << 63) - 1)] = Field(
        0, description=f"Largest number of results; 0 and numbers above {LIMIT_MAX:,} mean {LIMIT_MAX:,}."
    )
    showAll: bool = Field(
        False, description="Show calls of all accounts. Requires a key for all accounts, which sees them in any case."
    )
    last: Duration | None = Field(
        None,
        description=LENGTH_TEXT,
    )
    start: Instant | None = Field(None, description="Start of the time range, inclusive. Default: no limit.")
    end: Instant | None = Field(None, description="End of the time range, inclusive. Default: no limit.")
    hasFailure: bool = Field(False, description="`true`: only calls that failed (level ERROR or FATAL).")

    @model_validator(mode="after")
    def _together(self) -> Asked:
        if self.command is not None and self.service is None:
            raise Refusal("command: it requires service")
        if self.last is not None and (self.start is not None or self.end is not None):
            raise Refusal("last: it cannot be combined with start or end")
        if self.start is not None and self.end is not None and self.start > self.end:
            raise Refusal("start: it is later than end; accepted: start before end, or equal to it")
        return self

    @property
    def most(self) -> int:
        return min(self.limit or LIMIT_MAX, LIMIT_MAX)


class Ended(Model):
    """Parameters of `session.end`."""

    absent = (None, "")

    id: _Text | None = Field(None, description="Id of the session to end. Default: the session of the request.")


class Login(Model):
    """Parameters of `api.authenticate`. Send the key as `password`, or as `appToken`."""

    absent = (None, "")

    username: _Text | None = Field(None, description="Accepted and not used.")
    password: _Credential | None = Field(None, description="The key.")
    appId: _Text | None = Field(None, description="Accepted and not used.")
    appToken: _Credential | None = Field(None, description="The key, in place of `password`.")
    thingKey: _Text | None = Field(None, description="Accepted and not used.")


class Command(Model):
    """A command. Its names (`command`, `params`, `sessionId`) may be in any case; other names are ignored."""

    model_config = ConfigDict(extra="ignore")
    sessionId: str | None = Field(None, description="Session of this command. Default: the session of the request.")


class ListCommand(Command):
    """Query API calls."""

    command: Literal["usage.api.list"] = Field(description="Name of the command.")
    params: Asked | None = Field(None, description="Parameters of the command.")


class LoginCommand(Command):
    """Log in with a key and open a session."""

    command: Literal["api.authenticate"] = Field(description="Name of the command.")
    params: Login | None = Field(None, description="Parameters of the command.")


class EndCommand(Command):
    """End a session."""

    command: Literal["session.end"] = Field(description="Name of the command.")
    params: Ended | None = Field(None, description="Parameters of the command.")


class PlainCommand(Command):
    """Check that the API responds, or read the current session."""

    command: Literal["diag.ping", "session.info"] = Field(description="Name of the command.")
    params: NoParameters | None = Field(None, description="No parameters.")


class Auth(Model):
    """A session for the whole request."""

    model_config = ConfigDict(extra="ignore")
    sessionId: str | None = Field(None, description="Id of a session.")


class Requested(Model):
    """Commands, each under an id that the client chooses."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, ListCommand | LoginCommand | EndCommand | PlainCommand] = Field(init=False)

    auth: LoginCommand | Auth | None = Field(
        None, description="The session of all commands, or a login that opens one."
    )
    sessionId: str | None = Field(None, description="Id of the session of all commands; the same as `auth.sessionId`.")


def query_of(asked: Asked, grant: Grant, now: float) -> Query:
    """`now`: seconds since the epoch. Raises QueryError."""
    if asked.showAll and grant.accounts is not None:
        raise QueryError(
            "showAll: it needs a key for all accounts",
            kind="forbidden",
            hint="Omit it, or create a key with --account '*'.",
        )
    start, end = 0, TIME_END
    if asked.last is not None:
        start = ms_of(int(now * 1e9) - asked.last)
    if asked.start is not None:
        start = ms_of(asked.start)
    if asked.end is not None:
        # Inclusive: up to the end of its millisecond, because records have whole milliseconds.
        end = ms_of((asked.end // _NS_PER_MS + 1) * _NS_PER_MS)
    return Query(
        accounts=grant.accounts,
        start=start,
        end=end,
        service=asked.service,
        principal=asked.who,
        operation=asked.command,
        failure=True if asked.hasFailure else None,
        except_service=OWN_SERVICE if asked.service is None else None,
    )
