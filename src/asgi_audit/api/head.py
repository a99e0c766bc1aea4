"""Reads request heads in ways that uvicorn does not.

A target in absolute form, `GET http://host/logs HTTP/1.1`, means its path, and its authority replaces the `Host` header
(RFC 9112, 3.2.2). A head that is not HTTP/1.1, or too long, has no scope; `refused_scope` makes one from what can be
read of the head, so that the error has the format of the dialect at its path.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from .failure import REFUSED_KEY, Failure

__all__ = ["LINE_BYTES_MAX", "TOO_LONG", "in_origin_form", "refusal_of", "refused_scope"]

LINE_BYTES_MAX = 8_192
"""How much of a head is searched for the request line and `Host`."""

# 400, which every dialect's document has; none has 431.
TOO_LONG = Failure(
    400, "the head of the request is longer than 16 KiB", "Send a shorter URL, and fewer or shorter headers."
)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^?#]*)", re.IGNORECASE)
_LINE = re.compile(rb"\s*[!-~]{1,40} ([!-~]+)")
_HOST = re.compile(rb"\nhost:[ \t]*([^\r\n]*)", re.IGNORECASE)
_NO_HTTP = Failure(
    400,
    "the request is not HTTP/1.1",
    "Check its first line, the headers (exactly one Host) and the length of the body.",
)


def in_origin_form(scope: dict[str, Any]) -> dict[str, Any]:
    """The scope with the path alone; the same one when it has nothing else."""
    found = _ABSOLUTE.match(scope["raw_path"])
    if found is None:
        return scope
    path = found[2] or b"/"
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    return {
        **scope,
        "raw_path": path,
        "path": unquote(path.decode("ascii")),
        "headers": [(b"host", found[1].rpartition(b"@")[2]), *headers],
    }


def refusal_of(error: BaseException | None) -> Failure:
    """The failure for an error of h11."""
    return TOO_LONG if getattr(error, "error_status_hint", 400) == 431 else _NO_HTTP


def refused_scope(head: bytes, refusal: Failure, **more: Any) -> dict[str, Any]:
    """A scope for which routing only sends `refusal`. `head`: the received bytes, from the first one on; empty when
    unknown. `more`: further keys of the scope, from the connection."""
    line = _LINE.match(head)
    path, _, query = (line[1] if line else b"*").partition(b"?")
    host = _HOST.search(head)
    return in_origin_form(
        {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",  # so that the response has a body
            "root_path": "",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "headers": [(b"host", host[1])] if host else [],
            REFUSED_KEY: refusal,
            **more,
        }
    )
