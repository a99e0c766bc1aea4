"""Sends a file as the response: all of it or the requested ranges, as fast as the client reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ..query.admission import Lease
from .failure import Failure

__all__ = ["ObjectResponse", "asks_for_a_part"]


_OF_304 = ("etag", "last-modified", "cache-control", "link", "audit-manifest-sha256")


async def _nothing() -> None:
    pass


class ObjectResponse(FileResponse):
    """Starlette's FileResponse, with the conditions of RFC 9110; `fail` makes the error for a wrong Range header.

    `begins` is awaited before any byte of the file is sent, but not before an error. Holds `lease` until the response
    is sent or has failed."""

    def __init__(
        self,
        path: Path,
        kind: str,
        headers: Mapping[str, str],
        fail: Callable[[Failure], Response],
        lease: Lease,
        begins: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        super().__init__(path, headers=headers, media_type=kind, filename=path.name)
        self._fail = fail
        self._lease = lease
        self._begins = begins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: Response | None = None
        is_begun = False
        headers = [h for h in scope["headers"] if h[0] != b"range" or asks_for_a_part(scope)]

        async def sending(message: Message) -> None:
            nonlocal refused, is_begun
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refused = self._refusal(message)
            elif message["type"] == "http.response.start":
                refused = self._unless_met(Headers(scope=scope), Headers(raw=message["headers"]))
                if refused is None:
                    await self._begins()
                    is_begun = True
            if refused is None:
                await send(message)

        try:
            try:
                await super().__call__({**scope, "headers": headers}, receive, sending)
            except (RuntimeError, FileNotFoundError):  # it was removed just now
                if is_begun:
                    raise
                refused = self._fail(Failure(404, "there is no such file any more"))
            if refused is not None:
                if scope["method"] == "HEAD":
                    refused.body = b""
                await refused(scope, receive, send)
        finally:
            self._lease.close()

    def _unless_met(self, sent: Headers, file: Headers) -> Response | None:
        """The response when a condition of the request is not met (RFC 9110, 13.2.2); None when all are met."""
        tag, modified = file["etag"], _time_of(file["last-modified"])
        if "if-match" in sent:
            is_other = not _names(sent["if-match"], tag)
        else:
            is_other = modified > (_time_of(sent.get("if-unmodified-since")) or modified)
        if is_other:
            return self._fail(Failure(412, "the file is not the one that the request's condition names"))
        if "if-none-match" in sent:
            is_known = _names(sent["if-none-match"].replace("W/", ""), tag)
        else:
            is_known = modified <= _time_of(sent.get("if-modified-since"))
        if is_known:
            return Response(status_code=304, headers={n: file[n] for n in _OF_304 if n in file})
        return None

    def _refusal(self, start: Message) -> Response:
        status = start["status"]
        headers = {name.decode(): value.decode() for name, value in start["headers"] if name == b"content-range"}
        message = "no range of the Range header is in this file" if status == 416 else "the Range header is wrong"
        return self._fail(Failure(status, message, "Ask without it, or as 'bytes=0-99'.", headers))


def asks_for_a_part(scope: Scope) -> bool:
    """Whether the request has a Range header in bytes; any other unit is ignored (RFC 9110, 14.2)."""
    return Headers(scope=scope).get("range", "").partition("=")[0].strip().lower() == "bytes"


def _names(tags: str, tag: str) -> bool:
    """Whether a list of entity tags holds this one. `*` is every file."""
    return "*" in (found := [part.strip() for part in tags.split(",")]) or tag in found


def _time_of(date: str | None) -> int:
    """Seconds since the epoch of an HTTP date; 0 for any other text, which counts as no condition."""
    try:
        return int(parsedate_to_datetime(date or "").timestamp())
    except (ValueError, OverflowError):
        return 0
