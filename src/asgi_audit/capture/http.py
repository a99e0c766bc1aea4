"""One HTTP request as it passes by: the two wrapped callables and what they keep. What ends it is in `sealing`.

Nothing is parsed, delayed or reordered here, and no object of the application is changed. Two exceptions, both
settings: the request id goes out on a copied start message, and `durable` delivery holds back the message that
completes the response: the start itself for HEAD, 204, 304 and Content-Length 0, the one that completes the declared
Content-Length (a BaseHTTPMiddleware below us sends an empty final message after it), else the final one; never the
start of a stream.
"""

from __future__ import annotations

from typing import Any

from ..exchange.draft import Body, Draft, Headers, body_of, is_bodyless
from .asgi import Message, Receive, Send
from .reading import ReadHeaders, all_tuples
from .sealing import Sealing

__all__ = ["HttpCapture"]

_JOIN_BELOW = 1024  # small chunks are joined up to this, or 64 KiB in single bytes would cost megabytes of objects
_CLIENT_GONE = ("BrokenResourceError", "ClosedResourceError", "ClientDisconnected")
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


class HttpCapture(Sealing, eq=False):
    """The two wrapped callables of one request. `handle.draft` is None once it is sealed: everything passes through
    then."""

    inner_receive: Receive
    inner_send: Send
    finishing: bool = False  # the final message is on its way to the server; of a small body: `response` is bytes
    trailers: bool = False  # announced: the last trailer is the final message
    length: int = -1  # the declared Content-Length; only when delivery needs it

    def __deepcopy__(self, memo: object) -> HttpCapture:
        return self  # of a framework's request, which holds `receive` and `send`: they are this request's

    async def receive(self) -> Message:
        message = await self.inner_receive()
        draft = self.handle.draft
        if draft is not None:
            try:
                if message["type"] == "http.request":
                    data = message.get("body", b"")
                    if (
                        draft.request is None
                        and type(data) is bytes
                        and len(data) <= self.config.request_small
                        and not message.get("more_body")
                    ):
                        draft.request = data  # the usual request in one step
                    else:
                        self._request_body(draft, data, message.get("more_body", False))
                elif message["type"] == "http.disconnect" and not self.finishing and not self._all_sent(draft):
                    self.gone = True
            except Exception:
                self.config.internal_error("receive")
        return message

    async def send(self, message: Message) -> None:
        draft = self.handle.draft
        if draft is None:
            return await self.inner_send(message)
        last = starting = False
        try:
            kind = message["type"]
            if kind == "http.response.body":
                data = message.get("body", b"")
                if (
                    draft.response is None
                    and type(data) is bytes
                    and len(data) <= self.config.response_small
                    and not message.get("more_body")
                ):
                    draft.response = data  # the usual response in one step
                    last = True
                else:
                    last = self.finishing = self._response_body(draft, data, message.get("more_body", False))
            elif kind == "http.response.start":
                if draft.start is None:
                    starting = True
                    message = self._start(draft, message)
                    last = self.config.durable and self._completes(draft)
            else:
                last = self.finishing = self._other(draft, kind, message)
        except Exception:
            self.config.internal_error("send")
        if last and self.config.durable:
            waiter = await self._seal_durably("disconnected" if self.gone else "completed")
            del draft  # its bodies were given back; a slow client may hold us here for long
            if waiter is not None:
                return await waiter.forward(self.inner_send, message)
            return await self.inner_send(message)
        try:
            await self.inner_send(message)
        except BaseException as error:
            if self.handle.draft is not None:
                self._not_sent(draft, error, starting)
            raise
        if last:
            self.seal("disconnected" if self.gone else "completed")
        return None

    def _request_body(self, draft: Draft, data: Any, more: bool) -> None:
        body = draft.request = self._grown(draft, draft.request)
        if data:
            self._keep(draft, body, data, self.config.request_limit)
        if not more:
            body.complete = True

    def _response_body(self, draft: Draft, data: Any, more: bool) -> bool:
        """True when this is the last of the response, or completes it for the client of a `durable` one."""
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
        """A body that does not come in one small message, or has to be added to."""
        if type(seen) is bytes and not self.handle.recorder.reserve(draft, len(seen)):
            return Body(total=len(seen), complete=True, pressure=True)
        return body_of(seen)

    def _start(self, draft: Draft, message: Message) -> Message:
        """The message to forward: the same one, or a copy with the request id."""
        status = message.get("status")
        if type(status) is not int:
            status = _number(status)  # not an HTTPStatus
        if message.get("trailers"):
            self.trailers = True
            draft.response = Body()  # its last message is not the last of the response
        given = message.get("headers", ())
        wanted = self.config.header_out
        if type(given) is list and all_tuples(map(type, given)):
            # A list of its own: Starlette hands over a response's own list, and appending to it would grow it on every
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
                pass  # no pairs of bytes
        read = ReadHeaders(given)
        draft.start = status, read.pairs
        stand_in = read.stand_in
        if wanted is not None and read.is_whole and read.value(wanted) is None:
            stand_in = [*stand_in, (wanted, draft.request_id.encode())]
        return message if stand_in is given else {**message, "headers": stand_in}

    def _completes(self, draft: Draft) -> bool:
        """Whether the start completes the response for the client; for `durable` delivery."""
        if self.trailers:
            return False
        if not is_bodyless(draft):
            self.length = _declared(draft)
            if self.length != 0:
                return False
        draft.response = b""
        return True

    def _other(self, draft: Draft, kind: str, message: Message) -> bool:
        """Messages of extensions; True for one that is the last of the response."""
        body = draft.response = self._grown(draft, draft.response)
        if kind == "http.response.pathsend":
            # The server reads the file; what it declared is all that we know of the size without asking the disk.
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
        """Count a chunk, and keep what the limit and the shared budget leave room for, in bytes of our own."""
        exact = type(data) is bytes
        if not exact and not isinstance(data, bytes):
            try:
                data = memoryview(data)  # a bytearray, which the application may use again
            except TypeError:
                return  # no bytes: the server's to refuse
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
        """The final message is on its way, or the client has its whole response though that is still to come
        (BaseHTTPMiddleware sends an empty one): it may leave then and did not disconnect."""
        response = draft.response
        if type(response) is bytes:
            return True
        if draft.start is None or self.trailers:
            return False
        if is_bodyless(draft):
            return True
        return 0 <= _declared(draft) <= (response.total if isinstance(response, Body) else 0)

    def _not_sent(self, draft: Draft, error: BaseException, starting: bool) -> None:
        """The server refused a message."""
        self.finishing = False
        if type(draft.response) is bytes:
            draft.response = self._grown(draft, draft.response)
        if starting:
            draft.start = None
            self.trailers = False
        if isinstance(error, OSError):
            if not isinstance(error, _NO_FILE):  # of pathsend: the file is gone, not the client
                self.gone = True
        elif type(error).__name__ in _CLIENT_GONE:
            self.gone = True


def _number(status: Any) -> int | None:
    try:
        return int(status)
    except (TypeError, ValueError):
        return None  # the server's to refuse


def _declared(draft: Draft) -> int:
    """The declared length of the response, or -1."""
    headers: Headers = draft.start[1] if draft.start is not None else []
    try:
        for name, value in headers:
            if len(name) == 14 and name.lower() == b"content-length":
                return int(value) if value.isdigit() else -1
    except (ValueError, TypeError, AttributeError):
        pass  # no pairs of bytes, or too many digits
    return -1
