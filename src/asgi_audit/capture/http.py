"""One HTTP request: the wrapped `receive` and `send`, and what they keep. How it ends is in `sealing`.

Nothing is parsed, delayed or reordered here, and no object of the application is changed, with two exceptions that are
settings. The request id is added to a copy of the start message. And `durable` delivery holds back the message that
completes the response until the record is on disk:

    HEAD, 204, 304, Content-Length 0   the start message
    another Content-Length             the message with its last byte (a BaseHTTPMiddleware sends an empty one after it)
    else                               the final message, never the start of a stream
"""

from __future__ import annotations

from typing import Any

from ..exchange.draft import Body, Draft, Headers, body_of, is_bodyless
from .asgi import Message, Receive, Send
from .reading import ReadHeaders, all_tuples
from .sealing import Sealing
from .waiter import Waiter, new_waiter

__all__ = ["HttpCapture"]

_JOIN_BELOW = 1024  # smaller chunks are joined: 64 KiB in chunks of one byte would cost megabytes of objects
_CLIENT_GONE = ("BrokenResourceError", "ClosedResourceError", "ClientDisconnected")
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class HttpCapture(Sealing, eq=False):
    """`receive` and `send` of one request. After the seal `handle.draft` is None, and everything passes through."""

    inner_receive: Receive
    inner_send: Send
    finishing: bool = False  # the final message is being sent; not set for a small body, where `response` is bytes
    trailers: bool = False  # they are announced, so the last trailer is the final message
    length: int = -1  # the declared Content-Length; only set when `durable` delivery needs it
    held: list[Waiter] | None = None  # while a message is held back: the sends of other tasks, which come after it

    def __deepcopy__(self, memo: object) -> HttpCapture:
        return self  # a copy of a framework's request keeps the same `receive` and `send`

    async def receive(self) -> Message:
        message = await self.inner_receive()
        draft = self.handle.draft
        if draft is not None:
            kind = None
            try:
                kind = message["type"]
                if kind == "http.request":
                    data = message.get("body", b"")
                    if (
                        draft.request is None
                        and type(data) is bytes
                        and len(data) <= self.config.request_small
                        and not message.get("more_body")
                    ):
                        draft.request = data  # the usual case: the whole request in one message
                    else:
                        self._request_body(draft, data, message.get("more_body", False))
                elif kind == "http.disconnect" and not self.finishing and not self._all_sent(draft):
                    self.client_left = True
            except Exception:
                if kind is not None:
                    self.config.internal_error("receive")
        return message

    async def send(self, message: Message) -> None:
        draft = self.handle.draft
        if draft is None:
            if self.held is not None:
                return await self._send_after(self.held, message)
            return await self.inner_send(message)
        last = starting = False
        kind = None
        try:
            kind = message["type"]
            # Before the start message nothing is final: the server refuses it, and the application may still respond.
            if kind == "http.response.body" and draft.start is not None:
                data = message.get("body", b"")
                if (
                    draft.response is None
                    and type(data) is bytes
                    and len(data) <= self.config.response_small
                    and not message.get("more_body")
                ):
                    draft.response = data  # the usual case: the whole response in one message
                    last = True
                else:
                    last = self.finishing = self._response_body(draft, data, message.get("more_body", False))
            elif kind == "http.response.start":
                if draft.start is None:
                    starting = True
                    message = self._start(draft, message)
                    last = self.config.durable and self._completes(draft)
            elif draft.start is not None:
                last = self.finishing = self._other(draft, kind, message)
        except Exception:
            if kind is not None:  # otherwise it is no message, and the server will refuse it
                self.config.internal_error("send")
        if last and self.config.durable:
            self.held = others = list[Waiter]()
            waiter = await self._seal_durably("disconnected" if self.client_left else "completed")
            self.held = None
            for other in others:  # they run when this task has called `inner_send`
                other.wake(True)
            del draft  # a slow client may block the next line for long; do not keep the bodies alive
            if waiter is not None:
                return await waiter.forward(self.inner_send, message)
            return await self.inner_send(message)
        try:
            await self.inner_send(message)
        except BaseException as error:
            if self.handle.draft is not None:
                self._not_sent(draft, error, starting)
            raise
        if last or (starting and draft.detail.excluded):
            # An exchange that makes no record ends here: a slow client would hold back the watermark for nothing.
            self.seal("disconnected" if self.client_left else "completed")
        return None

    async def _send_after(self, held: list[Waiter], message: Message) -> None:
        """`send` in another task while a message is held back: a server accepts messages in the order of the calls."""
        waiter = new_waiter()
        if waiter is not None:
            held.append(waiter)
            await waiter.wait(self.config.wait_seconds)
            return await waiter.forward(self.inner_send, message)
        return await self.inner_send(message)

    def _request_body(self, draft: Draft, data: Any, more: bool) -> None:
        body = draft.request = self._grown(draft, draft.request)
        if data:
            self._keep(draft, body, data, self.config.request_limit)
        if not more:
            body.complete = True

    def _response_body(self, draft: Draft, data: Any, more: bool) -> bool:
        """Returns True when this message is the final one or, with `durable` delivery, completes the response."""
        body = draft.response = self._grown(draft, draft.response)
        if data and not is_bodyless(draft):
            self._keep(draft, body, data, self.config.response_limit)
        if not more:
            body.complete = True
            return not self.trailers
        if 0 <= self.length <= body.total:
            body.complete = True
            return True
        return False

    def _grown(self, draft: Draft, seen: bytes | Body | None) -> Body:
        """A `Body` in place of None or bytes, for a body that comes in several messages or is large."""
        if type(seen) is bytes and not self.handle.recorder.reserve(draft, len(seen)):
            return Body(total=len(seen), complete=True, pressure=True)
        return body_of(seen)

    def _start(self, draft: Draft, message: Message) -> Message:
        """The message to forward: the same one, or a copy with the request id."""
        status = message.get("status")
        if type(status) is not int:
            status = _number(status)  # a plain int in place of an HTTPStatus
        if message.get("trailers"):
            self.trailers = True
            draft.response = Body()  # not kept in one step: after its last message the trailers follow
        given = message.get("headers", ())
        wanted = self.config.header_out
        if type(given) is list and all_tuples(map(type, given)):
            # A new list: Starlette sends the response's own list, and appending to that would add a header on each
            # call.
            headers = given.copy()
            try:
                if wanted is not None:
                    size = len(wanted)
                    for name, _ in headers:
                        if len(name) == size and name.lower() == wanted:
                            break
                    else:
                        if headers and type(name) is not bytes:
                            raise TypeError
                        copied = dict(message)
                        copied["headers"] = [*headers, (wanted, draft.request_id.encode())]
                        message = copied
                draft.start = status, headers
                return message
            except Exception:
                pass  # not pairs of bytes
        read = ReadHeaders(given)
        draft.start = status, read.pairs
        replacement = read.replacement
        if wanted is not None and read.is_whole and read.value(wanted) is None:
            replacement = [*replacement, (wanted, draft.request_id.encode())]
        return message if replacement is given else {**message, "headers": replacement}

    def _completes(self, draft: Draft) -> bool:
        """Whether the start message completes the response; used for `durable` delivery."""
        if self.trailers:
            return False
        if not is_bodyless(draft):
            self.length = _declared(draft)
            if self.length != 0:
                return False
        draft.response = b""
        return True

    def _other(self, draft: Draft, kind: str, message: Message) -> bool:
        """Messages of extensions. Returns True for one that ends the response."""
        body = draft.response = self._grown(draft, draft.response)
        if kind == "http.response.pathsend":
            # The server reads the file itself. The declared length is all that is known of its size without a disk
            # access.
            body.total += max(0, _declared(draft))
            body.complete = True
            return not self.trailers
        if kind == "http.response.zerocopysend":
            count = message.get("count")
            if isinstance(count, int):
                body.total += count
            if message.get("more_body", False):
                return False
            if not isinstance(count, int):
                body.total = max(body.total, _declared(draft))
            body.complete = True
            return not self.trailers
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return False

    def _keep(self, draft: Draft, body: Body, data: Any, limit: int) -> None:
        """Count a chunk, and keep as much of it as the limit and the shared budget allow."""
        exact = type(data) is bytes
        if not exact and not isinstance(data, bytes):
            try:
                data = memoryview(data)  # a bytearray, which the application may change
            except TypeError:
                return  # not bytes: the server will refuse it
            if data.ndim != 1 or data.itemsize != 1 or not data.c_contiguous:
                data = memoryview(data.tobytes())
        size = given = len(data)
        body.total += given
        kept = body.kept
        if kept + given > limit:
            size = limit - kept
            if size <= 0:
                return
        if body.pressure:
            return
        if not self.handle.recorder.reserve(draft, size):
            body.pressure = True
            return
        if size < given:
            data = data[:size]
        if not exact:
            data = bytes(data)
        body.kept = kept + size
        if kept and len(body.chunks[-1]) + size <= _JOIN_BELOW:
            body.chunks[-1] += data
        else:
            body.chunks.append(data)

    def _all_sent(self, draft: Draft) -> bool:
        """Whether the client has its whole response, although the final message may still come (BaseHTTPMiddleware
        sends an empty one). A client that leaves then has not disconnected early."""
        response = draft.response
        if type(response) is bytes:
            return True
        if draft.start is None or self.trailers:
            return False
        if is_bodyless(draft):
            return True
        return 0 <= _declared(draft) <= (response.total if isinstance(response, Body) else 0)

    def _not_sent(self, draft: Draft, error: BaseException, starting: bool) -> None:
        """`send` raised."""
        self.finishing = False
        if type(draft.response) is bytes:
            draft.response = self._grown(draft, draft.response)
        if starting:
            draft.start = None
            self.trailers = False
        if isinstance(error, OSError):
            if not isinstance(error, _NO_FILE):  # with pathsend the file may be missing, and the client still there
                self.client_left = True
        elif type(error).__name__ in _CLIENT_GONE:
            self.client_left = True


def _number(status: Any) -> int | None:
    try:
        return int(status)
    except (TypeError, ValueError):
        return None  # the server will refuse it


def _declared(draft: Draft) -> int:
    """The declared length of the response, or -1."""
    headers: Headers = draft.start[1] if draft.start is not None else []
    try:
        for name, value in headers:
            if len(name) == 14 and name.lower() == b"content-length":
                return int(value) if value.isdigit() else -1
    except (ValueError, TypeError, AttributeError):
        pass  # not pairs of bytes, or too many digits
    return -1
