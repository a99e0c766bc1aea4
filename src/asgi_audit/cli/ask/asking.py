"""Implements each kind of `ask` command with the API's client."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import itertools
import json
import shlex
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ...client import AsyncClient
from ...errors import AuditError, ConfigError
from ...record.line import TIME_END
from ..filters import refuse_others, window_of
from ..terminal import raise_if_unread
from .feed import feed, start_of
from .output import ExportProgress, Table, print_json

__all__ = ["Asking"]

# Flags that not every question takes.
_FLAGS = {
    "records": ("csv", "count", "follow", "oldest", "fields"),
    "feed": ("follow", "cursor", "after"),
}
_EVER = ("1970-01-01T00:00:00Z", "2200-01-01T00:00:00Z")
_WINDOW = ("since", "start", "end")
_LATE_MS = 60_000  # `--follow` shows records indexed at most this long after their request
_FOLLOW_SECONDS = 1.0


class Asking:
    def __init__(self, client: AsyncClient, arguments: argparse.Namespace, filters: dict[str, Any]) -> None:
        self._client = client
        self._arguments = arguments
        self._filters = filters
        self._most = arguments.lines or None

    async def run(self) -> int:
        """Runs the command. Returns the exit code."""
        what = self._arguments.what
        self._check(what)
        done: int = await getattr(self, f"_{what}")()
        return done

    def _check(self, what: str) -> None:
        words = self._arguments.words
        needed = {"usage": 2}.get(what, 0)
        if what != "tr50" and len(words) != needed:
            accepted = "SERVICE INSTANCE" if needed else "no words"
            raise ConfigError(f"ask {what} has {len(words)} words; accepted: {accepted}")
        flags = _FLAGS.get(what, ())
        for flag in ("csv", "count", "follow", "oldest", "fields", "cursor", "after"):
            if getattr(self._arguments, flag) and flag not in flags:
                shown = ", ".join(["--json", "--curl", *(f"--{name}" for name in flags)])
                raise ConfigError(f"ask {what} takes no --{flag}; accepted: {shown} and -n")

    async def _records(self) -> int:
        if self._arguments.curl:
            return self._curl("GET", "/records", {**self._filters, **self._shown()})
        if self._arguments.count:
            print(await self._client.count(**self._filters))
            return 0
        fields = self._arguments.fields
        if fields and not (self._arguments.json or self._arguments.csv):
            raise ConfigError("--fields requires --json or --csv")
        order = "oldest" if self._arguments.oldest or self._arguments.follow else "newest"
        if self._arguments.follow:
            return await self._follow()
        if self._arguments.json or self._arguments.csv:
            is_csv = self._arguments.csv
            lines = self._client.lines(csv=is_csv, order=order, fields=fields, most=self._most, **self._filters)
            async for line in lines:
                print(line)
            return 0
        shown = await self._print(self._client.records(order=order, page=self._page(), **self._filters))
        if shown == self._most and (total := await self._client.count(**self._filters)) > shown:
            print(f"{shown:,} of {total:,} records; -n 0 shows all, --count counts", file=sys.stderr)
        return 0

    def _shown(self) -> dict[str, Any]:
        found = {"order": "oldest" if self._arguments.oldest else None, "fields": self._arguments.fields}
        return {**{name: value for name, value in found.items() if value}, "limit": self._page()}

    def _page(self) -> int:
        return min(self._most or 500, 500)

    async def _print(self, rows: AsyncIterator[dict[str, Any]]) -> int:
        """Returns the number of printed items: at most the requested number."""
        shown = 0
        table = Table() if not self._arguments.json else None
        async for row in rows:
            shown += 1
            print_json(row) if table is None else table.add(row)
            if shown == self._most:
                break
        if table is not None:
            table.end()
            if not shown:
                print("no matching records", file=sys.stderr)
        return shown

    async def _follow(self) -> int:
        """Prints the newest records, oldest first, then each newly indexed record once. Records indexed more than a
        minute after their request are not shown."""
        filters = {name: value for name, value in self._filters.items() if name not in _WINDOW}
        began = int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)
        # Collect known ids before printing the first records: a record indexed in between could be shown twice, so ids
        # are checked again.
        known = await self._since(began - _LATE_MS, filters)
        table = None if self._arguments.json else Table()
        count = self._most or 50
        first = [row async for row in _first(self._client.records(page=self._page(), **self._filters), count)]
        for row in reversed(first):
            known[row["metadata"]["id"]] = row["timestamp"]
            _show(row, table)
        newest = max(known.values(), default=began)
        while True:
            await asyncio.sleep(_FOLLOW_SECONDS)
            raise_if_unread()
            start = _instant(max(newest, began) - _LATE_MS)
            async for row in self._client.records(order="oldest", start=start, **filters):
                if row["metadata"]["id"] not in known:
                    known[row["metadata"]["id"]] = row["timestamp"]
                    newest = max(newest, row["timestamp"])
                    _show(row, table)
            known = {id: at for id, at in known.items() if at >= newest - 2 * _LATE_MS}

    async def _since(self, start: int, filters: dict[str, Any]) -> dict[str, int]:
        rows = self._client.records(fields="metadata.id,timestamp", start=_instant(start), **filters)
        return {row["metadata"]["id"]: row["timestamp"] async for row in rows}

    async def _usage(self) -> int:
        service, instance = self._arguments.words
        start, end = self._window("usage", "method")
        path = f"/usage/{quote(service, safe='')}/{quote(instance, safe='')}"
        if self._arguments.curl:
            return self._curl("POST", path, {}, self._question(start, end))
        rows = self._client.usage(service, instance, start, end, method=self._filters.get("method"))
        await self._print(rows)
        return 0

    async def _trail(self) -> int:
        start, end = self._window("trail", "method")
        if self._arguments.curl:
            return self._curl("POST", "/trail", {}, self._question(start, end))
        await self._print(self._client.trail(start, end, method=self._filters.get("method")))
        return 0

    def _question(self, start: str, end: str) -> dict[str, Any]:
        method = self._filters.get("method")
        return {"from": start, "to": end, **({"method": method} if method else {})}

    async def _logs(self) -> int:
        start, end = self._window("logs", "level", "service", "text")
        asked: dict[str, Any] = {
            "start": None if start == _EVER[0] else start,
            "end": None if end == _EVER[1] else end,
            "level": self._filters.get("level"),
            "service": self._filters.get("service"),
            "search": self._filters.get("text"),
        }
        if self._arguments.curl:
            names = {"start": "startDate", "end": "endDate"}
            return self._curl("GET", "/logs", {names.get(k, k): v for k, v in asked.items() if v is not None})
        await self._print(self._client.logs(**asked))
        return 0

    async def _feed(self) -> int:
        if self._arguments.curl:
            refuse_others(self._filters, ("since", "start"), "feed")
            return self._curl("GET", "/feed", {"after": self._arguments.after, "start": start_of(self._filters)})
        return await feed(self._client, self._arguments, self._filters)

    async def _tr50(self) -> int:
        words = self._arguments.words or ["usage.api.list"]
        refuse_others(self._filters, (), "tr50")
        params: dict[str, Any] = {}
        for word in words[1:]:
            name, is_one, value = word.partition("=")
            if not is_one:
                raise ConfigError(f"{word!r} is not a parameter; accepted: name=value, such as last=24h")
            params[name] = _value(value)
        if self._arguments.curl:
            return self._curl("POST", "/api", {}, {"1": {"command": words[0], "params": params}})
        print_json(await self._client.command(words[0], **params), indent=None if self._arguments.json else 2)
        return 0

    async def _export(self) -> int:
        start, end = self._window("export", "account", "service", "instance")
        # The API would wait for a window that ends in the future.
        end = min(end, datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"))
        group = self._arguments.group or "classic"
        parts = [self._filters.get(name) for name in ("account", "service", "instance")]
        database = None
        if any(parts):
            given = list(itertools.takewhile(bool, parts))
            if len(given) != sum(map(bool, parts)):
                raise ConfigError(
                    "ask export accepts --service only with --account, and --instance only with --service"
                )
            database = "/".join(quote(str(part), safe="") for part in (group, *given))
        if start == _EVER[0]:
            raise ConfigError("ask export requires --since or --start; accepted: at most 90 days")
        where: dict[str, Any] = {"database": database} if database else {"group": group}
        if self._arguments.curl:
            body = {"database": database} if database else {"region_group": group}
            window = {"time_start": start, "time_end": end}
            return self._curl("POST", "/api/v1/logs", {"type": "query"}, {**body, **window})
        export = await self._client.request_export(start, end, **where)
        with ExportProgress(export.id) as progress:
            export = await self._client.wait_for_export(export.id, on_state=progress.state)
            if export.state != "Complete":
                raise AuditError(f"export {export.id} ended as {export.state}", hint=export.reason)
            to = Path(self._arguments.to or f"{export.id}.ndjson.gz")
            done = await self._client.download(export, to, on_bytes=progress.bytes)
        checked = "verified by its manifest" if done.manifest else "not verified: the response named no manifest"
        print(f"{done.records:,} records in {to}; {checked}")
        return 0

    def _window(self, what: str, *filters: str) -> tuple[str, str]:
        refuse_others(self._filters, (*_WINDOW, *filters), what)
        start, end = window_of(self._filters, time.time())
        return (
            _instant(start).isoformat(timespec="milliseconds") if start else _EVER[0],
            _instant(end).isoformat(timespec="milliseconds") if end < TIME_END else _EVER[1],
        )

    def _curl(self, method: str, path: str, params: dict[str, Any], body: Any = None) -> int:
        query = urlencode({name: value for name, value in params.items() if value is not None})
        url = f"{self._client.url}{path}" + (f"?{query}" if query else "")
        words = ["curl", "-s", shlex.quote(url)]
        if body is not None:
            words += ["-H 'Content-Type: application/json'", "-d", shlex.quote(json.dumps(body))]
        print(" ".join([*words, '-H "Authorization: Bearer $ASGI_AUDIT_KEY"']))
        return 0


def _show(row: dict[str, Any], table: Table | None) -> None:
    if table is None:
        print_json(row, flush=True)
    else:
        table.add(row)
        table.flush()


def _instant(ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC)


async def _first(rows: AsyncIterator[dict[str, Any]], count: int) -> AsyncIterator[dict[str, Any]]:
    left = count
    async for row in rows:
        yield row
        left -= 1
        if not left:
            return


def _value(text: str) -> Any:
    """Parses a JSON number, true, false, null, array or object; any other text stays text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
