"""The models of the commands' results. `lists` joins the result of `usage.api.list` from the items that `item` made."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from ...models import Model
from .errors import Error

__all__ = ["Answered", "ConnInfo", "Info", "LoggedIn"]


class Result(Model):
    """One API call."""

    ts: str = Field(description="When the call began: UTC, with milliseconds and an offset.")
    execTime: int = Field(description="Duration in nanoseconds; 0 when unknown.")
    processedBy: str = Field(description="Host that served the call.")
    orgId: str = Field(description="Id of the caller's organisation; the account when the record names none.")
    orgKey: str = Field(description="Key of the caller's organisation; the account when the record names none.")
    whoami: str = Field(description="The caller (principal).")
    request: str = Field(description="The request, as JSON text.")
    response: str = Field(description="The response, as JSON text.")


class Listed(Model):
    """Result of `usage.api.list`."""

    count: int = Field(description="Exact number of all matching calls.")
    result: list[Result] | None = Field(description="The calls of this page, newest first; null when there are none.")


class LoggedIn(Model):
    """Result of `api.authenticate`."""

    orgKey: str = Field(description="Accounts of the key, separated by commas; `*` for all accounts.")
    sessionId: str = Field(description="Id of the new session. Send it as `auth.sessionId` of later requests.")


class ConnInfo(Model):
    """The connection of the request."""

    protocol: str = Field(description="Always `http`.")
    remoteAddr: str = Field(description="Address of the client; empty when unknown.")


class Info(Model):
    """Result of `session.info`. For a key without a session, `id` and the times are absent."""

    id: str = Field("", description="Id of the session.")
    serverId: str = Field(description="Host name of this server.")
    orgId: str = Field(description="Accounts of the key, separated by commas; `*` for all accounts.")
    orgKey: str = Field(description="The same as `orgId`.")
    userId: str = Field(description="Id of the key.")
    userName: str = Field(description="`key:` and the id of the key.")
    whoAmI: str = Field(description="The same as `userName`.")
    hasSuperAdmin: bool = Field(description="Always `false`.")
    hasSuperOps: bool = Field(description="Whether the key is for all accounts.")
    hasOrgAdmin: bool = Field(description="Always `false`.")
    connInfo: ConnInfo = Field(description="The connection of the request.")
    ttl: int = Field(description="Seconds without a request after which a session expires.")
    locale: str = Field(description="Always empty.")
    startTime: str = Field("", description="When the session began (UTC).")
    lastAccessed: str = Field("", description="When the session was last used (UTC).")


class Success(Model):
    """Result of a command that succeeded."""

    success: Literal[True] = Field(description="Whether the command succeeded.")
    params: Listed | LoggedIn | Info | None = Field(
        None, description="Result of the command; absent for `diag.ping` and `session.end`."
    )


class Answered(Model):
    """The result of each command, under the id that the client chose for it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Success | Error] = Field(init=False)
