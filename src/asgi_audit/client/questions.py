"""The methods of both clients: the requests of each one, as a flow, and the types that callers see."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypedDict
from urllib.parse import quote

from . import flows
from .errors import ApiError, ProtocolError
from .flows import Call, Flow, Item, Pause, Reply, instant, parameters

__all__ = ["Export", "FeedLines", "FeedPage", "Filters", "HistogramFilters", "Window"]

Instant = datetime | str
PAGE = 500
MANIFEST_LINK = re.compile(r'<([^<>]*)>;\s*rel="?describedby"?')
FEED_WAIT_SECONDS = 10  # how long a request of a feed waits for a record
CSV = "text/csv"
NDJSON = "application/x-ndjson"


class Window(TypedDict, total=False):
    """`start`, `end`: instants with a zone (datetime, or ISO 8601), or plain dates (UTC), both inclusive. `since`: in
    place of both, a duration before now, such as `1h` or `7d`."""

    start: Instant
    end: Instant
    since: str


class HistogramFilters(Window, total=False):
    """`level`: one or several of DEBUG, INFO, WARN, ERROR, FATAL. `status`: `404`, `4xx` or `400-499`. `failure`:
    whether the level is ERROR or FATAL. Without `service`, reads of the API (service `logs`) are left out."""

    account: str
    service: str
    level: str | list[str]
    failure: bool
    method: str
    status: str | int


class Filters(HistogramFilters, total=False):
    """Conditions that records must meet, all of them. `path_prefix`: of the route's template, by whole segments.
    `text`: words, or a "quoted phrase", of the message."""

    instance: str
    principal: str
    client: str
    operation: str
    route: str
    path_prefix: str
    request_id: str
    trace_id: str
    outcome: str
    region: str
    text: str


class FeedPage(NamedTuple):
    """`cursor`: continues after these records; store it after storing them. `records` may be empty."""

    records: list[dict[str, Any]]
    cursor: str


class FeedLines(NamedTuple):
    """Records as they are stored, one JSON object a line. `cursor`: as in FeedPage."""

    lines: list[str]
    cursor: str


@dataclass(frozen=True)
class Export:
    """A requested export. `state`: Requested, Pending, CreatingNewUrl, Complete, DoesNotExist, Failed or TimedOut.
    `url`: where a complete one is downloaded for an hour, else None. `reason`: what it waits for, its progress, or why
    it ended. `manifest_url`, `manifest_sha256`: of the manifest beside a complete one."""

    id: str
    state: str
    url: str | None = None
    reason: str = ""
    manifest_url: str | None = None
    manifest_sha256: str = ""

    @property
    def is_final(self) -> bool:
        return self.state in ("Complete", "DoesNotExist", "Failed", "TimedOut")


def usage(service: str, instance: str, start: Instant, end: Instant, method: str | None) -> Flow[None]:
    path = f"/usage/{quote(service, safe='')}/{quote(instance, safe='')}"
    return flows.execution(path, {"from": instant(start), "to": instant(end), "method": method}, PAGE)


def trail(start: Instant, end: Instant, method: str | None) -> Flow[None]:
    return flows.execution("/trail", {"from": instant(start), "to": instant(end), "method": method}, PAGE)


def logs(
    start: Instant | None, end: Instant | None, level: str | None, service: str | None, search: str | None
) -> Flow[None]:
    given = {"startDate": start, "endDate": end, "level": level, "service": service, "search": search}
    return flows.by_cursor(
        "/logs",
        parameters({"limit": PAGE, **given}),
        lambda page: page["data"]["logs"],
        lambda page: page["data"]["pagination"]["cursor"],
    )


def records(filters: Mapping[str, Any], order: str | None, fields: Any, page: int) -> Flow[None]:
    return flows.by_cursor(
        "/records",
        parameters(filters, order=order, fields=fields, limit=page, count=False),
        lambda page: page["records"],
        lambda page: page["cursor"],
    )


def lines(params: Mapping[str, Any], accept: str, most: int | None) -> Flow[None]:
    """Lines of NDJSON or CSV as they are sent; the column names of CSV only once. `most`: records."""
    cursor: str | None = None
    left = most
    while left is None or left > 0:
        limit = PAGE if left is None else min(left, PAGE)
        more = parameters({**params, "limit": limit, "count": False, "cursor": cursor})
        reply = yield from flows.asked(Call("GET", "/records", more, accept=accept))
        found = _lines(reply)
        yield from map(Item, found[1:] if accept == CSV and cursor is not None else found)
        cursor = reply.headers.get("audit-cursor")
        if cursor is None:
            return
        left = None if left is None else left - limit


def count(filters: Mapping[str, Any]) -> Flow[int]:
    answer = yield from flows.got(Call("GET", "/records", parameters(filters, limit=1)))
    return int(answer["total"])


def record(id: str) -> Flow[Any]:
    return flows.got(Call("GET", f"/records/{quote(id, safe='')}"))


def histogram(filters: Mapping[str, Any], by: str | None, minutes: int | None) -> Flow[Any]:
    return flows.got(Call("GET", "/histogram", parameters(filters, by=by, minutes=minutes)))


def feed(after: str | None, start: Instant | None, follow: bool, page: int) -> Flow[None]:
    while True:
        wait = FEED_WAIT_SECONDS if follow and after is not None else None
        given = {"after": after, "start": start, "limit": page, "wait": wait}
        found = yield from flows.got(Call("GET", "/feed", parameters(given)))
        after, start = found["cursor"], None
        if found["records"] or not follow:
            yield Item(FeedPage(found["records"], after))
        if not found["more"] and not follow:
            return


def feed_lines(after: str | None, start: Instant | None, follow: bool, most: int | None) -> Flow[None]:
    """With `follow`, also empty pages: their cursor is newer."""
    left = most
    while left is None or left > 0:
        wait = FEED_WAIT_SECONDS if follow and after is not None else None
        limit = PAGE if left is None else min(left, PAGE)
        given = parameters({"after": after, "start": start, "limit": limit, "wait": wait})
        reply = yield from flows.asked(Call("GET", "/feed", given, accept=NDJSON))
        found, cursor = _lines(reply), reply.headers.get("audit-cursor")
        if not cursor:
            raise ProtocolError("the response has no Audit-Cursor", hint="Is this the address of asgi-audit's API?")
        after, start = cursor, None
        left = None if left is None else left - len(found)
        yield Item(FeedLines(found, cursor))
        if reply.headers.get("audit-more") != "true" and not follow:
            return


def _lines(reply: Reply) -> list[str]:
    """Not `splitlines`: it also splits at U+2028 and others, which a record's text may contain."""
    found = reply.content.decode().split("\n")
    return [line.removesuffix("\r") for line in (found if found[-1] else found[:-1])]


