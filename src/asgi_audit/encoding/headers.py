"""The headers of a request or response as a JSON object, and what the builder itself reads of them.

The idea. Clients and servers repeat the same header names in the same order. So for each list of names a *plan* is made
once: which values are hidden, which repeat from request to request, and which are new each time and must be searched
for secrets. For the same repeating values the encoded object is cached, too, with gaps for the new ones.

An example: `host`, `user-agent`, `authorization`, `x-trace` of one client. `authorization` is hidden, the first two
repeat, `x-trace` is new: `{"host":"…","user-agent":"…","authorization":"[REDACTED]","x-trace":` + value + `}`.

Servers send bytes. An application may send anything; then the first operation that needs bytes raises, and the headers
are converted: text as Latin-1, other values by `str`; items that are not pairs are left out.

Invariant: only names, host names, and the values of the headers in `_REPEATED` are cached; never a value that is hidden
or masked. Bounds: 500 headers and 64 KiB of them in each direction; 256 plans of at most 32 names of 64 bytes; 512
objects of at most 2 KiB of values; 1,024 single pairs of at most 256 bytes; 1,024 host names, and as many content
types. Each cache is emptied when it is full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import orjson

from ..redaction import REDACTED, RecordRedactor, Redactor
from ..redaction.fields import HIDDEN, HOST, PLAIN
from .bodies import is_opaque
from .text import json_text

__all__ = ["HEADERS_MAX", "HEADER_BYTES_MAX", "HeaderFacts", "Headers"]

HEADER_BYTES_MAX = 65_536
HEADERS_MAX = 500
_CACHE_MAX = 1_024
_CACHED_BYTES_MAX = 256
_PLANS_MAX = 256
_PLAN_NAMES_MAX = 32
_NAME_MAX = 64
_OBJECTS_MAX = 512
_OBJECT_BYTES_MAX = 2_048
_FRESH_MAX = 1_024

# Headers whose values repeat from request to request and are no secrets. Only these values are cached.
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
# The headers that the builder itself reads.
_READ = frozenset(
    (b"host", b"content-type", b"content-encoding", b"content-length", b"transfer-encoding", b"traceparent")
)
_HIDDEN_JSON = b'"' + REDACTED.encode() + b'"'
_dumps = orjson.dumps


class HeaderFacts:
    """What the builder reads of headers. Do not change it: it may be cached."""

    __slots__ = ("chunked", "content_type", "content_type_json", "hostname", "length", "opaque", "trace")

    def __init__(self) -> None:
        self.hostname = b'""'  # of `Host` without its port, encoded
        self.content_type = b""  # in lower case
        self.content_type_json = b""  # `,"contentType":"…"`, or nothing
        self.opaque = False  # the body is compressed or multipart
        self.chunked = False  # there is a Transfer-Encoding
        self.length = -1  # index of Content-Length in the list of headers; -1: there is none
        self.trace = -1  # likewise, of Traceparent


_NO_FACTS = HeaderFacts()

Encoded = tuple[bytes, HeaderFacts, Sequence[bytes]]
"""(JSON object, what the builder reads, the values of the headers in their order)."""


class _Plan:
    """What to do with headers of these names, in this order; each name occurs once."""

    __slots__ = ("fresh", "hidden", "read", "repeated", "repeated_at", "start")

    def __init__(self) -> None:
        self.start: list[bytes] = []  # for each header its encoded name and colon; a hidden one with its value
        self.hidden: list[tuple[int, str]] = []  # place, path
        self.repeated_at: list[int] = []
        self.repeated: Callable[[tuple[bytes, ...]], Any] = len  # the key of the cached object: the repeating values
        self.fresh: list[tuple[int, bytes, int, bytes]] = []  # place, encoded name, kind, lower-case name
        self.read: dict[bytes, int] = {}  # places of `_READ`


class Headers:
    """One for each builder; used by its thread only. id_header: the name of the request id's header, in lower case."""

    def __init__(self, redactor: Redactor, id_header: bytes) -> None:
        self._redactor = redactor
        self._id_header = id_header
        self._plans: dict[tuple[str, tuple[bytes, ...]], _Plan | None] = {}
        # An object in pieces; every other piece is empty, for a value that is new each time.
        self._objects: dict[tuple[_Plan, Any], tuple[list[bytes], HeaderFacts]] = {}
        self._pairs: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}  # encoded (name, value) of repeated headers
        self._known: dict[bytes, tuple[bytes, int, bytes]] = {}  # name: encoded, its kind, in lower case
        self._hosts: dict[bytes, bytes] = {}
        self._types: dict[bytes, bytes] = {}

    def encoded(
        self,
        headers: list[tuple[bytes, bytes]],
        base: str,
        request_id: bytes | None,
        record: RecordRedactor,
        truncated: list[str],
    ) -> Encoded:
        """base: `request.headers` or `response.headers`. request_id: the record's request id, which is not searched."""
        if not headers:
            return b"{}", _NO_FACTS, ()
        try:
            made = self._planned(headers, base, request_id, record)
            return made or self._each(headers, base, request_id, record, truncated)
        except Exception:
            return self._each(_as_bytes(headers), base, request_id, record, truncated)

    def _planned(
        self, headers: list[tuple[bytes, bytes]], base: str, request_id: bytes | None, record: RecordRedactor
    ) -> Encoded | None:
        """By a plan; None when these headers must be read one by one."""
        if len(headers) > _PLAN_NAMES_MAX:
            return None
        names, values = zip(*headers, strict=True)
        try:
            plan = self._plans[base, names]
        except KeyError:
            plan = self._plan(base, names)
        if plan is None:
            return None
        repeated = plan.repeated(values)
        known = self._objects.get((plan, repeated))
        if known is None:
            known = self._remembered(plan, values, repeated)
            if known is None:
                return None
        pieces, seen = known
        for at, path in plan.hidden:
            record.header(HIDDEN, values[at])
            record.note(path)
        if not plan.fresh:
            return pieces[0], seen, values
        fresh = self._fresh(plan, values, base, request_id, record)
        if fresh is None:
            return None
        pieces = pieces.copy()
        pieces[1::2] = fresh
        return b"".join(pieces), seen, values

    def _plan(self, base: str, names: tuple[bytes, ...]) -> _Plan | None:
        """The plan for these names, which is cached; None when they must be read one by one each time."""
        if any(len(name) > _NAME_MAX for name in names):
            return None
        plan: _Plan | None = _Plan()
        lower = [name.decode("latin-1").lower().encode("latin-1") for name in names]
        if len(set(lower)) != len(lower):
            plan = None
        else:
            assert plan is not None
            for at, name in enumerate(names):
                encoded, kind, low = self._header(name)
                plan.start.append(encoded)
                if kind == HIDDEN:
                    plan.start[at] = encoded + _HIDDEN_JSON
                    plan.hidden.append((at, base + "." + encoded[1:-2].decode()))
                    continue
                if low in _READ:
                    plan.read[low] = at
                if low in _REPEATED and kind in (PLAIN, HOST) and low != b"content-length":
                    plan.repeated_at.append(at)
                else:
                    plan.fresh.append((at, encoded, kind, low))
            if plan.repeated_at:
                plan.repeated = itemgetter(*plan.repeated_at)
        if len(self._plans) >= _PLANS_MAX:
            self._plans.clear()
            self._objects.clear()
        self._plans[base, names] = plan
        return plan

    def _remembered(
        self, plan: _Plan, values: tuple[bytes, ...], repeated: bytes | tuple[bytes, ...] | int
    ) -> tuple[list[bytes], HeaderFacts] | None:
        """The pieces with the repeating values, which are cached; None when one of the values may be a secret."""
        given = [values[at] for at in plan.repeated_at]
        if sum(map(len, given)) > _OBJECT_BYTES_MAX or (
            self._redactor.alarms(b"\n".join(given)) and not all(map(self._redactor.clean, given))
        ):
            return None
        host = plan.read.get(b"host")
        if host is not None and 64 in values[host]:
            return None  # with user information
        each = plan.start.copy()
        for at in plan.repeated_at:
            each[at] += json_text(values[at].decode("latin-1"), HEADER_BYTES_MAX)
        pieces: list[bytes] = []
        done = 0
        before = b"{"
        for at, _, _, _ in plan.fresh:
            pieces += (before + b",".join(each[done : at + 1]), b"")
            before = b"," if at + 1 < len(each) else b""
            done = at + 1
        pieces.append(before + b",".join(each[done:]) + b"}")
        if len(self._objects) >= _OBJECTS_MAX:
            self._objects.clear()
        known = self._objects[plan, repeated] = (pieces, self._seen(plan.read, values))
        return known

    def _seen(self, read: dict[bytes, int], values: Sequence[bytes]) -> HeaderFacts:
        """read: the index of the first header of each name in `_READ`."""
        seen = HeaderFacts()
        seen.length = read.get(b"content-length", -1)
        seen.trace = read.get(b"traceparent", -1)
        seen.chunked = b"transfer-encoding" in read
        if b"host" in read:
            seen.hostname = self._hostname(values[read[b"host"]])
        if b"content-type" in read:
            content_type = values[read[b"content-type"]]
            seen.content_type = content_type.lower()
            seen.content_type_json = self._content_type(content_type)
        at = read.get(b"content-encoding", -1)
        seen.opaque = is_opaque(seen.content_type, values[at] if at >= 0 else b"")
        return seen

    def _fresh(
        self,
        plan: _Plan,
        values: tuple[bytes, ...],
        base: str,
        request_id: bytes | None,
        record: RecordRedactor,
    ) -> list[bytes] | None:
        """The new values, encoded; None when one of them is too long for that."""
        out: list[bytes] = []
        scanned: list[tuple[int, bytes, bytes, int]] = []
        for at, encoded, kind, low in plan.fresh:
            value = values[at]
            if kind == PLAIN and len(value) < 15 and value.isdigit():
                out.append(b'"' + value + b'"')
            elif low == self._id_header and value == request_id:
                # The request id contains only letters, digits and four marks, and is in the record already.
                out.append(b'"' + value + b'"')
            elif len(value) > _FRESH_MAX:
                return None
            else:
                scanned.append((len(out), value, encoded, kind))
                out.append(b"")
        if scanned:
            plain = [value for _, value, _, kind in scanned if kind == PLAIN]
            alarm = bool(plain) and self._redactor.alarms(b"\n".join(plain))
            for place, value, encoded, kind in scanned:
                kept = value
                if kind != PLAIN or alarm or value.find(b"://") >= 0:
                    kept = record.header(kind, value)
                    if kept is not value and kept != value:
                        record.note(base + "." + encoded[1:-2].decode())
                out[place] = _dumps(kept.decode("latin-1"))
        return out

    def _each(
        self,
        headers: list[tuple[bytes, bytes]],
        base: str,
        request_id: bytes | None,
        record: RecordRedactor,
        truncated: list[str],
    ) -> Encoded:
        """`encoded` of any headers, one by one."""
        read: dict[bytes, int] = {}
        pairs: list[tuple[bytes, bytes]] = []
        fresh: list[tuple[int, bytes, bytes, int, bytes]] = []  # place in `pairs`, encoded name, value, kind, name
        cached = self._pairs.get
        size = 0
        cut = len(headers) > HEADERS_MAX
        if cut:
            headers = headers[:HEADERS_MAX]
        for at, (name, value) in enumerate(headers):
            known = cached((name, value))
            if known is not None:
                if name in _READ:
                    read.setdefault(name, at)
                pairs.append(known)
                size += 40
                continue
            size += len(name) + len(value)
            if size > HEADER_BYTES_MAX:
                cut = True
                break
            encoded, kind, lower = self._header(name)
            if kind == HIDDEN:
                pairs.append((encoded, _HIDDEN_JSON))
                record.header(HIDDEN, value)
                record.note(base + "." + encoded[1:-2].decode())
                continue
            if lower in _READ:
                read.setdefault(lower, at)
            if lower == self._id_header and value == request_id:
                pairs.append((encoded, b'"' + value + b'"'))
            else:
                fresh.append((len(pairs), encoded, value, kind, lower))
                pairs.append((encoded, b""))
        if fresh:
            self._encode(fresh, pairs, base, record)
        values = [value for _, value in headers]
        seen = self._seen(read, values)
        if cut:
            truncated.append(base)
        merged = dict(pairs)
        if len(merged) != len(pairs):
            return _repeated(pairs), seen, values
        return b"{" + b",".join([name + value for name, value in merged.items()]) + b"}", seen, values

    def _encode(
        self,
        fresh: list[tuple[int, bytes, bytes, int, bytes]],
        pairs: list[tuple[bytes, bytes]],
        base: str,
        record: RecordRedactor,
    ) -> None:
        alarm = self._redactor.alarms(b"\n".join([value for _, _, value, kind, _ in fresh if kind == PLAIN]))
        for at, encoded_name, value, kind, lower in fresh:
            kept = value
            if kind != PLAIN or alarm or b"://" in value:
                kept = record.header(kind, value)
            encoded = json_text(kept.decode("latin-1"), HEADER_BYTES_MAX)
            if kept is not value and kept != value:
                record.note(base + "." + encoded_name[1:-2].decode())
            elif lower in _REPEATED and len(value) <= _CACHED_BYTES_MAX:
                if len(self._pairs) >= _CACHE_MAX:
                    self._pairs.clear()
                self._pairs[lower, value] = (encoded_name, encoded)
            pairs[at] = (encoded_name, encoded)

    def _header(self, name: bytes) -> tuple[bytes, int, bytes]:
        """(encoded name and colon, kind, name in lower case), cached."""
        known = self._known.get(name)
        if known is not None:
            return known
        text = name.decode("latin-1").lower()[:200]
        known = (json_text(text) + b":", self._redactor.header_kind(text), text.encode("latin-1", "replace"))
        if len(name) <= _NAME_MAX:
            if len(self._known) >= _CACHE_MAX:
                self._known.clear()
            self._known[name] = known
        return known

    def _hostname(self, host: bytes) -> bytes:
        """The name of `Host` without its port; an IPv6 address keeps its brackets."""
        known = self._hosts.get(host)
        if known is None:
            text = host.decode("latin-1").strip().rpartition("@")[2]
            end = text.find("]") + 1 if text.startswith("[") else text.find(":")
            known = json_text(text[:end] if end > 0 else text, 255)
            if len(host) <= _CACHED_BYTES_MAX and 64 not in host and not self._redactor.alarms(host):
                if len(self._hosts) >= _CACHE_MAX:
                    self._hosts.clear()
                self._hosts[host] = known
        return known

    def _content_type(self, value: bytes) -> bytes:
        """`,"contentType":"…"`."""
        known = self._types.get(value)
        if known is None:
            kept = self._redactor.record().header(PLAIN, value[:200])
            known = b',"contentType":' + json_text(kept.decode("latin-1"))
            if len(value) <= 100 and kept == value:
                if len(self._types) >= _CACHE_MAX:
                    self._types.clear()
                self._types[value] = known
        return known


def _repeated(pairs: list[tuple[bytes, bytes]]) -> bytes:
    together: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        together.setdefault(name, []).append(value)
    return (
        b"{"
        + b",".join([n + (v[0] if len(v) == 1 else b"[" + b",".join(v) + b"]") for n, v in together.items()])
        + b"}"
    )


def _as_bytes(headers: list[Any]) -> list[tuple[bytes, bytes]]:
    return [
        (_bytes(pair[0]), _bytes(pair[1])) for pair in headers if isinstance(pair, (tuple, list)) and len(pair) == 2
    ]


def _bytes(value: object) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        return str(value).encode("latin-1", "replace")
    except Exception:  # raised by the __str__ of an application's object
        return b""
