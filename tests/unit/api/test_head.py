"""Goal: a request head that HTTP allows is understood, and a refused one gets the error of the dialect at its path."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_audit.api.failure import REFUSED_KEY
from asgi_audit.api.head import LINE_BYTES_MAX, TOO_LONG, in_origin_form, refused_scope


def scope(target: bytes, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"raw_path": target, "path": target.decode(), "query_string": b"a=1", "headers": list(headers)}


@pytest.mark.parametrize("target", [b"/logs", b"/http://x/logs", b"*", b"x:443", b"http:/logs", b"ftp://x/logs", b""])
def test_other_targets_stay_what_they_are(target: bytes) -> None:
    given = scope(target, (b"host", b"x"))
    assert in_origin_form(given) is given


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        (b"http://audit.example.com/logs", b"/logs", b"audit.example.com"),
        (b"HTTPS://AUDIT.example.com:8443/a%2Fb/%C3%A9", b"/a%2Fb/%C3%A9", b"AUDIT.example.com:8443"),
        (b"http://user:word@[::1]:80//x", b"//x", b"[::1]:80"),
        (b"http://x", b"/", b"x"),
        (b"http:///logs", b"/logs", b""),
    ],
)
def test_absolute_target_is_its_path_and_names_the_host(target: bytes, path: bytes, host: bytes) -> None:
    found = in_origin_form(scope(target, (b"accept", b"*/*"), (b"host", b"another"), (b"host", b"third")))
    assert (found["raw_path"], found["query_string"]) == (path, b"a=1")
    assert found["headers"] == [(b"host", host), (b"accept", b"*/*")]
    assert "%" not in found["path"]


@pytest.mark.parametrize(
    ("head", "path", "host"),
    [
        (b"GET /logs?a=1 HTTP/1.1\r\nHost: x\r\n\r\n", b"/logs", b"x"),
        (b"\r\n\r\nPOST /api HTTP/1.1\r\nAccept: */*\r\nHOST:\taudit:1\r\n", b"/api", b"audit:1"),
        (b"GET /" + b"x" * LINE_BYTES_MAX, b"/" + b"x" * LINE_BYTES_MAX, None),
        (b"GET http://y/logs HTTP/1.1\r\nHost: x", b"/logs", b"y"),
        (b"GET /a\xffb HTTP/1.1", b"/a", None),
        (b"\x16\x03\x01", b"*", None),
        (b"", b"*", None),
    ],
)
def test_scope_of_what_is_refused_has_what_can_be_read(head: bytes, path: bytes, host: bytes | None) -> None:
    found = refused_scope(head, TOO_LONG, client=("192.0.2.1", 1))
    assert (found["raw_path"], found["method"], found["client"]) == (path, "GET", ("192.0.2.1", 1))
    assert found["headers"] == ([] if host is None else [(b"host", host)])
    assert found[REFUSED_KEY] is TOO_LONG
