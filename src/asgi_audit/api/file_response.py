"""A file as an answer: whole or the ranges that are asked for, at the pace of its reader."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from ..query.admission import Lease
from .failure import Failure

__all__ = ["ObjectResponse", "asks_for_a_part"]


async def _nothing() -> None:
    pass


class ObjectResponse(FileResponse):
    """Starlette's, whose refusals of a Range header are said by `fail`. `begins` is awaited before anything of the file
    is sent, and not for a refusal. Holds `lease` until it is sent, or could not be."""

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

    def _refusal(self, start: Message) -> Response:
        status = start["status"]
        headers = {name.decode(): value.decode() for name, value in start["headers"] if name == b"content-range"}
        message = "the Range header asks for nothing of this file" if status == 416 else "the Range header is wrong"
        return self._fail(Failure(status, message, "Ask without it, or as 'bytes=0-99'.", headers))


def asks_for_a_part(scope: Scope) -> bool:
    """Whether there is a Range header of bytes; one of any other unit is ignored (RFC 9110, 14.2)."""
    return Headers(scope=scope).get("range", "").partition("=")[0].strip().lower() == "bytes"
