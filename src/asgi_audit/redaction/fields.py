"""Headers, by a kind that depends on their name: hidden, cookies, URLs, hosts, sub-protocols, and plain text."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from .layers import Edit, splice
from .names import ASKED, CODE, NO, YES, Names
from .pairs import decoded, url_edits
from .record import MASK, Record, TooCostly
from .reflection import hidden, hidden_bytes, hidden_header, hidden_weak

__all__ = ["COOKIE", "HIDDEN", "HOST", "PLAIN", "PROTOCOL", "SET_COOKIE", "URL", "header_kind", "mask_header"]

PLAIN, HIDDEN, COOKIE, SET_COOKIE, URL, PROTOCOL, HOST = range(7)
_KINDS = {
    "cookie": COOKIE, "set-cookie": SET_COOKIE, "location": URL, "referer": URL, "link": URL, "content-location": URL,
    "refresh": URL, "origin": URL, "x-original-url": URL, "x-rewrite-url": URL, "x-forwarded-uri": URL,
    "x-original-uri": URL, "hx-current-url": URL, "host": HOST, "x-forwarded-host": HOST, "x-original-host": HOST,
    "x-host": HOST, "forwarded": HOST, "sec-websocket-protocol": PROTOCOL, "www-authenticate": PLAIN,
    "proxy-authenticate": PLAIN, "x-honeycomb-team": HIDDEN, "authentication": HIDDEN, "fastly-key": HIDDEN,
    "x-shopify-hmac-sha256": HIDDEN, "x-hmac": HIDDEN,
}  # fmt: skip
_PROTOCOL_MAX = 40
_COOKIES_MAX = 300  # browsers send 180 at most


def header_kind(name: str, names: Names) -> int:
    """How to treat the value of a header with this lower-case name."""
    kind = _KINDS.get(name)
    if kind is not None:
        return kind
    return PLAIN if names.kind(name.encode()) in (NO, ASKED, CODE) else HIDDEN


def mask_header(record: Record, kind: int, value: bytes) -> bytes:
    """The value as it may be kept; the very same object when nothing was masked. Latin-1 bytes in and out."""
    if kind == HIDDEN:
        hidden_header(record.masked, value)
        return MASK
    if kind == COOKIE:
        return _cookies(record, value)
    if kind == SET_COOKIE:
        pair, semicolon, attributes = value.partition(b";")
        return _cookie(record, pair) + semicolon + attributes
    if kind == HOST and 64 in value:
        user, at, host = value.rpartition(b"@")
        hidden(record.masked, user.rpartition(b":")[2])
        return MASK + at + host
    try:
        if kind == PROTOCOL:  # a sub-protocol is a short word; browsers have no other place to put a token
            parts = value.split(b",", 16)
            if any(
                record.names.kind(part.strip()) == YES or len(part.strip()) > _PROTOCOL_MAX for part in parts
            ) or record.alarms(value):
                for part in parts:
                    hidden_weak(record.masked, part.strip())
                return MASK
            return value
        edits = _url(record, value) if kind == URL else _plain(record, value)
    except TooCostly:
        return MASK
    return splice(value, edits) if edits else value


def _url(record: Record, value: bytes) -> list[Edit]:
    return url_edits(record, value, 0)


def _plain(record: Record, value: bytes) -> list[Edit]:
    if value.find(b"://") >= 0 and b" " not in value and b"<" not in value:
        return url_edits(record, value, 0)
    return record.inner(value, 0)


def _cookies(record: Record, value: bytes) -> bytes:
    """The pairs with their values masked; everything after the first 300 is masked whole."""
    parts = value.split(b";", _COOKIES_MAX)
    rest = parts.pop() if len(parts) > _COOKIES_MAX else b""
    try:
        record.spend(2 * len(parts))
        kept = [_cookie(record, part) for part in parts]
    except TooCostly:
        rest, kept = value, []
    if rest:
        hidden_bytes(record.masked, rest.strip(b' \t"'))
        kept.append(MASK)
    return b"; ".join(kept)


def _cookie(record: Record, part: bytes) -> bytes:
    """A pair of a cookie with its value masked; one without a name is masked whole."""
    name, equals, value = part.partition(b"=")
    name = name.strip()
    value = (value if equals else part).strip(b' \t"')
    # What a cookie of a harmless name holds may be a language or a theme.
    weak = len(name) <= 40 and record.names.kind(name) == NO
    hidden_bytes(record.masked, value, weak=weak)
    if 37 in value:
        hidden_bytes(record.masked, unquote_to_bytes(value), weak=weak)
    if not equals:
        return MASK
    if len(name) < record.scan.form_min:
        return name + b"=" + MASK
    return (name if not record.alarms(decoded(name)) or record.names.kind(name) != NO else MASK) + b"=" + MASK
