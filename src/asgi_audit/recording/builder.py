"""From a sealed exchange to the bytes of its record: one line of JSON in the wire order, joined from byte fragments.

Runs in the recorder's thread. No dict of the whole record is made: constant parts are encoded once, headers that
carry no secret and repeat are remembered as encoded pairs, bodies are embedded as their own bytes.

Invariants. `build` raises for no content of an exchange (surrogates, Latin-1 headers, invalid UTF-8, odd methods),
and what it answers is valid UTF-8 JSON without a line feed. Bounds: path and URL 16 KiB each, a query 16 KiB and
2,000 parameters, headers 64 KiB and 500 of them each way, a text of the context 1,000 characters; what was cut is
named in `context.truncated`. A body is at most the setting `body_bytes_max`, which JSON's escapes can make six times
as long: with the default settings a record stays below 1 MiB. The caches hold names, values of the headers in
`_REPEATED`, and host names: at most 1,024 entries of at most 256 bytes, emptied when full.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import orjson

from ..capture.exchange import Body, Exchange
from ..record.codec import RECORD_VERSION
from ..record.ids import random_bytes, uuid7
from ..record.summary import LEVELS
from ..settings import Settings
from ..transport.base import ProcessFacts
from .bodies import NULL, fragment
from .redaction import (
    HIDDEN,
    PLAIN,
    Names,
    TooDense,
    decoded_pairs,
    header_kind,
    mask_header,
    mask_query,
    mask_url,
    note,
    redact_json,
)

__all__ = ["HEADERS_MAX", "HEADER_BYTES_MAX", "PATH_BYTES_MAX", "TEXT_MAX", "Builder"]

HEADER_BYTES_MAX = 65_536
HEADERS_MAX = 500
PATH_BYTES_MAX = 16_384
TEXT_MAX = 1_000
_CACHE_MAX = 1_024
_CACHED_BYTES_MAX = 256
_TIMESTAMP_MAX = (1 << 43) - 1

# Headers whose values repeat from request to request and are no secrets: only these are remembered with their value.
_REPEATED = frozenset({
    b"accept", b"accept-encoding", b"accept-language", b"accept-ranges", b"access-control-allow-credentials",
    b"access-control-allow-headers", b"access-control-allow-methods", b"access-control-allow-origin", b"age",
    b"allow", b"cache-control", b"connection", b"content-encoding", b"content-language", b"content-length",
    b"content-type", b"dnt", b"expect", b"host", b"keep-alive", b"pragma", b"priority", b"referrer-policy",
    b"sec-ch-ua", b"sec-ch-ua-mobile", b"sec-ch-ua-platform", b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site",
    b"sec-fetch-user", b"server", b"strict-transport-security", b"te", b"transfer-encoding",
    b"upgrade-insecure-requests", b"user-agent", b"vary", b"via", b"x-content-type-options", b"x-forwarded-proto",
    b"x-frame-options", b"x-requested-with", b"x-xss-protection",
})  # fmt: skip
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_NO_BODY_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "DELETE", "TRACE"))
_OUTCOMES = {
    o: b',"outcome":"' + o.encode() + b'"' for o in ("completed", "failed", "disconnected", "cancelled", "interrupted")
}
_CAPTURED = {
    c: b',"captured":"' + c.encode() + b'"}'
    for c in ("full", "truncated", "omitted", "empty", "unread", "undecodable", "pressure")
}

Redacted = list[str]
_dumps = orjson.dumps


def _text(value: object, limit: int = TEXT_MAX) -> bytes:
    """JSON string of any object that should be text: cut, lone surrogates as U+FFFD."""
    if type(value) is str and len(value) <= limit:
        text = value
    else:
        text = str(value)[:limit]
    try:
        return _dumps(text)
    except (TypeError, ValueError):
        return orjson.dumps(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _shorter(body: Body, size: int) -> Body:
    if body.kept <= size:
        return body
    return Body([body.data()[:size]], size, body.total, body.complete, body.pressure)


class Builder:
    """One per face of the recorder and process, used by the recorder's thread alone.

    salt: makes 32 hex digits a record; ids: makes `metadata.id` from milliseconds since the epoch."""

    def __init__(
        self,
        settings: Settings,
        facts: ProcessFacts,
        *,
        salt: Callable[[], str] = lambda: random_bytes(16).hex(),
        ids: Callable[[int], str] = uuid7,
    ) -> None:
        self._salt = salt
        self._ids = ids
        self._bytes_max = settings.record_bytes_max
        self._names = Names(settings.redact_names)
        self._account = _text(settings.account_id)
        self._service = _text(settings.service)
        self._instance = _text(settings.instance_id)
        self._identity = self._identity_of(self._account, self._service, self._instance)
        self._metadata_tail = (
            b',"version":"%b","region":%b,"scope":%b},"request":{"auth":'
            % (RECORD_VERSION.encode(), _text(settings.region), _text(settings.scope))
        )  # fmt: skip
        self._context_host = b',"host":' + _text(facts.host) if facts.host else b""
        self._capture_head = b',"capture":{"process":"%b","sequence":' % str(facts.process).encode()
        self._pairs: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}  # encoded (name, value) of repeated headers
        self._headers: dict[bytes, tuple[bytes, int, bytes]] = {}  # name: encoded, its kind, in lower case
        self._hosts: dict[bytes, bytes] = {}
        self._places: dict[tuple[str | None, str | None], bytes] = {}  # encoded (route, operation)
        self._id_header = (settings.request_id_header or "").encode()
        self._types: dict[bytes, bytes] = {}

    @staticmethod
    def _identity_of(account: bytes, service: bytes, instance: bytes) -> bytes:
        return b'{"account_id":%b,"service":%b,"instance_id":%b,"metadata":{"id":"' % (account, service, instance)

    def build(self, exchange: Exchange, shed: int = 0) -> bytes:
        """The record's bytes, at most `record_bytes_max`. shed: 0 all that the exchange's detail wants, 1 no bodies, 2
        no headers either."""
        record = self._build(exchange, shed)
        if len(record) > self._bytes_max:
            return self._cut(exchange, shed)
        return record

    def _cut(self, x: Exchange, shed: int) -> bytes:
        """What a broker would refuse is cut before it is sealed: first the bodies, then they go, then the headers, then
        what the application said."""
        # A byte of a body may take six, so a 48th of the room is safe for two of them.
        for share, more in ((4, 0), (16, 0), (48, 0), (48, 1), (48, 2)):
            x.request_body = _shorter(x.request_body, self._bytes_max // share)
            x.response_body = _shorter(x.response_body, self._bytes_max // share)
            if more >= shed and len(record := self._build(x, more)) <= self._bytes_max:
                return record
        x.annotations = {"cut": "the annotations were too large"}
        return self._build(x, 2)

    def _build(self, exchange: Exchange, shed: int) -> bytes:
        x = exchange
        redacted: Redacted = []
        truncated: list[str] = []
        started = x.started_ns // 1_000_000
        timestamp = min(max(started, 0), _TIMESTAMP_MAX)
        identity = self._identity
        if x.account_id is not None or x.service is not None or x.instance_id is not None:
            identity = self._identity_of(
                self._account if x.account_id is None else _text(x.account_id),
                self._service if x.service is None else _text(x.service),
                self._instance if x.instance_id is None else _text(x.instance_id),
            )
        auth = b'{"method":"none","publicKey":""}'
        if x.auth_method is not None or x.auth_public_key is not None:
            auth = b'{"method":%b,"publicKey":%b}' % (_text(x.auth_method or "none"), _text(x.auth_public_key or ""))

        request_id = x.request_id.encode() if _REQUEST_ID.fullmatch(x.request_id) else None
        request_headers, asked = self._headers_of(x.request_headers, "request.headers", request_id, redacted, truncated)
        response_headers, answered = self._headers_of(
            x.response_headers, "response.headers", request_id, redacted, truncated
        )
        if x.detail_request in ("none", "metadata") or shed > 1:
            request_headers = b"{}"
        if x.detail_response in ("none", "metadata") or shed > 1:
            response_headers = b"{}"
        host = asked.get(b"host", b"")
        path, url, query = self._url_of(x, redacted, truncated)
        request_body, request_captured = self._body_of(
            x.request_body, x.detail_request, shed, asked, "request.body", redacted, self._expects_body(x, asked)
        )
        response_body, response_captured = self._body_of(
            x.response_body, x.detail_response, shed, answered, "response.body", redacted, None
        )
        if x.status is None:
            status = 499 if x.outcome in ("disconnected", "cancelled") else 500
        else:
            status = min(max(int(x.status), 100), 999)

        parts = [
            identity, self._ids(timestamp).encode(), b'","requestId":', _text(x.request_id), self._metadata_tail, auth,
            b',"method":', _text(x.method), b',"path":', path, b',"originalUrl":', url,
            b',"hostname":', self._hostname(host), b',"headers":', request_headers, b',"query":', query,
            b',"body":', request_body, b'},"response":{"statusCode":%d,"headers":' % status, response_headers,
            b',"body":', response_body,
            b'},"timestamp":%d,"context":{"durationNs":%d' % (timestamp, max(x.duration_ns, 0)), self._context_host,
        ]  # fmt: skip
        add = parts.append
        if x.principal:
            add(b',"principal":' + _text(x.principal))
        if x.client:
            add(b',"client":' + _text(x.client))
        add(self._place(x))
        trace = asked.get(b"traceparent")
        if trace is not None:
            self._trace(trace, add)
        if x.type == "websocket":
            add(b',"protocol":"websocket"')
        elif x.http_version == "1.1":
            add(b',"protocol":"http/1.1"')
        else:
            add(b',"protocol":' + _text("http/" + str(x.http_version), 20))
        add(_OUTCOMES.get(x.outcome) or b',"outcome":' + _text(x.outcome))
        if x.error_type:
            add(b',"error":{"type":' + _text(x.error_type) + (b',"fatal":true}' if x.error_fatal else b"}"))
        add(b',"requestBody":{"bytes":%d' % x.request_body.total)
        add(self._content_type(asked))
        add(_CAPTURED[request_captured])
        add(b',"responseBody":{"bytes":%d' % x.response_body.total)
        add(self._content_type(answered))
        add(_CAPTURED[response_captured])
        if x.org_id or x.org_key:
            add(b',"org":{"id":%b,"key":%b}' % (_text(x.org_id or ""), _text(x.org_key or "")))
        if x.annotations:
            add(b',"annotations":')
            add(self._annotations(x.annotations, redacted))
        message = self._message(x.message, redacted) if x.message else b""
        if redacted:
            add(b',"redacted":')
            add(orjson.dumps([_clean(path) for path in redacted]))
        if truncated:
            add(b',"truncated":' + orjson.dumps(truncated))
        if x.level in LEVELS:
            add(b',"level":"%b"' % x.level.encode())
        if message:
            add(b',"message":')
            add(message)
        add(self._capture_head)
        add(b'%d,"salt":"%b"}}}' % (x.sequence, self._salt().encode()))
        return b"".join(parts)

    def _place(self, x: Exchange) -> bytes:
        """Route and operation, which repeat."""
        try:
            place = (x.route, x.operation or x.endpoint)
        except Exception:  # the exchange reads them only now from the framework's own objects
            place = (None, x.operation)
        known = self._places.get(place)
        if known is None:
            route, operation = place
            known = (b',"route":' + _text(route) if route else b"") + (
                b',"operation":' + _text(operation) if operation else b""
            )
            if len(self._places) >= _CACHE_MAX:
                self._places.clear()
            self._places[place] = known
        return known

    # Headers

    def _headers_of(
        self,
        headers: list[tuple[bytes, bytes]],
        base: str,
        request_id: bytes | None,
        redacted: Redacted,
        truncated: list[str],
    ) -> tuple[bytes, dict[bytes, bytes]]:
        """(JSON object, the first value of each name that the builder itself reads, by lower-case name).

        Values of known headers come from the cache; the others are scanned for secrets in one go."""
        first: dict[bytes, bytes] = {}
        pairs: list[tuple[bytes, bytes]] = []
        fresh: list[tuple[int, bytes, bytes, int, bytes]] = []  # place in `pairs`, encoded name, value, kind, name
        cached = self._pairs.get
        size = 0
        if len(headers) > HEADERS_MAX:
            headers = headers[:HEADERS_MAX]
            truncated.append(base)
        for name, value in headers:
            known = cached((name, value))
            if known is not None:
                if name in _READ:
                    first.setdefault(name, value)
                pairs.append(known)
                size += 40
                continue
            size += len(name) + len(value)
            if size > HEADER_BYTES_MAX:
                truncated.append(base)
                break
            encoded, kind, lower = self._headers.get(name) or self._header(name)
            if lower in _READ:
                first.setdefault(lower, value)
            if kind == HIDDEN:
                pairs.append((encoded, _HIDDEN_JSON))
                note(redacted, base + "." + encoded[1:-2].decode())
            elif lower == self._id_header and value == request_id:
                # Stands in the record already, and may hold letters, digits and three marks only.
                pairs.append((encoded, b'"' + value + b'"'))
            else:
                fresh.append((len(pairs), encoded, value, kind, lower))
                pairs.append((encoded, b""))
        if fresh:
            self._encode(fresh, pairs, base, redacted)
        merged = dict(pairs)
        if len(merged) != len(pairs):
            return self._repeated(pairs), first
        return b"{" + b",".join([name + value for name, value in merged.items()]) + b"}", first

    def _encode(
        self,
        fresh: list[tuple[int, bytes, bytes, int, bytes]],
        pairs: list[tuple[bytes, bytes]],
        base: str,
        redacted: Redacted,
    ) -> None:
        names = self._names
        alarm = names.hit(b"\n".join([value for _, _, value, kind, _ in fresh if kind == PLAIN]))
        for at, encoded_name, value, kind, lower in fresh:
            kept = value
            if kind != PLAIN or alarm:
                kept = mask_header(kind, value, names)
            encoded = _text(kept.decode("latin-1"), HEADER_BYTES_MAX)
            if kept is not value and kept != value:
                note(redacted, base + "." + encoded_name[1:-2].decode())
            elif lower in _REPEATED and len(value) <= _CACHED_BYTES_MAX:
                if len(self._pairs) >= _CACHE_MAX:
                    self._pairs.clear()
                self._pairs[lower, value] = (encoded_name, encoded)
            pairs[at] = (encoded_name, encoded)

    def _header(self, name: bytes) -> tuple[bytes, int, bytes]:
        """What is to be done with headers of this name, remembered."""
        text = name.decode("latin-1").lower()[:200]
        known = (_text(text) + b":", header_kind(text, self._names), text.encode("latin-1"))
        if len(name) <= 64:
            if len(self._headers) >= _CACHE_MAX:
                self._headers.clear()
            self._headers[name] = known
        return known

    @staticmethod
    def _repeated(pairs: list[tuple[bytes, bytes]]) -> bytes:
        together: dict[bytes, list[bytes]] = {}
        for name, value in pairs:
            together.setdefault(name, []).append(value)
        return (
            b"{"
            + b",".join(
                [n + (v[0] if len(v) == 1 else b"[" + b",".join(v) + b"]") for n, v in together.items()]
            )
            + b"}"
        )  # fmt: skip

    def _hostname(self, host: bytes) -> bytes:
        """The name of `Host` without its port; an IPv6 address keeps its brackets."""
        known = self._hosts.get(host)
        if known is None:
            text = host.decode("latin-1").strip().rpartition("@")[2]
            end = text.find("]") + 1 if text.startswith("[") else text.find(":")
            known = _text(text[:end] if end > 0 else text, 255)
            if len(host) <= _CACHED_BYTES_MAX:
                if len(self._hosts) >= _CACHE_MAX:
                    self._hosts.clear()
                self._hosts[host] = known
        return known

    def _content_type(self, headers: dict[bytes, bytes]) -> bytes:
        value = headers.get(b"content-type")
        if value is None:
            return b""
        known = self._types.get(value)
        if known is None:
            kept = mask_header(PLAIN, value[:200], self._names)
            known = b',"contentType":' + _text(kept.decode("latin-1"))
            if len(value) <= 100 and kept == value:
                if len(self._types) >= _CACHE_MAX:
                    self._types.clear()
                self._types[value] = known
        return known

    @staticmethod
    def _trace(value: bytes, add: Callable[[bytes], Any]) -> None:
        m = _TRACEPARENT.fullmatch(value)
        if m and not value.startswith(b"ff") and m[1].strip(b"0") and m[2].strip(b"0"):
            add(b',"traceId":"%b","spanId":"%b"' % (m[1], m[2]))

    # URL

    def _url_of(self, x: Exchange, redacted: Redacted, truncated: list[str]) -> tuple[bytes, bytes, bytes]:
        """Encoded (path inside the mount, URL as received, query object)."""
        path = x.path
        root = x.root_path
        given = x.raw_path
        plain = given is not None and not root and not x.query_string and len(path) <= 1024 and path.isascii()
        if plain and given == path.encode() and "?" not in path:  # by far the most
            encoded = _text(path)
            return encoded, encoded, b"{}"
        if root and path.startswith(root) and path[len(root) :][:1] in ("", "/"):
            path = path[len(root) :] or "/"
        if x.raw_path is not None:
            original = x.raw_path.partition(b"?")[0].decode("latin-1")
        else:
            original = quote(x.path, safe="/:@!$&'()*+,;=~-._", errors="replace")
        if len(path) > PATH_BYTES_MAX:
            path = path[:PATH_BYTES_MAX]
            truncated.append("request.path")
        if len(original) > PATH_BYTES_MAX:
            original = original[:PATH_BYTES_MAX]
            truncated.append("request.originalUrl")
        raw = x.query_string
        if not raw or x.detail_request == "none":
            return _text(path, PATH_BYTES_MAX), _text(original, PATH_BYTES_MAX), b"{}"
        if len(raw) > PATH_BYTES_MAX:
            raw = raw[:PATH_BYTES_MAX]
            truncated.append("request.query")
        names = self._names
        hit = names.hit(raw) or raw.find(b"code=") >= 0
        kept = mask_query(raw, names, redacted, "request.query") if hit else raw
        query, cut = decoded_pairs(raw, names, redacted, "request.query", hit=hit)
        if cut and "request.query" not in truncated:
            truncated.append("request.query")
        url = original + "?" + kept.decode("latin-1")
        return _text(path, PATH_BYTES_MAX), _text(url, 4 * PATH_BYTES_MAX), orjson.dumps(query)

    # Bodies

    @staticmethod
    def _expects_body(x: Exchange, headers: dict[bytes, bytes]) -> bool:
        """Whether the request announced a body: without one, bytes that never came are none that nobody read."""
        length = headers.get(b"content-length")
        if length is not None:
            return length.strip(b" 0") != b""
        if b"transfer-encoding" in headers:
            return True
        # HTTP/1 has a body only when it says so; HTTP/2 may send one without a word.
        return not x.http_version.startswith("1") and x.method not in _NO_BODY_METHODS

    def _body_of(
        self, body: Body, detail: str, shed: int, headers: dict[bytes, bytes], base: str, redacted: Redacted,
        expected: bool | None,
    ) -> tuple[bytes, str]:  # fmt: skip
        """expected: None for a response."""
        if body.total == 0:
            return NULL, "unread" if expected and not body.complete else "empty"
        if detail != "bodies":
            return NULL, "omitted"
        if shed:
            return NULL, "pressure"
        return fragment(
            body, headers.get(b"content-type", b""), headers.get(b"content-encoding", b""), self._names, base, redacted,
            request=expected is not None,
        )  # fmt: skip

    # What the application said

    def _annotations(self, annotations: dict[str, Any], redacted: Redacted) -> bytes:
        try:
            data = orjson.dumps(annotations, default=str, option=orjson.OPT_NON_STR_KEYS)
        except (TypeError, ValueError, RecursionError):
            data = orjson.dumps({_readable(k): _readable(v) for k, v in annotations.items()})
        if not self._names.hit(data):
            return data
        try:
            return redact_json(data, self._names, "context.annotations", redacted)
        except TooDense:
            note(redacted, "context.annotations")
            return b"{}"

    def _message(self, message: str, redacted: Redacted) -> bytes:
        raw = str(message).encode("utf-8", "replace")
        kept = mask_url(raw, self._names) if b"?" in raw or b"//" in raw else raw
        if self._names.suspicious(kept):
            kept = _HIDDEN
        if kept != raw:
            note(redacted, "context.message")
        return _text(kept.decode("utf-8", "replace"))


# The headers that the builder itself looks at.
_READ = frozenset(
    (b"host", b"content-type", b"content-encoding", b"content-length", b"transfer-encoding", b"traceparent")
)
_HIDDEN = b"[REDACTED]"
_HIDDEN_JSON = b'"[REDACTED]"'


def _readable(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()


def _clean(path: str) -> str:
    return path.encode("utf-8", "replace").decode()
