"""What the commands are answered with. `lists` joins the answer of `usage.api.list` from what `item` made."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from ...models import Model
from .says import Error

__all__ = ["Answered", "ConnInfo", "Info", "LoggedIn"]


class Result(Model):
    """One API call."""

    ts: str = Field(description="When it began: UTC, with milliseconds and an offset.")
    execTime: int = Field(description="Nanoseconds; 0 when unknown.")
    processedBy: str = Field(description="Host that served it.")
    orgId: str
    orgKey: str
    whoami: str = Field(description="Principal.")
    request: str = Field(description="The request as JSON text.")
    response: str = Field(description="The response as JSON text.")


class Listed(Model):
    """Of `usage.api.list`."""

    count: int = Field(description="Of all matches.")
    result: list[Result] | None = Field(description="Newest first; null when there is none.")


class LoggedIn(Model):
    """Of `api.authenticate`."""

    orgKey: str
    sessionId: str


class ConnInfo(Model):
    protocol: str
    remoteAddr: str


class Info(Model):
    """Of `session.info`. Without a session, by a key alone, `id` and the times are absent. `ttl`: seconds."""

    id: str = ""
    serverId: str
    orgId: str
    orgKey: str
    userId: str
    userName: str
    whoAmI: str
    hasSuperAdmin: bool
    hasSuperOps: bool
    hasOrgAdmin: bool
    connInfo: ConnInfo
    ttl: int
    locale: str
    startTime: str = ""
    lastAccessed: str = ""


class Success(Model):
    """`params` is absent for `diag.ping` and `session.end`."""

    success: Literal[True]
    params: Listed | LoggedIn | Info | None = None


class Answered(Model):
    """The answer of each command, by its id."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Success | Error] = Field(init=False)
