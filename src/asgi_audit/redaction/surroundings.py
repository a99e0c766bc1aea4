"""Secrets that only their surroundings reveal, decided during the scan: a one-time code in a message, a name that is
split over two levels of JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .budget import Budget
from .forms import made
from .names import YES, Names
from .tables import words

__all__ = ["code_beside", "is_object", "may_be_pgpass", "nested_key", "pgpass", "sent_code"]

# A line of `.pgpass`: host, port, database, user, password.
_PGPASS_PORTS = (b":5432:", b":*:")
_PGPASS_MAX = 2_048  # bytes of a file without `*`: a search of 64 KiB for the port would take 34 µs
_PGPASS_HOST = re.compile(rb"(?:\A|[\n\"'`]|\\n)(?:[\w.-]{1,100}|\*|/[\w./-]{1,100})\Z")
_PGPASS_REST = re.compile(
    rb"[\w.*-]{1,63}:[\w.@*-]{1,63}:(?P<secret>(?:[^\s:\"'`\\]|\\[:\\]:?){1,200})(?=[\r\n\"'`]|\\[nr]|\Z)"
)
_IPV6 = re.compile(rb"[0-9A-Fa-f:]+")  # a host of hex digits may be a part of one
_HOST_MAX = 103

# Codes in a message: `Your Acme code is 123456`, `G-123456 is your Google verification code`.
_SENT_BEHIND = re.compile(
    rb"(?i:code|c\xc3\xb3digo|\xd0[\xba\x9a]\xd0\xbe\xd0\xb4)(?i: is| lautet| es| \xc3\xa9| est)?:?"
    rb"[ \r\n]{1,4}[\"'*`(\[]{0,2}"
    rb"(?P<secret>[0-9]{4,8}|[0-9]{3}[ -][0-9]{3})(?![0-9A-Za-z-])"
)
_YOUR_CODE = re.compile(
    rb"(?i:(?:^|[^A-Za-z])(?:your|dein|ihr|votre|ton|tu|su|seu|\xd0\xb2\xd0\xb0\xd1\x88|\xd0\x92\xd0\xb0\xd1\x88)[ ]"
    rb"(?:[\w-]{2,20}[ ]){0,2}"
    rb"|(?:use|enter|type|verify|received|this|the following|login|sms|sign-in|log-in)[ ](?:this |the )?)\Z"
)
_NO_CODE = re.compile(
    rb"(?i:error|status|exit|return|response|http|zip|post|postal|country|area|dial|promo|coupon|discount|referral"
    rb"|product|order|booking|tracking|colou?r|source|bar|qr|dress|currency|language|reason|result|hs|sic|naics|icd|iata"
    rb"|item|sku)[ ]\Z"
)
_SENT_BEFORE = re.compile(
    rb"(?:\A|[\n.:>\"' ])(?:G-)?(?P<secret>[0-9]{4,8})[\"'*`]{0,2} (?:is|as) (?:your|the|a|my) "
    rb"(?:[\w-]{1,20} ){0,3}\Z"
)
_SENT_MAX = 70


def sent_code(data: bytes, at: int) -> tuple[int, int] | None:
    """The span of a one-time code beside the word `code` at `at` of a message; None."""
    begin = max(0, at - _SENT_MAX)
    before = data[begin:at]
    if _NO_CODE.search(before[-12:]):
        return None
    m = _SENT_BEHIND.match(data, at, at + _SENT_MAX)
    if m is not None and _YOUR_CODE.search(before):
        return m.span("secret")
    m = _SENT_BEFORE.search(before)
    return None if m is None else (begin + m.start("secret"), begin + m.end("secret"))


def may_be_pgpass(data: bytes) -> bool:
    """Whether a search for lines of `.pgpass` is worth its price."""
    return 42 in data or (len(data) <= _PGPASS_MAX and data.find(b"5432") >= 0)


def pgpass(data: bytes, budget: Budget) -> Iterator[tuple[int, int]]:
    """The spans of the passwords in lines as libpq's password file has them: `localhost:5432:db:mira:x`."""
    for port in _PGPASS_PORTS:
        at = data.find(port)
        while at >= 0:
            budget.spend(3)
            end = at + len(port)
            rest = _PGPASS_REST.match(data, end)
            host = _PGPASS_HOST.search(data, max(0, at - _HOST_MAX), at) if rest is not None else None
            if rest is not None and host is not None and not _IPV6.fullmatch(host[0].strip(b"\n\"'`") + rest[0]):
                yield rest.span("secret")
                end = rest.end()
            at = data.find(port, end - 1)


