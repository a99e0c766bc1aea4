"""From a sealed exchange to the bytes of its record: one line of JSON in the wire order, joined from byte fragments.

Runs in the recorder's thread. It never makes a dict of the whole record: constant parts are encoded once, headers that
repeat and are no secrets are cached in encoded form, and bodies are embedded as their own bytes.

Invariants:
* `build` does not raise for any content of an exchange (surrogates, Latin-1 headers, invalid UTF-8, unusual methods).
  It returns valid UTF-8 JSON without a line feed.
* Bounds: path and URL 16 KiB each; a query 16 KiB and 2,000 parameters; 500 headers and 64 KiB of them in each
  direction; a text of the context 1,000 characters. What was cut is named in `context.truncated`. A body has at most
  the setting `body_bytes_max`, which JSON's escapes can make six times as long: with the default settings a record
  stays below 1 MiB.
* A value that was masked anywhere is searched for in the whole record (`parts.mask_again`). Identity and request id are
  never altered.
* Caches: those of `headers` and of the redaction's names, and 1,024 routes and operations. Each is emptied when full.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import orjson

from ..exchange.draft import Body
from ..exchange.sealed import Exchange
from ..record.codec import RECORD_VERSION
from ..record.derived import LEVELS
from ..record.ids import record_ids
from ..record.line import TIME_END
from ..redaction import REDACTED, RecordRedactor, Redactor, Search
from ..settings import Settings
from ..transport.base import ProcessFacts
from .bodies import NULL, fragment
from .headers import HeaderFacts, Headers
from .parts import mask_again, redacted_paths
from .text import TEXT_MAX, readable
from .text import json_text as _text
from .url import url_of

__all__ = ["Builder"]

_CACHE_MAX = 1_024
_TIMESTAMP_MAX = TIME_END - 1

# Version ff and ids of zeros are none.
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}").fullmatch
_NO_BODY_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "DELETE", "TRACE"))
_METHODS = {m: _text(m) for m in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")}
_NO_AUTH = b'{"method":"none","publicKey":""}'
_HTTP_1_1 = b',"protocol":"http/1.1"'
_OUTCOMES = {
    o: b',"outcome":"' + o.encode() + b'"' for o in ("completed", "failed", "disconnected", "cancelled", "interrupted")
}
_CAPTURED = {
    c: b',"captured":"' + c.encode() + b'"}'
    for c in ("full", "truncated", "omitted", "empty", "unread", "undecodable", "pressure")
}


def _shorter(body: Body, size: int) -> Body:
    if body.kept <= size:
        return body
    return Body([body.data()[:size]], size, body.total, body.complete, body.pressure)


# Making the tables takes 40 ms of CPU, which a test suite that makes an application in each test would pay each time.
_redactor_of = lru_cache(maxsize=8)(Redactor)


class Builder:
    """One for each middleware and process; used by the recorder's thread only.

    ids: returns (`metadata.id`, 32 hex digits of salt) for milliseconds since the epoch."""

    def __init__(
        self,
        settings: Settings,
        facts: ProcessFacts,
        *,
        ids: Callable[[int], tuple[str, str]] = record_ids,
    ) -> None:
        self._ids = ids
        self._bytes_max = settings.record_bytes_max
        self._redactor = _redactor_of(settings.redact_names, settings.redact_forms, settings.redact_paths)
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
        self._headers = Headers(self._redactor, (settings.request_id_header or "").lower().encode())
        self._places: dict[tuple[str | None, str | None], bytes] = {}  # encoded (route, operation)

    @staticmethod
    def _identity_of(account: bytes, service: bytes, instance: bytes) -> bytes:
        return b'{"account_id":%b,"service":%b,"instance_id":%b,"metadata":{"id":"' % (account, service, instance)

    def _annotated_identity(self, x: Exchange) -> bytes:
        return self._identity_of(
            self._account if x.account_id is None else _text(x.account_id),
            self._service if x.service is None else _text(x.service),
            self._instance if x.instance_id is None else _text(x.instance_id),
        )

    def build(self, exchange: Exchange, shed: int = 0) -> bytes:
        """The record's bytes, at most `record_bytes_max`. shed: 0 everything that the detail of the exchange includes,
        1 without bodies, 2 without headers, too."""
        record = self._build(exchange, shed)
        if len(record) > self._bytes_max:
            return self._cut(exchange, shed)
        return record

    def _cut(self, x: Exchange, shed: int) -> bytes:
        """A record that is too large for a broker is built again: with shorter bodies, without bodies, without headers,
        and at last without the application's annotations."""
        # A byte of a body can take six in JSON, so two bodies of a 48th of the room each are safe.
        for share, more in ((4, 0), (16, 0), (48, 0), (48, 1), (48, 2)):
            x.request_body = _shorter(x.request_body, self._bytes_max // share)
            x.response_body = _shorter(x.response_body, self._bytes_max // share)
            if more >= shed and len(record := self._build(x, more)) <= self._bytes_max:
                return record
        x.annotations = {"cut": "the annotations were too large"}
        return self._build(x, 2)

    def _build(self, exchange: Exchange, shed: int) -> bytes:
        x = exchange
        redactor = self._redactor.record()
        redacted = redactor.redacted
        truncated: list[str] = []
        timestamp = x.started_ns // 1_000_000
        if not 0 <= timestamp <= _TIMESTAMP_MAX:
            timestamp = min(max(timestamp, 0), _TIMESTAMP_MAX)
        identity = self._identity
        if x.account_id is not None or x.service is not None or x.instance_id is not None:
            identity = self._annotated_identity(x)
        auth = _NO_AUTH
        if x.auth_method is not None or x.auth_public_key is not None:
            auth = b'{"method":%b,"publicKey":%b}' % (_text(x.auth_method or "none"), _text(x.auth_public_key or ""))
        record_id, salt = self._ids(timestamp)
        request_id = None
        if _REQUEST_ID(x.request_id):
            request_id = x.request_id.encode()
            request_id_json = b'"' + request_id + b'"'
        else:
            request_id_json = _text(x.request_id)

        request_headers, asked, values = self._headers.encoded(
            x.request_headers, "request.headers", request_id, redactor, truncated
        )
        response_headers, answered, _ = self._headers.encoded(
            x.response_headers, "response.headers", request_id, redactor, truncated
        )
        if x.detail_request in ("none", "metadata") or shed > 1:
            request_headers = b"{}"
        if x.detail_response in ("none", "metadata") or shed > 1:
            response_headers = b"{}"
        path, url, query = url_of(x, redactor, truncated)
        body = x.request_body
        if body.total:
            request_body, asked_captured = self._body_of(body, x.detail_request, shed, asked, True, redactor)
        else:
            request_body = NULL
            asked_captured = "empty" if body.complete or not self._expects_body(x, asked, values) else "unread"
        body = x.response_body
        if body.total:
            response_body, answered_captured = self._body_of(body, x.detail_response, shed, answered, False, redactor)
        else:
            response_body = NULL
            answered_captured = "empty"
        status = x.status
        if type(status) is not int or not 100 <= status <= 999:
            status = _status_of(x)

        parts = [
            identity, record_id.encode(), b'","requestId":', request_id_json, self._metadata_tail, auth,
            b',"method":', _METHODS.get(x.method) or _text(x.method), b',"path":', path, b',"originalUrl":', url,
            b',"hostname":', asked.hostname, b',"headers":', request_headers, b',"query":', query,
            b',"body":', request_body, b'},"response":{"statusCode":%d,"headers":' % status, response_headers,
            b',"body":', response_body,
            b'},"timestamp":%d,"context":{"durationNs":%d' % (timestamp, x.duration_ns if x.duration_ns > 0 else 0),
            self._context_host,
            b',"principal":' + self._said(x.principal, redactor, "context.principal") if x.principal else b"",
            b',"client":' + _text(x.client) if x.client else b"",
            self._place(x, redactor),
            _trace(values[asked.trace]) if asked.trace >= 0 else b"",
            _HTTP_1_1 if x.http_version == "1.1" and x.type != "websocket" else _protocol(x),
            _OUTCOMES.get(x.outcome) or b',"outcome":' + _text(x.outcome),
            _error(x.error_type, x.error_fatal) if x.error_type else b"",
            b',"requestBody":{"bytes":%d' % x.request_body.total, asked.content_type_json, _CAPTURED[asked_captured],
            b',"responseBody":{"bytes":%d' % x.response_body.total, answered.content_type_json,
            _CAPTURED[answered_captured],
        ]  # fmt: skip
        add = parts.append
        if x.org_id or x.org_key:
            add(b',"org":{"id":%b,"key":%b}' % (_text(x.org_id or ""), _text(x.org_key or "")))
        if x.annotations:
            add(b',"annotations":')
            add(self._annotations(x.annotations, redactor))
        message = self._said(x.message, redactor, "context.message") if x.message else b""
        add(b"")  # the place of `redacted`, which is written last
        at_redacted = len(parts) - 1
        if redacted:
            parts[at_redacted] = redacted_paths(redacted)
        if truncated:
            add(b',"truncated":' + orjson.dumps(truncated))
        if x.level in LEVELS:
            add(b',"level":"%b"' % x.level.encode())
        if message:
            add(b',"message":')
            add(message)
        add(self._capture_head)
        add(b'%d,"salt":"%b"}}}' % (x.sequence, salt.encode()))
        record = b"".join(parts)
        if redactor.masked:
            search = Search(redactor.masked, x.path)
            if search.may_hit(record):
                mask_again(parts, search, redactor, at_redacted)
                return b"".join(parts)
        return record

    def _place(self, x: Exchange, record: RecordRedactor) -> bytes:
        """Route and operation as JSON, cached because they repeat."""
        try:
            place = (x.route, x.operation or x.endpoint)
        except Exception:  # raised by the framework's own objects, whose attributes are read here for the first time
            place = (None, x.operation)
        known = self._places.get(place)
        if known is None:
            route, operation = place
            known = b',"route":' + _text(route) if route else b""
            if operation:
                said = self._said(operation, record, "context.operation")
                known += b',"operation":' + said
                if REDACTED.encode() in said:
                    return known  # not cached: it was masked because of a secret of this record
            if len(self._places) >= _CACHE_MAX:
                self._places.clear()
            self._places[place] = known
        return known

    # Bodies

    @staticmethod
    def _expects_body(x: Exchange, headers: HeaderFacts, values: Sequence[bytes]) -> bool:
        """Whether the request announced a body. If not, a body that never came is `empty` and not `unread`."""
        if headers.length >= 0:
            return values[headers.length].strip(b" 0") != b""
        if headers.chunked:
            return True
        # HTTP/1 must announce a body; HTTP/2 may send one without doing so.
        return not x.http_version.startswith("1") and x.method not in _NO_BODY_METHODS

    def _body_of(
        self, body: Body, detail: str, shed: int, headers: HeaderFacts, request: bool, record: RecordRedactor
    ) -> tuple[bytes, str]:
        """(JSON fragment, captured) of a body that has at least one byte."""
        if detail != "bodies":
            return NULL, "omitted"
        if shed:
            return NULL, "pressure"
        return fragment(body, headers.content_type, headers.opaque, record, request=request)

    # What the application said

    def _annotations(self, annotations: dict[str, Any], record: RecordRedactor) -> bytes:
        try:
            data = orjson.dumps(annotations, default=str, option=orjson.OPT_NON_STR_KEYS)
        except (TypeError, ValueError, RecursionError):
            data = orjson.dumps({readable(k): readable(v) for k, v in annotations.items()})
        kept = record.body(data, b"application/json", "context.annotations", valid=True)
        return b"{}" if kept is None else kept

    @staticmethod
    def _said(text: str, record: RecordRedactor, path: str) -> bytes:
        """JSON of a text that the application gave, with secrets masked."""
        raw = str(text)[:TEXT_MAX].encode("utf-8", "replace")
        kept = record.text(raw)
        if kept != raw:
            record.note(path)
        return _text(kept.decode("utf-8", "replace"), 2 * TEXT_MAX)


def _status_of(x: Exchange) -> int:
    """The status of an exchange without a usual one: none was sent, or it was no HTTP status."""
    if x.status is None:
        return 499 if x.outcome in ("disconnected", "cancelled") else 500
    return min(max(int(x.status), 100), 999)


def _trace(value: bytes) -> bytes:
    m = _TRACEPARENT.fullmatch(value)
    return b',"traceId":"%b","spanId":"%b"' % m.groups() if m is not None else b""


def _protocol(x: Exchange) -> bytes:
    if x.type == "websocket":
        return b',"protocol":"websocket"'
    return b',"protocol":' + _text("http/" + str(x.http_version), 20)


def _error(error_type: str, fatal: bool) -> bytes:
    return b',"error":{"type":' + _text(error_type) + (b',"fatal":true}' if fatal else b"}")
