"""The client for async code: the methods of the one that blocks, to await or to iterate with `async for`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from . import questions
from .download import Download, Incoming
from .errors import error_of
from .flows import Call, Flow, Item, Pause, Reply, command
from .questions import Export, FeedLines, FeedPage, Filters, HistogramFilters, Instant
from .sending import arguments, client_arguments, failed, manifest_of, reply_of

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """`url`: of the API, with the path that it is mounted at; without it ASGI_AUDIT_URL, else http://127.0.0.1:8400.
    `key`: without it ASGI_AUDIT_KEY. `timeout`: seconds for each step of a call. `transport`: of httpx, for tests and
    proxies. For one event loop. Close it, or use it in `async with`."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**client_arguments(url, key, timeout), transport=transport)
        self._plain = httpx.AsyncClient(timeout=timeout, transport=transport)

    def records(
        self, *, order: str | None = None, fields: str | list[str] | None = None, page: int = questions.PAGE,
        **filters: Unpack[Filters],
    ) -> AsyncIterator[dict[str, Any]]:  # fmt: skip
        """Whole records, or those `fields` of them (dotted names). `order`: `newest` (default) or `oldest` first.
        `page`: how many are asked for at a time, 1 to 1,000."""
        return self._items(questions.records(filters, order, fields, page))

    def lines(
        self, *, csv: bool = False, order: str | None = None, fields: str | list[str] | None = None,
        most: int | None = None, **filters: Unpack[Filters],
    ) -> AsyncIterator[str]:  # fmt: skip
        """Records as they are stored, one JSON object a line; or with `csv` rows, the names of the columns first.
        `most`: how many records."""
        params = {**filters, "order": order, "fields": fields}
        return self._items(questions.lines(params, questions.CSV if csv else questions.NDJSON, most))

    async def count(self, **filters: Unpack[Filters]) -> int:
        """How many records there are, exact."""
        return await self._result(questions.count(filters))

    async def record(self, id: str) -> dict[str, Any]:
        """The record with this `metadata.id`."""
        return dict(await self._result(questions.record(id)))

    async def histogram(
        self, *, by: str | None = None, minutes: int | None = None, **filters: Unpack[HistogramFilters]
    ) -> dict[str, Any]:
        """Counts by time. `by`: `level` (default) or `status`. `minutes`: of a bucket."""
        return dict(await self._result(questions.histogram(filters, by, minutes)))

    def feed(
        self,
        after: str | None = None,
        *,
        start: Instant | None = None,
        follow: bool = False,
        page: int = questions.PAGE,
    ) -> AsyncIterator[FeedPage]:
        """Every record in the order in which it was indexed, so that none that comes late is missed. `after`: the
        cursor of the last page that was stored; without it from the first record on, or from `start` on. `follow`: wait
        for more at the end. Raises ApiError with status 410 for a cursor of another index."""
        return self._items(questions.feed(after, start, follow, page))

    def feed_lines(
        self,
        after: str | None = None,
        *,
        start: Instant | None = None,
        follow: bool = False,
        most: int | None = None,
    ) -> AsyncIterator[FeedLines]:
        """As `feed`, with records as they are stored, one JSON object a line. `most`: how many records. With `follow`
        also pages without a record, each some seconds: their cursor is newer."""
        return self._items(questions.feed_lines(after, start, follow, most))

    def logs(
        self,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        level: str | None = None,
        service: str | None = None,
        search: str | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Entries of `GET /logs`, newest first."""
        return self._items(questions.logs(start, end, level, service, search))

    def usage(
        self, service: str, instance: str, start: Instant, end: Instant, *, method: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Records of one service instance, newest first. `end` is exclusive."""
        return self._items(questions.usage(service, instance, start, end, method))

    def trail(self, start: Instant, end: Instant, *, method: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """Records of all accounts of the key, newest first. `end` is exclusive."""
        return self._items(questions.trail(start, end, method))

    async def command(self, name: str, **params: Any) -> Any:
        """`params` of the answer to one command of `POST /api`, such as `usage.api.list`."""
        return await self._result(command(name, params))

    async def request_export(
        self,
        start: Instant,
        end: Instant,
        *,
        group: str | None = None,
        database: str | None = None,
        token: str | None = None,
    ) -> Export:
        """`end` is exclusive. `group`: a region group, or `database`: `group/account[/service[/instance]]`. `token`: a
        UUID; requests with the same one in 24 hours are one request."""
        return await self._result(questions.request_export(start, end, group, database, token))

    async def export(self, id: str) -> Export:
        """How far it is."""
        return await self._result(questions.export(id))

    async def wait_for_export(
        self, id: str, *, seconds: float | None = None, on_state: Callable[[Export], None] | None = None
    ) -> Export:
        """Until its state is final. `seconds`: how long at most; then ApiError. `on_state`: is told each state seen."""
        return await self._result(questions.finished_export(id, seconds, on_state))

    async def download(
        self, export: Export, to: str | Path, *, on_bytes: Callable[[int, int], None] | None = None
    ) -> Download:
        """The object of a complete export into the file `to`, checked against its manifest; the file is there whole or
        not at all. `on_bytes`: is told (bytes so far, bytes in all). Raises ProtocolError when the check fails."""
        incoming = Incoming(export, Path(to), on_bytes)
        try:
            # Without the key: the URL is one, and may be of another host.
            async with self._plain.stream("GET", incoming.url) as response:
                if response.status_code != 200:
                    raise error_of(response.status_code, await response.aread())
                with incoming.writing(response.headers):
                    async for piece in response.aiter_raw():
                        incoming.feed(piece)
            url = incoming.manifest_url
            manifest = None if url is None else await self._plain.get(url)
        except httpx.HTTPError as e:
            incoming.discard()
            raise failed(e, "the download") from None
        return incoming.end(manifest_of(manifest))

    @property
    def url(self) -> str:
        """Of the API, without a slash at its end."""
        return str(self._http.base_url).rstrip("/")

    async def close(self) -> None:
        await self._http.aclose()
        await self._plain.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, call: Call) -> Reply:
        try:
            return reply_of(await self._http.request(**arguments(call)))
        except httpx.HTTPError as e:
            raise failed(e, self._http.base_url) from None

    async def _items(self, flow: Flow[None]) -> AsyncIterator[Any]:
        reply: Reply | None = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration:
                return
            reply = None
            if isinstance(step, Item):
                yield step.value
            elif isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            else:
                reply = await self._send(step)

    async def _result(self, flow: Flow[T]) -> T:
        reply: Reply | None = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as end:
                result: T = end.value
                return result
            reply = None
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Call):
                reply = await self._send(step)