# Names over two levels: `{"encryption": {"key": "x"}}`, `{"mfa": {"code": "123456"}}`.

_VALUE = re.compile(rb"\"[ \t\r\n]{0,20}:[ \t\r\n]{0,20}\"([^\"\\]{4,4096})")
_PARENT = re.compile(rb"\"([\w.-]{1,40})\"[ \t\r\n]{0,20}:[ \t\r\n]{0,20}\Z")
_PARENT_MAX = 300
_OBJECT = re.compile(rb"\"[ \t\r\n]{0,20}:[ \t\r\n]{0,20}\{")
_KEY = re.compile(rb"\"(?i:key)\"")
_KEY_PARENTS = frozenset(word.encode() for word in words("key_parents"))
_CODE_PARENTS = frozenset(word.encode() for word in words("code_parents"))
_CODE = re.compile(rb"[0-9]{3,10}")
# `{"phone": "+47…", "code": "123456"}`: what was sent there; `{"name": "Norway", "code": "47"}` is none.
_SENT_TO = re.compile(rb"\"(?i:e?-?mail|phone|phone_?number|mobile|msisdn)\"[ \t\r\n]{0,20}:")
_NAMED = re.compile(rb"\"(?i:id|name|country|title|message|price|amount|status|msg|error)\"[ \t\r\n]{0,20}:")
_REFERENCE = re.compile(rb"arn:|alias/|https?:|projects/|file:|env:|\$|\{")


def code_beside(data: bytes, start: int, end: int) -> tuple[int, int] | None:
    """The span of the digits that are the value of `code`, which stands from `start` to `end` in quotes, when the
    object's name or what stands beside it says that they were sent to a person; None."""
    value = _VALUE.match(data, end)
    brace = data.rfind(b"{", max(0, start - _PARENT_MAX), start)
    if value is None or brace < 0 or not _CODE.fullmatch(value[1]):
        return None
    close = data.find(b"}", start, start + _PARENT_MAX)
    beside = data[brace : close if close >= 0 else start + _PARENT_MAX]
    if b"{" not in beside[1:] and _SENT_TO.search(beside) and not _NAMED.search(beside):
        return value.span(1)
    name = _parent(data, brace)
    told = name.lower().replace(b"_", b"").replace(b"-", b"") in _CODE_PARENTS and data.find(b"}", brace, start) < 0
    return value.span(1) if told else None


def is_object(data: bytes, end: int) -> int:
    """Where the object begins that is the value of the name that ends here, before its quote; -1."""
    m = _OBJECT.match(data, end)
    return -1 if m is None else m.end() - 1


def nested_key(data: bytes, brace: int, names: Names) -> list[tuple[int, int]]:
    """The spans of the values of `key` in the object that begins here, when its name says that they are secrets."""
    low, high = data.find(b"{", brace + 1, brace + _PARENT_MAX), data.find(b"}", brace, brace + _PARENT_MAX)
    limit = min(at for at in (low, high, brace + _PARENT_MAX) if at >= 0)
    name = b""
    out: list[tuple[int, int]] = []
    for key in _KEY.finditer(data, brace, limit):
        value = _VALUE.match(data, key.end() - 1)
        if value is None or not (_is_key(value[1]) or value.end() == len(data)):  # cut
            continue
        name = name or _parent(data, brace)
        if name.lower() in _KEY_PARENTS or names.kind(name + b"_key") == YES:
            out.append(value.span(1))
    return out


def _parent(data: bytes, brace: int) -> bytes:
    """The name of the object that begins here; empty when it has none."""
    m = _PARENT.search(data, max(0, brace - 64), brace)
    return b"" if m is None else m[1]


def _is_key(value: bytes) -> bool:
    """Whether it looks like one: `sunflower1234`, and no word, place or reference."""
    if _REFERENCE.match(value) or b" " in value:
        return False
    return made(value) or (len(value) >= 8 and value.translate(None, b"0123456789") not in (b"", value))
