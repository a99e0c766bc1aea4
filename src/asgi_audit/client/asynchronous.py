"""The asynchronous client: the methods of the synchronous one, with `await` or `async for`."""

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
    """`url`: of the API, with the path where it is mounted; default: ASGI_AUDIT_URL, else http://127.0.0.1:8400.
    `key`: default: ASGI_AUDIT_KEY. `timeout`: seconds for each step of a call. `transport`: of httpx, for tests and
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
        """Whole records, or only these `fields` of them (dotted names). `order`: `newest` (default) or `oldest`
        first. `page`: records per request, 1 to 1,000."""
        return self._items(questions.records(filters, order, fields, page))

    def lines(
        self, *, csv: bool = False, order: str | None = None, fields: str | list[str] | None = None,
        most: int | None = None, **filters: Unpack[Filters],
    ) -> AsyncIterator[str]:  # fmt: skip
        """Records as they are stored, one JSON object a line; with `csv`: rows, after a row of column names.
        `most`: the largest number of records."""
        params = {**filters, "order": order, "fields": fields}
        return self._items(questions.lines(params, questions.CSV if csv else questions.NDJSON, most))

    async def count(self, **filters: Unpack[Filters]) -> int:
        """The exact number of records."""
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
        """Pages of all records, in the order in which they were indexed, so that no late record is missed. `after`:
        the cursor of the last stored page; without it, from the first record or from `start`. `follow`: wait for more
        at the end. Raises ApiError with status 410 for a cursor of another index."""
        return self._items(questions.feed(after, start, follow, page))

    def feed_lines(
        self,
        after: str | None = None,
        *,
        start: Instant | None = None,
        follow: bool = False,
        most: int | None = None,
    ) -> AsyncIterator[FeedLines]:
        """Like `feed`, with records as they are stored, one JSON object a line. `most`: the largest number of records.
        With `follow`, every few seconds also pages without records: their cursor is newer."""
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
        """`params` of the response to one command of `POST /api`, such as `usage.api.list`."""
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
        UUID; requests with the same token within 24 hours are one request."""
        return await self._result(questions.request_export(start, end, group, database, token))

    async def export(self, id: str) -> Export:
        """The state of an export."""
        return await self._result(questions.export(id))

    async def wait_for_export(
        self, id: str, *, seconds: float | None = None, on_state: Callable[[Export], None] | None = None
    ) -> Export:
        """Wait until its state is final, at most `seconds`; then ApiError. `on_state` is called with each new state."""
        return await self._result(questions.finished_export(id, seconds, on_state))

    async def download(
        self, export: Export, to: str | Path, *, on_bytes: Callable[[int, int], None] | None = None
    ) -> Download:
        """Download the object of a complete export to the file `to` and check it against its manifest. The file is
        complete or absent. `on_bytes` is called with (bytes so far, all bytes). Raises ProtocolError when the check
        fails."""
        incoming = Incoming(export, Path(to), on_bytes)
        try:
            # Without the key: the URL itself gives access, and may be of another host.
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
        """The address of the API, without a trailing slash."""
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
