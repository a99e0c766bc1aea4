"""The requests of both clients, synchronous and asynchronous, without input and output.

A flow is a generator. It yields a `Call` and gets its `Reply` by `send`; or it yields a `Pause` and is resumed after
it; or it yields an `Item`, which the caller's iteration returns. Its return value, if any, is the result. So paging,
polling and checking are written once, here, and `blocking` and `asynchronous` only send and wait.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import quote

from .errors import ProtocolError, error_of

__all__ = [
    "Call",
    "Flow",
    "Item",
    "Pause",
    "Reply",
    "by_cursor",
    "command",
    "execution",
    "got",
    "instant",
    "parameters",
]

TRIES = 5  # of a call with the response 429, or 503 with Retry-After
_WAIT_SECONDS_MAX = 30.0
T = TypeVar("T")


class Call(NamedTuple):
    """`path`: percent-encoded, below the address of the API. `params`: of the query string. `body`: sent as JSON."""

    method: str
    path: str
    params: Mapping[str, str] = {}
    body: Any = None
    accept: str = "application/json"


class Reply(NamedTuple):
    """`headers`: names in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.content)
        except ValueError:
            raise ProtocolError(
                f"the response is not JSON (status {self.status}, {len(self.content)} bytes)",
                hint="Is this the address of asgi-audit's API?",
            ) from None


class Pause(NamedTuple):
    seconds: float


class Item(NamedTuple):
    value: Any


Flow = Generator["Call | Pause | Item", "Reply | None", T]


def asked(call: Call) -> Flow[Reply]:
    """The reply of a successful call. After 429, or 503 with Retry-After, it is sent again. Raises ApiError."""
    for left in reversed(range(TRIES)):
        reply = cast(Reply, (yield call))
        if reply.status < 400:
            return reply
        seconds = _retry_after(reply)
        if seconds is None or not left:
            break
        yield Pause(min(seconds, _WAIT_SECONDS_MAX))
    raise error_of(reply.status, reply.content)


def parameters(given: Mapping[str, Any], **more: Any) -> dict[str, str]:
    """For the query string: None is left out, an instant becomes ISO 8601, a list is joined by commas.
    Raises ValueError for an instant without a zone."""
    return {name: _text(value) for name, value in {**given, **more}.items() if value is not None}


def instant(value: datetime | str | None) -> str | None:
    """Raises ValueError for an instant without a zone."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; give it one, such as datetime.UTC")
        return value.isoformat()
    return value


def execution(path: str, question: Mapping[str, Any], limit: int) -> Flow[None]:
    """Usage and trail: each record of one query."""
    reply = yield from asked(Call("POST", path, body={k: v for k, v in question.items() if v is not None}))
    result = f"{path}/query-result/{quote(_field(reply, 'queryExecutionId'), safe='')}"
    token: str | None = None
    while True:
        params = parameters({"limit": limit, "nextToken": token})
        page = (yield from asked(Call("GET", result, params))).json()
        for record in page["data"]:
            yield Item(record)
        token = page.get("nextToken")
        if not token:
            return


def by_cursor(
    path: str, params: Mapping[str, str], rows: Callable[[Any], list[Any]], cursor: Callable[[Any], str | None]
) -> Flow[None]:
    """Each entry of a list that pages by `cursor`. `rows`, `cursor`: of one response."""
    following: str | None = None
    while True:
        more = params if following is None else {**params, "cursor": following}
        page = (yield from asked(Call("GET", path, more))).json()
        for row in rows(page):
            yield Item(row)
        following = cursor(page)
        if not following:
            return


def got(call: Call) -> Flow[Any]:
    """The JSON of the response to a call."""
    return (yield from asked(call)).json()


def command(name: str, params: Mapping[str, Any]) -> Flow[Any]:
    """`params` of the response to one command of `POST /api`. Raises ApiError with the command's own messages."""
    answer = yield from got(Call("POST", "/api", body={"1": {"command": name, "params": dict(params)}}))
    result = answer.get("1")
    if not isinstance(result, dict):  # the whole request failed
        result = answer
    if not result.get("success"):
        raise error_of(200, json.dumps(result).encode())
    return result.get("params", {})


def _field(reply: Reply, name: str) -> str:
    value = reply.json()
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, str):
        raise ProtocolError(f"the response has no {name}", hint="Is this the address of asgi-audit's API?")
    return found


def _retry_after(reply: Reply) -> float | None:
    text = reply.headers.get("retry-after", "")
    return float(text) if reply.status in (429, 503) and text.isdigit() and len(text) < 6 else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return instant(value) or ""
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(str, value))
    return str(value)