def request_export(
    start: Instant, end: Instant, group: str | None, database: str | None, token: str | None
) -> Flow[Export]:
    body = {
        "time_start": instant(start),
        "time_end": instant(end),
        "regionGroup": group,
        "database": database,
        "idempotency_token": token,
    }
    asked = {name: value for name, value in body.items() if value is not None}
    return _export((yield from flows.asked(Call("POST", "/api/v1/logs", {"type": "query"}, asked))))


def export(id: str) -> Flow[Export]:
    return _export((yield from flows.asked(Call("GET", f"/api/v1/logs/{quote(id, safe='')}", {"type": "query"}))))


def finished_export(id: str, seconds: float | None, on_state: Callable[[Export], None] | None) -> Flow[Export]:
    """Wait until the state is final. Raises ApiError after `seconds`."""
    waited, pause = 0.0, 0.2
    while True:
        found = yield from export(id)
        if on_state is not None:
            on_state(found)
        if found.is_final:
            return found
        if seconds is not None and waited >= seconds:
            raise ApiError(200, f"export {id} is still {found.state} after {seconds:g} s", hint=found.reason)
        yield Pause(pause)
        waited += pause
        pause = min(pause * 1.5, 5.0)


def _export(reply: Reply) -> Export:
    answer = reply.json()
    link = MANIFEST_LINK.search(reply.headers.get("link", ""))
    try:
        return Export(
            answer["request_id"],
            answer["state"],
            answer.get("presigned_url"),
            answer.get("reason") or "",
            link[1] if link else None,
            reply.headers.get("audit-manifest-sha256", ""),
        )
    except (KeyError, TypeError):
        raise ProtocolError("the response is not an export", hint="Is this the address of asgi-audit's API?") from None
