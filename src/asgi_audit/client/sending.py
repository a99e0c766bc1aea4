"""Address, headers and translated errors of httpx, for both clients."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import httpx

from ..errors import ConfigError
from .errors import NotReachable, ProtocolError, error_of
from .flows import Call, Reply

__all__ = ["KEY_VARIABLE", "URL", "URL_VARIABLE", "arguments", "client_arguments", "failed", "manifest_of", "reply_of"]

URL = "http://127.0.0.1:8400"
URL_VARIABLE = "ASGI_AUDIT_URL"
KEY_VARIABLE = "ASGI_AUDIT_KEY"


def client_arguments(url: str | None, key: str | None, timeout: float) -> dict[str, Any]:
    """For httpx.Client and httpx.AsyncClient. Raises ConfigError."""
    address = url or os.environ.get(URL_VARIABLE) or URL
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"the address is {address!r}; accepted: http://host[:port][/path] or https://…")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("the address has more than scheme, host, port and path", hint="Give the key as `key`.")
    secret = key or os.environ.get(KEY_VARIABLE) or ""
    if not secret.isascii() or any(c <= " " for c in secret):
        raise ConfigError("the key has characters that no key has", hint="`asgi-audit keys create` prints one.")
    headers = {"user-agent": "asgi-audit-client"} | ({"authorization": f"Bearer {secret}"} if secret else {})
    return {"base_url": address.rstrip("/"), "headers": headers, "timeout": timeout, "follow_redirects": False}


def arguments(call: Call) -> dict[str, Any]:
    """The arguments of one request."""
    found: dict[str, Any] = {
        "method": call.method,
        "url": call.path,
        "params": dict(call.params),
        "headers": {"accept": call.accept},
    }
    return found if call.body is None else found | {"json": call.body}


def reply_of(response: httpx.Response) -> Reply:
    if response.is_redirect:
        raise ProtocolError(
            f"{response.request.url.copy_with(query=None)} redirects, which this API never does",
            hint="Give the address that it redirects to.",
        )
    return Reply(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content
    )


def failed(error: httpx.HTTPError, address: object) -> NotReachable:
    what = "no response in time" if isinstance(error, httpx.TimeoutException) else (str(error) or type(error).__name__)
    return NotReachable(f"{address}: {what}", hint="Is `asgi-audit serve` running there?")


def manifest_of(response: httpx.Response | None) -> bytes | None:
    if response is None:
        return None
    if response.status_code != 200:
        raise error_of(response.status_code, response.content)
    return response.content
