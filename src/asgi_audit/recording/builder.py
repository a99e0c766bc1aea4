"""From a sealed exchange to the bytes of its record: one line of JSON in the wire order, joined from byte fragments.

Runs in the recorder's thread. No dict of the whole record is made: constant parts are encoded once, headers that
carry no secret and repeat are remembered as encoded pairs, bodies are embedded as their own bytes.

Invariants. `build` raises for no content of an exchange (surrogates, Latin-1 headers, invalid UTF-8, odd methods),
and what it answers is valid UTF-8 JSON without a line feed. Bounds: path and URL 16 KiB each, a query 16 KiB and
2,000 parameters, headers 64 KiB and 500 of them each way, a text of the context 1,000 characters; what was cut is
named in `context.truncated`. A body is at most the setting `body_bytes_max`, which JSON's escapes can make six times
as long: with the default settings a record stays below 1 MiB. What was masked is searched for in the whole record
before it is sealed (`reflection`); identity and request id are never altered. Beside the caches of `headers` and
`names`, routes and operations are remembered: at most 1,024, emptied when full.
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
from .headers import First, Headers
from .headers import json_text as _text
from .redaction import Names, TooDense, decoded_pairs, mask_path, mask_query, mask_url, note, redact_json
from .redaction_json import speaks_oauth
from .reflection import Redacted, Search, hidden_text

__all__ = ["PATH_BYTES_MAX", "Builder"]

PATH_BYTES_MAX = 16_384
_CACHE_MAX = 1_024
_TIMESTAMP_MAX = (1 << 43) - 1

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


# Where in the parts of a record the fragments stand that are searched whole: bodies with their numbers too.
_FRAGMENTS = (
    (7, "request.method"), (9, "request.path"), (11, "request.originalUrl"), (13, "request.hostname"),
    (15, "request.headers"), (17, "request.query"), (19, "request.body"), (21, "response.headers"),
    (23, "response.body"),
)  # fmt: skip
_CONTEXT_AT = 26  # the first part that is a piece of the context


def _mask_again(parts: list[bytes], search: Search, redacted: Redacted, at_redacted: int) -> None:
    """Mask in all parts what was masked in one of them. Identity, request id and what is no text of others stay."""
    for at, name in _FRAGMENTS:
        kept = search.masked(parts[at], numbers=name.endswith(".body"))
        if kept is not parts[at]:
            parts[at] = kept
            note(redacted, "reflected." + name)
    for at in range(_CONTEXT_AT, len(parts) - 2):
        if at == at_redacted:
            continue
        named = parts[at - 1].endswith(b'":')  # a value by itself: annotations, the message
        kept = search.masked(parts[at], keys=named, numbers=named)
        if kept is not parts[at]:
            parts[at] = kept
            note(redacted, "reflected.context")
    parts[at_redacted] = search.masked(_paths(redacted), keys=False, numbers=False)


def _paths(redacted: Redacted) -> bytes:
    return b',"redacted":' + orjson.dumps([_clean(path) for path in redacted])


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
        self._headers = Headers(self._names, (settings.request_id_header or "").lower().encode())
        self._places: dict[tuple[str | None, str | None], bytes] = {}  # encoded (route, operation)

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
        redacted = Redacted()
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
        request_headers, asked = self._headers.encoded(
            x.request_headers, "request.headers", request_id, redacted, truncated
        )
        response_headers, answered = self._headers.encoded(
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
            b',"hostname":', self._headers.hostname(host), b',"headers":', request_headers, b',"query":', query,
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
        add(self._headers.content_type(asked))
        add(_CAPTURED[request_captured])
        add(b',"responseBody":{"bytes":%d' % x.response_body.total)
        add(self._headers.content_type(answered))
        add(_CAPTURED[response_captured])
        if x.org_id or x.org_key:
            add(b',"org":{"id":%b,"key":%b}' % (_text(x.org_id or ""), _text(x.org_key or "")))
        if x.annotations:
            add(b',"annotations":')
            add(self._annotations(x.annotations, redacted))
        message = self._message(x.message, redacted) if x.message else b""
        add(b"")  # the place of `redacted`, of which more may follow
        at_redacted = len(parts) - 1
        if redacted:
            parts[at_redacted] = _paths(redacted)
        if truncated:
            add(b',"truncated":' + orjson.dumps(truncated))
        if x.level in LEVELS:
            add(b',"level":"%b"' % x.level.encode())
        if message:
            add(b',"message":')
            add(message)
        add(self._capture_head)
        add(b'%d,"salt":"%b"}}}' % (x.sequence, self._salt().encode()))
        record = b"".join(parts)
        if redacted.values or redacted.spans:
            search = Search(redacted, x.path)
            if search.may_hit(record):
                _mask_again(parts, search, redacted, at_redacted)
                return b"".join(parts)
        return record

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
        if plain and given == path.encode() and "?" not in path and not _PATH_MAY_HIDE(path):  # by far the most
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
        if _PATH_MAY_HIDE(original) or _PATH_MAY_HIDE(path):
            path = mask_path(path.encode("utf-8", "replace"), self._names, redacted).decode("utf-8", "replace")
            original = mask_path(original.encode("latin-1", "replace"), self._names, redacted).decode("latin-1")
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
    def _expects_body(x: Exchange, headers: First) -> bool:
        """Whether the request announced a body: without one, bytes that never came are none that nobody read."""
        length = headers.get(b"content-length")
        if length is not None:
            return length.strip(b" 0") != b""
        if b"transfer-encoding" in headers:
            return True
        # HTTP/1 has a body only when it says so; HTTP/2 may send one without a word.
        return not x.http_version.startswith("1") and x.method not in _NO_BODY_METHODS

    def _body_of(
        self, body: Body, detail: str, shed: int, headers: First, base: str, redacted: Redacted,
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
        if not self._names.hit(data) and not speaks_oauth(data):
            return data
        try:
            return redact_json(data, self._names, "context.annotations", redacted)
        except TooDense:
            note(redacted, "context.annotations")
            return b"{}"

    def _message(self, message: str, redacted: Redacted) -> bytes:
        raw = str(message).encode("utf-8", "replace")
        kept = mask_url(raw, self._names, redacted, text=True) if b"?" in raw or b"//" in raw else raw
        if self._names.suspicious(kept):
            hidden_text(redacted, kept, self._names)
            kept = _HIDDEN
        if kept != raw:
            note(redacted, "context.message")
        return _text(kept.decode("utf-8", "replace"))


_HIDDEN = b"[REDACTED]"
# A pair, an escape that could be one, user information, a card number, a long word that may be a token: other paths
# have no place for a secret that we know.
_PATH_MAY_HIDE = re.compile("[=%@]|[0-9]{4}[ -]?[0-9]{4}|[A-Za-z0-9_-]{16}").search


def _readable(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()


def _clean(path: str) -> str:
    return path.encode("utf-8", "replace").decode()
